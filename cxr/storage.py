"""Where files live: a local folder or an S3 prefix behind the same few verbs.

A version is what changes when a file does: the time of change in ns, or the ETag. A write that expects a version is
refused where another one is there, so of several at once exactly one wins. S3 itself is in `s3`; whole work folders
are in `workspace`.
"""

import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple, Protocol
from urllib.parse import unquote, urlparse

from filelock import FileLock

from cxr.errors import ChangedError, ConflictError, DamagedError, DataError, StorageError
from cxr.records import file_sha256, publishing

__all__ = ["ANY", "ConflictError", "Entry", "LocalStorage", "Storage", "is_local", "local_folder", "open_storage"]

ANY: Final = "*"  # expected by a write that takes whatever is there now, or nothing
LOCK = ".cxr-lock"  # held during a local write; never listed


class Entry(NamedTuple):
    """One file as listed: POSIX key below the root, bytes, version (mtime in ns, or ETag), problem.

    `problem` is empty, or a reject reason and its detail for what must not be read.
    """

    key: str
    size: int
    version: str
    problem: tuple[str, str] | None = None


class Storage(Protocol):
    """A place to list, read and write files. Every failure is a StorageError unless said otherwise.

    `uri` is how it was given; `place` differs too where the same bucket name means another server.
    """

    uri: str
    place: str

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield every file whose key starts with `prefix`, in no particular order."""

    def read(self, key: str, version: str | None = None) -> bytes:
        """Return a file's bytes; with a version, ConflictError where the file is another one by now.

        Raises FileNotFoundError, PermissionError (this file alone) or StorageError.
        """

    def read_many(self, wanted: Iterable[tuple[str, str | None]]) -> Iterator[tuple[str, bytes | Exception]]:
        """Yield (key, bytes, or what `read` would raise) for each (key, version), in their order, read ahead."""

    def version(self, key: str) -> str | None:
        """Return the version of what is there now, None where nothing is."""

    def write(self, key: str, data: bytes, expected: str | None = ANY) -> str:
        """Publish `data` whole and return its version.

        `expected`: ANY, None (nothing may be there yet) or the version that must still be there; else ConflictError.
        """

    def upload(self, path: Path, key: str) -> str:
        """Copy a local file to `key`, of any size, its SHA-256 checked; return its version."""

    def download(self, key: str, path: Path) -> str:
        """Copy `key` to a local file, published whole, its SHA-256 checked; return the version it has."""

    def delete(self, key: str) -> None:
        """Remove a file; nothing happens where there is none."""


class LocalStorage:
    """A folder on this machine. Links are never followed out of it, folders behind links never entered."""

    def __init__(self, folder: Path):
        self.folder = folder.absolute()
        self.uri = self.place = str(self.folder)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield every file below the folder; raises DataError where there is no such folder."""
        if not self.folder.is_dir():
            raise DataError(f"{self.folder} is not a folder: give the folder that holds the images")
        start = prefix.rpartition("/")[0]
        if start and not self._path(start).is_dir():
            return
        for entry in self._walk(str(self.folder / start), f"{start}/" if start else "", self.folder.resolve()):
            if entry.key.startswith(prefix) and entry.key != LOCK:
                yield entry

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

    def read(self, key: str, version: str | None = None) -> bytes:
        """Return the file's bytes; raises FileNotFoundError or PermissionError as the system does, ConflictError."""
        with self._path(key).open("rb") as file:
            found = str(os.fstat(file.fileno()).st_mtime_ns)
            if version is not None and found != version:
                raise changed(f"{self.uri}/{key}", version, found)
            return file.read()

    def read_many(self, wanted: Iterable[tuple[str, str | None]]) -> Iterator[tuple[str, bytes | Exception]]:
        """Yield (key, bytes or error) one after the other: a disk needs no reading ahead."""
        for key, version in wanted:
            try:
                yield key, self.read(key, version)
            except (OSError, StorageError) as error:
                yield key, error

    def version(self, key: str) -> str | None:
        """Return the time of the last change in ns, None where there is no such file."""
        try:
            return str(self._path(key).stat().st_mtime_ns)
        except FileNotFoundError:
            return None

    def write(self, key: str, data: bytes, expected: str | None = ANY) -> str:
        """Publish `data` by renaming a temporary file, under a lock; each version is later than the one before."""
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / LOCK):
                before = self.version(key)
                if expected not in (ANY, before):
                    raise changed(f"{self.uri}/{key}", expected, before)
                with publishing(path) as temporary:
                    temporary.write_bytes(data)
                    _make_later(temporary, before)
                return str(path.stat().st_mtime_ns)
        except OSError as error:
            raise _failure("write", f"{self.uri}/{key}", error) from error

    def upload(self, path: Path, key: str) -> str:
        """Copy a file into the folder, renamed when whole; StorageError where the copy's SHA-256 is not the file's."""
        with FileLock(self._made() / LOCK):
            before = self.version(key)
            _copy(path, self._path(key), f"{self.uri}/{key}", before)
        return str(self._path(key).stat().st_mtime_ns)

    def download(self, key: str, path: Path) -> str:
        """Copy a file out of the folder, renamed when whole; FileNotFoundError where there is none."""
        found = str(self._path(key).stat().st_mtime_ns)
        _copy(self._path(key), path, str(path), None)
        return found

    def delete(self, key: str) -> None:
        """Remove the file where there is one."""
        try:
            self._path(key).unlink(missing_ok=True)
        except OSError as error:
            raise _failure("delete", f"{self.uri}/{key}", error) from error

    def _made(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder

    def _path(self, key: str) -> Path:
        return below(self.folder, key)


def below(folder: Path, key: str) -> Path:
    """Return the path of `key` below `folder`; StorageError for a key that would lead out of it."""
    parts = PurePosixPath(key).parts
    if not parts or ".." in parts or key.startswith("/"):
        raise StorageError(f"{key!r}: expected a key below {folder}, found one that leads out of it")
    return folder.joinpath(*parts)


def changed(uri: str, expected: str | None, found: str | None) -> ChangedError:
    """Return the error for a file that is not at the version it is expected to be."""
    wanted = "nothing there yet" if expected is None else f"version {expected}"
    seen = "nothing" if found is None else f"version {found}"
    return ChangedError(f"{uri}: expected {wanted}, found {seen}: somebody else changed it; look at it, then try again")


def mismatch(uri: str, expected: str, found: str) -> DamagedError:
    """Return the error for bytes that are not those that were sent."""
    words = "damaged on the way or where it lies: try again; where that does not help, write the file anew"
    return DamagedError(f"{uri}: expected SHA-256 {expected}, found {found}: {words}", transient=True)


def _failure(verb: str, uri: str, error: OSError) -> StorageError:
    return StorageError(f"cannot {verb} {uri}: {error.strerror or error}: check the folder's rights and free space")


def _copy(source: Path, target: Path, uri: str, before: str | None) -> None:
    try:
        with publishing(target) as temporary:
            shutil.copyfile(source, temporary)
            with source.open("rb") as file:
                wanted = hashlib.file_digest(file, "sha256").hexdigest()
            if (found := file_sha256(temporary)) != wanted:
                raise mismatch(uri, wanted, found)
            shutil.copystat(source, temporary)
            _make_later(temporary, before)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _failure("write", uri, error) from error


def _make_later(path: Path, before: str | None) -> None:
    """Give a file a time after `before`: the system's clock ticks more slowly than two writes can follow."""
    if before is not None and path.stat().st_mtime_ns <= int(before):
        os.utime(path, ns=(int(before) + 1, int(before) + 1))


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


def open_storage(uri: str) -> Storage:
    """Return the storage behind a path, `file://…` or `s3://bucket/prefix`; DataError for another scheme."""
    scheme = urlparse(uri).scheme if "://" in uri else ""
    if scheme == "s3":
        from cxr.s3 import S3Storage

        return S3Storage(uri)
    if scheme in {"", "file"}:
        return LocalStorage(local_folder(uri))
    raise DataError(f"{uri}: expected a path, file://… or s3://bucket/prefix, found {scheme}://")


def is_local(uri: str) -> bool:
    """Return whether a URI is a path or `file://…`."""
    return "://" not in uri or uri.startswith("file://")


def local_folder(uri: str) -> Path:
    """Return the folder behind a path or `file://…`; DataError where it is not a local one."""
    if uri.startswith("file://"):
        return Path(unquote(urlparse(uri).path))
    if "://" in uri:
        raise DataError(f"{uri}: expected a path or file://…, found a place on another machine")
    return Path(uri).expanduser()
