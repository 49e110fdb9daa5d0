"""Open the storage behind an address: a path, `file://…` or `s3://bucket/prefix`."""

import re
from pathlib import Path
from urllib.parse import unquote, urlparse

from cxr.core.errors import DataError, UsageError
from cxr.core.formatting import printable
from cxr.storage.base import Storage
from cxr.storage.local import LocalStorage
from cxr.storage.s3.writing import S3Storage

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def open_storage(uri: str, follow_links: bool = False) -> Storage:
    """Return the storage behind a path, `file://…` or `s3://bucket/prefix`.

    `follow_links` is for folders: S3 has no links. Raises UsageError for another scheme.
    """
    scheme = scheme_of(uri)
    if scheme == "s3":
        return S3Storage(uri)
    if scheme in {"", "file"}:
        return LocalStorage(local_folder(uri), follow_links)
    raise UsageError(f"{uri}: expected a path, file://… or s3://bucket/prefix, found {scheme}://")


def scheme_of(uri: str) -> str:
    """Return what stands before :// in small letters, "" for a path.

    >>> [scheme_of(uri) for uri in ("S3://bucket/x", "File:///data", "/data/x://y")]
    ['s3', 'file', '']
    """
    found = _SCHEME.match(uri)
    return found[1].lower() if found else ""


def is_local(uri: str) -> bool:
    """Return whether a URI is a path or `file://…`."""
    return scheme_of(uri) in {"", "file"}


def local_folder(uri: str) -> Path:
    """Return the folder or file behind a path or `file://…`; UsageError where it can be neither.

    A name that is not UTF-8 is refused with DataError: the records that name it are JSON.
    """
    if not is_local(uri):
        raise UsageError(f"{uri}: expected a path or file://…, found a place on another machine")
    if not uri.strip():
        raise UsageError(
            "expected a path, file://… or s3://bucket/prefix, found an empty text: is a variable not set?"
        )
    if re.match(r"s3:/?[^/]", uri, re.IGNORECASE):
        raise UsageError(f"{uri}: expected s3://bucket/prefix, with two slashes, or a path")
    try:
        path = Path(unquote(urlparse(uri).path)) if scheme_of(uri) else Path(uri).expanduser()
    except RuntimeError:
        words = f"{uri}: there is no home folder of that name: give the whole path"
        raise DataError(words) from None
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        shown = printable(str(path.absolute()))
        words = f"{shown}: a name in this path is not UTF-8, which no record can hold: rename it"
        raise DataError(words) from None
    return path
