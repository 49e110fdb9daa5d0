"""What clean_metadata.csv promises wherever it is handed over, and the check that it keeps it.

Whether the images are still what the table says is checked where they are read; leakage between
splits is the gate's.
"""

import re
from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from cxr.core.errors import DataError
from cxr.core.files import read_parts, read_table
from cxr.core.formatting import printable
from cxr.core.settings import EXCLUDED, LABEL_NAMES, SPLITS
from cxr.data.manifest.columns import ATTRIBUTE_COLUMNS, CORRECTION_COLUMNS
from cxr.data.manifest.records import Ingest

_UNIQUE_COLUMNS = ("image", "pixel_sha256")
_ROWS_SHOWN = 3  # offending rows of each rule in a message
_MODES = ("L", "1", "RGB", "P", "LA", "RGBA", "PA", "I;16")
# GIF is only in tables of earlier versions.
_FORMATS = ("JPEG", "MPO", "PNG", "BMP", "GIF", "TIFF", "WEBP", "DICOM")


class Rule(NamedTuple):
    """What the values of a column must be.

    Attributes:
        description: The rule in words, which continue "expected ...".
        check: Returns which values of a column keep the rule.
    """

    description: str
    check: Callable[["pd.Series[Any]"], "pd.Series[bool]"]


class BrokenRule(NamedTuple):
    """A rule that some rows break: the column, the rule in words, the positions of the rows."""

    column: str
    description: str
    rows: list[int]


def _one_of(*values: str) -> Rule:
    """Accept these values alone."""
    names = ", ".join(value or "an empty text" for value in values)
    return Rule(f"one of {names}", lambda column: column.isin(values))


def _whole_number(
    description: str,
    low: int,
    high: float = float("inf"),
) -> Rule:
    """Accept whole numbers from `low` to `high`."""

    def check(column: "pd.Series[Any]") -> "pd.Series[bool]":
        if not pd.api.types.is_integer_dtype(column):
            return pd.Series(False, column.index)
        return column.between(low, high)

    return Rule(description, check)


def _gray_value() -> Rule:
    """Accept numbers from 0 to 255."""

    def check(column: "pd.Series[Any]") -> "pd.Series[bool]":
        if not pd.api.types.is_numeric_dtype(column):
            return pd.Series(False, column.index)
        return column.between(0, 255)

    return Rule("numbers from 0 to 255", check)


def _text(description: str, pattern: str) -> Rule:
    """Accept texts that a regular expression matches as a whole."""
    compiled = re.compile(pattern, re.DOTALL)  # a file name may hold a line break

    def matches(value: object) -> bool:
        return isinstance(value, str) and compiled.fullmatch(value) is not None

    def check(column: "pd.Series[Any]") -> "pd.Series[bool]":
        return pd.Series(
            [matches(value) for value in column],
            column.index,
            dtype=bool,
        )

    return Rule(description, check)


def _unique() -> Rule:
    """Accept values that no other row has."""
    return Rule("values that occur once", lambda column: ~column.duplicated(keep=False))


