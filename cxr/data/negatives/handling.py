"""Negatives of films among the inspected images: reported by folder, rejected or inverted, or asked about.

How a negative is told from a film is in `polarity`; the films of train say what a film looks like.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cxr.core.errors import DataError
from cxr.core.files import atomic_write, read_table, write_table
from cxr.core.formatting import printable
from cxr.data.images import hashing, measurement
from cxr.data.images.decoding import rejection
from cxr.data.images.pixel_cache import Writer
from cxr.data.manifest import columns, shard_inspection
from cxr.data.manifest.records import Scan
from cxr.data.negatives import polarity
from cxr.data.negatives.polarity import Reference
from cxr.storage.addresses import open_storage

ASKING_SHARE = 0.05  # of a folder's images: where more look like negatives, the run asks
CHUNK = 4096  # thumbnails judged at a time: 16 MiB
_DETAIL = "negative of a film (bright surround): invert it, or --negatives invert"
_MEASURED = ["pixel_sha256", "mean", "std", "phash", "thumbnail"]


class HandledNegatives(NamedTuple):
    """What became of the negatives.

    Attributes:
        rows: The rows that go on, with a column `inverted` (0 or 1).
        rejects: image, reason and detail of the rejected ones.
        notes: A sentence where some are reported and kept.
        polarity: What a film of train looks like; None where the images are too unlike each other.
        by_folder: How many of the rows that go on look like negatives, by folder.
    """

    rows: pd.DataFrame
    rejects: pd.DataFrame
    notes: tuple[str, ...]
    polarity: Reference | None
    by_folder: dict[str, int]


def handle_negatives(rows: pd.DataFrame, scan: Scan, folder: Path) -> HandledNegatives:
    """Return the good rows with their negatives dealt with, as `--negatives` says.

    Args:
        rows: The good images, as inspected.
        scan: What they come from.
        folder: Where the inspection is remembered.

    Raises:
        DataError: A folder holds more than ASKING_SHARE negatives, and they are only to be reported.
    """
    rows = rows.reset_index(drop=True).assign(inverted=0)
    nothing = pd.DataFrame(columns=columns.REJECT_COLUMNS)
    thumbnails = shard_inspection.Thumbnails(folder, rows["thumbnail"])
    train = np.flatnonzero((rows["source_split"] != "test").to_numpy())
    reference = polarity.learn_reference(thumbnails, train if len(train) else np.arange(len(rows)))
    if reference is None:
        return HandledNegatives(rows, nothing, (_not_checked(scan),), None, {})
    suspects = _suspects(reference, thumbnails)
    if not suspects.any():
        return HandledNegatives(rows, nothing, (), reference, {})
    if scan.settings.negatives == "reject":
        rejects = rows.loc[suspects, ["image"]].assign(reason="negative", detail=_DETAIL)
        return HandledNegatives(rows[~suspects].reset_index(drop=True), rejects, (), reference, {})
    if scan.settings.negatives == "invert":
        return HandledNegatives(_inverted(rows, suspects, scan, folder), nothing, (), reference, {})
    found = Counter(rows.loc[suspects, "group"])
    sizes = Counter(rows["group"])
    _ask(found, sizes, scan.data)
    named = ", ".join(f"{printable(name)} {count}" for name, count in sorted(found.items()))
    note = f"negatives of films, as it looks, which are kept (see --negatives): {named}"
    return HandledNegatives(
        rows, nothing, (note,), reference, {printable(name): count for name, count in found.items()}
    )


def _not_checked(scan: Scan) -> str:
    """Return a note that negatives were not looked for; DataError where something was to be done with them."""
    why = "what a film looks like cannot be learnt from these images: they are too few, or too unlike each other"
    if scan.settings.negatives != "report":
        raise DataError(f"{scan.data}: --negatives {scan.settings.negatives}: {why}. Leave it out")
    return f"negatives of films were not looked for: {why}"


def _ask(found: Counter[str], sizes: Counter[str], data: str) -> None:
    asked = {name: count for name, count in found.items() if count > ASKING_SHARE * sizes[name]}
    if not asked:
        return
    named = ", ".join(
        f"{printable(name)} ({count} of {sizes[name]})" for name, count in sorted(asked.items())
    )
    raise DataError(
        f"{data}: images look like negatives of films (bright surround, dark bones): {named}. Add --negatives invert "
        "or --negatives reject"
    )


def _suspects(
    reference: Reference, thumbnails: shard_inspection.Thumbnails
) -> "np.ndarray[Any, Any]":
    """Return which thumbnails look like negatives, bool (n,)."""
    starts = range(0, len(thumbnails), CHUNK)
    parts: Sequence[Any] = [
        polarity.find_suspects(
            reference, thumbnails[np.arange(at, min(at + CHUNK, len(thumbnails)))]
        )
        for at in starts
    ]
    return np.concatenate(parts) if parts else np.zeros(0, bool)


def _inverted(
    rows: pd.DataFrame, suspects: "np.ndarray[Any, Any]", scan: Scan, folder: Path
) -> pd.DataFrame:
    """Return the rows, the suspects measured anew as inverted pictures and marked so."""
    measured = _measured(rows[suspects], scan, folder)
    changed = rows.copy()
    for column in _MEASURED:
        changed.loc[suspects, column] = measured[column].to_numpy()
    changed.loc[suspects, "inverted"] = 1
    return changed


def _measured(rows: pd.DataFrame, scan: Scan, folder: Path) -> pd.DataFrame:
    """Return the measured columns of these images, inverted; they are remembered for these very files.

    Their pixels are cached, too.

    Raises:
        DataError: An image changed or went since it was inspected.
    """
    named = "\n".join(
        f"{image}\t{md5}" for image, md5 in zip(rows["image"], rows["md5"], strict=True)
    )
    name = f"inverted-{hashlib.sha256(named.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"
    path = folder / f"{name}.csv"
    if path.is_file():
        return read_table(path)
    storage = open_storage(scan.data, scan.settings.follow_links)
    writer = Writer(folder.parents[1], scan.pixels)  # `folder` is WORK/inspection/<data>
    found: list[dict[str, Any]] = []
    thumbnails: list[rejection.Pixels] = []
    for key, answer in storage.read_many(zip(rows["image"], rows["version"], strict=True)):
        try:
            measured = measurement.measure_image(
                shard_inspection.require_bytes(answer), scan.settings, invert=True
            )
        except rejection.Rejected as reject:
            raise DataError(f"{printable(key)}: {reject}: preprocess again") from None
        found.append(measured.row | {"thumbnail": f"{name}:{len(thumbnails)}"})
        thumbnails.append(measured.thumbnail)
        writer.add(measured.row["pixel_sha256"], measured.image)
    writer.publish()
    stack = np.stack(thumbnails)
    table = pd.DataFrame(found).assign(phash=hashing.perceptual_hashes(stack))
    with atomic_write(folder / "inspected" / f"{name}.npy") as temporary:
        np.save(temporary, stack)
    write_table(table[_MEASURED], path)
    return table[_MEASURED]
