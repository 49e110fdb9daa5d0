"""An S3 prefix as a storage: writing.

An object is put in one piece, however large S3 lets it be: only then does every server compare what it replaces (the
RADOS gateway takes no condition on what is put in parts), and a put that failed leaves nothing to be cleaned up.
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
from cxr.storage.s3.reading import DELAYS, S3Reader, pause

LARGEST_PUT = 5 * 1024**3  # bytes: S3's own limit for an object put in one piece
_BLOCK = 1024 * 1024  # bytes read at a time


class S3Storage(S3Reader):
    """A prefix in an S3-compatible bucket, to be read and written."""

    def write(self, key: str, data: bytes, expected: str | None = ANY) -> str:
        """Put the object and return its ETag; the server compares, so of several at once one wins."""
        return self._put(key, io.BytesIO(data), {}, expected)

    def upload(self, path: Path, key: str, expected: str | None = ANY) -> str:
        """Put a file with its time of change and return its ETag.

        `expected` is as for `write`, and holds for files up to LARGEST_PUT: larger ones go in parts, by boto3.
        """
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            times = {"mtime": str(status.st_mtime_ns)}
            if status.st_size <= LARGEST_PUT:
                return self._put(key, file, times, expected)
            return self._put_in_parts(key, file, times)

    def _put(self, key: str, file: BinaryIO, metadata: dict[str, str], expected: str | None) -> str:
        """Put an object in one piece, with its MD5, which the server checks, and its SHA-256, which readers check."""
        uri = f"{self.uri}/{key}"
        writer = uuid.uuid4().hex
        sha256, md5 = _digests(file)
        request = {
            "Bucket": self.bucket,
            "Key": self.prefix + key,
            "ContentMD5": base64.b64encode(md5).decode(),
            "Metadata": metadata | {"sha256": sha256.hex(), "writer": writer},
            **_condition(expected),
        }
        for delay in (*DELAYS, None):
            file.seek(0)
            try:
                return str(self.client.put_object(Body=file, **request)["ETag"].strip('"'))
            except errors() as error:
                code = code_of(error)
                if expected == ANY or code not in CONFLICTS | {"NoSuchKey"}:
                    raise failure("write", uri, error) from error
                answer = self._head(key)
                version = answer["ETag"].strip('"') if answer else None
                if answer and answer["Metadata"].get("writer") == writer:
                    # A repeated put met its own first try, whose answer was lost.
                    return str(version)
                if code != "ConditionalRequestConflict" or delay is None:
                    raise changed_error(uri, expected, version) from error
                pause(delay)
        raise AssertionError("not reached")

    def _put_in_parts(self, key: str, file: BinaryIO, metadata: dict[str, str]) -> str:
        """Put a file that is too large for one piece; nothing is left of one that fails."""
        sha256, _ = _digests(file)
        file.seek(0)
        try:
            self.client.upload_fileobj(
                file,
                self.bucket,
                self.prefix + key,
                ExtraArgs={"Metadata": metadata | {"sha256": sha256.hex()}},
            )
        except errors() as error:
            raise failure("write", f"{self.uri}/{key}", error) from error
        return self.version(key) or ""

    def delete(self, key: str) -> None:
        """Remove the object where there is one."""
        try:
            self.client.delete_object(Bucket=self.bucket, Key=self.prefix + key)
        except errors() as error:
            raise failure("delete", f"{self.uri}/{key}", error) from error


def _condition(expected: str | None) -> dict[str, Any]:
    """Return the request's condition. An ETag goes without quotes, as in AWS' own examples: RADOS wants it so."""
    if expected == ANY:
        return {}
    if expected is None:
        return {"IfNoneMatch": "*"}
    return {"IfMatch": expected}


def _digests(file: BinaryIO) -> tuple[bytes, bytes]:
    """Return a file's SHA-256 and MD5, of the same reading of it."""
    sha256 = hashlib.sha256()
    md5 = hashlib.md5(usedforsecurity=False)
    while block := file.read(_BLOCK):
        sha256.update(block)
        md5.update(block)
    return sha256.digest(), md5.digest()
