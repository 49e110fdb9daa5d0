"""Inverted negatives: measured anew as films, and kept for the next run."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr.core.errors import DataError
from cxr.core.files import atomic_write, read_table, write_table
from cxr.core.formatting import printable
from cxr.data.images import hashing
from cxr.data.images.decoding.rejection import Pixels, Rejected
from cxr.data.images.measurement import MeasuredImage, measure_image
from cxr.data.images.pixel_cache import Writer
from cxr.data.manifest.records import Scan
from cxr.data.manifest.shard_inspection import require_bytes
from cxr.data.patients.hidden_storage import open_data

_MEASURED_COLUMNS = ["pixel_sha256", "mean", "std", "phash", "thumbnail"]


def measure_inverted(
    rows: pd.DataFrame,
    scan: Scan,
    folder: Path,
) -> pd.DataFrame:
    """Measure negatives as inverted images.

    The measurements are kept on disk, named by these very files. The pixels go into the cache.

    Args:
        rows: The negatives: image, version and md5 as inspected.
        scan: What they come from.
        folder: The folder of the inspection.

    Returns:
        One row for each, in their order: pixel_sha256, mean, std, phash and thumbnail.

    Raises:
        DataError: A negative has changed or is gone since it was inspected.
    """
    name = f"inverted-{_digest_of_files(rows)}"
    path = folder / f"{name}.csv"
    if path.is_file():
        return read_table(path)
    work = folder.parents[1]  # `folder` is WORK/inspection/<data>
    writer = Writer(work, scan.pixels)
    measured_rows: list[dict[str, Any]] = []
    thumbnails: list[Pixels] = []
    storage = open_data(scan.data, scan.settings.follow_links)
    versions = zip(
        rows["image"],
        rows["version"],
        strict=True,
    )
    for key, answer in storage.read_many(versions):
        measured = _measure_negative(key, answer, scan)
        place = f"{name}:{len(thumbnails)}"
        measured_rows.append(measured.row | {"thumbnail": place})
        thumbnails.append(measured.thumbnail)
        writer.add(measured.row["pixel_sha256"], measured.image)
    writer.publish()
    stack = np.stack(thumbnails)
    with atomic_write(folder / "inspected" / f"{name}.npy") as temporary:
        np.save(temporary, stack)
    table = pd.DataFrame(measured_rows)
    table["phash"] = hashing.perceptual_hashes(stack)
    # The table is written last: that it is there means that all the rest is.
    write_table(table[_MEASURED_COLUMNS], path)
    return table[_MEASURED_COLUMNS]


def _digest_of_files(rows: pd.DataFrame) -> str:
    """Return 16 hex digits that stand for these images and their content."""
    lines = [f"{image}\t{md5}" for image, md5 in zip(rows["image"], rows["md5"], strict=True)]
    text = "\n".join(lines)
    # File names that are not UTF-8 keep their bytes.
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _measure_negative(
    key: str,
    answer: bytes | Exception,
    scan: Scan,
) -> MeasuredImage:
    try:
        data = require_bytes(answer)
        return measure_image(data, scan.settings, invert=True)
    except Rejected as rejected:
        raise DataError(f"{printable(key)}: {rejected}: preprocess again") from None
