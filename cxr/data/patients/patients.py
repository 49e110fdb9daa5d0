"""Which patient an image shows: an explicit rule, read from the file name or from a table.

The published names number bacterial and viral patients apart, and two series of NORMAL images too. Other readings
merge them; the strictest one carves validation, so that no reading finds a patient on both sides.
The first publisher's names (NORMAL-1049278-0001.jpeg: class, child, image) are read, too.
Left out: who goes into which split (`splits`), and how a foreign table is read (`image_tables`).
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import pandas as pd

from cxr.core.errors import DataError
from cxr.core.formatting import printable
from cxr.core.settings import READINGS
from cxr.data.patients import image_tables

STRICTEST = "merged"
_NAME = re.compile(
    r"(?:person(?P<person>\d+)_(?P<etiology>bacteria|virus)"
    r"|(?P<series>(?:NORMAL2-)?)IM-(?P<number>\d+)"
    r"|(?P<kind>NORMAL|BACTERIA|VIRUS)-(?P<child>\d+))[-_]",
    re.IGNORECASE,
)
_COLUMNS = ("image", "patient_id")
# What spreadsheets and scripts write where there is no patient: taken as one, it would join all such images.
_NO_PATIENT = {"", "nan", "na", "n/a", "<na>", "none", "null", "unknown", "missing", "-", "?"}


class Patients(NamedTuple):
    """Whose images they are.

    Attributes:
        table: patient_id, etiology and patient_group of each image, empty texts where not known.
            `patient_group` is the strictest reading of the same rule: no smaller group may be divided.
        notes: What of a given table was not used, in sentences.
    """

    table: pd.DataFrame
    notes: tuple[str, ...] = ()


def require_readable(key: str) -> None:
    """Raise DataError where a table that names patients cannot be read: before any image is looked at."""
    if key.startswith("csv:"):
        _table(key.removeprefix("csv:"))


def read_patients(
    images: Iterable[str], key: str, data: str = "", root: str = "", others: Iterable[str] = ()
) -> Patients:
    """Return the patient of each image.

    Args:
        images: The images' keys below DATA.
        key: One of READINGS, `regex:PATTERN` with a group named patient, or `csv:FILE` with the columns
            image and patient_id.
        data: DATA as it was given, which may stand before the names in the table.
        root: The folder of the data set below DATA.
        others: Further images below DATA, which are not used: a row that names one of them is no mistake.

    Raises:
        DataError: The CSV file cannot be used, or a rule that was given fits no image.
    """
    images = list(images)
    notes: tuple[str, ...] = ()
    if key.startswith("csv:"):
        found, notes = _listed(
            key.removeprefix("csv:"), images, [*dict.fromkeys([*images, *others])], data, root
        )
        patients = [found.get(image, "") for image in images]
        groups = patients
    else:
        reader = _reader(key)
        patients = [reader(image) for image in images]
        strictest = _reader(STRICTEST) if key in READINGS else reader
        groups = [strictest(image) for image in images]
    if images and key.startswith("regex:") and not any(patients):
        raise DataError(
            f"--patient-key {key} fits no image, for example not {printable(images[0])}: correct it"
        )
    if key.startswith("regex:") and not all(patients):
        known = sum(map(bool, patients))
        notes = (
            f"--patient-key {key}: {known:,} of {len(images):,} images have a patient; the others count alone",
        )
    etiologies = [etiology_of(image) for image in images]
    columns = {"patient_id": patients, "etiology": etiologies, "patient_group": groups}
    return Patients(pd.DataFrame(columns, dtype=object), notes)


def etiology_of(image: str) -> str:
    """Return bacteria, virus or an empty text, read from the file name.

    >>> etiology_of("train/PNEUMONIA/person12_virus_3.jpeg")
    'virus'
    """
    found = _NAME.match(image.rpartition("/")[2])
    named = (found["etiology"] or found["kind"] or "").lower() if found else ""
    return named if named in {"bacteria", "virus"} else ""


def patient_of(image: str, reading: str = "person+etiology") -> str:
    """Return the patient by one of READINGS, or an empty text where the name has no key.

    >>> [patient_of("person12_virus_3.jpeg", reading) for reading in ("person+etiology", "merged")]
    ['person12_virus', 'person12']
    """
    found = _NAME.match(image.rpartition("/")[2])
    if not found:
        return ""
    if found["person"]:
        apart = reading in {"person+etiology", "person+etiology/one-normal"}
        return f"person{found['person']}" + (f"_{found['etiology'].lower()}" if apart else "")
    if found["child"]:
        return _child(found["kind"].upper(), found["child"], reading)
    apart = reading in {"person+etiology", "person"}
    return (found["series"].upper() if apart else "") + f"IM-{found['number']}"


def _child(kind: str, number: str, reading: str) -> str:
    """Return the child of one of the first publisher's names; two readings do not tell bacteria from viruses."""
    joined = reading in {"person", STRICTEST} and kind != "NORMAL"
    return f"{'PNEUMONIA' if joined else kind}-{number}"


