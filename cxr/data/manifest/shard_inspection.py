"""Inspect images shard by shard: each file is read, decoded and measured once."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr.core.errors import ConflictError, DataError
from cxr.core.files import atomic_write, read_parts, read_table, write_table
from cxr.core.settings import FileSettings
from cxr.data.images import hashing
from cxr.data.images.decoding.rejection import Pixels, Rejected
from cxr.data.images.measurement import measure_image
from cxr.data.images.model_input import THUMBNAIL_SIDE
from cxr.data.images.pixel_cache import Writer
from cxr.data.manifest.columns import (
    INSPECTED_COLUMNS,
    LISTED_COLUMNS,
    MEASURED_COLUMNS,
    REJECT_COLUMNS,
    TAG_COLUMNS,
    VERSIONED,
)
from cxr.data.manifest.records import Shard
from cxr.storage.base import Storage

_WHOLE_NUMBERS = ("width", "height", "bytes", "icc", "exif", "bit_depth")
_NO_TAGS = dict.fromkeys(TAG_COLUMNS, "")  # of files that are not DICOM
# What a rejected file has in the columns that are measured.
_NOT_MEASURED: dict[str, Any] = {
    **dict.fromkeys(MEASURED_COLUMNS, ""),
    **dict.fromkeys((*_WHOLE_NUMBERS, "mean", "std"), 0),
}


def inspect_shard(
    storage: Storage,
    inspection: Path,
    name: str,
    settings: FileSettings | None = None,
    on_image: Callable[[], None] = lambda: None,
    writer: Writer | None = None,
) -> Shard:
    """Read, decode and measure each image of one shard once; publish rows, thumbnails and pixels.

    Writes the pixels into the cache, then inspected/<name>.npy (uint8, n x 64 x 64), and last
    inspected/<name>.csv, whose presence means that the shard is done.

    Args:
        storage: Where DATA is.
        inspection: Folder of the inspection.
        name: Name of the shard.
        settings: What an image must be; the defaults where not given.
        on_image: Called after each image.
        writer: Keeps the pixels for training; None to keep none.

    Returns:
        How many images are good, and how many were rejected.
    """
    settings = settings or FileSettings()
    any_view = settings.model_copy(update={"views": ()})
    rows: list[dict[str, Any]] = []
    thumbnails: list[Pixels] = []
    table = read_table(inspection / "shards" / f"{name}.csv")
    answers = storage.read_many(zip(table["image"], table["version"], strict=True))
    for listed, (_, answer) in zip(table.to_dict("records"), answers, strict=True):
        row = {str(column): value for column, value in listed.items()} | _NO_TAGS
        try:
            # Where a table of labels says the view, tags do not decide.
            rules = any_view if listed["table_view"] else settings
            measured = measure_image(require_bytes(answer), rules)
        except Rejected as rejected:
            row |= _NOT_MEASURED
            row |= {
                "reason": rejected.reason,
                "detail": rejected.detail,
                "thumbnail": "",
            }
        else:
            row |= measured.row
            row |= {
                "reason": "",
                "detail": "",
                "thumbnail": f"{name}:{len(thumbnails)}",
            }
            thumbnails.append(measured.thumbnail)
            if writer is not None:
                writer.add(measured.row["pixel_sha256"], measured.image)
        rows.append(row)
        on_image()
    stack = _stack_thumbnails(thumbnails)
    _add_perceptual_hashes(rows, stack)
    if writer is not None:
        writer.publish()
    folder = inspection / "inspected"
    with atomic_write(folder / f"{name}.npy") as temporary:
        np.save(temporary, stack)
    write_table(pd.DataFrame(rows, columns=INSPECTED_COLUMNS), folder / f"{name}.csv")
    return Shard(
        name=name,
        images=len(thumbnails),
        rejected=len(rows) - len(thumbnails),
    )


def _stack_thumbnails(thumbnails: list[Pixels]) -> Pixels:
    """Return uint8 (n, 64, 64), also for none."""
    if thumbnails:
        return np.stack(thumbnails)
    return np.empty((0, THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8)


def _add_perceptual_hashes(rows: list[dict[str, Any]], thumbnails: Pixels) -> None:
    """Set the perceptual hash of the good rows, whose thumbnails these are; "" for the others."""
    good = [row for row in rows if not row["reason"]]
    if not good:
        return
    for row, phash in zip(good, hashing.perceptual_hashes(thumbnails), strict=True):
        row["phash"] = phash


def require_bytes(answer: bytes | Exception) -> bytes:
    """Return what reading a file gave.

    Raises:
        Rejected: The file vanished, changed or may not be read.
        StorageError: The storage fails as a whole: no image is rejected for that.
    """
    if isinstance(answer, bytes):
        return answer
    if isinstance(answer, FileNotFoundError):
        raise Rejected("vanished", "gone between listing and reading")
    if isinstance(answer, ConflictError):
        raise Rejected(
            "vanished", "changed between listing and reading: the next run reads it anew"
        )
    if isinstance(answer, OSError):
        raise Rejected("unreadable", answer.strerror or str(answer))
    raise answer


class Thumbnails:
    """The thumbnails of inspected images, read by position; few are in memory at a time.

    Args:
        inspection: Folder of the inspection.
        places: The column `thumbnail` of the images, "shard:index".
    """

    def __init__(self, inspection: Path, places: Iterable[str]):
        self._folder = inspection / "inspected"
        numbers: dict[str, int] = {}
        shards = array("i")
        indices = array("i")
        for place in places:
            shard, _, index = place.rpartition(":")
            shards.append(numbers.setdefault(shard, len(numbers)))
            indices.append(int(index))
        self._names = list(numbers)
        self._shards = np.array(shards)
        self._indices = np.array(indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, positions: Any) -> Pixels:
        """Return the thumbnails at the int positions (k,), in their order, uint8 (k, 64, 64)."""
        positions = np.asarray(positions, np.int64)
        thumbnails = np.empty((len(positions), THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8)
        shards = self._shards[positions]
        for shard in np.unique(shards):
            members = np.flatnonzero(shards == shard)
            stored = np.load(
                self._folder / f"{self._names[shard]}.npy",
                mmap_mode="r",
            )
            thumbnails[members] = stored[self._indices[positions[members]]]
        return thumbnails


def read_inspection(inspection: Path, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Read the inspection of exactly what the last scan listed, in parts.

    Args:
        inspection: Folder of the inspection.
        columns: The columns to read, of INSPECTED_COLUMNS.

    Yields:
        One row for each listed image, in the order of the names. What its folders mean is as the
        last scan found it, whatever it was when the image was inspected.

    Raises:
        DataError: A listed image was not inspected: a shard is missing.
    """
    listed_columns = [name for name in LISTED_COLUMNS if name in {*columns, *VERSIONED}]
    measured_columns = [name for name in columns if name not in LISTED_COLUMNS]
    for listed in read_parts(inspection / "listed.csv", [*listed_columns, "place"]):
        try:
            inspected = _read_rows(inspection, listed["place"], [*VERSIONED, *measured_columns])
        except FileNotFoundError:
            raise DataError(_describe_missing(inspection)) from None
        if not inspected[VERSIONED].equals(listed[VERSIONED]):
            raise DataError(
                f"{inspection}: expected the inspection of the listed images, found that of "
                "others: run the preprocessing again"
            )
        rows = pd.concat([listed[listed_columns], inspected[measured_columns]], axis=1)
        yield rows[list(columns)]


