"""Transfers of several files at a time."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from cxr.storage.base import Entry, Storage, changed_error, path_below

_TRANSFERS = 8  # at a time
_Item = TypeVar("_Item")


def download_entry(storage: Storage, entry: Entry, folder: Path) -> None:
    """Download a listed file to its place below a folder.

    Raises:
        ConflictError: The file is not the listed one any more.
    """
    uri = f"{storage.uri}/{entry.key}"
    try:
        version = storage.download(entry.key, path_below(folder, entry.key))
    except FileNotFoundError:
        raise changed_error(uri, entry.version, None) from None
    if version != entry.version:
        raise changed_error(uri, entry.version, version)


def run_concurrently(action: Callable[[_Item], object], items: Iterable[_Item]) -> None:
    """Call `action` with each item, several at a time; the first error ends it and is raised."""
    with ThreadPoolExecutor(_TRANSFERS) as pool:
        futures = [pool.submit(action, item) for item in items]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
