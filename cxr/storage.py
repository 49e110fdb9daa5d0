"""Where images come from: a local folder or an S3 prefix behind the same three verbs.

Left out: writing to S3 (work folders are local so far). The only file that knows boto3.
"""

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote, urlparse

from filelock import FileLock

from cxr.errors import ConflictError, DataError, StorageError


class Any_:
    """The type of ANY: whatever is there may be overwritten."""


ANY = Any_()
Expected = str | None | Any_


class Entry(NamedTuple):
    """One file as listed: POSIX key below the root, bytes, version (mtime in ns, or ETag), problem.

    `problem` is empty, or a reject reason and its detail for what must not be read.
    """

    key: str
    size: int
    version: str
    problem: tuple[str, str] | None = None


class Storage(Protocol):
    """A place to list and read files from."""

    uri: str

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield every file below the root, in no particular order; raises StorageError."""

    def read(self, key: str) -> bytes:
        """Return a file's bytes. Raises FileNotFoundError, PermissionError or StorageError."""

    def version(self, key: str) -> str | None:
        """Return what `list` would give as version, or None where there is no such file."""

    def write(self, key: str, data: bytes, expected: Expected = ANY) -> str:
        """Publish `data` whole and return its version; ConflictError where what is there is not as `expected`."""

    def upload(self, path: Path, key: str) -> str:
        """Publish a local file whole and return its version."""

    def download(self, key: str, path: Path) -> None:
        """Write the file to `path`."""

    def delete(self, key: str) -> None:
        """Remove the file, if it is there."""


class LocalStorage:
    """A folder on this machine. Links are never followed out of it, folders behind links never entered."""

    def __init__(self, folder: Path):
        self.folder = folder.absolute()
        self.uri = str(self.folder)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield every file below the folder; raises DataError where there is no such folder."""
        if not self.folder.is_dir():
            raise DataError(f"{self.folder} is not a folder: give the folder that holds the images")
        found = self._walk(str(self.folder), "", self.folder.resolve())
        yield from (entry for entry in found if entry.key.startswith(prefix))

    def _walk(self, folder: str, prefix: str, root: Path) -> Iterator[Entry]:
        try:
            found = list(os.scandir(folder))
        except OSError as error:
            yield Entry(prefix, 0, "", ("unreadable", f"folder cannot be listed: {error.strerror}"))
            return
        for item in found:
            key = prefix + item.name
            if item.is_symlink() and (problem := _link_problem(Path(item.path), root)):
                yield Entry(key, 0, "", problem)
            elif item.is_dir(follow_symlinks=False):
                yield from self._walk(item.path, key + "/", root)
            else:
                yield _local_entry(item, key)

    def read(self, key: str) -> bytes:
        """Return the file's bytes; raises FileNotFoundError or PermissionError as the system does."""
        return (self.folder / key).read_bytes()

    def version(self, key: str) -> str | None:
        """Return the modification time in ns."""
        try:
            return str((self.folder / key).stat().st_mtime_ns)
        except FileNotFoundError:
            return None

    def write(self, key: str, data: bytes, expected: Expected = ANY) -> str:
        """Publish under a temporary name and rename, under a lock where something is expected."""
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".writing-{os.getpid()}-{path.name}")
        temporary.write_bytes(data)
        with contextlib.nullcontext() if expected is ANY else FileLock(path.with_name(f".{path.name}.lock")):
            if expected is not ANY and self.version(key) != expected:
                temporary.unlink()
                raise ConflictError(f"{path}: written by another since")
            temporary.replace(path)
            return str(self.version(key))

    def upload(self, path: Path, key: str) -> str:
        """Copy the file here."""
        return self.write(key, path.read_bytes())

    def download(self, key: str, path: Path) -> None:
        """Copy the file to `path`."""
        shutil.copyfile(self.folder / key, path)

    def delete(self, key: str) -> None:
        """Remove the file, if it is there."""
        (self.folder / key).unlink(missing_ok=True)


def _link_problem(path: Path, root: Path) -> tuple[str, str] | None:
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):
        return "unreadable", "broken link"
    if not target.is_relative_to(root):
        return "outside_root", "the link's target lies outside the data folder"
    return ("ignored", "link to a folder: its files are read at their own place") if target.is_dir() else None


def _local_entry(item: "os.DirEntry[str]", key: str) -> Entry:
    try:
        status = item.stat()
    except OSError:
        return Entry(key, 0, "", ("vanished", "gone while the folder was listed"))
    if not stat.S_ISREG(status.st_mode):
        return Entry(key, 0, "", ("not_an_image", "not a regular file"))
    return Entry(key, status.st_size, str(status.st_mtime_ns))


