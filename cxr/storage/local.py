"""A folder on this machine as a storage. Written files appear under their name when they are whole."""

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from filelock import FileLock

from cxr.core.errors import DataError, StorageError
from cxr.core.files import atomic_write, file_sha256
from cxr.storage.base import ANY, Entry, changed_error, mismatch_error, path_below

LOCK = ".cxr-lock"  # held during a local write; never listed
LINK_OUT = "link out of the data folder"
FOLDER_LINK_OUT = "link to a folder out of the data folder"
FOLDER_LINK = "link to a folder: its files are read at their own place"
_ADVICE = {
    errno.EACCES: "check the folder's rights, or give another",
    errno.EPERM: "check the folder's rights, or give another",
    errno.EROFS: "give a folder that can be written",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENOTDIR: "a file is where a folder is needed: give another name",
    errno.EEXIST: "a file is where a folder is needed: give another name",
    errno.ENOENT: "it cannot be made there: give another folder",
    errno.EISDIR: "a folder is where a file is needed: give another name",
}
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")


class LocalStorage:
    """A folder on this machine.

    Links to files and folders are followed where `follow_links` says so, out of the folder too; a
    link back to a folder above it is not entered. Without it no link is followed out of the folder,
    no link to a folder entered.
    """

    def __init__(self, folder: Path, follow_links: bool = False):
        self.folder = folder.absolute()
        self.uri = str(self.folder)
        self.place = self.uri
        self.follow_links = follow_links

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield every file below the folder; raises DataError where there is no such folder."""
        start = prefix.rpartition("/")[0]
        if prefix and not _is_folder(self._path(start) if start else self.folder):
            return
        if not _is_folder(self.folder):
            raise DataError(describe_no_folder(self.folder))
        for entry in self._walk(self.folder / start, f"{start}/" if start else ""):
            if entry.key.startswith(prefix) and entry.key != LOCK:
                yield entry

    def _walk(self, start: Path, prefix: str) -> Iterator[Entry]:
        """Yield the files below `start`, whose keys begin with `prefix`.

        Each folder is kept with the real paths of those that lead to it: a loop of links comes back
        to one of them.
        """
        root = self.folder.resolve()
        left = [(str(start), prefix, frozenset([os.path.realpath(start)]))]
        while left:
            folder, above, path = left.pop()
            try:
                found = list(os.scandir(folder))
            except OSError as error:
                if not above:
                    raise storage_error("list", folder, error) from error
                words = f"folder cannot be listed: {error.strerror}"
                yield Entry(above, 0, "", ("unreadable", words))
                continue
            for item in found:
                key = above + item.name
                problem = self._link_problem(item.path, root, path) if item.is_symlink() else None
                if problem:
                    yield Entry(key, 0, "", problem)
                elif item.is_dir():
                    left.append((item.path, key + "/", path | {os.path.realpath(item.path)}))
                else:
                    yield _local_entry(item.path, key)

    def _link_problem(self, link: str, root: Path, above: frozenset[str]) -> tuple[str, str] | None:
        """Return why a link is not followed, None where it is.

        `above` are the real paths of the folders that it is in.
        """
        try:
            target = Path(link).resolve(strict=True)
            is_folder = target.is_dir()
        except (FileNotFoundError, NotADirectoryError, RuntimeError):
            return "unreadable", "broken link"
        except OSError as error:
            if error.errno == errno.ELOOP:
                return "unreadable", "broken link"
            return "unreadable", f"link cannot be followed: {error.strerror}"
        if self.follow_links:
            back = is_folder and str(target) in above
            return ("ignored", "link back to a folder above it") if back else None
        if not target.is_relative_to(root):
            return "outside_root", FOLDER_LINK_OUT if is_folder else LINK_OUT
        return ("ignored", FOLDER_LINK) if is_folder else None

    def find(self, key: str) -> Entry | None:
        """Return the file, with its problem where it may not be read; None where there is no file."""
        path = self._path(key)
        try:
            if path.is_symlink():
                above = frozenset(os.path.realpath(folder) for folder in path.parents)
                if problem := self._link_problem(str(path), self.folder.resolve(), above):
                    return Entry(key, 0, "", problem)
            return None if not path.exists() or path.is_dir() else _local_entry(str(path), key)
        except OSError as error:
            raise storage_error("look at", f"{self.uri}/{key}", error) from error

    def read(self, key: str, version: str | None = None) -> bytes:
        """Return the file's bytes; raises FileNotFoundError or PermissionError as the system does, ConflictError."""
        return self._read(key, version, -1)

    def _read(self, key: str, version: str | None, count: int) -> bytes:
        try:
            with self._path(key).open("rb") as file:
                found = _version(os.fstat(file.fileno()))
                if version is not None and found != version:
                    raise changed_error(f"{self.uri}/{key}", version, found)
                return file.read(count)
        except NotADirectoryError as error:
            raise FileNotFoundError(*error.args) from error

    def read_many(
        self, wanted: Iterable[tuple[str, str | None]]
    ) -> Iterator[tuple[str, bytes | Exception]]:
        """Yield (key, bytes or error) one after the other: a disk needs no reading ahead."""
        return self.peek_many(wanted, -1)

    def peek(self, key: str, count: int) -> bytes:
        """Return the file's first `count` bytes."""
        return self._read(key, None, count)

    def peek_many(
        self, wanted: Iterable[tuple[str, str | None]], count: int
    ) -> Iterator[tuple[str, bytes | Exception]]:
        """Yield (key, first bytes or error) one after the other."""
        for key, version in wanted:
            try:
                yield key, self._read(key, version, count)
            except (OSError, StorageError) as error:
                yield key, error

    def version(self, key: str) -> str | None:
        """Return the file's times of change in ns, None where there is no such file."""
        try:
            return _version(self._path(key).stat())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise storage_error("look at", f"{self.uri}/{key}", error) from error

    def write(self, key: str, data: bytes, expected: str | None = ANY) -> str:
        """Publish `data` by renaming a temporary file, under a lock; each version is later than the one before."""
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / LOCK):
                before = self.version(key)
                if expected not in (ANY, before):
                    raise changed_error(f"{self.uri}/{key}", expected, before)
                with atomic_write(path) as temporary:
                    temporary.write_bytes(data)
                    _make_later(temporary, before)
                return _version(path.stat())
        except OSError as error:
            raise storage_error("write", f"{self.uri}/{key}", error) from error

    def upload(self, path: Path, key: str) -> str:
        """Copy a file into the folder, renamed when whole; StorageError where the copy's SHA-256 is not the file's."""
        target = self._path(key)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / LOCK):
                _copy(path, target, f"{self.uri}/{key}", self.version(key))
                return _version(target.stat())
        except FileNotFoundError:
            raise
        except OSError as error:
            raise storage_error("write", f"{self.uri}/{key}", error) from error

    def download(self, key: str, path: Path) -> str:
        """Copy a file out of the folder, renamed when whole; FileNotFoundError where there is none."""
        found = _version(self._path(key).stat())
        _copy(self._path(key), path, str(path), None)
        return found

    def delete(self, key: str) -> None:
        """Remove the file where there is one."""
        try:
            self._path(key).unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise storage_error("delete", f"{self.uri}/{key}", error) from error

    def _path(self, key: str) -> Path:
        return path_below(self.folder, key)


