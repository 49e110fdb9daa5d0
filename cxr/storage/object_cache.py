"""A cache on this machine for objects read from S3: an object whose ETag did not change is not read again.

The bytes lie under their own SHA-256, so the same picture under two keys is kept once and a damaged file is noticed;
beside them lies, for each place, which version of it has which SHA-256. The least recently used go first.
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

_SHARE = 20  # the cache is measured each time this part of its limit was added; a larger object is not kept


class Cached(NamedTuple):
    """An object's bytes and the version (ETag) they were read at."""

    version: str
    data: bytes


def home() -> Path:
    """Return the folder of everything cached: CXR_CACHE, or ~/.cache/cxr, or what `substitute` is.

    Raises:
        StorageError: There is no such folder, because no home and no temporary directory can be written to.
    """
    named = environment.cache_folder()
    if named:
        return _absolute(named)
    return substitute() or _absolute("~/.cache/cxr")


def substitute() -> Path | None:
    """Return the folder of this user's below the temporary directory that stands in for ~/.cache/cxr.

    Returns:
        None where CXR_CACHE names a folder, or the one below the home can be written to.

    Raises:
        StorageError: The temporary directory cannot be written to, or the folder there is somebody else's.
    """
    if environment.cache_folder():
        return None
    return _substitute(os.environ.get("HOME"))


def user_home() -> Path | None:
    """Return this user's home folder, None where there is none: a container, or a user that is a mere number."""
    try:
        folder = Path.home()
        return folder if folder.is_dir() else None
    except (RuntimeError, OSError):
        return None


@functools.lru_cache(maxsize=8)  # asked for several times with each object
def _absolute(name: str) -> Path:
    return Path(name).expanduser().absolute()


@functools.lru_cache(maxsize=8)
def _substitute(_home: str | None) -> Path | None:
    folder = user_home()
    if folder:
        places = (folder / ".cache" / "cxr", folder / ".cache", folder)
        there = next(path for path in places if os.path.lexists(path))
        if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
            return None
    try:
        stand_in = Path(tempfile.gettempdir()) / f"cxr-{os.getuid()}"
        stand_in.mkdir(mode=0o700, exist_ok=True)
        found = stand_in.lstat()
    except OSError as error:
        raise StorageError(
            f"expected a folder for the cache, found none that can be written to ({error}): set CXR_CACHE to one"
        ) from None
    # In a folder that everybody may write to, somebody else may have made it first.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise StorageError(
            f"{stand_in}: expected a folder of this user's own, found another's: set CXR_CACHE to one"
        )
    return stand_in


def find(place: str) -> Cached | None:
    """Return what was kept of a place (endpoint, bucket and key), None where nothing is or it is damaged."""
    try:
        version, digest = _note(place).read_text().split()
        path = _bytes(digest)
        data = path.read_bytes()
    except (OSError, ValueError):
        return None
    if hashlib.sha256(data).hexdigest() != digest:
        path.unlink(missing_ok=True)
        return None
    for used in (path, _note(place)):
        _touch(used)
    return Cached(version, data)


def keep(place: str, version: str, data: bytes) -> None:
    """Keep an object's bytes; a full disk or a folder that cannot be written costs nothing but the cache."""
    if len(data) > environment.cache_limit() // _SHARE:
        return
    digest = hashlib.sha256(data).hexdigest()
    try:
        if not _bytes(digest).is_file():
            _publish(_bytes(digest), data)
        _publish(_note(place), f"{version} {digest}".encode())
    except OSError:
        return
    _growth.add(len(data))


def _bytes(digest: str) -> Path:
    return home() / "objects" / digest[:2] / digest


def _note(place: str) -> Path:
    name = hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()
    return home() / "places" / name[:2] / name


def _publish(path: Path, data: bytes) -> None:
    """Write a file whole but unsynced: what a power cut damages is noticed by its SHA-256."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}-{threading.get_ident()}")
    try:
        temporary.write_bytes(data)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
    temporary.replace(path)


def _touch(path: Path) -> None:
    with contextlib.suppress(OSError):
        os.utime(path)


class _Growth:
    """How much this process added to the cache since the whole was last measured and cut to its limit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes: int | None = None  # None: never measured

    def add(self, size: int) -> None:
        """Count `size` bytes; shrink the cache at the first, and whenever a share of the limit was added since."""
        with self._lock:
            limit = environment.cache_limit()
            if self._bytes is not None:
                self._bytes += size
                if self._bytes < limit // _SHARE:
                    return
            self._bytes = 0
            shrink(limit)


_growth = _Growth()


def shrink(most: int) -> int:
    """Remove the least recently used files until `most` bytes are left, a tenth less where any must go; return the rest."""
    files = []
    for path in (path for kind in ("objects", "places") for path in (home() / kind).glob("??/*")):
        with contextlib.suppress(FileNotFoundError):  # another process shrinks it too
            status = path.stat()
            files.append((status.st_mtime_ns, status.st_size, path))
    total = sum(size for _, size, _ in files)
    if total <= most:
        return total
    for _, size, path in sorted(files):
        if total <= most * 0.9:
            break
        path.unlink(missing_ok=True)
        total -= size
    return total
