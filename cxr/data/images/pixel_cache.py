"""The pixel cache: every kept image, resized, for all architectures, trainings and epochs.

Rows of uint8 (side, side), keyed by `pixel_sha256`. Inspection writes them from its own decoding (`Writer`);
`cache` decodes only what is missing: all images for another size, none otherwise.
"""

import hashlib
from collections.abc import Callable
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
from cxr.data.images.decoding import decoder, rejection
from cxr.storage.arrays import Cache, Recipe, Rows
from cxr.storage.base import Storage

if TYPE_CHECKING:
    from PIL import Image

VERSION = 1  # raise it when `images.for_model` changes what it returns


def cache_of(work: Path, settings: PixelSettings) -> Cache:
    """Return the cache of pixels of this size and encoding below the work folder."""
    side = settings.image_size
    made = {
        "version": VERSION,
        "side": side,
        "jpeg": model_input.UNIFORM_QUALITY if settings.harmonise else None,
    }
    recipe = Recipe(kind="pixels", made=made, shape=(side, side), dtype="uint8")
    return Cache(work / "cache", recipe)


class Writer:
    """Puts the pixels of images that are being inspected into the cache, a segment at a time."""

    def __init__(self, work: Path, settings: PixelSettings):
        self.cache = cache_of(work, settings)
        self._settings = settings
        self._rows: dict[str, rejection.Pixels] = {}

    def add(self, key: str, image: "Image.Image") -> None:
        """Keep the pixels of an image under its `pixel_sha256`."""
        self._rows[key] = model_input.prepare_for_model(
            image, self._settings.image_size, self._settings.harmonise
        )
        if len(self._rows) == self.cache.segment_rows:
            self.publish()

    def publish(self) -> None:
        """Write to disk what was added since, but for rows that the cache already holds."""
        new = self.cache.missing(self._rows)
        if new:
            self.cache.add(new, np.stack([self._rows[key] for key in new]))
        self._rows.clear()


def fill_pixel_cache(
    table: pd.DataFrame,
    storage: Storage,
    side: int,
    harmonise: bool,
    work: Path,
    on_images: Callable[[int], None] = lambda _: None,
) -> Path:
    """Return the folder of the cache that holds these rows, decoding those that it does not hold yet.

    Raises DataError for an image that changed or went since it was inspected, StorageError for a full disk.
    """
    held = cache_of(work, PixelSettings(image_size=side, harmonise=harmonise))
    decoder.allow_large_headers()
    with held.filling(table["pixel_sha256"]), ThreadPoolExecutor(usable_cores()) as pool:
        missing = held.missing(table["pixel_sha256"])
        held.require_space(len(missing))
        rows = table.set_index("pixel_sha256").loc[missing]
        on_images(len(table) - len(missing))

        def one(at: int) -> Any:
            found = model_input.prepare_for_model(original(storage, rows.iloc[at]), side, harmonise)
            on_images(1)
            return found

        with timing.time_stage(work / timing.FOLDER, "decode", len(missing)):
            for start in range(0, len(missing), held.segment_rows):
                stop = min(start + held.segment_rows, len(missing))
                held.add(missing[start:stop], np.stack(list(pool.map(one, range(start, stop)))))
    return held.folder


def original(storage: Storage, row: "pd.Series[Any]", version: str | None = None) -> "Image.Image":
    """Return the image of a manifest's row, decoded again; mode L or RGB.

    Args:
        storage: Where DATA is.
        row: The row.
        version: The one that was listed: what was read of it before, and is still at hand, is not
            asked for again.

    Raises:
        DataError: It changed or went since it was inspected.
    """
    try:
        try:
            data = storage.read(row["image"], version)
        except ConflictError:  # another version may still hold the same bytes
            data = storage.read(row["image"])
    except OSError as error:
        raise DataError(
            f"{printable(row['image'])}: cannot be read any more ({error}): preprocess again"
        ) from error
    if hashlib.md5(data, usedforsecurity=False).hexdigest() != row["md5"]:
        raise DataError(
            f"{printable(row['image'])}: changed since it was inspected: preprocess again"
        )
    return decode_row(data, row)


def decode_row(data: bytes, row: "pd.Series[Any]") -> "Image.Image":
    """Return the image of a manifest's row from its file's bytes, mode L or RGB; raises DataError.

    Rows of older manifests say neither bit_depth nor inverted: such pictures had 8 bits and were
    taken as they are.
    """
    try:
        return model_input.decode_kept_image(
            data, int(row.get("bit_depth", 8)), bool(row.get("inverted", 0))
        )
    except rejection.Rejected as reject:
        raise DataError(
            f"{printable(row['image'])}: cannot be used any more ({reject}): preprocess again"
        ) from None


def load_pixels(folder: Path, table: pd.DataFrame) -> Rows:
    """Return the pixels of these rows, in their order: uint8 (n, side, side), read from disk when indexed."""
    return Cache.open(folder).rows(list(table["pixel_sha256"]))
