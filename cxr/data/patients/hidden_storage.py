"""DATA as a storage whose files are read by their public names, and whose errors name no others.

Pseudonyms cannot be turned back, so the files are listed once in each process, and a public name is
looked up among the pseudonyms of all keys. Listing itself gives the real keys: whoever lists DATA
decides whether they have to be hidden (`cxr.data.survey`, prediction).
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from cxr.core.errors import ConflictError, CxrError, StorageError
from cxr.core.formatting import printable
from cxr.data.patients.hidden_names import hidden_name, hide_file
from cxr.data.patients.pseudonyms import find_salt, require_salt
from cxr.storage.addresses import open_storage
from cxr.storage.base import ANY, Entry, FileContent, Storage, WantedFile

_Result = TypeVar("_Result")
# Files that are not found are looked for in a new listing, but of many lost files only once.
_REFRESH_SECONDS = 60.0


class _Index:
    """The real keys of one place, by the public names of the files."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.keys: dict[str, str] = {}
        self.listed: float | None = None  # by the monotonic clock

    def is_fresh(self) -> bool:
        """Return whether the place was listed just now."""
        return self.listed is not None and time.monotonic() - self.listed < _REFRESH_SECONDS


_indexes: dict[tuple[str, bool, str], _Index] = {}  # by place, followed links and salt


def open_data(uri: str, follow_links: bool = False) -> "DataStorage":
    """Return the storage of DATA, whose files can be read by their public names, too.

    Args:
        uri: As `open_storage` takes it.
        follow_links: Whether links out of a local folder are followed.

    Raises:
        UsageError: The address is no storage's, or the salt that is set cannot be used.
    """
    return hide_storage(open_storage(uri, follow_links))


def hide_storage(storage: Storage) -> "DataStorage":
    """Return a storage whose files can be read by their public names, too."""
    return storage if isinstance(storage, DataStorage) else DataStorage(storage, find_salt())


class DataStorage:
    """A storage that takes public names for keys; without a salt nothing in it is hidden.

    Attributes:
        plain: The storage behind it, which knows the real keys alone.
        uri: Its address.
        place: Its address, made unique.
        salt: The secret behind the names, "" for none.
    """

    def __init__(self, plain: Storage, salt: str):
        self.plain = plain
        self.uri = plain.uri
        self.place = plain.place
        self.salt = salt
        follows_links = bool(getattr(plain, "follow_links", False))
        self._index = _indexes.setdefault((plain.place, follows_links, salt), _Index())

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield every file by its real key."""
        return self.plain.list(prefix)

    def real_key(self, key: str) -> str:
        """Return the key of a file by its public one; a key that is not hidden as it is.

        Raises:
            UsageError: The key is hidden, and no salt is set.
            StorageError: DATA cannot be listed.
        """
        name = hidden_name(key)
        if not name:
            return key
        if not self.salt:
            if self.plain.find(key) is not None:  # somebody calls files so
                return key
            require_salt(f"{self.uri}: the names of its files are hidden")
        self.forget_contents()
        with self._index.lock:
            if name not in self._index.keys and not self._index.is_fresh():
                self._list_names(entry.key for entry in self.plain.list())
            return self._index.keys.get(name, key)

    def learn(self, keys: Iterable[str]) -> None:
        """Take over the real keys of all files, which were just listed."""
        with self._index.lock:
            self._list_names(keys)

    def _list_names(self, keys: Iterable[str]) -> None:
        self._index.keys = {hide_file(key, self.salt): key for key in keys}
        self._index.listed = time.monotonic()

    def forget_contents(self) -> None:
        """Let a storage that keeps files on this machine keep none of this one: they name people."""
        if hasattr(self.plain, "keeps_objects"):
            self.plain.keeps_objects = False

    def find(self, key: str) -> Entry | None:
        """Return one file, named as it was asked for."""
        entry = self._guarded(self.plain.find, key)
        return None if entry is None else entry._replace(key=key)

    def read(self, key: str, version: str | None = None) -> bytes:
        """Return the bytes of a file."""
        return self._guarded(lambda real: self.plain.read(real, version), key)

    def read_many(self, wanted: Iterable[WantedFile]) -> Iterator[FileContent]:
        """Yield key, as it was asked for, and bytes or error, in order."""
        return self._many(self.plain.read_many, wanted)

    def peek(self, key: str, count: int) -> bytes:
        """Return the first `count` bytes of a file."""
        return self._guarded(lambda real: self.plain.peek(real, count), key)

    def peek_many(self, wanted: Iterable[WantedFile], count: int) -> Iterator[FileContent]:
        """Yield key, as it was asked for, and first bytes or error, in order."""
        return self._many(lambda files: self.plain.peek_many(files, count), wanted)

    def version(self, key: str) -> str | None:
        """Return the current version of a file, or None if there is none."""
        return self._guarded(self.plain.version, key)

    def write(self, key: str, data: bytes, expected: str | None = ANY) -> str:
        """Publish a file by its real key."""
        return self.plain.write(key, data, expected)

    def upload(self, path: Path, key: str) -> str:
        """Copy a local file to a real key."""
        return self.plain.upload(path, key)

    def download(self, key: str, path: Path) -> str:
        """Copy a file to a local path."""
        return self._guarded(lambda real: self.plain.download(real, path), key)

    def delete(self, key: str) -> None:
        """Remove a file by its real key if it is there."""
        self.plain.delete(key)

    def _guarded(self, call: Callable[[str], _Result], key: str) -> _Result:
        """Return what a call with the real key returns; its errors name the public one."""
        real_key = self.real_key(key)
        try:
            return call(real_key)
        except (OSError, CxrError) as error:
            public_error = self._public_error(error, key)
        # Here, because what is raised above would carry the other error along.
        raise public_error

    def _many(
        self,
        read: Callable[[Iterable[WantedFile]], Iterator[FileContent]],
        wanted: Iterable[WantedFile],
    ) -> Iterator[FileContent]:
        """Yield what `read` does, each file by the key that it was asked by."""
        asked: deque[str] = deque()

        def real_files() -> Iterator[WantedFile]:
            for key, version in wanted:
                asked.append(key)
                yield self.real_key(key), version

        for _, answer in read(real_files()):
            key = asked.popleft()
            if isinstance(answer, Exception):
                yield key, self._public_error(answer, key)
            else:
                yield key, answer

    def _public_error(self, error: Exception, key: str) -> Exception:
        """Return an error that does not name the file otherwise than it may be called."""
        name = hidden_name(key)
        if not name and not self.salt:
            return error
        public_key = key if name else hide_file(key, self.salt)
        if isinstance(error, OSError):
            if error.errno is None:  # a storage's own error, with the name alone
                return type(error)(public_key)
            return type(error)(error.errno, error.strerror, public_key)
        found = f"{self.uri}/{public_key}"
        if isinstance(error, ConflictError):
            return type(error)(f"{found}: somebody else changed it: try again")
        if isinstance(error, StorageError):
            return type(error)(self._public_text(error, key, public_key), error.transient)
        return error

    def _public_text(self, error: Exception, key: str, public_key: str) -> str:
        """Return the text of an error with the public name in place of the real one."""
        real_key = self._index.keys.get(hidden_name(key), key)
        text = str(error)
        for spelling in (real_key, printable(real_key), repr(real_key)[1:-1]):
            text = text.replace(spelling, public_key)
        parts = [part for part in real_key.split("/") if part and part not in public_key]
        if any(part in text for part in parts):
            return f"{self.uri}/{public_key}: cannot be read: check the storage, then try again"
        return text
