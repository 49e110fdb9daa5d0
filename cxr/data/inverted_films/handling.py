"""Negatives among the inspected images: reported by folder, rejected or inverted, or asked about.

How a negative is told from a film is in `polarity`.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.core.errors import DataError
from cxr.core.formatting import printable
from cxr.data.images.decoding.rejection import Pixels
from cxr.data.inverted_films.inversion import measure_inverted
from cxr.data.inverted_films.polarity import Reference, find_suspects, learn_reference
from cxr.data.manifest.columns import REJECT_COLUMNS
from cxr.data.manifest.records import Scan
from cxr.data.manifest.shard_inspection import Thumbnails, read_good
from cxr.data.survey.account import ASKING_SHARE

_CHUNK = 4096  # thumbnails judged at a time: 16 MiB
_REJECT_DETAIL = "negative of a film (bright surround): invert it, or --negatives invert"


class HandledNegatives(NamedTuple):
    """What becomes of the negatives.

    Attributes:
        rejects: image, reason and detail of the rejected ones.
        inverted: The measured columns of the inverted ones that change, by image.
        notes: Sentences for the user: on negatives that are kept as they are, or why none were
            looked for.
        polarity: What a film of train looks like; None if the images are too unlike each other.
        by_folder: How many of the kept images look like negatives, by folder.
    """

    rejects: pd.DataFrame
    inverted: pd.DataFrame
    notes: tuple[str, ...]
    polarity: Reference | None
    by_folder: dict[str, int]

    def apply(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return some of the good images as they are used.

        Args:
            rows: As inspected; of the measured columns those that are needed.

        Returns:
            Those that are kept, with a column `inverted` (0 or 1), and inverted ones as they are
            measured then.
        """
        kept = rows[~rows["image"].isin(self.rejects["image"])].assign(inverted=0)
        is_inverted = kept["image"].isin(self.inverted.index)
        if is_inverted.any():
            images = kept.loc[is_inverted, "image"]
            for column in self.inverted.columns.intersection(kept.columns):
                kept.loc[is_inverted, column] = self.inverted.loc[images, column].to_numpy()
            kept.loc[is_inverted, "inverted"] = 1
        return kept


def handle_negatives(
    scan: Scan,
    folder: Path,
) -> HandledNegatives:
    """Find the negatives among the good images and do with them what `--negatives` says.

    Args:
        scan: What was inspected.
        folder: The folder of the inspection.

    Raises:
        DataError: Negatives are only to be reported, but a folder holds more than ASKING_SHARE of
            them; or something else is to be done with them, and they cannot be told from films.
    """
    unchanged = HandledNegatives(
        rejects=pd.DataFrame(columns=REJECT_COLUMNS),
        inverted=pd.DataFrame(),
        notes=(),
        polarity=None,
        by_folder={},
    )
    parts: list[pd.DataFrame] = []
    thumbnails = Thumbnails(folder, _read_places(folder, parts))
    rows = pd.concat(parts)
    reference = learn_reference(thumbnails, _positions_to_learn_from(rows))
    if reference is None:
        return unchanged._replace(notes=(_why_not_checked(scan),))
    unchanged = unchanged._replace(polarity=reference)
    suspects = _find_all_suspects(reference, thumbnails)
    if not suspects.any():
        return unchanged
    if scan.settings.negatives == "reject":
        rejects = _read_suspects(folder, ["image"], suspects).assign(
            reason="negative",
            detail=_REJECT_DETAIL,
        )
        return unchanged._replace(rejects=rejects)
    if scan.settings.negatives == "invert":
        negatives = _read_suspects(folder, ["image", "version", "md5"], suspects)
        measured = measure_inverted(negatives, scan, folder)
        return unchanged._replace(inverted=measured.set_index(negatives["image"]))
    counts = Counter(rows.loc[suspects, "group"])
    sizes = Counter(rows["group"])
    _require_few(counts, sizes, scan.data)
    by_folder = {printable(name): count for name, count in sorted(counts.items())}
    return unchanged._replace(
        notes=(_note_on_kept(by_folder),),
        by_folder=by_folder,
    )


def _read_places(folder: Path, parts: list[pd.DataFrame]) -> Iterator[str]:
    """Yield where the thumbnails of the good images are; add the other columns to `parts`."""
    for part in read_good(folder, ["source_split", "group", "thumbnail"]):
        parts.append(part[["source_split", "group"]])
        yield from part["thumbnail"]


def _read_suspects(folder: Path, columns: list[str], suspects: Pixels) -> pd.DataFrame:
    """Return the rows of the suspects among the good images, bool (n,)."""
    parts = [part[suspects[part.index]] for part in read_good(folder, columns)]
    return pd.concat(parts, ignore_index=True)


def _positions_to_learn_from(rows: pd.DataFrame) -> Pixels:
    """Return the positions of the images that are not given as test, or of all if all are."""
    is_test = (rows["source_split"] == "test").to_numpy()
    if is_test.all():
        return np.arange(len(rows))
    return np.flatnonzero(~is_test)


def _why_not_checked(scan: Scan) -> str:
    """Return a note that negatives were not looked for.

    Raises:
        DataError: They were to be rejected or inverted, which would not happen.
    """
    why = (
        "what a film looks like cannot be learnt from these images: "
        "they are too few, or too unlike each other"
    )
    asked = scan.settings.negatives
    if asked != "report":
        raise DataError(f"{scan.data}: --negatives {asked}: {why}. Leave it out")
    return f"negatives of films were not looked for: {why}"


def _find_all_suspects(reference: Reference, thumbnails: Thumbnails) -> Pixels:
    """Return which thumbnails look like negatives, bool (n,), with few in memory at a time."""
    suspects = np.zeros(len(thumbnails), bool)
    for start in range(0, len(thumbnails), _CHUNK):
        stop = min(start + _CHUNK, len(thumbnails))
        chunk = thumbnails[np.arange(start, stop)]
        suspects[start:stop] = find_suspects(reference, chunk)
    return suspects


def _require_few(
    counts: Counter[str],
    sizes: Counter[str],
    data: str,
) -> None:
    """Raise DataError if more than ASKING_SHARE of some folder's images look like negatives."""
    full_folders = [
        f"{printable(name)} ({count} of {sizes[name]})"
        for name, count in sorted(counts.items())
        if count > ASKING_SHARE * sizes[name]
    ]
    if not full_folders:
        return
    found = "images look like negatives of films (bright surround, dark bones)"
    remedy = "Add --negatives invert or --negatives reject"
    raise DataError(f"{data}: {found}: {', '.join(full_folders)}. {remedy}")


def _note_on_kept(by_folder: dict[str, int]) -> str:
    folders = [f"{name} {count}" for name, count in by_folder.items()]
    return (
        f"negatives of films, as it looks, which are kept (see --negatives): {', '.join(folders)}"
    )
