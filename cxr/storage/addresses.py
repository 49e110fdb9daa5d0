"""Addresses of storages: a path, `file://…`, `s3://bucket/prefix` or `dicomweb+http://…`."""

import re
from pathlib import Path
from urllib.parse import unquote, urlparse

from cxr.core.errors import DataError, UsageError
from cxr.core.formatting import printable
from cxr.storage.base import Storage
from cxr.storage.dicomweb.addresses import SCHEMES
from cxr.storage.dicomweb.storage import DicomWebStorage
from cxr.storage.local import LocalStorage
from cxr.storage.s3.writing import S3Storage

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_S3_WITH_ONE_SLASH = re.compile(r"s3:/?[^/]", re.IGNORECASE)


def open_storage(uri: str, follow_links: bool = False) -> Storage:
    """Return the storage behind an address.

    Args:
        uri: A path, `file://…`, `s3://bucket/prefix`, or the address of an archive that speaks
            DICOMweb, `dicomweb+http://host:port/path`.
        follow_links: Whether links out of a local folder are followed; other places have no links.

    Raises:
        UsageError: The address is none of these.
    """
    scheme = scheme_of(uri)
    if scheme == "s3":
        return S3Storage(uri)
    if is_local(uri):
        return LocalStorage(local_folder(uri), follow_links)
    if scheme in SCHEMES:
        return DicomWebStorage(uri)
    raise UsageError(
        f"{uri}: expected a path, file://…, s3://bucket/prefix or dicomweb+http://…, "
        f"found {scheme}://"
    )


def scheme_of(uri: str) -> str:
    """Return what stands before :// in lower case, or an empty text for a path.

    >>> [scheme_of(uri) for uri in ("S3://bucket/x", "File:///data", "/data/x://y")]
    ['s3', 'file', '']
    """
    match = _SCHEME.match(uri)
    if match is None:
        return ""
    return match[1].lower()


def is_local(uri: str) -> bool:
    """Return whether an address is a path or `file://…`."""
    return scheme_of(uri) in {"", "file"}


def local_folder(uri: str) -> Path:
    """Return the folder or file behind a path or `file://…`.

    Raises:
        UsageError: The address is not local, or empty.
        DataError: There is no such home folder, or a name in the path is not UTF-8: the records
            that would hold it are JSON.
    """
    if not is_local(uri):
        raise UsageError(f"{uri}: expected a path or file://…, found a place on another machine")
    if not uri.strip():
        raise UsageError(
            "expected a path, file://… or s3://bucket/prefix, found an empty text: "
            "is a variable not set?"
        )
    if _S3_WITH_ONE_SLASH.match(uri):
        raise UsageError(f"{uri}: expected s3://bucket/prefix, with two slashes, or a path")
    path = _parse_path(uri)
    _require_utf8(path.absolute())
    return path


def _parse_path(uri: str) -> Path:
    """Return the path in a local address."""
    if scheme_of(uri) == "file":
        return Path(unquote(urlparse(uri).path))
    try:
        return Path(uri).expanduser()
    except RuntimeError:
        raise DataError(
            f"{uri}: there is no home folder of that name: give the whole path"
        ) from None


def _require_utf8(path: Path) -> None:
    """Raise DataError if a name in the path is not UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise DataError(
            f"{printable(str(path))}: a name in this path is not UTF-8, which no record can hold: "
            "rename it"
        ) from None
