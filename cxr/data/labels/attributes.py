"""What a table of labels says of a film beside its findings: patient, age, sex, view and split."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import pandas as pd

from cxr.core.errors import DataError
from cxr.core.formatting import printable
from cxr.data.folders.names import split_of
from cxr.data.patients.patient_table import patient_or_none

OLDEST = 120  # years
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([ymwd]?)(?:ears?|onths?|eeks?|ays?)?", re.IGNORECASE)
_IN_A_YEAR = {"y": 1.0, "m": 12.0, "w": 365.25 / 7, "d": 365.25}
# By their first letters, in English and German.
_SEXES = {"m": "M", "f": "F", "w": "F", "o": "O", "d": "O", "x": "O"}
_UNKNOWN = {"u", "unknown", "unk", "na", "n/a", "nan", "none", "-", "?"}
_SPLITS = {"validate": "val", "none": ""}


class CleanAttributes(NamedTuple):
    """The attributes of each row, by name, and what could not be read, in sentences."""

    columns: dict[str, "pd.Series[str]"]
    notes: tuple[str, ...]


def clean_age(text: str) -> str | None:
    """Return an age in years, "" where none is given, None where it cannot be one.

    >>> [clean_age(text) for text in ("57", "058Y", "6 months", "", "412")]
    ['57', '58', '0.5', '', None]
    """
    word = text.strip()
    if not word or word.lower() in _UNKNOWN:
        return ""
    match = _AGE.fullmatch(word)
    if match is None:
        return None
    years = float(match[1]) / _IN_A_YEAR[match[2].lower() or "y"]
    if years > OLDEST:
        return None
    return f"{round(years, 2):g}"


def clean_sex(text: str) -> str | None:
    """Return M, F or O, "" where none is given, None where it is none of them.

    >>> [clean_sex(text) for text in ("Male", "f", "Unknown", "7")]
    ['M', 'F', '', None]
    """
    word = text.strip().lower()
    if not word or word in _UNKNOWN:
        return ""
    return _SEXES.get(word[0])


def clean_view(text: str) -> str:
    """Return a view in capitals, "" where none is given.

    >>> [clean_view(text) for text in ("pa", "Lateral ", "unknown")]
    ['PA', 'LATERAL', '']
    """
    word = text.strip()
    return "" if word.lower() in _UNKNOWN else word.upper()


def clean_split(text: str) -> str | None:
    """Return train, val or test, "" where none is given, None where it is none of them.

    >>> [clean_split(text) for text in ("validate", "Training", "", "fold 3")]
    ['val', 'train', '', None]
    """
    word = text.strip().lower()
    if word in _SPLITS or not word:
        return _SPLITS.get(word, "")
    split = split_of(word)
    return split if split in {"train", "val", "test"} else None


def clean_attributes(columns: Mapping[str, "pd.Series[str]"]) -> CleanAttributes:
    """Return attributes as clean_metadata.csv has them.

    Args:
        columns: patient, age, sex, view and split of each row, as the table has them.

    Raises:
        DataError: What stands in the column of splits is none.
    """
    cleaned = {
        "patient": columns["patient"].map(patient_or_none),
        "view": columns["view"].map(clean_view),
    }
    notes = []
    for name, clean, expected in (
        ("age", clean_age, f"0 to {OLDEST} years"),
        ("sex", clean_sex, "M, F or O"),
    ):
        cleaned[name], unread = _clean_column(columns[name], clean)
        if unread:
            notes.append(
                f"{len(unread):,} rows have no {name} of {expected}, for example "
                f"{printable(unread[0])[:20]}: it counts as unknown"
            )
    cleaned["split"], unread = _clean_column(columns["split"], clean_split)
    if unread:
        raise DataError(
            "expected train, val or test in the column of the split, found "
            f"{printable(unread[0])[:40]} in {len(unread):,} rows: correct it"
        )
    return CleanAttributes(cleaned, tuple(notes))


def _clean_column(
    column: "pd.Series[str]",
    clean: Callable[[str], str | None],
) -> tuple["pd.Series[str]", list[str]]:
    """Return a column with each text cleaned, and the texts that cannot be read, by row."""
    by_text = {text: clean(text) for text in column.unique()}
    unread = [text for text in column if by_text[text] is None]
    cleaned = column.map(lambda text: by_text[text] or "")
    return cleaned, unread
