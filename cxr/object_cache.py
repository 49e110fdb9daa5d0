"""A cache on this machine for objects read from S3: an object whose ETag did not change is not read again.

The bytes lie under their own SHA-256, so the same picture under two keys is kept once and a damaged file is noticed;
beside them lies, for each place, which version of it has which SHA-256. The least recently used go first.
"""

import contextlib
import hashlib
import os
import threading
from pathlib import Path
from typing import NamedTuple

GIB = 1024**3


class Cached(NamedTuple):
    """An object's bytes and the version (ETag) they were read at."""

    version: str
    data: bytes


def home() -> Path:
    """Return the folder of everything cached: CXR_CACHE, or ~/.cache/cxr."""
    return Path(os.environ.get("CXR_CACHE") or "~/.cache/cxr").expanduser().absolute()


def limit() -> int:
    """Return how many bytes of objects are kept: CXR_CACHE_GB (10 where it is not set); 0 keeps none."""
    return int(float(os.environ.get("CXR_CACHE_GB", "10")) * GIB)


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
