"""An S3 prefix as a storage: what talks to boto3 and obstore. Their errors in words are in `s3_faults`.

boto3 lists, heads, writes and reads one by one, because its errors carry the server's codes; obstore reads in bulk,
because it is several times as fast (`bench/storage.py`). What obstore cannot read is asked of boto3 again, so there is
one place for faults: `failure`. Credentials come from boto3's own chain and stay in it.
"""

import base64
import contextlib
import hashlib
import os
import random
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

from cxr import object_cache
from cxr.ahead import in_order
from cxr.errors import DamagedError, StorageError, UsageError
from cxr.records import publishing
from cxr.s3_faults import CONFLICTS, EMPTY, code_of, errors, failure, is_cut_short
from cxr.storage import ANY, Entry, changed, mismatch

PART = 16 * 1024 * 1024  # bytes of one part of a large upload; at most 10,000 of them: 160 GB
DELAYS = (
    0.5,
    1.0,
    2.0,
    4.0,
)  # seconds, each up to doubled at random, before what botocore cannot repeat itself
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")
T = TypeVar("T")


class _Connection(NamedTuple):
    """A client and what it talks to. One for all storages of a process with the same settings."""

    client: Any
    session: Any
    endpoint: str
    path_style: bool


class S3Storage:
    """A prefix in an S3-compatible bucket; endpoint, region, certificates and profile by the usual AWS variables."""

    def __init__(self, uri: str):
        bucket, _, prefix = uri.partition("://")[2].partition("/")
        if "@" in bucket or ":" in bucket:
            raise UsageError(
                "s3://…: expected s3://bucket/prefix; credentials never belong in a URI: see docs/operations.md"
            )
        if not bucket:
            raise UsageError(f"{uri}: expected s3://bucket/prefix, found no bucket")
        if not _BUCKET.fullmatch(bucket):
            raise UsageError(
                f"{uri}: expected the name of a bucket, letters, digits, dots and dashes, found {bucket}"
            )
        self.bucket = bucket
        # A slash in front or two in the middle are part of the keys, as they are to S3 itself.
        self.prefix = prefix.rstrip("/") + "/" if prefix.rstrip("/") else ""
        self.uri = f"s3://{bucket}/{self.prefix}".rstrip("/")
        no_address: tuple[type[Exception], ...] = (ValueError,)
        try:
            self._connection = _connected()
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
                        yield Entry(key, item["Size"], item["ETag"].strip('"'))
        except errors() as error:
            raise failure("list", f"{self.uri}/{prefix}".rstrip("/"), error) from error

    def find(self, key: str) -> Entry | None:
        """Return the object as `list` does, which it comes first in: others begin with its name."""
        found = next(self.list(key), None)
        return found if found and found.key == key else None

    def read(self, key: str, version: str | None = None) -> bytes:
        """Return the object's bytes, from the local cache where its ETag is still the same."""
        cached = object_cache.find(self._at(key))
        if cached and version is not None and cached.version == version:
            return cached.data
        condition = {"IfMatch": version} if version is not None else {}
        if cached and version is None:
            condition = {"IfNoneMatch": cached.version}
        try:
            data, etag = self._again("read", key, lambda: self._get(key, condition))
        except _NotModifiedError:
            assert cached
            return cached.data
        object_cache.keep(self._at(key), etag, data)
        return data

    def _get(self, key: str, condition: dict[str, str]) -> tuple[bytes, str]:
        """Return (bytes, ETag) with the bytes checked; raises what went wrong in this project's own words."""
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=self.prefix + key, **condition)
            data: bytes = answer["Body"].read()
        except errors() as error:
            code = code_of(error)
            if code == "304":
                raise _NotModifiedError from None
            if code in CONFLICTS:
                raise changed(f"{self.uri}/{key}", condition.get("IfMatch"), "another") from error
            if is_cut_short(error):
                raise
            raise failure("read", f"{self.uri}/{key}", error) from error
        _check(f"{self.uri}/{key}", data, answer["Metadata"].get("sha256"))
        return data, answer["ETag"].strip('"')

    def read_many(
        self, wanted: Iterable[tuple[str, str | None]]
    ) -> Iterator[tuple[str, bytes | Exception]]:
        """Yield (key, bytes or error) in the order wanted, up to CXR_S3_CONNECTIONS of them under way."""
        return _at_once(self._fast_reader(), wanted)

    def _fast_reader(self) -> Callable[[str, str | None], bytes]:
        """Return a function like `read` that asks obstore first, and boto3 where that fails for whatever reason."""
        store = _bulk_store(self._connection, self.bucket)
        if store is None:
            return self.read

        def read(key: str, version: str | None) -> bytes:
            if version is None:
                return self.read(key)
            cached = object_cache.find(self._at(key))
            if cached and cached.version == version:
                return cached.data
            try:
                answer = store.get(self.prefix + key, options={"if_match": version})
                data = bytes(answer.bytes())
                _check(f"{self.uri}/{key}", data, answer.attributes.get("sha256"))
            except Exception:  # noqa: BLE001  # boto3 repeats the question and names what is wrong
                return self.read(key, version)
            object_cache.keep(self._at(key), version, data)
            return data

        return read

    def peek(self, key: str, count: int) -> bytes:
        """Return the object's first `count` bytes, by one ranged request."""
        return self._peek(key, None, count)

    def _peek(self, key: str, version: str | None, count: int) -> bytes:
        cached = object_cache.find(self._at(key)) if version is not None else None
        if cached and cached.version == version:
            return cached.data[:count]
        condition = {"IfMatch": version} if version is not None else {}
        return self._again("read", key, lambda: self._get_start(key, condition, count))

    def _get_start(self, key: str, condition: dict[str, str], count: int) -> bytes:
        """Return the first bytes, unchecked: the object's SHA-256 is that of the whole."""
        try:
            answer = self.client.get_object(
                Bucket=self.bucket, Key=self.prefix + key, Range=f"bytes=0-{count - 1}", **condition
            )
            data: bytes = answer["Body"].read()
        except errors() as error:
            code = code_of(error)
            if code in EMPTY:  # there is no first byte to begin at
                return b""
            if code in CONFLICTS:
                raise changed(f"{self.uri}/{key}", condition.get("IfMatch"), "another") from error
            if is_cut_short(error):
                raise
            raise failure("read", f"{self.uri}/{key}", error) from error
        return data[:count]

    def peek_many(
        self, wanted: Iterable[tuple[str, str | None]], count: int
    ) -> Iterator[tuple[str, bytes | Exception]]:
        """Yield (key, first bytes or error) in the order wanted, as `read_many` does."""
        store = _bulk_store(self._connection, self.bucket)

        def peek(key: str, version: str | None) -> bytes:
            if store is None or version is None:
                return self._peek(key, version, count)
            try:
                options = {"if_match": version, "range": (0, count)}
                answer = store.get(self.prefix + key, options=options)
                return bytes(answer.bytes())[:count]
            except Exception:  # noqa: BLE001  # boto3 repeats the question and names what is wrong
                return self._peek(key, version, count)

        return _at_once(peek, wanted)

    def version(self, key: str) -> str | None:
        """Return the object's ETag, None where there is no such object."""
        answer = self._head(key)
        return answer["ETag"].strip('"') if answer else None

    def _head(self, key: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self.client.head_object(
                Bucket=self.bucket, Key=self.prefix + key
            )
            return found
        except errors():  # the answer to a head has no body, so its error has no code: ask again in a way that has
            try:
                found = self.client.get_object(Bucket=self.bucket, Key=self.prefix + key)
            except errors() as error:
                if code_of(error) == "NoSuchKey":
                    return None
                raise failure("look at", f"{self.uri}/{key}", error) from error
            found["Body"].close()
            return found

    def age(self, key: str) -> float | None:
        """Return for how many seconds the object has been there unchanged, by the server's clock; None without one."""
        answer = self._head(key)
        if not answer:
            return None
        from email.utils import parsedate_to_datetime

        now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        return float((now - answer["LastModified"]).total_seconds())

    def write(self, key: str, data: bytes, expected: str | None = ANY) -> str:
        """Put the object in one piece and return its ETag; the server compares, so of several at once one wins."""
        return self._put(key, data, {"sha256": hashlib.sha256(data).hexdigest()}, expected)

    def _put(self, key: str, data: bytes, metadata: dict[str, str], expected: str | None) -> str:
        """Put an object. The ETag goes into If-Match without quotes, as in AWS' own examples: RADOS wants it so."""
        uri, writer = f"{self.uri}/{key}", uuid.uuid4().hex
        condition = (
            {}
            if expected == ANY
            else {"IfNoneMatch": "*"}
            if expected is None
            else {"IfMatch": expected}
        )
        for delay in (*DELAYS, None):
            try:
                answer = self.client.put_object(
                    Bucket=self.bucket,
                    Key=self.prefix + key,
                    Body=data,
                    ContentMD5=_md5(data),
                    Metadata=metadata | {"writer": writer},
                    **condition,
                )
                return str(answer["ETag"].strip('"'))
            except errors() as error:
                code = code_of(error)
                if not condition or code not in CONFLICTS | {"NoSuchKey"}:
                    raise failure("write", uri, error) from error
                there = self._head(key)
                if there and there["Metadata"].get("writer") == writer:
                    return str(
                        there["ETag"].strip('"')
                    )  # a repeated put met its own first try, whose answer was lost
                if code != "ConditionalRequestConflict" or delay is None:
                    raise changed(
                        uri, expected, there["ETag"].strip('"') if there else None
                    ) from error
                _wait(delay)
        raise AssertionError("not reached")

    def upload(self, path: Path, key: str, expected: str | None = ANY) -> str:
        """Put a file, a large one in parts; each request carries its MD5, the object its SHA-256 and time of change.

        `expected` is as for `write`, and holds for files up to PART only: servers differ in what they check of parts.
        """
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            status = os.fstat(file.fileno())
            file.seek(0)
            metadata = {"sha256": digest, "mtime": str(status.st_mtime_ns)}
            if status.st_size <= PART:
                data = file.read()
                _check(str(path), data, digest)
                return self._put(key, data, metadata, expected)
            try:
                answer = self._put_in_parts(file, key, metadata)
            except errors() as error:
                raise failure("write", f"{self.uri}/{key}", error) from error
        # the RADOS gateway does not say the ETag of what was put in parts
        return answer["ETag"].strip('"') or self.version(key) or ""

    def sha256(self, key: str) -> str | None:
        """Return the SHA-256 an object was put with, None where there is none."""
        answer = self._head(key)
        return answer["Metadata"].get("sha256") if answer else None

    def _put_in_parts(self, file: BinaryIO, key: str, metadata: dict[str, str]) -> dict[str, str]:
        """Put a large file part by part, several at a time; nothing is left where that fails."""
        target = {"Bucket": self.bucket, "Key": self.prefix + key}
        upload = target | {
            "UploadId": self.client.create_multipart_upload(**target, Metadata=metadata)["UploadId"]
        }
        seen = hashlib.sha256()

        def parts() -> Iterator[tuple[int, bytes]]:
            for number, data in enumerate(iter(lambda: file.read(PART), b""), 1):
                seen.update(data)
                yield number, data

        def put(part: tuple[int, bytes]) -> dict[str, Any]:
            number, data = part
            answer = self.client.upload_part(
                **upload, PartNumber=number, Body=data, ContentMD5=_md5(data)
            )
            return {"PartNumber": number, "ETag": answer["ETag"]}

        try:
            with ThreadPoolExecutor(4) as pool:
                sent = list(in_order(put, parts(), pool, 5))  # so many parts are in memory
            if seen.hexdigest() != metadata["sha256"]:
                raise mismatch(f"{self.uri}/{key}", metadata["sha256"], seen.hexdigest())
            done: dict[str, str] = self.client.complete_multipart_upload(
                **upload, MultipartUpload={"Parts": sent}
            )
            return done
        except BaseException:
            with contextlib.suppress(*errors()):  # what went wrong first is what is told
                self.client.abort_multipart_upload(**upload)
            raise

    def download(self, key: str, path: Path) -> str:
        """Get an object into a file, published whole, with the time of change it was uploaded with; return its ETag."""
        return self._again("download", key, lambda: self._download(key, path))

    def _download(self, key: str, path: Path) -> str:
        uri, seen = f"{self.uri}/{key}", hashlib.sha256()
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=self.prefix + key)
            with publishing(path) as temporary:
                with temporary.open("wb") as file:
                    for chunk in answer["Body"].iter_chunks(1024 * 1024):
                        seen.update(chunk)
                        file.write(chunk)
                wanted = answer["Metadata"].get("sha256", seen.hexdigest())
                if seen.hexdigest() != wanted:
                    raise mismatch(uri, wanted, seen.hexdigest())
                time_ns = int(
                    answer["Metadata"].get("mtime", answer["LastModified"].timestamp() * 1e9)
                )
                os.utime(temporary, ns=(time_ns, time_ns))
        except errors() as error:
            if is_cut_short(error):
                raise
            raise failure("download", uri, error) from error
        return str(answer["ETag"].strip('"'))

    def delete(self, key: str) -> None:
        """Remove the object where there is one."""
        try:
            self.client.delete_object(Bucket=self.bucket, Key=self.prefix + key)
        except errors() as error:
            raise failure("delete", f"{self.uri}/{key}", error) from error

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
            _wait(delay)
        try:
            return attempt()
        except errors() as error:
            raise failure(verb, f"{self.uri}/{key}", error) from error

    def _at(self, key: str) -> str:
        """Return the name of an object in the local cache."""
        return f"{self._connection.endpoint} {self.bucket}/{self.prefix}{key}"


