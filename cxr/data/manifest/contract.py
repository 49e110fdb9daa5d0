"""What clean_metadata.csv promises at every hand-over, checked by pandera; and the counts of known data sets.

Left out: whether the images still are what the table says (`pixels`), and leakage between splits (`leakage`).
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from cxr.core.errors import DataError
from cxr.core.formatting import printable
from cxr.core.settings import EXCLUDED, LABEL_NAMES, SPLITS
from cxr.data.manifest.records import Ingest

if TYPE_CHECKING:
    import pandera.pandas as pa

_SHOWN = 3  # offending rows of each rule in a message
_MODES = ("L", "1", "RGB", "P", "LA", "RGBA", "PA", "I;16")
_FORMATS = (
    "JPEG",
    "MPO",
    "PNG",
    "BMP",
    "GIF",
    "TIFF",
    "WEBP",
)  # GIF is in tables of earlier versions alone


class Rule(NamedTuple):
    """What a column must be, in words, and which of its values are so."""

    words: str
    holds: Callable[["pd.Series[Any]"], "pd.Series[bool]"]


class _Broken(NamedTuple):
    column: str
    words: str
    rows: list[int]


def _one_of(*values: str) -> Rule:
    words = ", ".join(value or "an empty text" for value in values)
    return Rule(f"one of {words}", lambda column: column.isin(values))


def _whole(words: str, low: int, high: float = float("inf")) -> Rule:
    def holds(column: "pd.Series[Any]") -> "pd.Series[bool]":
        right = pd.api.types.is_integer_dtype(column)
        return column.between(low, high) if right else pd.Series(False, column.index)

    return Rule(words, holds)


def _gray() -> Rule:
    def holds(column: "pd.Series[Any]") -> "pd.Series[bool]":
        right = pd.api.types.is_float_dtype(column) or pd.api.types.is_integer_dtype(column)
        return column.between(0, 255) if right else pd.Series(False, column.index)

    return Rule("numbers from 0 to 255", holds)


def _text(words: str, pattern: str) -> Rule:
    whole = re.compile(pattern, re.DOTALL)  # a file name may hold a line break
    return Rule(
        words,
        lambda column: pd.Series(
            [isinstance(value, str) and bool(whole.fullmatch(value)) for value in column],
            column.index,
            dtype=bool,
        ),
    )


def _unique() -> Rule:
    return Rule("values that occur once", lambda column: ~column.duplicated(keep=False))


RULES: dict[str, tuple[Rule, ...]] = {
    "image": (_text("a file's key", ".+"), _unique()),
    "label": (_whole("0 or 1", 0, 1),),
    "label_name": (_one_of(*LABEL_NAMES),),
    "split": (_one_of(*SPLITS, EXCLUDED),),
    "source_split": (_one_of("train", "val", "test", ""),),
    "patient_id": (_text("a text, empty where the patient is not known", ".*"),),
    "etiology": (_one_of("bacteria", "virus", ""),),
    "md5": (_text("32 hex digits", "[0-9a-f]{32}"),),
    "pixel_sha256": (_text("64 hex digits", "[0-9a-f]{64}"), _unique()),
    "phash": (_text("64 hex digits", "[0-9a-f]{64}"),),
    "width": (_whole("whole numbers above 0", 1),),
    "height": (_whole("whole numbers above 0", 1),),
    "mode": (_one_of(*_MODES),),
    "bytes": (_whole("whole numbers above 0", 1),),
    "mean": (_gray(),),
    "std": (_gray(),),
    "format": (_one_of(*_FORMATS),),
    "icc": (_whole("0 or 1", 0, 1),),
    "exif": (_whole("0 or 1", 0, 1),),
    "quantisation": (
        _text("8 hex digits, or an empty text where the file is no JPEG", "([0-9a-f]{8})?"),
    ),
}
# Columns that tables of earlier versions lack: their pictures had 8 bits and were taken as they are.
LATER_RULES: dict[str, tuple[Rule, ...]] = {
    "bit_depth": (_whole("whole numbers from 8 to 16", 8, 16),),
    "inverted": (_whole("0 or 1", 0, 1),),
}


def check_manifest(table: pd.DataFrame, ingest: Ingest | None = None) -> pd.DataFrame:
    """Return `table` as it is, where it keeps every rule and, with `ingest`, adds up with ingest.json.

    Columns of LATER_RULES may be missing, and others may follow. Raises DataError that lists each broken rule with its first rows.
    """
    if table.empty:
        raise DataError(
            "clean_metadata.csv: expected one row or more, found none: see rejects.csv, preprocess again"
        )
    numbered = table.reset_index(drop=True)
    broken = _broken(numbered)
    if broken:
        raise DataError(
            "clean_metadata.csv cannot be used: "
            + "; ".join(_sentence(each, numbered) for each in broken)
            + ". Preprocess again; where the file was edited by hand, take the edit back or correct it"
        )
    if ingest is not None and (wrong := _sums(table, ingest)):
        raise DataError(
            f"clean_metadata.csv and ingest.json do not belong together: {'; '.join(wrong)}. Preprocess again"
        )
    return table


def _schema() -> "pa.DataFrameSchema":
    import pandera.pandas as pa

    columns = {
        name: pa.Column(
            checks=[pa.Check(rule.holds, error=rule.words) for rule in rules],
            required=name not in LATER_RULES,
        )
        for name, rules in (RULES | LATER_RULES).items()
    }
    return pa.DataFrameSchema(columns)


def _broken(table: pd.DataFrame) -> list[_Broken]:
    """Return the broken rules of a table whose index counts its rows: pandera's findings, sorted and in plain words."""
    from pandera.errors import SchemaErrors

    out = []
    try:
        _schema().validate(table, lazy=True)
    except SchemaErrors as errors:
        for (column, rule), cases in errors.failure_cases.groupby(
            ["column", "check"], sort=False, dropna=False
        ):
            out += _plain(str(column), str(rule), cases)
    return out or _names_that_do_not_fit(table)


