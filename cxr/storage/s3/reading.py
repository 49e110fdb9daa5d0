"""Reading objects below an S3 prefix, one by one with boto3 and in bulk with obstore.

What obstore cannot read, for whatever reason, is read again by boto3, so errors are described in
one place: `cxr.storage.s3.faults`.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from cxr.core.files import atomic_write
from cxr.core.parallel import map_in_order
from cxr.storage import object_cache
from cxr.storage.base import (
    FileContent,
    WantedFile,
    changed_error,
    mismatch_error,
    read_or_error,
)
from cxr.storage.s3.faults import (
    CONFLICTS,
    EMPTY,
    code_of,
    errors,
    failure,
    is_cut_short,
)
from cxr.storage.s3.listing import S3Prefix, etag_of
from cxr.storage.s3.retries import retry_read

_CHUNK = 1024 * 1024  # bytes written at a time by a download
_Condition = dict[str, str]  # parameters of a GET request that restrict it


class _NotModifiedError(Exception):
    """The server says that the object in the local cache is still the current one."""


class _Body(NamedTuple):
    """An object's bytes, its ETag, and the SHA-256 that it was written with."""

    data: bytes
    etag: str = ""
    sha256: str | None = None


class S3Reader(S3Prefix):
    """A prefix in an S3-compatible bucket, to be listed and read.

    Attributes:
        keeps_objects: Whether what is read is kept in the cache of this machine: not where the
            files name people.
    """

    keeps_objects = True

    def read(self, key: str, version: str | None = None) -> bytes:
        """Return the bytes of an object, from the local cache if its ETag is still the same."""
        name = self._cache_name(key)
        cached = object_cache.find(name)
        if cached and cached.version == version:
            return cached.data
        condition = {}
        if version is not None:
            condition["IfMatch"] = version
        elif cached:
            condition["IfNoneMatch"] = cached.version
        try:
            body = self._get_whole(key, condition)
        except _NotModifiedError:
            assert cached
            return cached.data
        self._keep(name, body.etag, body.data)
        return body.data

    def _get_whole(self, key: str, condition: _Condition) -> _Body:
        """Return a whole object, its SHA-256 checked; repeat the request if that is wrong."""
        uri = self._uri(key)

        def attempt() -> _Body:
            body = self._get(key, condition)
            _check_sha256(uri, body.data, body.sha256)
            return body

        return retry_read("read", uri, attempt)

    def _get(self, key: str, condition: _Condition) -> _Body:
        """Return what the server sends of an object.

        Args:
            key: The object's key.
            condition: The request's condition or range.

        Raises:
            BotoCoreError: The body was cut short; `retry_read` repeats the request.
            _NotModifiedError: The object still has the ETag given as IfNoneMatch.
            ConflictError: The object does not have the ETag given as IfMatch any more.
        """
        uri = self._uri(key)
        request = self._target(key) | condition
        try:
            answer = self.client.get_object(**request)
            data = answer["Body"].read()
        except errors() as error:
            code = code_of(error)
            if code == "304":
                raise _NotModifiedError from None
            if code in EMPTY:
                return _Body(b"")
            if code in CONFLICTS:
                raise changed_error(uri, condition.get("IfMatch"), "another") from error
            if is_cut_short(error):
                raise
            raise failure("read", uri, error) from error
        sha256 = answer["Metadata"].get("sha256")
        return _Body(data, etag_of(answer), sha256)

    def read_many(self, wanted: Iterable[WantedFile]) -> Iterator[FileContent]:
        """Yield key and bytes or error in order, up to CXR_S3_CONNECTIONS read at a time."""
        return self._map_in_order(self._read_in_bulk, wanted)

    def _read_in_bulk(self, key: str, version: str | None) -> bytes:
        """Return what `read` does, read by obstore if it can."""
        store = self._connection.bulk_store(self.bucket)
        if store is None or version is None:
            return self.read(key, version)
        name = self._cache_name(key)
        cached = object_cache.find(name)
        if cached and cached.version == version:
            return cached.data
        options = {"if_match": version}
        try:
            answer = store.get(self.prefix + key, options=options)
            data = bytes(answer.bytes())
            sha256 = answer.attributes.get("sha256")
            _check_sha256(self._uri(key), data, sha256)
        except Exception:  # noqa: BLE001 - boto3 repeats the request and names what is wrong
            return self.read(key, version)
        self._keep(name, version, data)
        return data

    def _keep(self, name: str, version: str, data: bytes) -> None:
        """Keep an object's bytes in the cache of this machine, unless they name people."""
        if self.keeps_objects:
            object_cache.keep(name, version, data)

    def peek(self, key: str, count: int) -> bytes:
        """Return the first `count` bytes of an object, by one ranged request."""
        return self._peek(key, None, count)

    def _peek(self, key: str, version: str | None, count: int) -> bytes:
        """Return the first bytes, unchecked: the object's SHA-256 is that of the whole."""
        condition = {"Range": f"bytes=0-{count - 1}"}
        if version is not None:
            cached = object_cache.find(self._cache_name(key))
            if cached and cached.version == version:
                return cached.data[:count]
            condition["IfMatch"] = version

        def attempt() -> _Body:
            return self._get(key, condition)

        body = retry_read("read", self._uri(key), attempt)
        # A server may ignore the range and send the whole object.
        return body.data[:count]

    def peek_many(self, wanted: Iterable[WantedFile], count: int) -> Iterator[FileContent]:
        """Yield key and first bytes or error in order, as `read_many` does."""

        def peek(key: str, version: str | None) -> bytes:
            return self._peek_in_bulk(key, version, count)

        return self._map_in_order(peek, wanted)

    def _peek_in_bulk(self, key: str, version: str | None, count: int) -> bytes:
        """Return what `_peek` does, read by obstore if it can."""
        store = self._connection.bulk_store(self.bucket)
        if store is None or version is None:
            return self._peek(key, version, count)
        options = {"if_match": version, "range": (0, count)}
        try:
            answer = store.get(self.prefix + key, options=options)
            return bytes(answer.bytes())[:count]
        except Exception:  # noqa: BLE001 - boto3 repeats the request and names what is wrong
            return self._peek(key, version, count)

    def _map_in_order(
        self,
        read: Callable[[str, str | None], bytes],
        wanted: Iterable[WantedFile],
    ) -> Iterator[FileContent]:
        """Yield key and what `read` returns or raises, as many at a time as the limit allows."""
        pool = self._connection.pool
        most = self._connection.limit + 1
        return map_in_order(lambda file: read_or_error(read, file), wanted, pool, most)

    def download(self, key: str, path: Path) -> str:
        """Copy an object to a local path, with the time of change it was uploaded with.

        Returns:
            The ETag.
        """

        def attempt() -> str:
            return self._download(key, path)

        return retry_read("download", self._uri(key), attempt)

    def _download(self, key: str, path: Path) -> str:
        """Do what `download` does, once; a body that is cut short is boto3's error."""
        uri = self._uri(key)
        target = self._target(key)
        try:
            answer = self.client.get_object(**target)
            chunks = answer["Body"].iter_chunks(_CHUNK)
            metadata = answer["Metadata"]
            with atomic_write(path) as temporary:
                with temporary.open("wb") as file:
                    found = _write_chunks(chunks, file)
                expected = metadata.get("sha256", found)
                if found != expected:
                    raise mismatch_error(uri, expected, found)
                written_ns = answer["LastModified"].timestamp() * 1e9
                changed_ns = int(metadata.get("mtime", written_ns))
                os.utime(temporary, ns=(changed_ns, changed_ns))
        except errors() as error:
            if is_cut_short(error):
                raise
            raise failure("download", uri, error) from error
        return etag_of(answer)

    def _cache_name(self, key: str) -> str:
        """Return what an object is called in the local cache."""
        return f"{self._connection.endpoint} {self.bucket}/{self.prefix}{key}"


def _check_sha256(uri: str, data: bytes, expected: str | None) -> None:
    """Raise DamagedError if bytes do not have their SHA-256; others may have put them without."""
    if not expected:
        return
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise mismatch_error(uri, expected, found)


def _write_chunks(chunks: Iterable[bytes], file: BinaryIO) -> str:
    """Write chunks to a file and return the SHA-256 of all of them."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        file.write(chunk)
    return digest.hexdigest()