def _at_once(
    read: Callable[[str, str | None], bytes], wanted: Iterable[tuple[str, str | None]]
) -> Iterator[tuple[str, bytes | Exception]]:
    """Yield (key, what `read` gives or raises) in order, up to CXR_S3_CONNECTIONS under way."""

    def one(each: tuple[str, str | None]) -> tuple[str, bytes | Exception]:
        key, version = each
        try:
            return key, read(key, version)
        except (OSError, StorageError) as error:
            return key, error

    return in_order(one, wanted, _pool(), connections() + 1)


class _NotModifiedError(Exception):
    """The server says that what is in the local cache still holds."""


def _check(uri: str, data: bytes, wanted: Any) -> None:
    """Raise StorageError where bytes are not those that were sent; what was put by others may have no digest."""
    if wanted and (found := hashlib.sha256(data).hexdigest()) != wanted:
        raise mismatch(uri, str(wanted), found)


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _wait(delay: float) -> None:
    time.sleep(delay * random.uniform(1, 2))


# ---- connections ------------------------------------------------------------------------------------------------

_lock = threading.Lock()
_connections: dict[tuple[object, ...], _Connection] = {}
_stores: dict[tuple[int, str], Any] = {}
_pools: dict[int, ThreadPoolExecutor] = {}


def connections() -> int:
    """Return how many objects a process reads at the same time: CXR_S3_CONNECTIONS, or 16."""
    given = os.environ.get("CXR_S3_CONNECTIONS", "16")
    try:
        return max(1, int(given))
    except ValueError:
        raise UsageError(f"CXR_S3_CONNECTIONS: expected a number, found {given!r}") from None


