"""The instances of an archive as files of a storage: listed by QIDO-RS, read by WADO-RS.

The key of an instance is STUDY/SERIES/INSTANCE.dcm, of its UIDs, whatever part of the archive the
address names. The sizes are unknown (0). An instance does not change: another content has another
UID (DICOM PS3.4, coercion aside), so all have the same version. Nothing is kept on this machine:
the files name people.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from cxr.core.errors import StorageError, UsageError
from cxr.core.files import atomic_write
from cxr.core.parallel import map_in_order
from cxr.storage.base import ANY, Entry, FileContent, WantedFile, changed_error, read_or_error
from cxr.storage.dicomweb.addresses import (
    LIST,
    READ,
    InstanceName,
    Place,
    is_uid,
    parse_address,
    parse_key,
)

if TYPE_CHECKING:
    from cxr.storage.dicomweb.connection import Connection, Found

_VERSION = "1"
_STUDY = "0020000D"
_SERIES = "0020000E"
_INSTANCE = "00080018"
_NO_UID = ("unreadable", "listed by the archive without a UID that it can be read by")


class DicomWebStorage:
    """An archive, a study, a series or an instance, to be listed and read.

    Attributes:
        uri: The address as it was given.
        place: The same.
    """

    def __init__(self, uri: str):
        """Make no connection yet.

        Args:
            uri: dicomweb+http(s)://host:port/path[/studies/UID[/series/UID[/instances/UID]]].

        Raises:
            UsageError: The address is not of this form, or dicomweb-client is not installed.
        """
        self._place = parse_address(uri)
        self.uri = uri.rstrip("/")
        self.place = self.uri
        self._connection = _connect(self._place.service)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Yield every instance whose key starts with `prefix`, study by study, each once."""
        for study in self._studies():
            place = self._place._replace(study=study)
            keys: set[str] = set()
            for number, found in enumerate(self._connection.search_instances(LIST, place)):
                entry = _entry(study, number, found)
                if entry.key.startswith(prefix) and entry.key not in keys:
                    keys.add(entry.key)
                    yield entry

    def _studies(self) -> Iterator[str]:
        """Yield the UIDs of the studies that the address names, each once.

        An archive may list a study twice: two patients of one study, or one that came meanwhile.
        """
        if self._place.study is not None:
            yield self._place.study
            return
        seen: set[str] = set()
        for found in self._connection.search_studies(LIST):
            uid = _value(found, _STUDY)
            if not isinstance(uid, str) or not is_uid(uid):
                raise StorageError(
                    f"cannot list the films at {self._place.service}: it lists a study without a "
                    "UID: check the path, as in /dicom-web"
                )
            if uid not in seen:
                seen.add(uid)
                yield uid

    def find(self, key: str) -> Entry | None:
        """Return one instance as `list` would yield it, or None if there is none."""
        name = parse_key(key)
        if name is None or not self._holds(name):
            return None
        place = Place(self._place.service, *name)
        for found in self._connection.search_instances(LIST, place):
            if _value(found, _INSTANCE) == name.instance:
                return Entry(key, 0, _VERSION)
        return None

    def _holds(self, name: InstanceName) -> bool:
        """Return whether an instance lies in what the address names."""
        wanted = self._place[1:]
        return all(uid is None or uid == own for uid, own in zip(wanted, name, strict=True))

    def read(self, key: str, version: str | None = None) -> bytes:
        """Return the bytes of an instance as the archive stores it."""
        return self._read(key, version, None)

    def _read(self, key: str, version: str | None, count: int | None) -> bytes:
        """Return the first `count` bytes of an instance, or all for None."""
        name = parse_key(key)
        if name is None or not self._holds(name):
            raise FileNotFoundError(f"{self.uri}: no such film")
        if version not in (None, _VERSION):
            raise changed_error(self.uri, version, _VERSION)
        return self._connection.retrieve(READ, name, count)

    def read_many(self, wanted: Iterable[WantedFile]) -> Iterator[FileContent]:
        """Yield key and bytes or error in order, several retrieved at a time."""
        return self._map_in_order(lambda key, version: self._read(key, version, None), wanted)

    def peek(self, key: str, count: int) -> bytes:
        """Return the first `count` bytes of an instance; the rest is not waited for."""
        return self._read(key, None, count)

    def peek_many(self, wanted: Iterable[WantedFile], count: int) -> Iterator[FileContent]:
        """Yield key and first bytes or error in order, as `read_many` does."""
        return self._map_in_order(lambda key, version: self._read(key, version, count), wanted)

    def _map_in_order(
        self,
        read: Callable[[str, str | None], bytes],
        wanted: Iterable[WantedFile],
    ) -> Iterator[FileContent]:
        """Yield key and what `read` returns or raises, several at a time."""
        from cxr.storage.dicomweb.connection import CONNECTIONS

        with ThreadPoolExecutor(CONNECTIONS, "cxr-dicomweb") as pool:
            yield from map_in_order(
                lambda file: read_or_error(read, file), wanted, pool, 2 * CONNECTIONS
            )

    def version(self, key: str) -> str | None:
        """Return the version of all instances, or None if there is no such one."""
        entry = self.find(key)
        return None if entry is None else entry.version

    def download(self, key: str, path: Path) -> str:
        """Copy an instance to a local path."""
        data = self.read(key)
        with atomic_write(path) as temporary:
            temporary.write_bytes(data)
        return _VERSION

    def write(self, key: str, data: bytes, expected: str | None = ANY) -> str:  # noqa: ARG002
        """Refuse to write."""
        self._refuse()

    def upload(self, path: Path, key: str) -> str:  # noqa: ARG002
        """Refuse to write."""
        self._refuse()

    def delete(self, key: str) -> None:  # noqa: ARG002
        """Refuse to delete."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise read_only_error(self.uri)


def read_only_error(uri: str) -> UsageError:
    """Return the error for an archive that is to be written to."""
    return UsageError(
        f"{uri}: an archive is read, and nothing is written there: "
        "give a folder or s3://bucket/prefix"
    )


def _connect(service: str) -> "Connection":
    """Return a connection to a service.

    Raises:
        UsageError: dicomweb-client is not installed.
    """
    try:
        from cxr.storage.dicomweb.connection import Connection
    except ModuleNotFoundError as error:
        raise UsageError(
            f"dicomweb+{service}: reading from an archive needs {error.name}, which is not "
            "installed: pip install cxr-pipeline[dicom]"
        ) from None
    return Connection(service)


def _entry(study: str, number: int, found: "Found") -> Entry:
    """Return what an archive says of an instance as a listed file."""
    series = _value(found, _SERIES)
    instance = _value(found, _INSTANCE)
    if not is_uid(series) or not is_uid(instance):
        return Entry(f"{study}/{number}.dcm", 0, "", _NO_UID)
    return Entry(InstanceName(study, str(series), str(instance)).key, 0, _VERSION)


def _value(found: "Found", tag: str) -> object:
    """Return the first value of a tag in DICOM's JSON model (PS3.18 F.2), None if there is none."""
    values = found.get(tag, {}).get("Value") or [None]
    return values[0]