def _describe_missing(inspection: Path) -> str:
    """Return in a sentence how many listed images have no shard."""
    images: Counter[str] = Counter()
    for part in read_parts(inspection / "listed.csv", ["place"]):
        images.update(place.partition(":")[0] for place in part["place"])
    missing = sum(
        count
        for shard, count in images.items()
        if not (inspection / "inspected" / f"{shard}.csv").is_file()
    )
    return f"{missing} listed images were not inspected: run the preprocessing again"


def _read_rows(
    inspection: Path,
    places: Iterable[str],
    columns: Sequence[str],
) -> pd.DataFrame:
    """Return the inspected rows at these places, in their order."""
    rows_by_shard: dict[str, list[int]] = {}
    positions_by_shard: dict[str, list[int]] = {}
    for position, place in enumerate(places):
        shard, _, row = place.partition(":")
        rows_by_shard.setdefault(shard, []).append(int(row))
        positions_by_shard.setdefault(shard, []).append(position)
    tables = []
    for shard, rows in rows_by_shard.items():
        table = read_table(inspection / "inspected" / f"{shard}.csv", columns).iloc[rows]
        tables.append(table.set_axis(positions_by_shard[shard]))
    return pd.concat(tables).sort_index()


def read_good(inspection: Path, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Read the images that can be used, in parts: see `read_inspection`.

    Args:
        inspection: Folder of the inspection.
        columns: The columns to read.

    Yields:
        Their rows, numbered from 0 over all parts.
    """
    start = 0
    for inspected in read_inspection(inspection, [*columns, "reason"]):
        good = inspected.loc[inspected["reason"] == "", list(columns)]
        yield good.set_axis(range(start, start + len(good)))
        start += len(good)


def read_rejects(inspection: Path) -> pd.DataFrame:
    """Return the files that the last scan and the inspection rejected: image, reason, detail."""
    rejected = (
        inspected[inspected["reason"] != ""]
        for inspected in read_inspection(inspection, REJECT_COLUMNS)
    )
    return pd.concat(
        [read_table(inspection / "scan_rejects.csv"), *rejected],
        ignore_index=True,
    )
