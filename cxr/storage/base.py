"""What all storages have in common: a listed file, the methods of a storage, and two of its errors.

A version is a text that changes whenever a file does: the times of change of a local file, the ETag
of an object. A write that expects a version is refused if another one is there, so of several
writers at once exactly one wins. The implementations are `cxr.storage.local`, `cxr.storage.s3` and
`cxr.storage.dicomweb`, which is only read; `cxr.storage.addresses.open_storage` chooses between them.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple, Protocol

from cxr.core.errors import ChangedError, DamagedError, StorageError

ANY: Final = "*"  # expected by a write that replaces whatever is there, or nothing

Problem = tuple[str, str]  # reject reason, detail
WantedFile = tuple[str, str | None]  # key, version to read (None: the current one)
FileContent = tuple[str, bytes | Exception]  # key, bytes or what went wrong


class Entry(NamedTuple):
    """A file as listed.

    Attributes:
        key: POSIX path below the storage's root.
        size: Bytes; 0 where the storage does not know.
        version: What changes when the file does; empty for a file with a problem.
        problem: Reject reason and detail of a file that must not be read, otherwise None.
    """

    key: str
    size: int
    version: str
    problem: Problem | None = None


class Storage(Protocol):
    """A place in which files are listed, read and written.

    Every failure is a StorageError unless a method says otherwise.

    Attributes:
        uri: The address as it was given.
        place: The address, made unique: the same bucket name may exist on two servers.
    """

    uri: str
    place: str

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield every file whose key starts with `prefix`, in no particular order."""

    def find(self, key: str) -> Entry | None:
        """Return one file as `list` would yield it, or None if there is none."""

    def read(self, key: str, version: str | None = None) -> bytes:
        """Return the bytes of a file.

        Args:
            key: The file's key.
            version: The version to read; None reads the current one.

        Raises:
            FileNotFoundError: There is no such file.
            PermissionError: This file, and perhaps no other, may not be read.
            ConflictError: The file is not at `version` any more.
        """

    def read_many(self, wanted: Iterable[WantedFile]) -> Iterator[FileContent]:
        """Read files, some of them ahead, and yield them in the order of `wanted`.

        Args:
            wanted: Key and version of each file, as for `read`.

        Yields:
            The key, and the file's bytes or the error that `read` would raise.
        """

    def peek(self, key: str, count: int) -> bytes:
        """Return the first `count` bytes of a file, or all of fewer; raises what `read` does."""

    def peek_many(self, wanted: Iterable[WantedFile], count: int) -> Iterator[FileContent]:
        """Do what `read_many` does with the first `count` bytes of each file."""

    def version(self, key: str) -> str | None:
        """Return the current version of a file, or None if there is none."""

    def write(self, key: str, data: bytes, expected: str | None = ANY) -> str:
        """Publish a file as a whole.

        Args:
            key: The file's key.
            data: Its bytes.
            expected: The version that must still be there, None if no file may be there yet, or
                ANY.

        Returns:
            The new version.

        Raises:
            ConflictError: Something other than `expected` is there.
        """

    def upload(self, path: Path, key: str) -> str:
        """Copy a local file of any size to `key`, its SHA-256 checked; return the version."""

    def download(self, key: str, path: Path) -> str:
        """Copy a file to a local path, published as a whole, its SHA-256 checked.

        Returns:
            The version that was copied.

        Raises:
            FileNotFoundError: There is no such file.
        """

    def delete(self, key: str) -> None:
        """Remove a file if it is there."""


def read_or_error(
    read: Callable[[str, str | None], bytes],
    file: WantedFile,
) -> FileContent:
    """Return a file's key with what `read` returns for it, or with the error that it raises."""
    key, version = file
    try:
        return key, read(key, version)
    except (OSError, StorageError) as error:
        return key, error


def path_below(folder: Path, key: str) -> Path:
    """Return the path of a key below a folder.

    Raises:
        StorageError: The key would lead out of the folder.
    """
    parts = PurePosixPath(key).parts
    if not parts or ".." in parts or key.startswith("/"):
        raise StorageError(
            f"{key!r}: expected a key below {folder}, found one that leads out of it"
        )
    return folder.joinpath(*parts)


def changed_error(uri: str, expected: str | None, found: str | None) -> ChangedError:
    """Return the error for a file that is not at the expected version.

    Args:
        uri: The file's address.
        expected: The expected version, None for no file.
        found: The version that is there, None for no file.
    """
    expected_text = f"version {expected}"
    if expected is None:
        expected_text = "nothing there yet"
    found_text = f"version {found}"
    if found is None:
        found_text = "nothing"
    return ChangedError(
        f"{uri}: expected {expected_text}, found {found_text}: "
        "somebody else changed it; look at it, then try again"
    )


def mismatch_error(uri: str, expected: str, found: str) -> DamagedError:
    """Return the error for bytes whose SHA-256 is not the one they were written with."""
    return DamagedError(
        f"{uri}: expected SHA-256 {expected}, found {found}: damaged on the way or where it is "
        "stored: try again; if that does not help, write the file anew",
        transient=True,
    )
