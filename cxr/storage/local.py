"""A folder on this machine as a storage. A written file appears under its name when it is whole."""

import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from filelock import FileLock

from cxr.core.errors import DataError
from cxr.core.files import atomic_write
from cxr.storage.base import (
    ANY,
    Entry,
    FileContent,
    Problem,
    WantedFile,
    changed_error,
    path_below,
    read_or_error,
)
from cxr.storage.local_files import (
    copy_file,
    file_entry,
    is_folder,
    set_later_time,
    storage_error,
    version_of,
)

LOCK = ".cxr-lock"  # held during a local write; never listed
LINK_OUT = "link out of the data folder"
FOLDER_LINK_OUT = "link to a folder out of the data folder"
FOLDER_LINK = "link to a folder: its files are read at their own place"
_LOOP = ("ignored", "link back to a folder above it")
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")


class LocalStorage:
    """A folder on this machine.

    Without `follow_links`, a link that leads out of the folder or to a folder is listed with a
    problem and not followed; a link to a file inside the folder is read. With it, all links are
    followed, except back to a folder that the link is in.

    Attributes:
        folder: The folder's absolute path.
        uri: The same as a text.
        place: The same as `uri`: a path is unique on this machine.
        follow_links: Whether links are followed out of the folder.
    """

    def __init__(self, folder: Path, follow_links: bool = False):
        self.folder = folder.absolute()
        self.uri = str(self.folder)
        self.place = self.uri
        self.follow_links = follow_links

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield every file whose key starts with `prefix`.

        Raises:
            DataError: The storage's folder does not exist.
        """
        parent = prefix.rpartition("/")[0]
        start = self._path(parent) if parent else self.folder
        if prefix and not is_folder(start):
            return
        if not is_folder(self.folder):
            raise DataError(describe_no_folder(self.folder))
        for entry in self._walk(start, f"{parent}/" if parent else ""):
            if entry.key.startswith(prefix) and entry.key != LOCK:
                yield entry

    def _walk(self, start: Path, start_key: str) -> Iterator[Entry]:
        """Yield the files below a folder.

        Each folder still to be visited is kept with the real paths of the folders above it, itself
        included: a loop of links comes back to one of them.
        """
        root = self.folder.resolve()
        real_start = os.path.realpath(start)
        todo = [(str(start), start_key, frozenset([real_start]))]
        while todo:
            folder, folder_key, real_parents = todo.pop()
            try:
                items = list(os.scandir(folder))
            except OSError as error:
                if not folder_key:
                    raise storage_error("list", folder, error) from error
                detail = f"folder cannot be listed: {error.strerror}"
                yield Entry(folder_key, 0, "", ("unreadable", detail))
                continue
            for item in items:
                key = folder_key + item.name
                problem = None
                if item.is_symlink():
                    problem = self._link_problem(item.path, root, real_parents)
                if problem:
                    yield Entry(key, 0, "", problem)
                elif item.is_dir():
                    real_path = os.path.realpath(item.path)
                    todo.append((item.path, f"{key}/", real_parents | {real_path}))
                else:
                    yield file_entry(item.path, key)

    def _link_problem(
        self,
        link: str,
        root: Path,
        real_parents: frozenset[str],
    ) -> Problem | None:
        """Return why a link is not followed, None if it is.

        Args:
            link: The link's path.
            root: The real path of the storage's folder.
            real_parents: The real paths of the folders that the link is in.
        """
        try:
            target = Path(link).resolve(strict=True)
            to_folder = target.is_dir()
        except (OSError, RuntimeError) as error:
            return "unreadable", _describe_link_error(error)
        if self.follow_links:
            is_loop = to_folder and str(target) in real_parents
            return _LOOP if is_loop else None
        if not target.is_relative_to(root):
            return "outside_root", FOLDER_LINK_OUT if to_folder else LINK_OUT
        return ("ignored", FOLDER_LINK) if to_folder else None

    def find(self, key: str) -> Entry | None:
        """Return one file as `list` would yield it, or None if there is none."""
        path = self._path(key)
        try:
            if path.is_symlink():
                root = self.folder.resolve()
                real_parents = frozenset(map(os.path.realpath, path.parents))
                problem = self._link_problem(str(path), root, real_parents)
                if problem:
                    return Entry(key, 0, "", problem)
            if not path.exists() or path.is_dir():
                return None
            return file_entry(str(path), key)
        except OSError as error:
            raise storage_error("look at", self._uri(key), error) from error

    def read(self, key: str, version: str | None = None) -> bytes:
        """Return the bytes of a file; its errors are the system's own, or ConflictError."""
        return self._read(key, version, -1)

    def _read(self, key: str, version: str | None, count: int) -> bytes:
        """Return the first `count` bytes of a file, or all for -1."""
        try:
            with self._path(key).open("rb") as file:
                status = os.fstat(file.fileno())
                current = version_of(status)
                if version is not None and version != current:
                    raise changed_error(self._uri(key), version, current)
                return file.read(count)
        except NotADirectoryError as error:
            raise FileNotFoundError(*error.args) from error

    def read_many(self, wanted: Iterable[WantedFile]) -> Iterator[FileContent]:
        """Yield key and bytes or error, one file after the other: a disk needs no reading ahead."""
        return self.peek_many(wanted, -1)

    def peek(self, key: str, count: int) -> bytes:
        """Return the first `count` bytes of a file."""
        return self._read(key, None, count)

    def peek_many(self, wanted: Iterable[WantedFile], count: int) -> Iterator[FileContent]:
        """Yield key and first bytes or error, one file after the other."""
        for file in wanted:
            yield read_or_error(lambda key, version: self._read(key, version, count), file)

    def version(self, key: str) -> str | None:
        """Return the file's times of change in ns, or None if there is no such file."""
        try:
            return version_of(self._path(key).stat())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise storage_error("look at", self._uri(key), error) from error

    def write(self, key: str, data: bytes, expected: str | None = ANY) -> str:
        """Publish a file by renaming a temporary one, under a lock.

        Each version has a later time than the one before.
        """
        path = self._path(key)
        uri = self._uri(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / LOCK):
                current = self.version(key)
                if expected not in (ANY, current):
                    raise changed_error(uri, expected, current)
                with atomic_write(path) as temporary:
                    temporary.write_bytes(data)
                    set_later_time(temporary, current)
                return version_of(path.stat())
        except OSError as error:
            raise storage_error("write", uri, error) from error

    def upload(self, path: Path, key: str) -> str:
        """Copy a file into the folder, renamed when it is whole and its SHA-256 is right."""
        target = self._path(key)
        uri = self._uri(key)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / LOCK):
                current = self.version(key)
                copy_file(path, target, uri, replaced=current)
                return version_of(target.stat())
        except FileNotFoundError:
            raise
        except OSError as error:
            raise storage_error("write", uri, error) from error

    def download(self, key: str, path: Path) -> str:
        """Copy a file out of the folder, renamed when it is whole and its SHA-256 is right."""
        source = self._path(key)
        version = version_of(source.stat())
        copy_file(source, path, str(path))
        return version

    def delete(self, key: str) -> None:
        """Remove a file if it is there."""
        try:
            self._path(key).unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise storage_error("delete", self._uri(key), error) from error

    def _path(self, key: str) -> Path:
        """Return the path of a key; StorageError if it leads out of the folder."""
        return path_below(self.folder, key)

    def _uri(self, key: str) -> str:
        """Return what a file is called in an error."""
        return f"{self.uri}/{key}"


