"""The pixel cache: every kept image decoded once more, resized, and shared by all trainings and epochs.

One .npy of uint8 (n, side, side) in the order of clean_metadata.csv, named by the digest of the pictures it
holds; it is memory-mapped, so the processes that train share one copy in the page cache.
"""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr import images
from cxr.errors import DataError
from cxr.records import printable, publishing
from cxr.settings import cores
from cxr.storage import Storage

VERSION = 1  # raise it when `images.for_model` changes what it returns


def cache(
    table: pd.DataFrame,
    storage: Storage,
    side: int,
    harmonise: bool,
    work: Path,
    on_images: Callable[[int], None] = lambda n: None,
) -> Path:
    """Return the path of the cache for these rows, side and encoding, building it where it is not there yet.

    Raises DataError for an image that changed or went since it was inspected.
    """
    names = "\n".join(table["pixel_sha256"])
    how = f"{VERSION} {side} {images.UNIFORM_QUALITY if harmonise else ''}"
    digest = hashlib.sha256(f"{how} {names}".encode()).hexdigest()[:16]
    path = work / "cache" / f"pixels-{side}-{digest}.npy"
    if path.is_file():
        on_images(len(table))
        return path
    images.allow_large_headers()
    with publishing(path) as temporary:
        out = np.lib.format.open_memmap(temporary, "w+", np.uint8, (len(table), side, side))

        def fill(at: int) -> None:
            out[at] = images.for_model(_unchanged(storage, table.iloc[at]), side, harmonise)
            on_images(1)

        with ThreadPoolExecutor(cores()) as pool:
            list(pool.map(fill, range(len(table))))
        out.flush()
    return path


def _unchanged(storage: Storage, row: "pd.Series[Any]") -> Any:
    try:
        data = storage.read(row["image"])
    except OSError as error:
        raise DataError(f"{printable(row['image'])}: cannot be read any more ({error}): preprocess again") from error
    if hashlib.md5(data, usedforsecurity=False).hexdigest() != row["md5"]:
        raise DataError(f"{printable(row['image'])}: changed since it was inspected: preprocess again")
    return images.decode(data).image


def load(path: Path) -> Any:
    """Return the cache as a read-only memory map, uint8 (n, side, side)."""
    return np.load(path, mmap_mode="r")