def _reader(key: str) -> Callable[[str], str]:
    if key.startswith("regex:"):
        pattern = re.compile(key.removeprefix("regex:"))
        return lambda image: (found["patient"] or "") if (found := pattern.search(image)) else ""
    return lambda image: patient_of(image, key)


def _table(uri: str) -> pd.DataFrame:
    """Return the table, its patients without what stands for none; raises DataError."""
    if not uri.strip():
        raise DataError(
            "--patient-key csv: expected csv:FILE with the columns image and patient_id, found no file"
        )
    table = image_tables.read_image_table(uri)
    if not set(_COLUMNS) <= set(table.columns):
        raise DataError(
            f"{uri}: expected the columns image and patient_id, found {', '.join(table.columns)}"
        )
    odd = [
        row
        for row, cells in enumerate(table[list(_COLUMNS)].to_numpy())
        if any("\n" in cell for cell in cells)
    ]
    if odd:
        raise DataError(
            f"{uri}: expected one line a row, found a line break inside a cell of row {odd[0] + 2}: correct it"
        )
    patients = [patient.strip() for patient in table["patient_id"]]
    return table.assign(
        patient_id=["" if patient.lower() in _NO_PATIENT else patient for patient in patients]
    )


def _listed(
    uri: str, images: Sequence[str], every: Sequence[str], data: str, root: str
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the patient of each image that the table names, and what of the table was not used.

    Args:
        uri: The table.
        images: The images that are used.
        every: Those and all others below DATA: a bare name that two of them have means neither.
        data: DATA as it was given.
        root: The folder of the data set below DATA.
    """
    table = _table(uri)
    named = [str(name) for name in table["image"]]
    matched = image_tables.match(named, every, data, root)
    every_patient: dict[str, str] = {}
    for image, patient in zip(matched.images, table["patient_id"], strict=True):
        if image and every_patient.setdefault(image, patient) != patient:
            raise DataError(
                f"{uri}: expected one patient for each image, found two for {printable(image)}"
            )
    found = {image: every_patient[image] for image in images if image in every_patient}
    if images and not found and matched.ambiguous:
        raise DataError(
            f"{uri}: expected names that fit one image each, found names that fit several, for example "
            f"{printable(named[matched.ambiguous[0]])}: write the folders before them, as in {printable(images[0])}"
        )
    if images and not found:
        raise DataError(
            f"{uri}: expected names of images below {data or 'DATA'}, none of {len(table)} rows names one: "
            f"{image_tables.examples(named, images)}"
        )
    return found, tuple(_notes(uri, named, matched, found, len(images)))


def _notes(
    uri: str, named: Sequence[str], matched: image_tables.Match, found: dict[str, str], images: int
) -> Iterable[str]:
    known = sum(bool(patient) for patient in found.values())
    if known < images:
        yield f"{uri}: {known:,} of {images:,} images have a patient ({known / images:.0%}); the others count alone"
    for rows, words in (
        (matched.unused, "name no image"),
        (matched.ambiguous, "fit several images, so none"),
    ):
        if rows:
            yield f"{uri}: {len(rows):,} rows {words}, for example {printable(named[rows[0]])}"


def shared_by_reading(rows: pd.DataFrame, key: str) -> dict[str, dict[str, int]]:
    """Return for each reading (and `key`, where it is none of them) how many patients two splits share.

    Pairs are "train/test", "train/val" and "val/test"; rows without a patient under a reading are not counted.
    """
    given = {} if key in READINGS else {key: _shared(rows["split"], rows["patient_id"])}
    return given | {
        name: _shared(rows["split"], rows["image"].map(_reader(name))) for name in READINGS
    }


def _shared(split: "pd.Series[str]", patient: "pd.Series[str]") -> dict[str, int]:
    members = {
        name: set(patient[(split == name) & (patient != "")]) for name in ("train", "val", "test")
    }
    pairs = (("train", "test"), ("train", "val"), ("val", "test"))
    return {f"{one}/{other}": len(members[one] & members[other]) for one, other in pairs}