def _pool() -> ThreadPoolExecutor:
    with _lock:
        if connections() not in _pools:
            _pools[connections()] = ThreadPoolExecutor(connections(), "cxr-s3")
        return _pools[connections()]


def _settings() -> tuple[object, ...]:
    """Return what a connection depends on: the environment, and when the files of profiles were changed.

    So credentials that were renewed in ~/.aws/credentials are used by the next task of a running worker.
    """
    names = sorted(name for name in os.environ if name.startswith(("AWS_", "CXR_S3_")))
    files = [os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")]
    files.append(os.environ.get("AWS_CONFIG_FILE", "~/.aws/config"))
    paths = [Path(name).expanduser() for name in files]
    times = [path.stat().st_mtime_ns if path.is_file() else 0 for path in paths]
    # Hashed: no secret is kept in another place than boto3's own.
    secret = hashlib.sha256(
        "\0".join(f"{name}={os.environ[name]}" for name in names).encode()
    ).hexdigest()
    return (secret, *times)


def _connected() -> _Connection:
    settings = _settings()
    with _lock:
        if settings not in _connections:
            _connections.clear()
            _stores.clear()
            _connections[settings] = _connect()
        return _connections[settings]


def _connect() -> _Connection:
    import boto3
    from botocore.config import Config

    session = boto3.Session(region_name=os.environ.get("AWS_REGION") or None)
    checks = dict.fromkeys(
        ("request_checksum_calculation", "response_checksum_validation"), "when_required"
    )
    common: dict[str, Any] = {
        "retries": {"max_attempts": 6, "mode": "standard"},
        "max_pool_connections": connections() + 4,
        "signature_version": "s3v4",
        "connect_timeout": 10,
        "read_timeout": 60,
        **checks,
    }
    region = session.region_name or "us-east-1"
    client = session.client("s3", region_name=region, config=Config(**common))
    style = os.environ.get(
        "CXR_S3_PATH_STYLE", "" if "amazonaws.com" in client.meta.endpoint_url else "1"
    )
    if style:
        how = {"addressing_style": "virtual" if style == "0" else "path"}
        client = session.client("s3", region_name=region, config=Config(**common, s3=how))
    return _Connection(client, session, client.meta.endpoint_url, style not in {"", "0"})


def _bulk_store(connection: _Connection, bucket: str) -> Any:
    """Return obstore's view of the bucket, None where there are no credentials for it (boto3 then says so)."""
    with _lock:
        key = (id(connection.client), bucket)
        if key not in _stores:
            _stores[key] = _make_store(connection, bucket)
        return _stores[key]


def _make_store(connection: _Connection, bucket: str) -> Any:
    from datetime import timedelta

    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.store import S3Store

    try:
        credentials = Boto3CredentialProvider(connection.session)
    except ValueError:
        return None
    endpoint, virtual = connection.endpoint, not connection.path_style and "." not in bucket
    if virtual:
        endpoint = endpoint.replace("://", f"://{bucket}.", 1)
    options: Any = {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": "10s",
        "timeout": "60s",
    }
    if bundle := os.environ.get("AWS_CA_BUNDLE"):
        options["root_certificate"] = Path(bundle).read_bytes()
    return S3Store(
        bucket,
        endpoint=endpoint,
        region=connection.client.meta.region_name,
        virtual_hosted_style_request=virtual,
        client_options=options,
        credential_provider=credentials,
        retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=30)},
    )
