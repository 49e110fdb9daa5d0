"""The pixel cache: every kept image as models see it, for all architectures, trainings and epochs.

Its rows are uint8 (side, side), named by `pixel_sha256`. Inspection writes them from its own
decoding (`Writer`). `fill_pixel_cache` decodes what is missing: for another size all images, else
none.
"""

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cxr.core import timing
from cxr.core.errors import ConflictError, DataError
from cxr.core.formatting import printable
from cxr.core.parallel import usable_cores
from cxr.core.settings import PixelSettings
from cxr.data.images import model_input
from cxr.data.images.decoding.rejection import Pixels, Rejected
from cxr.data.images.dicom.gray_levels import window_name
from cxr.storage.arrays import Cache, Recipe, Rows
from cxr.storage.base import Storage

if TYPE_CHECKING:
    from PIL import Image

VERSION = 1  # raise it when `model_input.prepare_for_model` changes what it returns


def cache_of(work: Path, settings: PixelSettings) -> Cache:
    """Return the cache for pixels of one size and encoding.

    Args:
        work: The work folder.
        settings: Size and encoding.
    """
    side = settings.image_size
    quality = model_input.UNIFORM_QUALITY if settings.harmonise else None
    recipe = Recipe(
        kind="pixels",
        made={"version": VERSION, "side": side, "jpeg": quality},
        shape=(side, side),
        dtype="uint8",
    )
    return Cache(work / "cache", recipe)


class Writer:
    """Adds the pixels of images that are being inspected to the cache, a segment at a time.

    Args:
        work: The work folder.
        settings: Size and encoding of the pixels.
    """

    def __init__(self, work: Path, settings: PixelSettings):
        self.cache = cache_of(work, settings)
        self._settings = settings
        self._rows: dict[str, Pixels] = {}

    def add(self, key: str, image: "Image.Image") -> None:
        """Take over the pixels of an image.

        Args:
            key: Its `pixel_sha256`.
            image: Of any mode and size.
        """
        self._rows[key] = model_input.prepare_for_model(
            image,
            self._settings.image_size,
            self._settings.harmonise,
        )
        if len(self._rows) == self.cache.segment_rows:
            self.publish()

    def publish(self) -> None:
        """Write what was added since the last time, except rows that the cache already holds."""
        missing = self.cache.missing(self._rows)
        if missing:
            rows = [self._rows[key] for key in missing]
            self.cache.add(missing, np.stack(rows))
        self._rows.clear()


def fill_pixel_cache(
    table: pd.DataFrame,
    storage: Storage,
    side: int,
    harmonise: bool,
    work: Path,
    on_images: Callable[[int], None] = lambda _: None,
) -> Path:
    """Decode the images of these rows that the cache does not hold yet.

    Args:
        table: Rows of the manifest.
        storage: Where DATA is.
        side: Of the cached pixels.
        harmonise: Whether they are encoded uniformly, see `model_input.prepare_for_model`.
        work: The work folder.
        on_images: Called with the number of images that are done since the last call.

    Returns:
        The folder of the cache, for `load_pixels`.

    Raises:
        DataError: An image has changed or is gone since it was inspected.
        StorageError: The disk is full.
    """
    settings = PixelSettings(
        image_size=side,
        harmonise=harmonise,
    )
    return fill_in_parts(lambda: [table], storage, settings, work, on_images)


def fill_in_parts(
    read: Callable[[], Iterable[pd.DataFrame]],
    storage: Storage,
    settings: PixelSettings,
    work: Path,
    on_images: Callable[[int], None] = lambda _: None,
) -> Path:
    """Do what `fill_pixel_cache` does for a table that is read in parts.

    Args:
        read: Returns the parts; called twice, because room for all is asked for before the first
            image is decoded.
        storage: Where DATA is.
        settings: Size and encoding of the pixels.
        work: The work folder.
        on_images: Called with the number of images that are done since the last call.

    Returns:
        The folder of the cache.

    Raises:
        DataError: An image has changed or is gone since it was inspected.
        StorageError: The disk is full.
    """
    cache = cache_of(work, settings)
    rows = 0
    missing = 0
    for part in read():
        rows += len(part)
        missing += len(cache.missing(part["pixel_sha256"]))
    cache.require_space(missing)
    if not missing:
        on_images(rows)
        return cache.folder
    with timing.time_stage(work / timing.FOLDER, "decode", missing):
        for part in read():
            _fill_part(part, storage, settings, cache, on_images)
    return cache.folder


