"""Settle what the rows of one image say together: PNEUMONIA, NORMAL, or why neither."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from cxr.core.settings.labels import LabelSettings
from cxr.data.labels.label_table import Array, LabelTable, normalise_finding

NORMAL = 0
PNEUMONIA = 1
UNCERTAIN = 2
OUTSIDE = 3
CONTRADICTORY = 4
NO_MAJORITY = 5
# Why an image gets no label, in words that continue "no label: ...".
PROBLEMS = {
    UNCERTAIN: "uncertain",
    OUTSIDE: "findings outside the mapping",
    CONTRADICTORY: "both positive and negative findings",
    NO_MAJORITY: "no majority of its readers",
}
OTHERS = "others"  # the value of --negative by which all that is not positive is NORMAL


class Mapping(NamedTuple):
    """What findings mean.

    Attributes:
        positive: Findings that are PNEUMONIA, as the table writes them.
        negative: Findings that are NORMAL.
        others: Whether every image without a positive finding is NORMAL.
        uncertain: What an uncertain finding counts as: ignore, positive or negative.
        notes: What was given and is no finding of the table, in sentences.
    """

    positive: tuple[str, ...]
    negative: tuple[str, ...]
    others: bool
    uncertain: str
    notes: tuple[str, ...] = ()


def mapping_of(table: LabelTable, settings: LabelSettings) -> Mapping:
    """Return what the findings of a table mean: as given, otherwise as in its collection."""
    others = tuple(normalise_finding(word) for word in settings.negative) == (OTHERS,)
    return Mapping(
        positive=_as_written(table, settings.positive or table.form.positive),
        negative=() if others else _as_written(table, settings.negative),
        others=others,
        uncertain=settings.uncertain,
    )


def _as_written(table: LabelTable, words: Sequence[str]) -> tuple[str, ...]:
    """Return findings in the spelling of the table, as far as it has them."""
    spellings = {normalise_finding(finding): finding for finding in table.findings}
    found = [spellings.get(normalise_finding(word)) for word in words]
    return tuple(dict.fromkeys(finding for finding in found if finding is not None))


def settle(
    table: LabelTable,
    mapping: Mapping,
    units: Array,
    count: int,
) -> Array:
    """Return the verdict on each image, int (count,): NORMAL, PNEUMONIA or a key of PROBLEMS.

    Args:
        table: The table.
        mapping: What its findings mean.
        units: Which image each row is about, int (rows,); -1 where it is about none.
        count: How many images there are, each with a row at least.
    """
    if not table.form.reader:
        return _settle_together(table, mapping, units, count)
    readers, _ = _number(table.rows["reader"].to_numpy())
    readings, positions = _number(units.astype(np.int64) * (readers.max() + 1) + readers)
    image_of_reading = np.empty(readings.max() + 1, np.int64)
    image_of_reading[readings] = units
    verdicts = _settle_together(table, mapping, readings, len(positions))
    is_used = image_of_reading >= 0
    return _majority(verdicts[is_used], image_of_reading[is_used], count)


def _number(values: Array) -> tuple[Array, Array]:
    """Return the number of each value among the different values, and these."""
    distinct, numbers = np.unique(values, return_inverse=True)
    return numbers, distinct


def _settle_together(
    table: LabelTable,
    mapping: Mapping,
    units: Array,
    count: int,
) -> Array:
    """Return the verdict on each unit, int (count,): all its rows count together."""
    mentions = table.mentions
    unit = units[mentions.row]
    is_positive = _is_one_of(table, mapping.positive)[mentions.finding]
    is_negative = _is_one_of(table, mapping.negative)[mentions.finding]
    is_present = ~mentions.uncertain | (mapping.uncertain == "positive")
    is_in_doubt = mentions.uncertain & (mapping.uncertain == "ignore")

    # Where one column has all findings, -1 in it is about what the column is about.
    is_about_all = mentions.uncertain & (table.form.label != "")
    is_positive |= is_about_all & (mapping.uncertain != "negative")
    is_taken_as_negative = is_about_all & (mapping.uncertain == "negative")

    has_positive = _any_by_unit(unit, is_positive & is_present, count)
    has_negative = _any_by_unit(unit, is_negative & is_present | is_taken_as_negative, count)
    in_doubt = _any_by_unit(unit, (is_positive | is_negative) & is_in_doubt, count)
    if mapping.others:
        has_negative = ~has_positive
    verdicts = np.full(count, OUTSIDE, np.int8)
    verdicts[has_negative] = NORMAL
    verdicts[in_doubt] = UNCERTAIN
    verdicts[has_positive] = PNEUMONIA
    if not (mapping.others or table.form.any_positive):
        verdicts[has_positive & has_negative] = CONTRADICTORY
    return verdicts


def _is_one_of(table: LabelTable, findings: Sequence[str]) -> Array:
    """Return which of the findings of a table are among these, bool (findings,)."""
    return np.array([finding in findings for finding in table.findings], bool)


def _any_by_unit(unit: Array, chosen: Array, count: int) -> Array:
    """Return which units have a chosen mention, bool (count,)."""
    has_one = np.zeros(count, bool)
    units: Any = unit[chosen]
    has_one[units[units >= 0]] = True
    return has_one


def _majority(
    verdicts: Array,
    image: Array,
    count: int,
) -> Array:
    """Return the verdict of more than half of the readers of each image.

    Args:
        verdicts: Of each reader on each image that he read, int (readings,).
        image: Which image it is, int (readings,).
        count: How many images there are.
    """
    readers = np.bincount(image, minlength=count)
    final = np.full(count, NO_MAJORITY, np.int8)
    for verdict in (NORMAL, PNEUMONIA, *PROBLEMS):
        votes = np.bincount(image[verdicts == verdict], minlength=count)
        final[2 * votes > readers] = verdict
    return final