def _plain(column: str, rule: str, cases: pd.DataFrame) -> list[_Broken]:
    if rule == "column_in_dataframe":
        return [_Broken(str(name), "", []) for name in cases["failure_case"]]
    words = "a value in every row" if rule == "not_nullable" else rule
    return [_Broken(column, words, sorted({int(row) for row in cases["index"].dropna()}))]


def _names_that_do_not_fit(table: pd.DataFrame) -> list[_Broken]:
    """Return the rule on two columns, broken where label_name is not the name of label (both are in their lists)."""
    names = table["label"].map(dict(enumerate(LABEL_NAMES)))
    rows = [int(row) for row in table.index[names.to_numpy() != table["label_name"].to_numpy()]]
    return (
        [_Broken("label_name", "the name of the label (0 NORMAL, 1 PNEUMONIA)", rows)]
        if rows
        else []
    )


def _sentence(broken: _Broken, table: pd.DataFrame) -> str:
    """Return e.g. "width: expected whole numbers above 0, found -1 in train/a.jpeg and 2 rows more"."""
    if broken.column not in table:
        return f"expected a column {broken.column}, found none"
    rows = broken.rows
    shown = ", ".join(_found(table, row, broken.column) for row in rows[:_SHOWN])
    more = f" and {len(rows) - _SHOWN:,} row(s) more" if len(rows) > _SHOWN else ""
    return f"{broken.column}: expected {broken.words}, found {shown}{more}"


def _found(table: pd.DataFrame, row: int, column: str) -> str:
    """Return the value and where it is, fit for one line: file names may hold line breaks and undecodable bytes."""
    value = table[column].iloc[row]
    said = f'"{printable(value)[:80]}"' if isinstance(value, str) else str(value)
    if column == "image" or "image" not in table:
        return f"{said} in row {row + 1:,}"
    return f"{said} in {printable(str(table['image'].iloc[row]))[:120]}"


def _sums(table: pd.DataFrame, ingest: Ingest) -> list[str]:
    """Return in sentences where the table's counts are not those of the record."""
    wrong = []
    if len(table) != ingest.kept:
        wrong.append(f"expected {ingest.kept:,} rows, found {len(table):,}")
    found = count_images(table, "split")
    for split, expected in ingest.splits.items():
        for name in LABEL_NAMES:
            wanted, there = expected.get(name, 0), found.get(split, {}).get(name, 0)
            if wanted != there:
                wrong.append(f"{split} {name}: expected {wanted:,} images, found {there:,}")
    return wrong


def count_images(table: pd.DataFrame, by: str = "source_split") -> dict[str, dict[str, int]]:
    """Return the number of rows by the column `by` and label_name; what does not occur is left out."""
    grouped = table.groupby(by)["label_name"]
    return {
        str(value): {
            str(name): int(count) for name, count in names.value_counts().sort_index().items()
        }
        for value, names in grouped
    }