RULES: dict[str, tuple[Rule, ...]] = {
    "image": (_text("a file's key", ".+"), _unique()),
    "label": (_whole_number("0 or 1", 0, 1),),
    "label_name": (_one_of(*LABEL_NAMES),),
    "split": (_one_of(*SPLITS, EXCLUDED),),
    "source_split": (_one_of("train", "val", "test", ""),),
    "patient_id": (_text("a text, empty where the patient is not known", ".*"),),
    "etiology": (_one_of("bacteria", "virus", ""),),
    "md5": (_text("32 hex digits", "[0-9a-f]{32}"),),
    "pixel_sha256": (_text("64 hex digits", "[0-9a-f]{64}"), _unique()),
    "phash": (_text("64 hex digits", "[0-9a-f]{64}"),),
    "width": (_whole_number("whole numbers above 0", 1),),
    "height": (_whole_number("whole numbers above 0", 1),),
    "mode": (_one_of(*_MODES),),
    "bytes": (_whole_number("whole numbers above 0", 1),),
    "mean": (_gray_value(),),
    "std": (_gray_value(),),
    "format": (_one_of(*_FORMATS),),
    "icc": (_whole_number("0 or 1", 0, 1),),
    "exif": (_whole_number("0 or 1", 0, 1),),
    "quantisation": (
        _text("8 hex digits, or an empty text where the file is no JPEG", "([0-9a-f]{8})?"),
    ),
}
_PSEUDONYM_COLUMNS = ("station", "institution", "study", "series", "instance")
_PSEUDONYM = _text("16 hex digits, or an empty text", "([0-9a-f]{16})?")
_ANY_TEXT = _text("a text, empty where it is not known", ".*")
# Columns that only tables with DICOM tags, a table of labels or corrected labels have.
_ATTRIBUTE_RULES: dict[str, tuple[Rule, ...]] = {
    **dict.fromkeys(ATTRIBUTE_COLUMNS, (_ANY_TEXT,)),
    "age": (_text("years, or an empty text", r"(\d{1,3}(\.\d+)?)?"),),
    "sex": (_one_of("M", "F", "O", ""),),
    "view": (_text("a view in capitals, or an empty text", "[A-Z0-9 _-]*"),),
    "year": (_text("a year, or an empty text", r"(\d{4})?"),),
    "pixel_spacing": (_text("mm, or an empty text", r"(\d+\.\d{4})?"),),
    "bits_stored": (_text("1 to 16, or an empty text", r"([1-9]|1[0-6])?"),),
    "photometric": (_one_of("MONOCHROME1", "MONOCHROME2", ""),),
    "burned_in": (_one_of("yes", "suspected", ""),),
    **dict.fromkeys(_PSEUDONYM_COLUMNS, (_PSEUDONYM,)),
    **dict.fromkeys(CORRECTION_COLUMNS, (_ANY_TEXT,)),
    "given_label": (_one_of(*LABEL_NAMES),),
    "corrected_label": (_one_of(*LABEL_NAMES, "exclude", ""),),
}
# Columns that tables of earlier versions lack: their images had 8 bits and none was inverted.
LATER_RULES: dict[str, tuple[Rule, ...]] = {
    "bit_depth": (
        _whole_number(
            "whole numbers from 8 to 16",
            8,
            16,
        ),
    ),
    "inverted": (_whole_number("0 or 1", 0, 1),),
    **_ATTRIBUTE_RULES,
}


def check_manifest(table: pd.DataFrame, ingest: Ingest | None = None) -> pd.DataFrame:
    """Check that a manifest keeps every rule and belongs to its record.

    Args:
        table: clean_metadata.csv. Columns of LATER_RULES may be missing, and others may follow.
        ingest: The record in ingest.json, with whose counts the table is compared.

    Returns:
        `table`, as it is.

    Raises:
        DataError: The table is empty, breaks a rule, or does not have the record's counts. The
            message lists each broken rule with its first rows.
    """
    if table.empty:
        raise DataError(
            "clean_metadata.csv: expected one row or more, found none: see rejects.csv, "
            "preprocess again"
        )
    broken = _find_broken_rules(table)
    if broken:
        sentences = "; ".join(_describe(rule, table) for rule in broken)
        raise DataError(
            f"clean_metadata.csv cannot be used: {sentences}. Preprocess again; where the file "
            "was edited by hand, take the edit back or correct it"
        )
    if ingest is None:
        return table
    counts = count_images(table, "split")
    differences = _differences_from_record(len(table), counts, ingest)
    if differences:
        raise DataError(
            "clean_metadata.csv and ingest.json do not belong together: "
            f"{'; '.join(differences)}. Preprocess again"
        )
    return table


def check_file(path: Path, ingest: Ingest) -> None:
    """Check a manifest as `check_manifest` does, with a part of it in memory at a time.

    Args:
        path: clean_metadata.csv.
        ingest: The record in ingest.json.

    Raises:
        DataError: As `check_manifest`.
    """
    if not _is_kept(path, ingest):
        check_manifest(read_table(path), ingest)  # says what is wrong; nothing is, if hashes met


def _is_kept(path: Path, ingest: Ingest) -> bool:
    """Return whether a manifest keeps every rule; False, too, where two hashes are the same."""
    seen = {name: array("q") for name in _UNIQUE_COLUMNS}
    counts: Counter[tuple[str, str]] = Counter()
    for part in read_parts(path):
        if part.empty or _find_broken_rules(part):
            return False
        for name, hashes in seen.items():
            hashes.extend(map(hash, part[name]))
        counts.update(zip(part["split"], part["label_name"], strict=True))
    if any(pd.Series(hashes).duplicated().any() for hashes in seen.values()):
        return False
    counts_by_split = {
        split: {name: counts[split, name] for name in LABEL_NAMES} for split in ingest.splits
    }
    return not _differences_from_record(counts.total(), counts_by_split, ingest)


