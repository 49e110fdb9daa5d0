"""Inspect images shard by shard: read, decode and measure each once."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr.core.errors import ConflictError, DataError
from cxr.core.files import atomic_write, read_table, write_table
from cxr.core.settings import LABEL_NAMES, FileSettings
from cxr.data.images import hashing, measurement, model_input
from cxr.data.images.decoding import rejection
from cxr.data.images.pixel_cache import Writer
from cxr.data.manifest.columns import (
    INSPECTED_COLUMNS,
    LISTED_COLUMNS,
    MEASURED_COLUMNS,
    REJECT_COLUMNS,
    VERSIONED,
)
from cxr.data.manifest.records import Shard
from cxr.storage.base import Storage


def known_rows(folder: Path, columns: list[str]) -> pd.DataFrame:
    """Return these columns, VERSIONED among them, of every shard inspected before, the latest row for each image."""
    tables = [
        read_table(path, columns)
        for path in sorted(
            folder.glob("inspected/*.csv"),
            key=lambda p: p.stat().st_mtime_ns,
        )
    ]
    if not tables:
        return pd.DataFrame(columns=columns)
    return pd.concat(tables, ignore_index=True).drop_duplicates(
        VERSIONED,
        keep="last",
    )


def inspect_shard(
    storage: Storage,
    folder: Path,
    name: str,
    settings: FileSettings | None = None,
    on_image: Callable[[], None] = lambda: None,
    writer: Writer | None = None,
) -> Shard:
    """Read, decode and measure each image of one shard once; publish rows, thumbnails and pixels.

    Writes the pixels into the cache, then inspected/<name>.npy (uint8, n x 64 x 64), and last
    inspected/<name>.csv, whose presence means done.

    Args:
        storage: Where DATA is.
        folder: Where the inspection is remembered.
        name: The shard's.
        settings: What a picture must be; the defaults where not given.
        on_image: Called after each image.
        writer: Keeps the pixels for training; None to keep none.
    """
    settings = settings or FileSettings()
    rows: list[dict[str, Any]] = []
    thumbnails: list[rejection.Pixels] = []
    table = read_table(folder / "shards" / f"{name}.csv")
    read = storage.read_many(zip(table["image"], table["version"], strict=True))
    for listed, (_, answer) in zip(table.to_dict("records"), read, strict=True):
        row: dict[str, Any] = {str(name): value for name, value in listed.items()}
        try:
            measured = measurement.measure_image(require_bytes(answer), settings)
            rows.append(
                row
                | measured.row
                | {
                    "reason": "",
                    "detail": "",
                    "thumbnail": f"{name}:{len(thumbnails)}",
                }
            )
            thumbnails.append(measured.thumbnail)
            if writer is not None:
                writer.add(measured.row["pixel_sha256"], measured.image)
        except rejection.Rejected as reject:
            rows.append(
                row
                | _NOTHING
                | {
                    "reason": reject.reason,
                    "detail": reject.detail,
                    "thumbnail": "",
                }
            )
        on_image()
    stack = np.stack(thumbnails) if thumbnails else np.empty((0, 64, 64), np.uint8)
    hashes = iter(hashing.perceptual_hashes(stack) if thumbnails else ())
    for row in rows:
        row["phash"] = "" if row["reason"] else next(hashes)
    if writer is not None:
        writer.publish()
    with atomic_write(folder / "inspected" / f"{name}.npy") as temporary:
        np.save(temporary, stack)
    write_table(pd.DataFrame(rows, columns=INSPECTED_COLUMNS), folder / "inspected" / f"{name}.csv")
    return Shard(
        name=name,
        images=len(thumbnails),
        rejected=len(rows) - len(thumbnails),
    )


_COUNTS = ("width", "height", "bytes", "icc", "exif", "bit_depth")
_NOTHING: dict[str, Any] = dict.fromkeys(MEASURED_COLUMNS, "") | dict.fromkeys(
    (*_COUNTS, "mean", "std"), 0
)


def require_bytes(answer: bytes | Exception) -> bytes:
    """Return what reading a file gave; raises Rejected where it vanished, changed or may not be read.

    A storage that fails as a whole raises its StorageError: no image is rejected for that.
    """
    if isinstance(answer, bytes):
        return answer
    if isinstance(answer, FileNotFoundError):
        raise rejection.Rejected("vanished", "gone between listing and reading")
    if isinstance(answer, ConflictError):
        raise rejection.Rejected(
            "vanished", "changed between listing and reading: the next run reads it anew"
        )
    if isinstance(answer, OSError):
        raise rejection.Rejected("unreadable", answer.strerror or str(answer))
    raise answer


class Thumbnails:
    """The thumbnails of some inspected images, uint8 (k, 64, 64) by their positions; few are in memory at a time.

    `places` are values of the column `thumbnail`, "shard:index".
    """

    def __init__(self, folder: Path, places: Iterable[str]):
        self._folder = folder / "inspected"
        parts = [place.rsplit(":", 1) for place in places]
        self._shards = np.array(
            [shard for shard, _ in parts],
            dtype=object,
        )
        self._at = np.array(
            [int(at) for _, at in parts],
            dtype=np.int64,
        )

    def __len__(self) -> int:
        return len(self._at)

    def __getitem__(self, positions: Any) -> rejection.Pixels:
        """Return the thumbnails at the int positions (k,), in their order."""
        positions = np.asarray(positions, np.int64)
        out = np.empty(
            (len(positions), model_input.THUMBNAIL_SIDE, model_input.THUMBNAIL_SIDE), np.uint8
        )
        shards = self._shards[positions]
        for shard in np.unique(shards):
            own = np.flatnonzero(shards == shard)
            out[own] = np.load(
                self._folder / f"{shard}.npy",
                mmap_mode="r",
            )[self._at[positions[own]]]
        return out


def read_inspection(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (rows of good images, rejects) for exactly what the last scan listed.

    Raises DataError where a listed image has no inspection: a shard is missing.
    """
    listed = read_table(folder / "listed.csv")
    # What an image is used as is told by the last scan, whatever it was when the image was inspected.
    measured = [
        name for name in INSPECTED_COLUMNS if name in VERSIONED or name not in LISTED_COLUMNS
    ]
    both = listed.merge(
        known_rows(folder, measured),
        on=VERSIONED,
        how="left",
    )
    missing = both["reason"].isna()
    if missing.any():
        raise DataError(
            f"{missing.sum()} listed images were not inspected: run the preprocessing again"
        )
    good = both[both["reason"] == ""].drop(columns=["reason", "detail"])
    good = good.astype(dict.fromkeys(_COUNTS, "int64"))
    good["label_name"] = [LABEL_NAMES[label] for label in good["label"]]
    rejects = pd.concat(
        [read_table(folder / "scan_rejects.csv"), both.loc[both["reason"] != "", REJECT_COLUMNS]]
    )
    return good.reset_index(drop=True), rejects.reset_index(drop=True)
