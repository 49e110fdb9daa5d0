"""The files of a format: its one, or all in its folder."""

import hashlib
from pathlib import Path

from cxr.core.files import file_sha256


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of the list of digests and names of the files in a folder."""
    if path.is_file():
        return file_sha256(path)
    lines = [f"{file_sha256(part)}  {part.relative_to(path).as_posix()}\n" for part in _parts(path)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def size(path: Path) -> int:
    """Return how many bytes a file has, or all files in a folder."""
    return sum(part.stat().st_size for part in _parts(path))


def _parts(path: Path) -> list[Path]:
    """Return the files of a format, sorted."""
    if path.is_file():
        return [path]
    return sorted(part for part in path.rglob("*") if part.is_file())
