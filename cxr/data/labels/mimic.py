"""Views and splits of MIMIC-CXR, which stand in tables of their own beside that of the labels."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from cxr.data.labels import attributes
from cxr.data.labels.forms import column_of
from cxr.data.patients import image_tables
from cxr.storage.addresses import open_storage

_LABELS = re.compile(r"(chexpert|negbio)(\.csv(?:\.gz)?)$", re.IGNORECASE)


class Films(NamedTuple):
    """What the tables beside the labels say.

    Attributes:
        by_name: View and split of each film, by its name without an ending (dicom_id).
        notes: Which of the tables are not there, in sentences.
    """

    by_name: Mapping[str, tuple[str, str]]
    notes: tuple[str, ...]


NO_FILMS = Films({}, ())


def read_films(uri: str) -> Films:
    """Read `…-metadata.csv` and `…-split.csv` beside `…-chexpert.csv`, as far as they are there.

    Args:
        uri: The table of labels.

    Raises:
        DataError: A table that is there cannot be read, or lacks a column.
    """
    views = _read_beside(uri, "metadata", "ViewPosition")
    splits = _read_beside(uri, "split", "split")
    notes = []
    if views is None:
        notes.append(
            f"{uri}: no table of metadata lies beside it: the views of its films are read from "
            "DICOM tags alone, where there are any"
        )
    if splits is None:
        notes.append(f"{uri}: no table of splits lies beside it")
    films: dict[str, tuple[str, str]] = {}
    for name, view in (views or {}).items():
        films[name] = (attributes.clean_view(view), "")
    for name, split in (splits or {}).items():
        view, _ = films.get(name, ("", ""))
        films[name] = (view, attributes.clean_split(split) or "")
    return Films(films, tuple(notes))


def _read_beside(uri: str, kind: str, column: str) -> dict[str, str] | None:
    """Return a column of a table beside that of the labels, by dicom_id; None where it is missing."""
    if not _LABELS.search(uri):
        return None
    for ending in (".csv", ".csv.gz"):
        neighbour = _LABELS.sub(f"{kind}{ending}", uri)
        folder, _, name = neighbour.rpartition("/")
        if open_storage(folder or ".").find(name) is None:
            continue
        table = image_tables.read_texts(neighbour)
        names = column_of(table, "dicom_id")
        return dict(zip(names, column_of(table, column), strict=True))
    return None
