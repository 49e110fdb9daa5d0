"""A cache on this machine for objects read from S3: an unchanged object is not read again.

An object's bytes are stored under their own SHA-256, so the same image under two keys is kept once
and a damaged file is noticed. A note for each place says which version of it has which SHA-256.
The least recently used files are removed first.
"""

import contextlib
import functools
import hashlib
import os
import stat
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple

from cxr.core import environment
from cxr.core.errors import StorageError

# The cache is measured each time that a 20th of its limit was added; a larger object is not kept.
_PARTS = 20
_LEFT_AFTER_SHRINKING = 0.9  # of the limit, so that not every new object has to remove another


class Cached(NamedTuple):
    """An object's bytes and the version (ETag) at which they were read."""

    version: str
    data: bytes


def home() -> Path:
    """Return the folder of all caches: CXR_CACHE, ~/.cache/cxr, or its substitute.

    Raises:
        StorageError: Neither the home folder nor the temporary folder can be written to.
    """
    named = environment.cache_folder()
    if named:
        return _absolute(named, os.environ.get("HOME"))
    return substitute() or _absolute("~/.cache/cxr", os.environ.get("HOME"))


def substitute() -> Path | None:
    """Return the folder below the temporary one that stands in for ~/.cache/cxr.

    Returns:
        None if CXR_CACHE names a folder, or if ~/.cache/cxr can be written to.

    Raises:
        StorageError: The temporary folder cannot be written to, or the substitute belongs to
            somebody else.
    """
    if environment.cache_folder():
        return None
    return _find_substitute(os.environ.get("HOME"))


def user_home() -> Path | None:
    """Return this user's home folder.

    Returns:
        None if there is none, as in a container, or for a user that is only a number.
    """
    try:
        folder = Path.home()
        return folder if folder.is_dir() else None
    except (RuntimeError, OSError):
        return None


@functools.lru_cache(maxsize=8)  # asked for several times with each object
def _absolute(name: str, _home: str | None) -> Path:
    """Return a folder's absolute path, looked up once for each value of HOME."""
    return Path(name).expanduser().absolute()


@functools.lru_cache(maxsize=8)
def _find_substitute(_home: str | None) -> Path | None:
    """Do what `substitute` does, once for each value of HOME."""
    folder = user_home()
    if folder and _can_hold_cache(folder):
        return None
    try:
        stand_in = Path(tempfile.gettempdir()) / f"cxr-{os.getuid()}"
        stand_in.mkdir(mode=0o700, exist_ok=True)
        status = stand_in.lstat()
    except OSError as error:
        raise StorageError(
            "expected a folder for the cache, found none that can be written to "
            f"({error}): set CXR_CACHE to one"
        ) from None
    # In a folder that everybody may write to, somebody else may have made it first.
    is_folder = stat.S_ISDIR(status.st_mode)
    is_own = status.st_uid == os.getuid()
    others_may_write = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not is_folder or not is_own or others_may_write:
        raise StorageError(
            f"{stand_in}: expected a folder of this user's own, found another's: "
            "set CXR_CACHE to one"
        )
    return stand_in


def _can_hold_cache(user_folder: Path) -> bool:
    """Return whether ~/.cache/cxr can be written to, or be made in what exists of it."""
    cache = user_folder / ".cache"
    for path in (cache / "cxr", cache, user_folder):
        if os.path.lexists(path):
            return path.is_dir() and os.access(path, os.W_OK | os.X_OK)
    return False


def find(place: str) -> Cached | None:
    """Return what is kept of a place.

    Args:
        place: The object's endpoint, bucket and key.

    Returns:
        None if nothing is kept, or what is kept is damaged.
    """
    note = _note_path(place)
    try:
        version, digest = note.read_text().split()
        path = _object_path(digest)
        data = path.read_bytes()
    except (OSError, ValueError):
        return None
    if hashlib.sha256(data).hexdigest() != digest:
        path.unlink(missing_ok=True)
        return None
    _mark_used(path)
    _mark_used(note)
    return Cached(version, data)


def keep(place: str, version: str, data: bytes) -> None:
    """Keep an object's bytes.

    A full disk, or a folder that cannot be written to, costs nothing but the cache.

    Args:
        place: The object's endpoint, bucket and key.
        version: Its ETag.
        data: Its bytes.
    """
    if len(data) > environment.cache_limit() // _PARTS:
        return
    digest = hashlib.sha256(data).hexdigest()
    path = _object_path(digest)
    note = f"{version} {digest}"
    try:
        if not path.is_file():
            _publish(path, data)
        _publish(_note_path(place), note.encode())
    except OSError:
        return
    _growth.add(len(data))


def _object_path(digest: str) -> Path:
    """Return where bytes with this SHA-256 are kept."""
    return home() / "objects" / digest[:2] / digest


def _note_path(place: str) -> Path:
    """Return where version and SHA-256 of a place are kept."""
    data = place.encode("utf-8", "surrogateescape")
    name = hashlib.sha256(data).hexdigest()
    return home() / "places" / name[:2] / name


def _publish(path: Path, data: bytes) -> None:
    """Write a file as a whole but without syncing: its SHA-256 shows what a power cut damaged."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}-{threading.get_ident()}")
    try:
        temporary.write_bytes(data)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
    temporary.replace(path)


def _mark_used(path: Path) -> None:
    """Set a file's time of change to now: `shrink` removes the oldest first."""
    with contextlib.suppress(OSError):
        os.utime(path)


class _Growth:
    """How much this process added since it last measured the cache and cut it to its limit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes: int | None = None  # None: never measured

    def add(self, size: int) -> None:
        """Count so many bytes, and shrink the cache the first time and after each part."""
        with self._lock:
            limit = environment.cache_limit()
            if self._bytes is not None:
                self._bytes += size
                if self._bytes < limit // _PARTS:
                    return
            self._bytes = 0
            shrink(limit)


_growth = _Growth()


def shrink(most: int) -> int:
    """Remove the least recently used files if the cache is too large.

    Args:
        most: The cache may have so many bytes; if it has more, a tenth less than that is left.

    Returns:
        The bytes that are left.
    """
    files: list[tuple[int, int, Path]] = []  # time of last use in ns, bytes, path
    for path in _cached_files():
        with contextlib.suppress(FileNotFoundError):  # another process may shrink it, too
            status = path.stat()
            files.append((status.st_mtime_ns, status.st_size, path))
    total = sum(size for _, size, _ in files)
    if total <= most:
        return total
    for _, size, path in sorted(files):
        if total <= most * _LEFT_AFTER_SHRINKING:
            break
        path.unlink(missing_ok=True)
        total -= size
    return total


def _cached_files() -> list[Path]:
    """Return all objects and notes."""
    folder = home()
    objects = folder.glob("objects/??/*")
    notes = folder.glob("places/??/*")
    return [*objects, *notes]
