"""The search for near-duplicates, as it is kept on disk for publishing and for the next search."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.core.errors import DataError
from cxr.core.files import file_sha256, read_parts, read_table, write_table
from cxr.core.records import Record
from cxr.core.settings import Strict
from cxr.data.inverted_films.polarity import Reference
from cxr.data.leakage import near_duplicates
from cxr.data.leakage.views import Array
from cxr.data.manifest.columns import PAIR_COLUMNS
from cxr.data.manifest.shard_inspection import Thumbnails

_IDENTITY = ["image", "pixel_sha256"]
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
    return describe_table(path)


def describe_table(path: Path) -> TableFile:
    """Note the digest of a table's bytes."""
    return TableFile(
        name=path.name,
        sha256=file_sha256(path),
    )


def load_table(table: TableFile, folder: Path) -> pd.DataFrame:
    """Read a table written by `save_table`.

    Args:
        table: What `save_table` returned.
        folder: Where the table lies.

    Raises:
        FileNotFoundError: There is no such file.
        DataError: The file is not the one that was written.
    """
    return read_table(_unchanged(table, folder))


def load_parts(
    table: TableFile,
    folder: Path,
    only: Sequence[str] | None = None,
) -> Iterator[pd.DataFrame]:
    """Read a table written by `save_table` in parts.

    Args:
        table: What `save_table` returned.
        folder: Where the table lies.
        only: The columns to read; all of them where it is None.

    Raises:
        FileNotFoundError: There is no such file.
        DataError: The file is not the one that was written.
    """
    return read_parts(_unchanged(table, folder), only)


def _unchanged(table: TableFile, folder: Path) -> Path:
    """Return the path of a table; DataError where it is not the one that was written."""
    path = folder / table.name
    sha256 = file_sha256(path)
    if sha256 != table.sha256:
        raise DataError(
            f"{path}: expected the table of SHA-256 {table.sha256}, found {sha256}: "
            "preprocess again"
        )
    return path


def load_previous_search(rows: Path, inspection: Path) -> tuple[Array, pd.DataFrame]:
    """Read what the last search found.

    A search of another version, or one whose files are damaged or incomplete, counts as none.

    Args:
        rows: Table of the distinct images of this scan.
        inspection: Folder of the inspection.

    Returns:
        Which of the rows the last search compared with each other, bool (n,), and the pairs that it
        found.
    """
    no_pairs = pd.DataFrame(columns=PAIR_COLUMNS)
    try:
        last = Comparison.read(inspection / COMPARISON)
        if last.search != near_duplicates.SEARCH_VERSION:
            return _compared_before(rows, ()), no_pairs
        compared = load_parts(last.rows, inspection, _IDENTITY)
        pairs = load_table(last.pairs, inspection)
        return _compared_before(rows, compared), pairs
    except (FileNotFoundError, DataError):
        return _compared_before(rows, ()), no_pairs


def _compared_before(rows: Path, compared: Iterable[pd.DataFrame]) -> Array:
    """Return which rows are in another table, too, bool (n,); both are in the order of names."""
    others = _identities(compared)
    other = next(others, None)
    known = bytearray()
    for identity in _identities(read_parts(rows, _IDENTITY)):
        while other is not None and other[0] < identity[0]:
            other = next(others, None)
        known.append(other == identity)
    return np.frombuffer(known, bool)


def _identities(parts: Iterable[pd.DataFrame]) -> Iterator[tuple[str, str]]:
    """Yield image and pixel_sha256 of each row."""
    for part in parts:
        yield from zip(part["image"], part["pixel_sha256"], strict=True)


def thumbnail_places(
    comparison: Comparison,
    inspection: Path,
    pairs: pd.DataFrame,
) -> dict[str, str]:
    """Return where the thumbnails of images in pairs are, by image.

    Args:
        comparison: The search that found the pairs.
        inspection: Folder of the inspection.
        pairs: The pairs: image_a, image_b.
    """
    paired = {*pairs["image_a"], *pairs["image_b"]}
    places: dict[str, str] = {}
    for part in load_parts(comparison.rows, inspection, ["image", "thumbnail"]):
        shown = part[part["image"].isin(paired)]
        places.update(zip(shown["image"], shown["thumbnail"], strict=True))
    return places


def search_pairs(
    rows: Path,
    inspection: Path,
    known: Array,
    previous_pairs: pd.DataFrame,
    on_images: Callable[[int], None] = lambda _: None,
) -> pd.DataFrame:
    """Find the near-duplicates among rows; compare those that are new.

    Args:
        rows: Table with one row for each image, in the order of the names: image, thumbnail.
        inspection: Folder of the inspection, which holds the thumbnails.
        known: Which rows a previous search compared with each other, bool (n,).
        previous_pairs: The pairs that it found; those of images that are gone are left out.
        on_images: Called with the number of images done.

    Returns:
        One row for each pair: image_a, image_b, variant, distance (bits of 256), correlation.
    """
    paired = {*previous_pairs["image_a"], *previous_pairs["image_b"]}
    # Few images are in a pair: only of those the names are in memory.
    positions = {
        image: position
        for position, image in enumerate(_column(rows, "image"))
        if image in paired and known[position]
    }
    lasting = previous_pairs["image_a"].isin(positions) & previous_pairs["image_b"].isin(positions)
    known_pairs = previous_pairs[lasting].astype({"distance": "int64"})
    if known.all():
        return known_pairs.reset_index(drop=True)
    by_position = known_pairs.assign(
        a=known_pairs["image_a"].map(positions),
        b=known_pairs["image_b"].map(positions),
    )
    pairs = near_duplicates.find_near_duplicates(
        Thumbnails(inspection, _column(rows, "thumbnail")),
        on_images,
        near_duplicates.PreviousSearch(known, by_position),
    )
    found = {*pairs["a"], *pairs["b"]}
    names = {
        position: image
        for position, image in enumerate(_column(rows, "image"))
        if position in found
    }
    by_name = pairs.assign(
        image_a=pairs["a"].map(names),
        image_b=pairs["b"].map(names),
    )
    return by_name[PAIR_COLUMNS]


def _column(table: Path, name: str) -> Iterator[str]:
    """Yield the cells of a column of texts."""
    for part in read_parts(table, [name]):
        yield from part[name]
