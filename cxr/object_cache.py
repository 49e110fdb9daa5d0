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

from cxr.errors import StorageError, UsageError

GIB = 1024**3


class Cached(NamedTuple):
    """An object's bytes and the version (ETag) they were read at."""

    version: str
    data: bytes


def home() -> Path:
    """Return the folder of everything cached: CXR_CACHE, or ~/.cache/cxr, or what `substitute` is.

    Raises:
        StorageError: There is no such folder, because no home and no temporary directory can be written to.
    """
    if named := os.environ.get("CXR_CACHE"):
        return _absolute(named)
    return substitute() or _absolute("~/.cache/cxr")


def substitute() -> Path | None:
    """Return the folder of this user's below the temporary directory that stands in for ~/.cache/cxr.

    Returns:
        None where CXR_CACHE names a folder, or the one below the home can be written to.

    Raises:
        StorageError: The temporary directory cannot be written to, or the folder there is somebody else's.
    """
    if os.environ.get("CXR_CACHE"):
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


def limit() -> int:
    """Return how many bytes of objects are kept: CXR_CACHE_GB (10 where it is not set); 0 keeps none."""
    given = os.environ.get("CXR_CACHE_GB", "10")
    try:
        return int(float(given) * GIB)
    except (ValueError, OverflowError):
        raise UsageError(f"CXR_CACHE_GB: expected a number, found {given!r}") from None


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
    if len(data) > limit() // 20:
        return
    digest = hashlib.sha256(data).hexdigest()
    try:
        if not _bytes(digest).is_file():
            _publish(_bytes(digest), data)
        _publish(_note(place), f"{version} {digest}".encode())
    except OSError:
        return
    _account(len(data))


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


_lock = threading.Lock()
_added = {"bytes": 0, "counted": 0}


def _account(size: int) -> None:
    """Count what this process added, and look at the whole each time it is a twentieth of the limit."""
    with _lock:
        first = not _added["counted"]
        _added["bytes"] += size
        if not first and _added["bytes"] < limit() // 20:
            return
        _added.update(bytes=0, counted=1)
        shrink(limit())


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
