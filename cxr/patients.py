"""Which patient an image shows: an explicit rule, read from the file name or from a table.

The published names number bacterial and viral patients apart, and two series of NORMAL images too. Other readings
merge them; the strictest one carves validation, so that no reading finds a patient on both sides.
Left out: who goes into which split (`splits`).
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import pandas as pd

from cxr.errors import DataError
from cxr.records import printable, read_table
from cxr.settings import READINGS

STRICTEST = "merged"
_NAME = re.compile(
    r"(?:person(?P<person>\d+)_(?P<etiology>bacteria|virus)|(?P<series>(?:NORMAL2-)?)IM-(?P<number>\d+))[-_]",
    re.IGNORECASE,
)


def read(images: Iterable[str], key: str) -> pd.DataFrame:
    """Return patient_id, etiology and patient_group of each image key, empty texts where the rule does not fit.

    `key` is one of READINGS, `regex:PATTERN` with a group named patient, or `csv:FILE` with the columns image and
    patient_id. `patient_group` is the strictest reading of the same rule: no smaller group may be divided.
    Raises DataError where the CSV file cannot be used.
    """
    images = list(images)
    reader = _reader(key)
    strictest = _reader(STRICTEST) if key in READINGS else reader
    return pd.DataFrame(
        {
            "patient_id": [reader(image) for image in images],
            "etiology": [etiology_of(image) for image in images],
            "patient_group": [strictest(image) for image in images],
        }
    )


def etiology_of(image: str) -> str:
    """Return bacteria, virus or an empty text, read from the file name.

    >>> etiology_of("train/PNEUMONIA/person12_virus_3.jpeg")
    'virus'
    """
    found = _NAME.match(PurePosixPath(image).name)
    return (found["etiology"] or "").lower() if found else ""


def patient_of(image: str, reading: str = "person+etiology") -> str:
    """Return the patient by one of READINGS, or an empty text where the name has no key.

    >>> [patient_of("person12_virus_3.jpeg", reading) for reading in ("person+etiology", "merged")]
    ['person12_virus', 'person12']
    """
    found = _NAME.match(PurePosixPath(image).name)
    if not found:
        return ""
    if found["person"]:
        apart = reading in {"person+etiology", "person+etiology/one-normal"}
        return f"person{found['person']}" + (f"_{found['etiology'].lower()}" if apart else "")
    apart = reading in {"person+etiology", "person"}
    return (found["series"].upper() if apart else "") + f"IM-{found['number']}"


def _reader(key: str) -> Callable[[str], str]:
    if key.startswith("regex:"):
        pattern = re.compile(key.removeprefix("regex:"))
        return lambda image: (found["patient"] or "") if (found := pattern.search(image)) else ""
    if key.startswith("csv:"):
        listed = _listed(Path(key.removeprefix("csv:")).expanduser())
        return lambda image: listed.get(image, "")
    return lambda image: patient_of(image, key)


def _listed(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise DataError(
            f"--patient-key csv:{path}: expected a CSV file with the columns image and patient_id, found none"
        )
    table = read_table(path)
    if not {"image", "patient_id"} <= set(table.columns):
        found = ", ".join(table.columns)
        raise DataError(f"{path}: expected the columns image and patient_id, found {found}")
    both = table.drop_duplicates(["image", "patient_id"])
    if (twice := both["image"].duplicated()).any():
        raise DataError(
            f"{path}: expected one patient for each image, found two for {printable(both['image'][twice].iloc[0])}"
        )
    return dict(zip(both["image"], both["patient_id"], strict=True))


def shared_by_reading(rows: pd.DataFrame, key: str) -> dict[str, dict[str, int]]:
    """Return for each reading (and `key`, where it is none of them) how many patients two splits share.

    Pairs are "train/test", "train/val" and "val/test"; rows without a patient under a reading are not counted.
    """
    return {name: _shared(rows["split"], rows["image"].map(_reader(name))) for name in dict.fromkeys([key, *READINGS])}


def _shared(split: "pd.Series[str]", patient: "pd.Series[str]") -> dict[str, int]:
    members = {name: set(patient[(split == name) & (patient != "")]) for name in ("train", "val", "test")}
    pairs = (("train", "test"), ("train", "val"), ("val", "test"))
    return {f"{one}/{other}": len(members[one] & members[other]) for one, other in pairs}
