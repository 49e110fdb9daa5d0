"""Writing objects below an S3 prefix.

An object of up to 5 GiB, S3's own limit, is put in one piece by one conditional request. Only then
does the server compare what is replaced: boto3's transfer manager refuses IfNoneMatch, and the
RADOS gateway ignores the condition on what completes an upload in parts. A request that failed
leaves nothing to be cleaned up, either.
"""

import base64
import hashlib
import io
import os
import uuid
from pathlib import Path
from typing import Any, BinaryIO

from cxr.storage.base import ANY, changed_error
from cxr.storage.s3.faults import CONFLICTS, code_of, errors, failure
from cxr.storage.s3.listing import etag_of
from cxr.storage.s3.reading import S3Reader
from cxr.storage.s3.retries import DELAYS, pause

LARGEST_PUT = 5 * 1024**3  # bytes: S3's own limit for an object put in one piece
_BLOCK = 1024 * 1024  # bytes read at a time
_BUSY = "ConditionalRequestConflict"  # another conditional request on this object is under way
_Metadata = dict[str, str]


class S3Storage(S3Reader):
    """A prefix in an S3-compatible bucket, to be listed, read and written."""

    def write(self, key: str, data: bytes, expected: str | None = ANY) -> str:
        """Put an object and return its ETag.

        The server compares, so of several writers at once exactly one wins.
        """
        file = io.BytesIO(data)
        return self._put(key, file, {}, expected)

    def upload(self, path: Path, key: str, expected: str | None = ANY) -> str:
        """Put a file with its time of change and return its ETag.

        Args:
            path: The file.
            key: The object's key.
            expected: As for `write`. It holds for files of up to LARGEST_PUT bytes: larger ones
                are put in parts, which servers do not compare.
        """
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            metadata = {"mtime": str(status.st_mtime_ns)}
            if status.st_size <= LARGEST_PUT:
                return self._put(key, file, metadata, expected)
            return self._put_in_parts(key, file, metadata)

    def _put(
        self,
        key: str,
        file: BinaryIO,
        metadata: _Metadata,
        expected: str | None,
    ) -> str:
        """Put an object in one piece.

        The server checks the MD5 sent with it; readers check the SHA-256 stored with it.
        """
        uri = self._uri(key)
        writer = uuid.uuid4().hex
        sha256, md5 = _digests(file)
        own_metadata = {"sha256": sha256.hex(), "writer": writer}
        request: dict[str, Any] = {
            **self._target(key),
            **_condition(expected),
            "ContentMD5": base64.b64encode(md5).decode(),
            "Metadata": metadata | own_metadata,
        }
        for delay in (*DELAYS, None):
            file.seek(0)
            try:
                answer = self.client.put_object(Body=file, **request)
                return etag_of(answer)
            except errors() as error:
                code = code_of(error)
                is_refused = code in CONFLICTS or code == "NoSuchKey"
                if expected == ANY or not is_refused:
                    raise failure("write", uri, error) from error
                version, last_writer = self._look_at(key)
                if version and last_writer == writer:
                    # The request was repeated because the answer to its first attempt was lost.
                    return version
                if code != _BUSY or delay is None:
                    raise changed_error(uri, expected, version) from error
                pause(delay)
        raise AssertionError("not reached")

    def _look_at(self, key: str) -> tuple[str | None, str | None]:
        """Return an object's ETag and the writer that `_put` stored with it, each None without."""
        head = self._head(key)
        if head is None:
            return None, None
        writer = head["Metadata"].get("writer")
        return etag_of(head), writer

    def _put_in_parts(self, key: str, file: BinaryIO, metadata: _Metadata) -> str:
        """Put a file that is too large for one piece; boto3 removes the parts if it fails."""
        sha256, _ = _digests(file)
        own_metadata = {"sha256": sha256.hex()}
        file.seek(0)
        try:
            self.client.upload_fileobj(
                file,
                **self._target(key),
                ExtraArgs={"Metadata": metadata | own_metadata},
            )
        except errors() as error:
            raise failure("write", self._uri(key), error) from error
        return self.version(key) or ""

    def delete(self, key: str) -> None:
        """Remove an object if it is there."""
        target = self._target(key)
        try:
            self.client.delete_object(**target)
        except errors() as error:
            raise failure("delete", self._uri(key), error) from error


def _condition(expected: str | None) -> dict[str, str]:
    """Return a request's condition.

    The ETag has no quotes, as in AWS's own examples: the RADOS gateway refuses it with quotes.
    """
    if expected == ANY:
        return {}
    if expected is None:
        return {"IfNoneMatch": "*"}
    return {"IfMatch": expected}


def _digests(file: BinaryIO) -> tuple[bytes, bytes]:
    """Return the SHA-256 and MD5 of a file, read once."""
    sha256 = hashlib.sha256()
    md5 = hashlib.md5(usedforsecurity=False)
    while block := file.read(_BLOCK):
        sha256.update(block)
        md5.update(block)
    return sha256.digest(), md5.digest()
