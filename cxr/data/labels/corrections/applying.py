"""Apply what readers corrected: to train and validation, after the splits are made, never to test.

The splits are those of the labels as the data set has them. So a correction moves no image into
test or out of it, and two models before and after are compared on the same images.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from cxr.core.errors import DataError
from cxr.core.files import read_table
from cxr.core.formatting import format_count, format_names, printable
from cxr.core.settings import EXCLUDED, LABEL_NAMES
from cxr.data.labels.corrections.answers import EXCLUDE, ROWS_SHOWN, Answer, read_answers
from cxr.data.labels.corrections.records import COLUMNS, NOT_APPLIED, OUTCOMES, LabelCorrections
from cxr.data.patients import image_names

CORRECTED_ROWS = "label_corrections.csv"  # what became of each answer


class Reading(NamedTuple):
    """What the readers say of one image.

    Attributes:
        label: NORMAL, PNEUMONIA or EXCLUDE.
        readers: Who said so.
        day: When it was said last.
    """

    label: str
    readers: str
    day: date


class Corrected(NamedTuple):
    """The images with their corrected labels.

    Attributes:
        rows: As they were given, with label, label_name and split as corrected, and a column
            corrected_label, "" where nothing was said.
        readings: What was said and applied, by image.
        record: The account.
        answers: What became of each answer, in COLUMNS of the account.
        notes: Which answers were not applied, in sentences.
    """

    rows: pd.DataFrame
    readings: Mapping[str, Reading]
    record: LabelCorrections
    answers: pd.DataFrame
    notes: tuple[str, ...]

    def describe(self, part: pd.DataFrame) -> pd.DataFrame:
        """Return rows of the manifest with the corrected label and CORRECTION_COLUMNS.

        Args:
            part: Rows with image, label, label_name and etiology, as the data set has them.
        """
        read = [self.readings.get(image) for image in part["image"]]
        given = part["label_name"]
        said = pd.Series([reading.label if reading else "" for reading in read], part.index)
        names = given.mask(said.isin(LABEL_NAMES), said)
        return part.assign(
            label=names.map(LABEL_NAMES.index),
            label_name=names,
            etiology=part["etiology"].mask((names != given) & (names == LABEL_NAMES[0]), ""),
            given_label=given,
            corrected_label=said,
            label_reader=[reading.readers if reading else "" for reading in read],
            label_date=[str(reading.day) if reading else "" for reading in read],
        )


def correct_labels(
    rows: pd.DataFrame,
    tables: Sequence[str],
    data: str,
    root: str,
) -> Corrected | None:
    """Read tables of corrected labels and apply them; None where there are none.

    Args:
        rows: As `apply_answers` takes them.
        tables: Paths, `file://…` or `s3://bucket/key`.
        data: DATA as it was given.
        root: The folder of the data set below DATA.

    Raises:
        DataError: A table cannot be used, or leaves a class out of a split.
    """
    if not tables:
        return None
    corrected = apply_answers(rows, read_answers(tables), data, root)
    for split, labels in corrected.rows.groupby("split")["label_name"]:
        absent = sorted(set(LABEL_NAMES) - set(labels))
        if split != EXCLUDED and absent:
            raise DataError(
                f"{', '.join(tables)}: expected both classes in every split, found no "
                f"{absent[0]} image in {split} after the corrections: correct fewer, or give more "
                "images"
            )
    return corrected


def require_answers_again(path: Path) -> None:
    """Check that no labels that were corrected before would go back to what they were, unsaid.

    Args:
        path: label_corrections.csv of the work folder, from the last preprocessing.

    Raises:
        DataError: Corrected labels were used there, and are not handed in this time.
    """
    if not path.is_file():
        return
    answers = read_table(path)
    changed = answers[answers["outcome"].isin(["corrected", "excluded"])]
    if len(changed):
        tables = format_names([printable(name) for name in answers["table"].unique()])
        raise DataError(
            f"{path}: {format_count(len(changed), 'corrected labels')} from {tables} were used here "
            "before, and no --label-corrections is given now: give it again, or remove this file to "
            "go back to the labels as the data set has them"
        )


def apply_answers(
    rows: pd.DataFrame,
    answers: Sequence[Answer],
    data: str,
    root: str,
) -> Corrected:
    """Apply answers to the images of train and validation.

    Args:
        rows: image, label, label_name, split and pixel_sha256 of every image that is kept.
        answers: What readers say.
        data: DATA as it was given.
        root: The folder of the data set below DATA.

    Returns:
        The images with their corrected labels, and what became of each answer.

    Raises:
        DataError: No answer names an image, or two answers for an image differ.
    """
    names = [answer.image for answer in answers]
    match = image_names.match_images(names, rows["image"], data, root)
    _require_some(answers, match, rows)
    places = {image: place for place, image in enumerate(rows["image"])}
    readings: dict[str, list[Answer]] = {}
    outcomes = []
    for row, (answer, image) in enumerate(zip(answers, match.images, strict=True)):
        outcome = "several_images" if row in match.ambiguous else "gone"
        given = ""
        if image:
            kept = rows.iloc[places[image]]
            given = kept["label_name"]
            outcome = _outcome(answer, kept["split"], given, kept["pixel_sha256"])
        if outcome not in NOT_APPLIED:
            earlier = readings.setdefault(image, [])
            earlier.append(answer)
            _require_agreement(earlier, image)
            outcome = "repeated" if len(earlier) > 1 else outcome
        outcomes.append((image or answer.image, given, outcome))
    merged = {image: _merge(said) for image, said in readings.items()}
    table = pd.DataFrame(
        [
            (said.table, said.row, image, given, said.label, said.reader, str(said.day), outcome)
            for said, (image, given, outcome) in zip(answers, outcomes, strict=True)
        ],
        columns=COLUMNS,
    )
    return Corrected(
        rows=_with_readings(rows, merged),
        readings=merged,
        record=_account(table, dict(zip(rows["image"], rows["split"], strict=True)), merged),
        answers=table,
        notes=tuple(_describe_unused(table)),
    )


def _require_some(
    answers: Sequence[Answer],
    match: image_names.Match,
    rows: pd.DataFrame,
) -> None:
    """Raise DataError where no answer names an image: the tables are of another data set."""
    if any(match.images):
        return
    names = [answer.image for answer in answers]
    tables = list(dict.fromkeys(answer.table for answer in answers))
    mismatch = image_names.describe_mismatch(names, list(rows["image"]))
    raise DataError(
        f"{format_names(tables, most=ROWS_SHOWN)}: expected images of this "
        f"data set, none of {len(answers):,} corrected rows names one: {mismatch}"
    )


def _outcome(answer: Answer, split: str, given: str, pixels: str) -> str:
    """Return what becomes of an answer that names an image."""
    if answer.pixel_sha256 != pixels:
        return "other_content"
    if split == "test":
        return "test"
    if answer.label == EXCLUDE:
        return "excluded"
    return "confirmed" if answer.label == given else "corrected"


def _require_agreement(answers: Sequence[Answer], image: str) -> None:
    """Raise DataError where the last answer for an image says something else than the first."""
    first = answers[0]
    last = answers[-1]
    if first.label != last.label:
        raise DataError(
            f"expected one corrected label for {printable(image)}, found {first.label} by "
            f"{printable(first.reader)} ({first.place}) and {last.label} by "
            f"{printable(last.reader)} ({last.place}): settle it, and keep one of the rows"
        )


def _merge(answers: Sequence[Answer]) -> Reading:
    """Return answers that agree as one."""
    readers = dict.fromkeys(answer.reader for answer in answers)
    return Reading(
        label=answers[0].label,
        readers=" and ".join(readers),
        day=max(answer.day for answer in answers),
    )


def _with_readings(rows: pd.DataFrame, readings: Mapping[str, Reading]) -> pd.DataFrame:
    """Return rows with label, label_name and split as corrected, and corrected_label."""
    said = pd.Series(
        [readings[image].label if image in readings else "" for image in rows["image"]],
        rows.index,
        dtype=object,
    )
    names = rows["label_name"].mask(said.isin(LABEL_NAMES), said)
    return rows.assign(
        label=names.map(LABEL_NAMES.index),
        label_name=names,
        split=rows["split"].mask(said == EXCLUDE, EXCLUDED),
        corrected_label=said,
    )


def _account(
    table: pd.DataFrame,
    splits: Mapping[str, str],
    readings: Mapping[str, Reading],
) -> LabelCorrections:
    """Count what became of the answers."""
    counts = Counter(table["outcome"])
    corrected: Counter[str] = Counter()
    excluded: Counter[str] = Counter()
    columns = ["image", "given_label", "corrected_label", "outcome"]
    for image, given, label, outcome in table[columns].itertuples(index=False, name=None):
        if outcome == "corrected":
            corrected[f"{splits[image]}: {given} to {label}"] += 1
        elif outcome == "excluded":
            excluded[splits[image]] += 1
    readers = Counter(reading.readers for reading in readings.values())
    days = [reading.day for reading in readings.values()]
    return LabelCorrections(
        tables=tuple(dict.fromkeys(table["table"])),
        answers=len(table),
        corrected=dict(sorted(corrected.items())),
        confirmed=counts["confirmed"],
        excluded=dict(sorted(excluded.items())),
        repeated=counts["repeated"],
        not_applied={name: counts[name] for name in NOT_APPLIED if counts[name]},
        readers=dict(readers.most_common()),
        first_day=min(days, default=None),
        last_day=max(days, default=None),
    )


def _describe_unused(table: pd.DataFrame) -> list[str]:
    """Return for each reason a sentence that names the answers that were not applied."""
    notes = []
    for outcome in NOT_APPLIED:
        unused = table[table["outcome"] == outcome]
        if len(unused):
            images = [printable(image) for image in unused["image"]]
            names = format_names(images, most=ROWS_SHOWN)
            notes.append(
                f"label corrections: {format_count(len(unused), 'answers')} not applied, because "
                f"{OUTCOMES[outcome]}: {names}"
            )
    return notes