def _describe_link_error(error: OSError | RuntimeError) -> str:
    """Return why a link leads nowhere. A loop is a RuntimeError or ELOOP, depending on Python."""
    if isinstance(error, FileNotFoundError | NotADirectoryError | RuntimeError):
        return "broken link"
    if error.errno == errno.ELOOP:
        return "broken link"
    return f"link cannot be followed: {error.strerror}"


def describe_no_folder(path: Path, wanted: str = "the folder that holds the images") -> str:
    """Return in one sentence what is at a path where a folder was expected, and what to give.

    Args:
        path: The path.
        wanted: The folder that is to be given instead.
    """
    if path.is_symlink() and not path.exists():
        return f"{path} is a broken link: give {wanted}"
    if not path.exists():
        return describe_missing(path)
    name = path.name.lower()
    if name.endswith(ARCHIVE_SUFFIXES):
        return f"{path} is an archive, not a folder: unpack it, and give the folder that comes out"
    return f"{path} is a file, not a folder: give {wanted}"


def describe_missing(path: Path) -> str:
    """Return in one sentence that nothing is at a path, and which part of it exists."""
    existing = Path("/")
    for parent in path.absolute().parents:
        if parent.exists():
            existing = parent
            break
    if not existing.is_dir():
        return (
            f"{path}: there is no such file or folder, because {existing} is a file: check the path"
        )
    return f"{path}: there is no such file or folder ({existing} is there): check its name"
