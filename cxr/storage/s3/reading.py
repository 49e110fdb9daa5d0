"""An S3 prefix as a storage: listing and reading. Writing is in `s3_writing`.

What obstore cannot read in bulk is asked of boto3 again, so there is one place for faults in words: `s3_faults.failure`.
"""

import hashlib
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

from cxr.core.errors import DamagedError, StorageError
from cxr.core.files import atomic_write
from cxr.core.parallel import map_in_order
from cxr.storage import object_cache
from cxr.storage.base import Entry, changed_error, mismatch_error
from cxr.storage.s3.connection import connect, split_address
from cxr.storage.s3.faults import CONFLICTS, EMPTY, code_of, errors, failure, is_cut_short

# Seconds, each up to doubled at random, before what botocore cannot repeat itself.
DELAYS: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
T = TypeVar("T")


class _NotModifiedError(Exception):
    """The server says that what is in the local cache still holds."""


class S3Reader:
    """A prefix in an S3-compatible bucket, to be read.

    Endpoint, region, certificates and profile come from the usual AWS variables.
    """

    def __init__(self, uri: str):
        """Connect; nothing is asked of the server yet.

        Args:
            uri: s3://bucket/prefix.

        Raises:
            UsageError: The address is none.
            StorageError: The AWS settings cannot be used.
        """
        self.bucket, self.prefix = split_address(uri)
        self.uri = f"s3://{self.bucket}/{self.prefix}".rstrip("/")
        no_address: tuple[type[Exception], ...] = (ValueError,)
        try:
            self._connection = connect()
        except errors() + no_address as error:
            raise failure("open", self.uri, error) from error
        self.client = self._connection.client
        self.place = f"{self._connection.endpoint} {self.uri}"

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield every object below the prefix, page by page; the version is its ETag."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self.prefix + prefix
        )
        try:
            for page in pages:
                for item in page.get("Contents", []):
                    key = item["Key"][len(self.prefix) :]
                    if key and not key.endswith("/"):
                        yield Entry(key, item["Size"], _etag(item))
        except errors() as error:
            raise failure("list", f"{self.uri}/{prefix}".rstrip("/"), error) from error

    def find(self, key: str) -> Entry | None:
        """Return the object as `list` does: it comes first there, before others that begin with its name."""
        first = next(self.list(key), None)
        return first if first and first.key == key else None

    def version(self, key: str) -> str | None:
        """Return the object's ETag, None where there is no such object."""
        answer = self._head(key)
        return _etag(answer) if answer else None

    def sha256(self, key: str) -> str | None:
        """Return the SHA-256 an object was put with, None where there is none."""
        answer = self._head(key)
        return answer["Metadata"].get("sha256") if answer else None

    def age(self, key: str) -> float | None:
        """Return for how many seconds the object has been there unchanged, by the server's clock; None without one."""
        answer = self._head(key)
        if not answer:
            return None
        now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        return float((now - answer["LastModified"]).total_seconds())

    def _head(self, key: str) -> dict[str, Any] | None:
        """Return what the server says about an object, None where there is no such object."""
        target = {"Bucket": self.bucket, "Key": self.prefix + key}
        try:
            answer: dict[str, Any] = self.client.head_object(**target)
            return answer
        except errors():
            # The answer to a head has no body, so its error has no code: ask again in a way that has.
            try:
                answer = self.client.get_object(**target)
            except errors() as error:
                if code_of(error) == "NoSuchKey":
                    return None
                raise failure("look at", f"{self.uri}/{key}", error) from error
            answer["Body"].close()
            return answer

    def read(self, key: str, version: str | None = None) -> bytes:
        """Return the object's bytes, from the local cache where its ETag is still the same."""
        cached = object_cache.find(self._cache_name(key))
        if cached and version is not None and cached.version == version:
            return cached.data
        condition = {}
        if version is not None:
            condition = {"IfMatch": version}
        elif cached:
            condition = {"IfNoneMatch": cached.version}
        try:
            data, etag = self._again("read", key, lambda: self._get(key, condition))
        except _NotModifiedError:
            assert cached
            return cached.data
        object_cache.keep(self._cache_name(key), etag, data)
        return data

    def _get(self, key: str, condition: dict[str, str]) -> tuple[bytes, str]:
        """Return an object's bytes, checked, and its ETag."""
        data, answer = self._request(key, condition)
        _check(f"{self.uri}/{key}", data, answer["Metadata"].get("sha256"))
        return data, _etag(answer)

    def _request(self, key: str, condition: dict[str, str]) -> tuple[bytes, dict[str, Any]]:
        """Return the body of the server's answer and the answer.

        Raises what is wrong in this project's words, but a body that was cut short as botocore does: for `_again`.
        """
        uri = f"{self.uri}/{key}"
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=self.prefix + key, **condition)
            return answer["Body"].read(), answer
        except errors() as error:
            code = code_of(error)
            if code == "304":
                raise _NotModifiedError from None
            if code in EMPTY:  # a range of an object without bytes
                return b"", {}
            if code in CONFLICTS:
                raise changed_error(uri, condition.get("IfMatch"), "another") from error
            if is_cut_short(error):
                raise
            raise failure("read", uri, error) from error

    def read_many(
        self, wanted: Iterable[tuple[str, str | None]]
    ) -> Iterator[tuple[str, bytes | Exception]]:
        """Yield (key, bytes or error) in the order wanted, up to CXR_S3_CONNECTIONS of them under way."""
        return self._at_once(self._read_fast, wanted)

    def _read_fast(self, key: str, version: str | None) -> bytes:
        """Return what `read` does, by obstore, or by boto3 where that fails for whatever reason."""
        store = self._connection.bulk_store(self.bucket)
        if store is None or version is None:
            return self.read(key, version)
        cached = object_cache.find(self._cache_name(key))
        if cached and cached.version == version:
            return cached.data
        try:
            answer = store.get(self.prefix + key, options={"if_match": version})
            data = bytes(answer.bytes())
            _check(f"{self.uri}/{key}", data, answer.attributes.get("sha256"))
        except Exception:  # noqa: BLE001  # boto3 repeats the question and names what is wrong
            return self.read(key, version)
        object_cache.keep(self._cache_name(key), version, data)
        return data

    def peek(self, key: str, count: int) -> bytes:
        """Return the object's first `count` bytes, by one ranged request."""
        return self._peek(key, None, count)

    def _peek(self, key: str, version: str | None, count: int) -> bytes:
        """Return the first bytes, unchecked where they are read: the object's SHA-256 is that of the whole."""
        condition = {"Range": f"bytes=0-{count - 1}"}
        if version is not None:
            cached = object_cache.find(self._cache_name(key))
            if cached and cached.version == version:
                return cached.data[:count]
            condition["IfMatch"] = version
        data, _ = self._again("read", key, lambda: self._request(key, condition))
        return data[:count]

    def peek_many(
        self, wanted: Iterable[tuple[str, str | None]], count: int
    ) -> Iterator[tuple[str, bytes | Exception]]:
        """Yield (key, first bytes or error) in the order wanted, as `read_many` does."""
        return self._at_once(lambda key, version: self._peek_fast(key, version, count), wanted)

    def _peek_fast(self, key: str, version: str | None, count: int) -> bytes:
        """Return what `_peek` does, by obstore, or by boto3 where that fails for whatever reason."""
        store = self._connection.bulk_store(self.bucket)
        if store is None or version is None:
            return self._peek(key, version, count)
        try:
            options = {"if_match": version, "range": (0, count)}
            answer = store.get(self.prefix + key, options=options)
            return bytes(answer.bytes())[:count]
        except Exception:  # noqa: BLE001  # boto3 repeats the question and names what is wrong
            return self._peek(key, version, count)

    def _at_once(
        self, read: Callable[[str, str | None], bytes], wanted: Iterable[tuple[str, str | None]]
    ) -> Iterator[tuple[str, bytes | Exception]]:
        """Yield (key, what `read` gives or raises) in order, as many at a time as the connection allows."""

        def one(item: tuple[str, str | None]) -> tuple[str, bytes | Exception]:
            key, version = item
            try:
                return key, read(key, version)
            except (OSError, StorageError) as error:
                return key, error

        return map_in_order(one, wanted, self._connection.pool, self._connection.limit + 1)

    def download(self, key: str, path: Path) -> str:
        """Get an object into a file, published whole, with the time of change it was uploaded with; return its ETag."""
        return self._again("download", key, lambda: self._download(key, path))

    def _download(self, key: str, path: Path) -> str:
        uri = f"{self.uri}/{key}"
        digest = hashlib.sha256()
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=self.prefix + key)
            with atomic_write(path) as temporary:
                with temporary.open("wb") as file:
                    for chunk in answer["Body"].iter_chunks(1024 * 1024):
                        digest.update(chunk)
                        file.write(chunk)
                wanted = answer["Metadata"].get("sha256", digest.hexdigest())
                if digest.hexdigest() != wanted:
                    raise mismatch_error(uri, wanted, digest.hexdigest())
                published = answer["LastModified"].timestamp() * 1e9
                time_ns = int(answer["Metadata"].get("mtime", published))
                os.utime(temporary, ns=(time_ns, time_ns))
        except errors() as error:
            if is_cut_short(error):
                raise
            raise failure("download", uri, error) from error
        return _etag(answer)

    def _again(self, verb: str, key: str, attempt: Callable[[], T]) -> T:
        """Return what `attempt` does, repeated with growing delays where a body was cut short or damaged.

        botocore repeats requests itself, but not the reading of an answer's body.
        """
        for delay in DELAYS:
            try:
                return attempt()
            except errors() as error:
                if not is_cut_short(error):
                    raise
            except DamagedError:
                pass
            pause(delay)
        try:
            return attempt()
        except errors() as error:
            raise failure(verb, f"{self.uri}/{key}", error) from error

    def _cache_name(self, key: str) -> str:
        """Return the name of an object in the local cache."""
        return f"{self._connection.endpoint} {self.bucket}/{self.prefix}{key}"


def pause(delay: float) -> None:
    """Wait for `delay` seconds, up to doubled at random, so that many who wait do not come back together."""
    time.sleep(delay * random.uniform(1, 2))


def _etag(answer: dict[str, Any]) -> str:
    """Return the ETag without its quotes."""
    return str(answer["ETag"].strip('"'))


def _check(uri: str, data: bytes, wanted: str | None) -> None:
    """Raise DamagedError where bytes are not those that were sent; what was put by others may have no digest."""
    if not wanted:
        return
    digest = hashlib.sha256(data).hexdigest()
    if digest != wanted:
        raise mismatch_error(uri, wanted, digest)