def _fill_part(
    table: pd.DataFrame,
    storage: Storage,
    settings: PixelSettings,
    cache: Cache,
    on_images: Callable[[int], None],
) -> None:
    """Decode the images of these rows that the cache does not hold yet."""
    keys = table["pixel_sha256"]
    with cache.filling(keys), ThreadPoolExecutor(usable_cores()) as pool:
        missing = cache.missing(keys)
        rows = table.set_index("pixel_sha256").loc[missing]
        on_images(len(table) - len(missing))

        def prepare(position: int) -> Pixels:
            image = original(storage, rows.iloc[position])
            pixels = model_input.prepare_for_model(
                image,
                settings.image_size,
                settings.harmonise,
            )
            on_images(1)
            return pixels

        for start in range(0, len(missing), cache.segment_rows):
            stop = min(start + cache.segment_rows, len(missing))
            segment = list(pool.map(prepare, range(start, stop)))
            cache.add(missing[start:stop], np.stack(segment))


def original(
    storage: Storage,
    row: "pd.Series[Any]",
    version: str | None = None,
) -> "Image.Image":
    """Read and decode the image of a manifest's row again.

    Args:
        storage: Where DATA is.
        row: The row.
        version: The one that was listed. A storage that still has its bytes at hand does not fetch
            them again.

    Returns:
        Mode L or RGB, in its full size.

    Raises:
        DataError: It has changed or is gone since it was inspected.
    """
    name = printable(row["image"])
    try:
        data = _read_current(storage, row["image"], version)
    except OSError as error:
        raise DataError(f"{name}: cannot be read any more ({error}): preprocess again") from error
    digest = hashlib.md5(data, usedforsecurity=False)
    if digest.hexdigest() != row["md5"]:
        raise DataError(f"{name}: changed since it was inspected: preprocess again")
    return decode_row(data, row)


def _read_current(
    storage: Storage,
    key: str,
    version: str | None,
) -> bytes:
    try:
        return storage.read(key, version)
    except ConflictError:
        # Another version may hold the same bytes: a file that was copied anew, for example.
        return storage.read(key)


def decode_row(data: bytes, row: "pd.Series[Any]") -> "Image.Image":
    """Decode the image of a manifest's row.

    Args:
        data: Its file.
        row: The row. Manifests of older versions have neither bit_depth nor inverted: their images
            had 8 bits and were never inverted. Only those with DICOM films have a window.

    Returns:
        Mode L or RGB, in its full size.

    Raises:
        DataError: It cannot be decoded as the row says.
    """
    bit_depth = int(row.get("bit_depth", 8))
    inverted = bool(row.get("inverted", 0))
    window = window_name(str(row.get("window", "")))
    try:
        return model_input.decode_kept_image(data, bit_depth, inverted, window)
    except Rejected as rejected:
        name = printable(row["image"])
        detail = f"cannot be used any more ({rejected}): preprocess again"
        raise DataError(f"{name}: {detail}") from None


def load_pixels(folder: Path, table: pd.DataFrame) -> Rows:
    """Return the cached pixels of these rows, read from disk when they are indexed.

    Args:
        folder: Of the cache.
        table: Rows of the manifest, whose order is that of the pixels.

    Returns:
        uint8 (n, side, side).
    """
    keys = list(table["pixel_sha256"])
    return Cache.open(folder).rows(keys)
