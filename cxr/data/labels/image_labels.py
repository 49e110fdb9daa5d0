"""Join a table of labels with the images: what it says of each of them, and an account of both."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cxr.core.errors import DataError
from cxr.core.formatting import printable
from cxr.core.settings import LABEL_NAMES
from cxr.data.labels import verdicts
from cxr.data.labels.books import ROW_COLUMNS, ROW_PROBLEMS, LabelBooks
from cxr.data.labels.label_table import ATTRIBUTES, Array, LabelTable
from cxr.data.patients import image_names

_NO_IMAGE = -1
_SEVERAL_IMAGES = -2
_FINDINGS_SHOWN = 6  # of an image without a label


class ImageLabel(NamedTuple):
    """What a table says of one image.

    Attributes:
        label: 0 NORMAL, 1 PNEUMONIA, None where the table has a row and no label.
        problem: Why there is no label; "" where there is one.
        patient: The patient, "" where the table names none; the same holds for what follows.
        age: In years.
        sex: M, F or O.
        view: PA, AP, LATERAL or another, in capitals.
        split: train, val or test.
    """

    label: int | None
    problem: str
    patient: str
    age: str
    sex: str
    view: str
    split: str


class ImageLabels(NamedTuple):
    """What a table says of all images.

    Attributes:
        by_image: What it says of each image that a row names, by key.
        books: What became of rows and images.
        rows: The rows that label no image alone, in ROW_COLUMNS.
    """

    by_image: Mapping[str, ImageLabel]
    books: LabelBooks
    rows: pd.DataFrame


class NamedImages(NamedTuple):
    """The images that a table may name.

    Attributes:
        keys: Their keys.
        real_keys: The names by which a table knows them, in the same order.
        data: DATA, as it was given.
        hide: Returns what may be written of a name in the table.
        hide_patient: Returns what may be written of a patient in the table.
    """

    keys: Sequence[str]
    real_keys: Sequence[str]
    data: str
    hide: Callable[[str], str]
    hide_patient: Callable[[str], str]


def label_images(
    table: LabelTable,
    mapping: verdicts.Mapping,
    images: NamedImages,
) -> ImageLabels:
    """Find out what a table says of each image.

    Args:
        table: The table.
        mapping: What its findings mean.
        images: The images for which a label is looked for.

    Raises:
        DataError: No row names an image, or two rows give one image two patients or splits.
    """
    units, of_image, count = _number_units(table, images)
    if not count:
        raise DataError(_describe_mismatch(table, images))
    found = verdicts.settle(table, mapping, units, count)
    labels = _label_units(table, mapping, images, units, found)
    by_image = {
        key: _with_film(labels[unit], table, real_key)
        for key, real_key, unit in zip(images.keys, images.real_keys, of_image, strict=True)
        if unit >= 0
    }
    is_repeated = _is_repeated(table, units)
    return ImageLabels(
        by_image=by_image,
        books=_keep_books(table, mapping, units, of_image, is_repeated, by_image.values()),
        rows=_list_rows(table, images, units, is_repeated),
    )


def _number_units(
    table: LabelTable,
    images: NamedImages,
) -> tuple[Array, list[int], int]:
    """Number what rows are about: images, or folders of images.

    Returns:
        The unit of each row, int (rows,), or _NO_IMAGE, or _SEVERAL_IMAGES; the unit of each image,
        _NO_IMAGE where no row names it; and the number of units.
    """
    places: Sequence[str] = images.real_keys
    if table.form.names_folder:
        places = [key.replace("\\", "/").rpartition("/")[0] for key in images.real_keys]
    row_names, names = pd.factorize(table.rows["image"])
    match = image_names.match_images(list(names), dict.fromkeys(places), images.data)
    unit_of_place: dict[str, int] = {}
    unit_of_name = np.full(len(names), _NO_IMAGE, np.int64)
    for position, place in enumerate(match.images):
        if place:
            unit_of_name[position] = unit_of_place.setdefault(place, len(unit_of_place))
    unit_of_name[list(match.ambiguous)] = _SEVERAL_IMAGES
    units = unit_of_name[row_names]
    of_image = [unit_of_place.get(place, _NO_IMAGE) for place in places]
    return units, of_image, len(unit_of_place)


def _with_film(
    label: ImageLabel,
    table: LabelTable,
    real_key: str,
) -> ImageLabel:
    """Return a label with view and split of the film itself, where a table has them."""
    if not table.films:
        return label
    view, split = table.films.get(PurePosixPath(real_key).stem, ("", ""))
    return label._replace(view=view or label.view, split=split or label.split)


def _describe_mismatch(table: LabelTable, images: NamedImages) -> str:
    """Return why no row names an image."""
    if not images.keys:
        return f"{images.data}: expected images for the labels in {table.uri}, found none"
    names = list(table.rows["image"])
    first_name = printable(images.hide(names[0]))
    sentence = (
        f"{table.uri}: expected names of images below {images.data}, none of {len(names):,} rows "
        f"names one image: its first row names {first_name}, the first image is "
        f"{printable(images.keys[0])}"
    )
    return f"{sentence}: correct the names, or say which column has them with --image-column"


def _is_repeated(table: LabelTable, units: Array) -> Array:
    """Return which rows are about an image of an earlier row, where each should have one row."""
    if table.form.several_rows:
        return np.zeros(len(units), bool)
    rows = pd.DataFrame({"unit": units, "reader": table.rows["reader"].to_numpy()})
    return rows.duplicated().to_numpy() & (units >= 0)


def _label_units(
    table: LabelTable,
    mapping: verdicts.Mapping,
    images: NamedImages,
    units: Array,
    found: Array,
) -> list[ImageLabel]:
    """Return what the table says of each unit."""
    problems = _describe_problems(table, mapping, units, found)
    attributes = _attributes_of_units(table, images, units, len(found))
    labels: list[ImageLabel] = []
    for unit, verdict in enumerate(found.tolist()):
        label = verdict if verdict in {verdicts.NORMAL, verdicts.PNEUMONIA} else None
        values = [attributes[name][unit] for name in ATTRIBUTES]
        labels.append(ImageLabel(label, problems.get(unit, ""), *values))
    return labels


def _describe_problems(
    table: LabelTable,
    mapping: verdicts.Mapping,
    units: Array,
    found: Array,
) -> dict[int, str]:
    """Return why units have no label, with the findings that they have instead."""
    unlabelled = np.isin(found, list(verdicts.PROBLEMS))
    row_unit = units[table.mentions.row]
    is_shown = (row_unit >= 0) & unlabelled[np.maximum(row_unit, 0)]
    named: dict[int, dict[str, None]] = {}
    mapped = {*mapping.positive, *mapping.negative}
    if table.form.label:  # one column has all findings: what is uncertain is about all of them
        mapped.update(table.findings)
    shown = zip(
        row_unit[is_shown].tolist(),
        table.mentions.finding[is_shown].tolist(),
        table.mentions.uncertain[is_shown].tolist(),
        strict=True,
    )
    for unit, finding, uncertain in shown:
        name = table.findings[finding]
        if found[unit] == verdicts.UNCERTAIN and not (uncertain and name in mapped):
            continue
        named.setdefault(unit, {})[name] = None
    problems = {}
    for unit in np.flatnonzero(unlabelled).tolist():
        words = verdicts.PROBLEMS[int(found[unit])]
        findings = list(named.get(unit, ()))
        listed = ", ".join(sorted(findings)[:_FINDINGS_SHOWN]) or "none is named"
        problems[unit] = sys.intern(f"{words}: {printable(listed)}")
    return problems


def _attributes_of_units(
    table: LabelTable,
    images: NamedImages,
    units: Array,
    count: int,
) -> dict[str, list[str]]:
    """Return the attributes of each unit: what the first of its rows says that says anything."""
    rows = table.rows.assign(unit=units)
    rows = rows[rows["unit"] >= 0]
    attributes = {}
    for name in ATTRIBUTES:
        said = rows[rows[name] != ""]
        by_unit = said.groupby("unit")[name]
        if name in {"patient", "split"}:
            _require_one(table, images, name, said, by_unit.nunique())
        values = [""] * count
        firsts = by_unit.first()
        for unit, value in zip(firsts.index.tolist(), firsts, strict=True):
            values[unit] = sys.intern(images.hide_patient(value) if name == "patient" else value)
        attributes[name] = values
    return attributes


def _require_one(
    table: LabelTable,
    images: NamedImages,
    name: str,
    rows: pd.DataFrame,
    counts: "pd.Series[int]",
) -> None:
    """Raise DataError where two rows give one image two patients or splits."""
    doubtful = counts.index[counts > 1]
    if not len(doubtful):
        return
    image = rows.loc[rows["unit"] == doubtful[0], "image"].iloc[0]
    raise DataError(
        f"{table.uri}: expected one {name} for each image, found two for "
        f"{printable(images.hide(image))} and {len(doubtful) - 1:,} other images: correct it"
    )


def _keep_books(
    table: LabelTable,
    mapping: verdicts.Mapping,
    units: Array,
    of_image: Sequence[int],
    is_repeated: Array,
    labels: Iterable[ImageLabel],
) -> LabelBooks:
    """Count what became of rows and images."""
    labelled = dict.fromkeys(LABEL_NAMES, 0)
    without_label: dict[str, int] = {}
    for label in labels:
        if label.label is not None:
            labelled[LABEL_NAMES[label.label]] += 1
            continue
        words = label.problem.partition(":")[0]
        without_label[words] = without_label.get(words, 0) + 1
    return LabelBooks(
        table=table.uri,
        collection=table.form.collection,
        title=table.form.title,
        rule=table.form.rule,
        positive=mapping.positive,
        negative=(verdicts.OTHERS,) if mapping.others else mapping.negative,
        uncertain=mapping.uncertain,
        rows=len(units),
        used=int((units >= 0).sum()),
        rows_without_image=int((units == _NO_IMAGE).sum()),
        rows_of_several_images=int((units == _SEVERAL_IMAGES).sum()),
        repeated=int(is_repeated.sum()),
        images=len(of_image),
        labelled=labelled,
        without_row=sum(unit == _NO_IMAGE for unit in of_image),
        without_label=without_label,
        findings=table.counts(),
        uncertain_findings=table.counts(uncertain=True),
    )


def _list_rows(
    table: LabelTable,
    images: NamedImages,
    units: Array,
    is_repeated: Array,
) -> pd.DataFrame:
    """Return the rows that label no image alone, by their number in the table."""
    problems = np.full(len(units), "", dtype=object)
    problems[is_repeated] = "repeated"
    problems[units == _NO_IMAGE] = "no_image"
    problems[units == _SEVERAL_IMAGES] = "several_images"
    listed = np.flatnonzero(problems != "")
    names: Any = table.rows["image"].to_numpy()[listed]
    cells = {
        "row": listed + 2,  # as a spreadsheet counts, the names of the columns being row 1
        "image": [images.hide(name) for name in names],
        "problem": problems[listed],
        "detail": [ROW_PROBLEMS[problem] for problem in problems[listed]],
    }
    return pd.DataFrame(cells, columns=ROW_COLUMNS)
