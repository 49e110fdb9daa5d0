"""Single files on this machine: versions, copies, and the system's errors as StorageError."""

import errno
import hashlib
import os
import shutil
import stat
from pathlib import Path

from cxr.core.errors import StorageError
from cxr.core.files import atomic_write, file_sha256
from cxr.storage.base import Entry, mismatch_error

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


def storage_error(verb: str, uri: str, error: OSError) -> StorageError:
    """Return the error for what the system refused, with what to do about it.

    Args:
        verb: What was tried, as in "cannot `verb` `uri`".
        uri: What it was tried on.
        error: The system's error.
    """
    cause = error.strerror or error
    advice = _ADVICE.get(error.errno or 0, "check the folder's rights and free space")
    return StorageError(f"cannot {verb} {uri}: {cause}: {advice}")


def version_of(status: os.stat_result) -> str:
    """Return a file's version: when its content, and when anything of it, was changed, in ns.

    The second time cannot be set: it tells a file from another of the same size that was given the
    same time. The inode would say no more, and some network and overlay file systems give a file
    another one each time.
    """
    return f"{status.st_mtime_ns}-{status.st_ctime_ns}"


def file_entry(path: str, key: str) -> Entry:
    """Return a file as it is listed, with its problem if it must not be read.

    Args:
        path: The file; a text, because making a Path of each of 100,000 files takes as long as
            asking the system about them.
        key: The key under which it is listed.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - see above
    except OSError:
        return Entry(key, 0, "", ("vanished", "gone while the folder was listed"))
    if not stat.S_ISREG(status.st_mode):
        return Entry(key, 0, "", ("not_an_image", "not a regular file"))
    return Entry(key, status.st_size, version_of(status))


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder.

    Raises:
        StorageError: The system does not say: the name is too long, or a folder above it is closed.
    """
    try:
        return path.is_dir()
    except OSError as error:
        raise storage_error("look at", str(path), error) from error


def copy_file(
    source: Path,
    target: Path,
    uri: str,
    replaced: str | None = None,
) -> None:
    """Copy a file with its time of change; the copy appears under its name when it is whole.

    Args:
        source: The file.
        target: Where the copy is to be.
        uri: What `target` is called in an error.
        replaced: The version of the file that the copy replaces, if there is one.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedError: The SHA-256 of the copy is not that of the file.
        StorageError: The system refuses to read or write.
    """
    try:
        with atomic_write(target) as temporary:
            shutil.copyfile(source, temporary)
            _require_equal(source, temporary, uri)
            shutil.copystat(source, temporary)
            set_later_time(temporary, replaced)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise storage_error("write", uri, error) from error


def _require_equal(source: Path, copy: Path, uri: str) -> None:
    """Raise DamagedError if a copy has another SHA-256 than its source."""
    with source.open("rb") as file:
        expected = hashlib.file_digest(file, "sha256").hexdigest()
    found = file_sha256(copy)
    if found != expected:
        raise mismatch_error(uri, expected, found)


def set_later_time(path: Path, replaced: str | None) -> None:
    """Give a file a time of change after that of the version it replaces.

    The system's clock ticks more slowly than two writes can follow each other, and may go back.
    """
    if replaced is None:
        return
    replaced_ns = int(replaced.partition("-")[0])
    if path.stat().st_mtime_ns <= replaced_ns:
        later_ns = replaced_ns + 1
        os.utime(path, ns=(later_ns, later_ns))
