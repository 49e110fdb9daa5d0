"""Negatives among the inspected images: reported by folder, rejected or inverted, or asked about.

How a negative is told from a film is in `polarity`.
"""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.core.errors import DataError
from cxr.core.formatting import printable
from cxr.data.images.decoding.rejection import Pixels
from cxr.data.inverted_films.inversion import invert_rows
from cxr.data.inverted_films.polarity import Reference, find_suspects, learn_reference
from cxr.data.manifest.columns import REJECT_COLUMNS
from cxr.data.manifest.records import Scan
from cxr.data.manifest.shard_inspection import Thumbnails
from cxr.data.survey.account import ASKING_SHARE

_CHUNK = 4096  # thumbnails judged at a time: 16 MiB
_REJECT_DETAIL = "negative of a film (bright surround): invert it, or --negatives invert"


class HandledNegatives(NamedTuple):
    """What became of the negatives.

    Attributes:
        rows: The images that are kept, with a column `inverted` (0 or 1).
        rejects: image, reason and detail of the rejected ones.
        notes: Sentences for the user: on negatives that are kept as they are, or why none were
            looked for.
        polarity: What a film of train looks like; None if the images are too unlike each other.
        by_folder: How many of the kept images look like negatives, by folder.
    """

    rows: pd.DataFrame
    rejects: pd.DataFrame
    notes: tuple[str, ...]
    polarity: Reference | None
    by_folder: dict[str, int]


def handle_negatives(
    rows: pd.DataFrame,
    scan: Scan,
    folder: Path,
) -> HandledNegatives:
    """Find the negatives among the good images and do with them what `--negatives` says.

    Args:
        rows: The good images, as inspected.
        scan: What they come from.
        folder: The folder of the inspection.

    Raises:
        DataError: Negatives are only to be reported, but a folder holds more than ASKING_SHARE of
            them; or something else is to be done with them, and they cannot be told from films.
    """
    rows = rows.reset_index(drop=True).assign(inverted=0)
    unchanged = HandledNegatives(
        rows=rows,
        rejects=pd.DataFrame(columns=REJECT_COLUMNS),
        notes=(),
        polarity=None,
        by_folder={},
    )
    thumbnails = Thumbnails(folder, rows["thumbnail"])
    reference = learn_reference(thumbnails, _positions_to_learn_from(rows))
    if reference is None:
        return unchanged._replace(notes=(_why_not_checked(scan),))
    unchanged = unchanged._replace(polarity=reference)
    suspects = _find_all_suspects(reference, thumbnails)
    if not suspects.any():
        return unchanged
    if scan.settings.negatives == "reject":
        rejects = rows.loc[suspects, ["image"]].assign(
            reason="negative",
            detail=_REJECT_DETAIL,
        )
        kept = rows[~suspects].reset_index(drop=True)
        return unchanged._replace(rows=kept, rejects=rejects)
    if scan.settings.negatives == "invert":
        inverted = invert_rows(rows, suspects, scan, folder)
        return unchanged._replace(rows=inverted)
    counts = Counter(rows.loc[suspects, "group"])
    sizes = Counter(rows["group"])
    _require_few(counts, sizes, scan.data)
    by_folder = {printable(name): count for name, count in sorted(counts.items())}
    return unchanged._replace(
        notes=(_note_on_kept(by_folder),),
        by_folder=by_folder,
    )


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