def storage_error(verb: str, uri: str, error: OSError) -> StorageError:
    """Return the error for what the system refused, with what to do about it."""
    advice = _ADVICE.get(error.errno or 0, "check the folder's rights and free space")
    return StorageError(f"cannot {verb} {uri}: {error.strerror or error}: {advice}")


def _copy(source: Path, target: Path, uri: str, before: str | None) -> None:
    try:
        with atomic_write(target) as temporary:
            shutil.copyfile(source, temporary)
            with source.open("rb") as file:
                wanted = hashlib.file_digest(file, "sha256").hexdigest()
            if (found := file_sha256(temporary)) != wanted:
                raise mismatch_error(uri, wanted, found)
            shutil.copystat(source, temporary)
            _make_later(temporary, before)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise storage_error("write", uri, error) from error


def _version(status: os.stat_result) -> str:
    """Return a file's version: when its content was changed, and when anything of it was, in ns.

    The second cannot be set: it tells a file from another of the same size that was given the same
    time. The inode would say no more, and some network and overlay file systems give a file another
    one each time.
    """
    return f"{status.st_mtime_ns}-{status.st_ctime_ns}"


def _make_later(path: Path, before: str | None) -> None:
    """Give a file a time after `before`: the system's clock ticks more slowly than two writes can follow."""
    if before is None:
        return
    earlier = int(before.partition("-")[0])
    if path.stat().st_mtime_ns <= earlier:
        os.utime(path, ns=(earlier + 1, earlier + 1))


def _local_entry(path: str, key: str) -> Entry:
    try:
        # A Path made of each of 100,000 files takes as long as the call.
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return Entry(key, 0, "", ("vanished", "gone while the folder was listed"))
    if not stat.S_ISREG(status.st_mode):
        return Entry(key, 0, "", ("not_an_image", "not a regular file"))
    return Entry(key, status.st_size, _version(status))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:  # its name is too long, or a folder above it is closed
        raise storage_error("look at", str(path), error) from error


def describe_no_folder(path: Path, wanted: str = "the folder that holds the images") -> str:
    """Return in one sentence what is at a path where a folder was expected, and what to give."""
    if path.is_symlink() and not path.exists():
        return f"{path} is a broken link: give {wanted}"
    if path.name.lower().endswith(_ARCHIVES) and path.exists():
        return f"{path} is an archive, not a folder: unpack it, and give the folder that comes out"
    if path.exists():
        return f"{path} is a file, not a folder: give {wanted}"
    return describe_missing(path)


def describe_missing(path: Path) -> str:
    """Return in one sentence that nothing is at a path, and how far it leads."""
    there = next((folder for folder in path.absolute().parents if folder.exists()), Path("/"))
    if not there.is_dir():
        return f"{path}: there is no such file or folder, because {there} is a file: check the path"
    return f"{path}: there is no such file or folder ({there} is there): check its name"