def _find_broken_rules(table: pd.DataFrame) -> list[BrokenRule]:
    """Return every broken rule, so that a table can be corrected at once."""
    broken = []
    for column, rules in (RULES | LATER_RULES).items():
        if column in table:
            broken += _check_column(table[column], rules)
        elif column in RULES:
            broken.append(BrokenRule(column, "", []))
    # Only where labels and their names are themselves as they should be.
    return broken or _check_label_names(table)


def _check_column(column: "pd.Series[Any]", rules: tuple[Rule, ...]) -> list[BrokenRule]:
    """Return the broken rules of one column."""
    name = str(column.name)
    broken = []
    missing = column.isna().to_numpy()
    if missing.any():
        broken.append(
            BrokenRule(
                name,
                "a value in every row",
                _positions(missing),
            )
        )
    for rule in rules:
        wrong = ~rule.check(column).to_numpy(dtype=bool) & ~missing
        if wrong.any():
            broken.append(
                BrokenRule(
                    name,
                    rule.description,
                    _positions(wrong),
                )
            )
    return broken


def _positions(selected: Any) -> list[int]:
    """Return the positions of the true values of a boolean array."""
    return [int(position) for position in selected.nonzero()[0]]


def _check_label_names(table: pd.DataFrame) -> list[BrokenRule]:
    """Return the rule that is broken where label_name is not the name of label."""
    names = table["label"].map(dict(enumerate(LABEL_NAMES)))
    wrong = names.to_numpy() != table["label_name"].to_numpy()
    if not wrong.any():
        return []
    description = "the name of the label (0 NORMAL, 1 PNEUMONIA)"
    return [
        BrokenRule(
            "label_name",
            description,
            _positions(wrong),
        )
    ]


def _describe(broken: BrokenRule, table: pd.DataFrame) -> str:
    """Return e.g. "width: expected whole numbers above 0, found -1 in a.jpeg and 2 row(s) more"."""
    if broken.column not in table:
        return f"expected a column {broken.column}, found none"
    examples = [
        _show_value(
            table,
            row,
            broken.column,
        )
        for row in broken.rows[:_ROWS_SHOWN]
    ]
    sentence = f"{broken.column}: expected {broken.description}, found {', '.join(examples)}"
    hidden = len(broken.rows) - len(examples)
    if hidden:
        sentence += f" and {hidden:,} row(s) more"
    return sentence


def _show_value(
    table: pd.DataFrame,
    row: int,
    column: str,
) -> str:
    """Return a value and its place, on one line whatever the name of the file holds."""
    value = table[column].iloc[row]
    text = f'"{printable(value)[:80]}"' if isinstance(value, str) else str(value)
    if column == "image" or "image" not in table:
        return f"{text} in row {row + 1:,}"
    image = str(table["image"].iloc[row])
    return f"{text} in {printable(image)[:120]}"


def _differences_from_record(
    rows: int,
    counts: Mapping[str, Mapping[str, int]],
    ingest: Ingest,
) -> list[str]:
    """Return in sentences where a table's rows and images by split are not those of the record."""
    differences = []
    if rows != ingest.kept:
        differences.append(f"expected {ingest.kept:,} rows, found {rows:,}")
    for split, expected_counts in ingest.splits.items():
        for name in LABEL_NAMES:
            expected = expected_counts.get(name, 0)
            found = counts.get(split, {}).get(name, 0)
            if found != expected:
                differences.append(f"{split} {name}: expected {expected:,} images, found {found:,}")
    return differences


def count_images(table: pd.DataFrame, by: str = "source_split") -> dict[str, dict[str, int]]:
    """Count the rows by a column and label_name; what does not occur is left out."""
    groups = table.groupby(by)["label_name"]
    return {str(value): count_values(names) for value, names in groups}


def count_values(column: "pd.Series[str]") -> dict[str, int]:
    """Count each value of a column, in the order of the values."""
    counts = column.value_counts().sort_index()
    return {str(value): int(count) for value, count in counts.items()}
