"""The rule `--test-by`: which images are test by what is known of them, whatever the folders say.

A test set of another device, site or time says more than one drawn at random from the same.
"""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cxr.core.errors import DataError
from cxr.core.formatting import format_count, printable
from cxr.core.settings import EXCLUDED, LABEL_NAMES
from cxr.core.settings.splits import split_condition
from cxr.data.manifest.columns import ATTRIBUTE_COLUMNS, ROW_COLUMNS

Array = np.ndarray[Any, Any]

# Every column that is known before the splits are made.
COLUMNS = [name for name in ROW_COLUMNS if name != "split"] + ATTRIBUTE_COLUMNS
# Columns that hold numbers as text, because they are empty where nothing is known.
_NUMBERS = ("age", "year", "pixel_spacing", "bits_stored")
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MOST_VALUES = 12  # of a column, in an error


class Choice(NamedTuple):
    """Which images are test.

    Attributes:
        rows: The rows as they were given, with the chosen images alone in the source split test;
            those of a test folder that were not chosen are in train.
        policy: How test was chosen, in words.
        notes: Of how many images the rule could not be decided, in sentences.
    """

    rows: pd.DataFrame
    policy: str
    notes: tuple[str, ...]


def required_columns(rule: str) -> list[str]:
    """Return the columns by which a rule decides: none for an empty rule.

    Args:
        rule: `column OP value`, or "".

    Raises:
        DataError: It names a column that there is not.
    """
    if not rule:
        return []
    column, _, _ = split_condition(rule)
    if column not in COLUMNS:
        raise DataError(
            f"--test-by {printable(rule)}: expected one of the columns {', '.join(COLUMNS)}, "
            f"found {printable(column)}"
        )
    return [column]


def choose_test(rows: pd.DataFrame, rule: str) -> Choice:
    """Make the images for which a rule holds test, and all others not.

    Texts are compared without regard to case and surrounding blanks, numbers as numbers. An image
    of which the value is not known is never chosen.

    Args:
        rows: label, source_split and the rule's column of each image.
        rule: `column OP value`.

    Returns:
        The choice.

    Raises:
        DataError: The rule cannot be applied to the column, or leaves a class out of test or out of
            the rest.
    """
    (column,) = required_columns(rule)
    _, comparison, text = split_condition(rule)
    values = rows[column]
    is_known = (values.notna() & (values.astype(str) != "")).to_numpy(dtype=bool)
    if not is_known.any():
        raise DataError(
            f"--test-by {printable(rule)}: expected a {column} for some images, found none: choose "
            "another column, or give a table with --labels where it can say so"
        )
    if column in _NUMBERS or pd.api.types.is_numeric_dtype(values):
        holds = _compare_numbers(rule, values, comparison, text)
    else:
        holds = _compare_texts(rule, values, comparison, text)
    chosen = is_known & holds.to_numpy(dtype=bool)
    _require_classes(rows, chosen, is_known, rule)
    source = rows["source_split"]
    others = source.mask(source == "test", "train")
    unknown = int((~is_known).sum())
    policy = f"test is every image with {printable(rule)}, whatever its folder"
    notes = []
    if unknown:
        policy += f" ({unknown:,} without a {column} are none of them)"
        notes.append(
            f"--test-by {printable(rule)}: {format_count(unknown, 'images')} of {len(rows):,} "
            f"without a {column}, which were not made test"
        )
    return Choice(
        rows=rows.assign(source_split=others.mask(chosen, "test")),
        policy=policy,
        notes=tuple(notes),
    )


def set_aside_patients(rows: pd.DataFrame) -> pd.DataFrame:
    """Set the source split to `excluded` of other images of patients who are in test.

    A rule often divides the films of a patient. They are set aside before val is carved, or val
    would lose most of its share afterwards.

    Args:
        rows: source_split and patient_id of each image; "" stands for no known patient.
    """
    source = rows["source_split"]
    is_test = source == "test"
    has_patient = rows["patient_id"] != ""
    patients = rows.loc[is_test & has_patient, "patient_id"].unique()
    is_shared = ~is_test & rows["patient_id"].isin(patients)
    return rows.assign(source_split=source.mask(is_shared, EXCLUDED))


def _compare_numbers(
    rule: str,
    values: "pd.Series[Any]",
    comparison: str,
    text: str,
) -> "pd.Series[bool]":
    """Return for which numbers a rule holds; false where there is none."""
    try:
        number = float(text)
    except ValueError:
        raise DataError(
            f"--test-by {printable(rule)}: expected a number after {comparison}, "
            f"found {printable(text)}"
        ) from None
    numbers = pd.to_numeric(values, errors="coerce")
    holds: pd.Series[bool] = _COMPARISONS[comparison](numbers, number) & numbers.notna()
    return holds


def _compare_texts(
    rule: str,
    values: "pd.Series[Any]",
    comparison: str,
    text: str,
) -> "pd.Series[bool]":
    """Return for which texts a rule holds."""
    if comparison not in {"=", "!="}:
        raise DataError(
            f"--test-by {printable(rule)}: expected = or !=, as {values.name} is a text, "
            f"found {comparison}"
        )
    folded = values.map(lambda value: str(value).strip().casefold())
    return pd.Series(
        _COMPARISONS[comparison](folded, text.casefold()),
        index=values.index,
    )


def _require_classes(
    rows: pd.DataFrame,
    chosen: Array,
    is_known: Array,
    rule: str,
) -> None:
    """Raise DataError where test, or what is left, would lack a class."""
    column, _, _ = split_condition(rule)
    for is_member, part in ((chosen, "test"), (~chosen, "train")):
        labels = rows["label"][is_member]
        absent = [name for label, name in enumerate(LABEL_NAMES) if not (labels == label).any()]
        if absent:
            raise DataError(
                f"--test-by {printable(rule)}: expected both classes in {part}, found no "
                f"{' and no '.join(absent)} image among {len(labels):,}: "
                f"{column} is {_describe_values(rows[column][is_known])}"
            )


def _describe_values(values: "pd.Series[Any]") -> str:
    """Return which values a column has, the most common ones with their number of images."""
    counts = values.value_counts()
    shown = [
        f"{printable(str(value))} ({count:,} images)"
        for value, count in counts.head(_MOST_VALUES).items()
    ]
    hidden = len(counts) - len(shown)
    if hidden:
        shown.append(f"{hidden:,} others")
    return ", ".join(shown)
