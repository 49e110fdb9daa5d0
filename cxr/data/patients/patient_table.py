"""Patients as a table names them: the rule `csv:FILE`."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from cxr.core.errors import DataError
from cxr.core.formatting import printable
from cxr.data.patients import image_names, image_tables

_COLUMNS = ["image", "patient_id"]
# What spreadsheets and scripts write where there is no patient. Taken as one patient, it would join
# all such images.
_NO_PATIENT = {"", "nan", "na", "n/a", "<na>", "none", "null", "unknown", "missing", "-", "?"}


class ListedPatients(NamedTuple):
    """What a table says.

    Attributes:
        by_image: The patient of each image that the table names, "" for none.
        notes: What of the table was not used, in sentences.
    """

    by_image: dict[str, str]
    notes: tuple[str, ...]


def read_patient_table(uri: str) -> pd.DataFrame:
    """Read a table with the columns image and patient_id.

    Args:
        uri: A path, `file://…` or `s3://bucket/key`.

    Returns:
        The table; patient_id is "" where what is written stands for no patient.

    Raises:
        DataError: The table cannot be read or lacks a column.
    """
    if not uri.strip():
        raise DataError(
            "--patient-key csv: expected csv:FILE with the columns image and patient_id, "
            "found no file"
        )
    table = image_tables.read_image_table(uri)
    if not set(_COLUMNS) <= set(table.columns):
        found = ", ".join(table.columns)
        raise DataError(f"{uri}: expected the columns image and patient_id, found {found}")
    # A quote that is never closed swallows the lines that follow it.
    for place, cells in enumerate(table[_COLUMNS].to_numpy()):
        if any("\n" in cell for cell in cells):
            raise DataError(
                f"{uri}: expected one line a row, "
                f"found a line break inside a cell of row {place + 2}: correct it"
            )
    patients = [patient_or_none(cell) for cell in table["patient_id"]]
    return table.assign(patient_id=patients)


def patient_or_none(cell: str) -> str:
    """Return a cell's patient, "" where it stands for none."""
    patient = cell.strip()
    return "" if patient.lower() in _NO_PATIENT else patient


def list_patients(
    uri: str,
    images: Sequence[str],
    others: Sequence[str],
    data: str,
    root: str,
) -> ListedPatients:
    """Find the patients of images in a table.

    Args:
        uri: The table.
        images: Keys of the images that are used.
        others: Keys of other images below DATA: a bare name that two images have means neither.
        data: DATA as it was given.
        root: The folder of the data set below DATA.

    Raises:
        DataError: The table cannot be used: it fits no image, or gives two patients to one.
    """
    table = read_patient_table(uri)
    names = [str(name) for name in table["image"]]
    every_image = dict.fromkeys([*images, *others])
    match = image_names.match_images(names, every_image, data, root)
    listed = _patients_by_image(uri, match, table["patient_id"])
    by_image = {image: listed[image] for image in images if image in listed}
    if images and not by_image:
        _refuse(uri, names, match, images, data)
    notes = _describe_gaps(
        uri,
        by_image,
        len(images),
    ) + _describe_unused_rows(uri, names, match)
    return ListedPatients(by_image, tuple(notes))


def _patients_by_image(
    uri: str,
    match: image_names.Match,
    patients: "pd.Series[str]",
) -> dict[str, str]:
    """Return the patient of each image that a row names; DataError where two rows disagree."""
    by_image: dict[str, str] = {}
    for image, patient in zip(match.images, patients, strict=True):
        if not image:
            continue
        if by_image.setdefault(image, patient) != patient:
            raise DataError(
                f"{uri}: expected one patient for each image, found two for {printable(image)}"
            )
    return by_image


def _refuse(
    uri: str,
    names: Sequence[str],
    match: image_names.Match,
    images: Sequence[str],
    data: str,
) -> None:
    """Raise DataError: no row fits one of the images alone."""
    if match.ambiguous:
        example = printable(names[match.ambiguous[0]])
        raise DataError(
            f"{uri}: expected names that fit one image each, found names that fit several, "
            f"for example {example}: "
            f"write the folders before them, as in {printable(images[0])}"
        )
    raise DataError(
        f"{uri}: expected names of images below {data or 'DATA'}, "
        f"none of {len(names)} rows names one: {image_names.describe_mismatch(names, images)}"
    )


def _describe_gaps(
    uri: str,
    by_image: dict[str, str],
    image_count: int,
) -> list[str]:
    """Return a note where images have no patient."""
    known_count = sum(bool(patient) for patient in by_image.values())
    if known_count == image_count:
        return []
    return [
        f"{uri}: {known_count:,} of {image_count:,} images have a patient "
        f"({known_count / image_count:.0%}); the others count alone"
    ]


def _describe_unused_rows(
    uri: str,
    names: Sequence[str],
    match: image_names.Match,
) -> list[str]:
    """Return a note for the rows that name no image, and one for those that name several."""
    notes = []
    for rows, reason in (
        (match.unused, "name no image"),
        (match.ambiguous, "fit several images, so none"),
    ):
        if rows:
            example = printable(names[rows[0]])
            notes.append(f"{uri}: {len(rows):,} rows {reason}, for example {example}")
    return notes