class S3Storage:
    """A prefix in an S3-compatible bucket. Credentials, endpoint and region: boto3's own settings."""

    def __init__(self, uri: str):
        import boto3
        from botocore.config import Config

        parts = urlparse(uri)
        self.uri = uri.rstrip("/")
        self.bucket, self.prefix = parts.netloc, unquote(parts.path).strip("/")
        self.prefix += "/" if self.prefix else ""
        checks = dict.fromkeys(("request_checksum_calculation", "response_checksum_validation"), "when_required")
        config: Any = Config(retries={"max_attempts": 5, "mode": "standard"}, max_pool_connections=32, **checks)
        self.client = boto3.client("s3", config=config)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield every object below the prefix, page by page; the version is its ETag."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix + prefix)
        try:
            for page in pages:
                for item in page.get("Contents", []):
                    key = item["Key"][len(self.prefix) :]
                    if key and not key.endswith("/"):
                        yield Entry(key, item["Size"], item["ETag"].strip('"'))
        except self._errors() as error:
            raise self._failure("list", self.uri, error) from error

    def read(self, key: str) -> bytes:
        """Return the object's bytes; raises FileNotFoundError, PermissionError or StorageError."""
        try:
            body: bytes = self.client.get_object(Bucket=self.bucket, Key=self.prefix + key)["Body"].read()
        except self._errors() as error:
            raise self._failure("read", f"{self.uri}/{key}", error) from error
        return body

    def version(self, key: str) -> str | None:
        """Return the ETag."""
        try:
            return str(self.client.head_object(Bucket=self.bucket, Key=self.prefix + key)["ETag"]).strip('"')
        except self._errors() as error:
            failure = self._failure("find", f"{self.uri}/{key}", error)
            if isinstance(failure, FileNotFoundError):
                return None
            raise failure from error

    def write(self, key: str, data: bytes, expected: Expected = ANY) -> str:
        """Put the object by one conditional request."""
        condition: dict[str, Any] = (
            {} if expected is ANY else {"IfMatch": expected} if expected else {"IfNoneMatch": "*"}
        )
        try:
            done = self.client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=data, **condition)
        except self._errors() as error:
            if "PreconditionFailed" in str(error) or "NoSuchKey" in str(error):
                raise ConflictError(f"{self.uri}/{key}: written by another since") from error
            raise self._failure("write", f"{self.uri}/{key}", error) from error
        return str(done["ETag"]).strip('"')

    def upload(self, path: Path, key: str) -> str:
        """Put the file."""
        return self.write(key, path.read_bytes())

    def download(self, key: str, path: Path) -> None:
        """Get the file and check it."""
        path.write_bytes(self.read(key))

    def delete(self, key: str) -> None:
        """Remove the object, if it is there."""
        self.client.delete_object(Bucket=self.bucket, Key=self.prefix + key)

    @staticmethod
    def _errors() -> tuple[type[Exception], ...]:
        from botocore.exceptions import BotoCoreError, ClientError

        return BotoCoreError, ClientError

    @staticmethod
    def _failure(verb: str, uri: str, error: Exception) -> Exception:
        code = str(getattr(error, "response", {}).get("Error", {}).get("Code", type(error).__name__))
        if code in {"NoSuchKey", "404"}:
            return FileNotFoundError(uri)
        if code in {"AccessDenied", "403"} and verb == "read":
            return PermissionError(uri)
        final = {
            "NoSuchBucket",
            "AccessDenied",
            "403",
            "NoCredentialsError",
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
        }
        return StorageError(f"cannot {verb} {uri}: {code}: check bucket, endpoint and credentials", code not in final)


def open_storage(uri: str) -> Storage:
    """Return the storage behind a path, `file://…` or `s3://bucket/prefix`; DataError for another scheme."""
    scheme = urlparse(uri).scheme if "://" in uri else ""
    if scheme == "s3":
        return S3Storage(uri)
    if scheme in {"", "file"}:
        return LocalStorage(local_folder(uri))
    raise DataError(f"{uri}: expected a path, file://… or s3://bucket/prefix, found {scheme}://")


def local_folder(uri: str) -> Path:
    """Return the folder behind a path or `file://…`; DataError where it is not a local one."""
    if uri.startswith("file://"):
        return Path(unquote(urlparse(uri).path))
    if "://" in uri:
        raise DataError(f"{uri}: the work folder must be on this machine in this version")
    return Path(uri).expanduser()
