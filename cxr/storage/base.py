"""What every storage has in common: the listed file, the verbs, and the words of a conflict or of damage.

A version is what changes when a file does: times of change in ns, or the ETag. A write that expects a version is
refused where another one is there, so of several at once exactly one wins. The backends are `storage_local` and
`s3_writing`; `storage.open_storage` chooses between them.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple, Protocol

from cxr.core.errors import ChangedError, DamagedError, StorageError

ANY: Final = "*"  # expected by a write that takes whatever is there now, or nothing


class Entry(NamedTuple):
    """One file as listed: POSIX key below the root, bytes, version (times, or ETag), problem.

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

    def find(self, key: str) -> Entry | None:
        """Return one file as `list` would yield it, None where there is none."""

    def read(self, key: str, version: str | None = None) -> bytes:
        """Return a file's bytes; with a version, ConflictError where the file is another one by now.

        Raises FileNotFoundError, PermissionError (this file alone) or StorageError.
        """

    def read_many(
        self, wanted: Iterable[tuple[str, str | None]]
    ) -> Iterator[tuple[str, bytes | Exception]]:
        """Yield (key, bytes, or what `read` would raise) for each (key, version), in their order, read ahead."""

    def peek(self, key: str, count: int) -> bytes:
        """Return a file's first `count` bytes, or all that it has; raises what `read` does."""

    def peek_many(
        self, wanted: Iterable[tuple[str, str | None]], count: int
    ) -> Iterator[tuple[str, bytes | Exception]]:
        """Yield (key, first bytes, or what `peek` would raise) for each (key, version), in order."""

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


def path_below(folder: Path, key: str) -> Path:
    """Return the path of `key` below `folder`; StorageError for a key that would lead out of it."""
    parts = PurePosixPath(key).parts
    if not parts or ".." in parts or key.startswith("/"):
        raise StorageError(
            f"{key!r}: expected a key below {folder}, found one that leads out of it"
        )
    return folder.joinpath(*parts)


def changed_error(uri: str, expected: str | None, found: str | None) -> ChangedError:
    """Return the error for a file that is not at the version it is expected to be."""
    wanted = "nothing there yet" if expected is None else f"version {expected}"
    seen = "nothing" if found is None else f"version {found}"
    return ChangedError(
        f"{uri}: expected {wanted}, found {seen}: somebody else changed it; look at it, then try again"
    )


def mismatch_error(uri: str, expected: str, found: str) -> DamagedError:
    """Return the error for bytes that are not those that were sent."""
    words = "damaged on the way or where it lies: try again; where that does not help, write the file anew"
    return DamagedError(
        f"{uri}: expected SHA-256 {expected}, found {found}: {words}", transient=True
    )
