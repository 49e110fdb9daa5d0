"""The search for near-duplicates, as it is kept on disk for publishing and for the next search."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.core.errors import DataError
from cxr.core.files import file_sha256, read_table, write_table
from cxr.core.records import Record
from cxr.core.settings import Strict
from cxr.data.inverted_films.polarity import Reference
from cxr.data.leakage import near_duplicates
from cxr.data.manifest.columns import PAIR_COLUMNS
from cxr.data.manifest.shard_inspection import Thumbnails

COMPARISON = "comparison.json"  # of the last search, in the folder of the inspection


class TableFile(Strict):
    """A table on disk: its name in the folder of the inspection, and the SHA-256 of its bytes."""

    name: str
    sha256: str


class Comparison(Record):
    """The distinct images of a scan and the near-duplicates among them.

    It is kept beside its tables, so that the next search compares new images alone.

    Attributes:
        search: Version of the search.
        rows: Table of the distinct images.
        rejects: Table of every other file: image, reason, detail.
        pairs: Table of the near-duplicates among the distinct images.
        images: How many distinct images there are.
        compared: How many of them are new to the search.
        found: How many pairs of near-duplicates there are.
        notes: What was given and not used, in sentences.
        polarity: What an X-ray of train looks like; None where the images are too different.
        negatives: How many of the distinct images look like negatives, by folder.
    """

    search: int
    rows: TableFile
    rejects: TableFile
    pairs: TableFile
    images: int
    compared: int
    found: int
    notes: tuple[str, ...]
    polarity: Reference | None
    negatives: dict[str, int]


def save_table(table: pd.DataFrame, path: Path) -> TableFile:
    """Write a table, and note the digest of its bytes."""
    write_table(table, path)
    return TableFile(
        name=path.name,
        sha256=file_sha256(path),
    )


def load_table(
    table: TableFile,
    folder: Path,
    only: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Read a table written by `save_table`.

    Args:
        table: What `save_table` returned.
        folder: Where the table lies.
        only: The columns to read; all of them where it is None.

    Raises:
        FileNotFoundError: There is no such file.
        DataError: The file is not the one that was written.
    """
    path = folder / table.name
    sha256 = file_sha256(path)
    if sha256 != table.sha256:
        raise DataError(
            f"{path}: expected the table of SHA-256 {table.sha256}, found {sha256}: "
            "preprocess again"
        )
    return read_table(path, only)


def load_previous_search(
    rows: pd.DataFrame, inspection: Path
) -> tuple["pd.Series[bool]", pd.DataFrame]:
    """Read what the last search found.

    A search of another version, or one whose files are damaged or incomplete, counts as none.

    Args:
        rows: The distinct images of this scan: image, pixel_sha256.
        inspection: Folder of the inspection.

    Returns:
        Which of the rows the last search compared with each other, and the pairs that it found.
    """
    none_known = pd.Series(False, rows.index)
    no_pairs = pd.DataFrame(columns=PAIR_COLUMNS)
    try:
        last = Comparison.read(inspection / COMPARISON)
        if last.search != near_duplicates.SEARCH_VERSION:
            return none_known, no_pairs
        compared = load_table(last.rows, inspection, ["image", "pixel_sha256"])
        pairs = load_table(last.pairs, inspection)
    except (FileNotFoundError, DataError):
        return none_known, no_pairs
    compared_pixels = pd.Series(
        compared["pixel_sha256"].to_numpy(),
        index=compared["image"],
    )
    return rows["image"].map(compared_pixels) == rows["pixel_sha256"], pairs


def search_pairs(
    rows: pd.DataFrame,
    inspection: Path,
    known: "pd.Series[bool]",
    previous_pairs: pd.DataFrame,
    on_images: Callable[[int], None] = lambda _: None,
) -> pd.DataFrame:
    """Find the near-duplicates among rows; compare those that are new.

    Args:
        rows: One row for each image, in the order of the names: image, thumbnail.
        inspection: Folder of the inspection, which holds the thumbnails.
        known: Which rows a previous search compared with each other.
        previous_pairs: The pairs that it found; those of images that are gone are left out.
        on_images: Called with the number of images done.

    Returns:
        One row for each pair: image_a, image_b, variant, distance (bits of 256), correlation.
    """
    images = rows["image"]
    known_images = images[known]
    lasting = previous_pairs["image_a"].isin(known_images) & previous_pairs["image_b"].isin(
        known_images
    )
    known_pairs = previous_pairs[lasting].astype({"distance": "int64"})
    if known.all():
        return known_pairs.reset_index(drop=True)
    positions = pd.Series(np.arange(len(rows)), index=images)
    by_position = known_pairs.assign(
        a=known_pairs["image_a"].map(positions),
        b=known_pairs["image_b"].map(positions),
    )
    pairs = near_duplicates.find_near_duplicates(
        Thumbnails(inspection, rows["thumbnail"]),
        on_images,
        near_duplicates.PreviousSearch(known.to_numpy(), by_position),
    )
    names = images.to_numpy()
    by_name = pairs.assign(
        image_a=names[pairs["a"]],
        image_b=names[pairs["b"]],
    )
    return by_name[PAIR_COLUMNS]
