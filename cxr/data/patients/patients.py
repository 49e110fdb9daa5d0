"""Which patient an image shows, by an explicit rule: read from the file name or from a table.

The published names number bacterial and viral patients apart, and two series of NORMAL images, too.
Other readings of the same names merge them. Validation is carved by the strictest reading, so that
no reading finds a patient on both sides. The first publisher's names (NORMAL-1049278-0001.jpeg:
class, child, image) are read, too. Who goes into which split is in `splits`.
"""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import pandas as pd

from cxr.core.errors import DataError
from cxr.core.formatting import printable
from cxr.core.settings import READINGS, SPLITS
from cxr.data.patients import patient_table
from cxr.data.patients.hidden_names import is_hidden_key
from cxr.data.patients.hidden_storage import DataStorage
from cxr.data.patients.pseudonyms import pseudonym

STRICTEST = "merged"
_FILE_NAME = re.compile(
    r"(?:person(?P<person>\d+)_(?P<etiology>bacteria|virus)"
    r"|(?P<series>(?:NORMAL2-)?)IM-(?P<number>\d+)"
    r"|(?P<kind>NORMAL|BACTERIA|VIRUS)-(?P<child>\d+))[-_]",
    re.IGNORECASE,
)
_ETIOLOGIES = {"bacteria": "bacteria", "virus": "virus"}  # one text for thousands of images
_READINGS_BY_ETIOLOGY = {"person+etiology", "person+etiology/one-normal"}
_READINGS_BY_SERIES = {"person+etiology", "person"}
_READINGS_THAT_JOIN_ETIOLOGIES = {"person", STRICTEST}  # of the first publisher's names


class PatientRule(NamedTuple):
    """Whose images they are.

    Attributes:
        patient_of: Returns the patient of an image by its key, an empty text where not known.
        group_of: The same by the strictest reading of the same rule: no smaller group may be
            divided.
        notes: What of a given table was not used, in sentences.
    """

    patient_of: Callable[[str], str]
    group_of: Callable[[str], str]
    notes: tuple[str, ...] = ()

    def table(self, images: Sequence[str]) -> pd.DataFrame:
        """Return patient_id, etiology and patient_group of each image, empty where not known.

        All images of a patient share one text: there may be hundreds of thousands.
        """
        columns = {
            "patient_id": [sys.intern(self.patient_of(image)) for image in images],
            "etiology": [etiology_of(image) for image in images],
            "patient_group": [sys.intern(self.group_of(image)) for image in images],
        }
        return pd.DataFrame(columns, dtype=object)


def require_readable(key: str) -> None:
    """Raise DataError where a table that names patients cannot be read.

    A run calls it before it looks at any image.

    Args:
        key: As in `find_rule`.
    """
    if key.startswith("csv:"):
        patient_table.read_patient_table(key.removeprefix("csv:"))


def find_rule(
    images: Iterable[str],
    key: str,
    data: str = "",
    root: str = "",
    others: Iterable[str] = (),
) -> PatientRule:
    """Return how the patient of each image is read.

    Args:
        images: The images' keys below DATA; looked at where a table or a pattern has to fit them.
        key: One of READINGS, `regex:PATTERN` with a group named patient, or `csv:FILE` with the
            columns image and patient_id.
        data: DATA as it was given, which may stand before the names in the table.
        root: The folder of the data set below DATA.
        others: Further images below DATA, which are not used: a row that names one of them is no
            mistake.

    Raises:
        DataError: The CSV file cannot be used, or a rule that was given fits no image.
    """
    if key == "dicom":
        return PatientRule(_nobody, _nobody)
    if key.startswith("csv:"):
        listed = patient_table.list_patients(
            key.removeprefix("csv:"),
            list(images),
            list(others),
            data,
            root,
        )

        def read(image: str) -> str:
            return listed.by_image.get(image, "")

        return PatientRule(read, read, listed.notes)
    patient_reader = _patient_reader(key)
    if key in READINGS:
        return PatientRule(patient_reader, _patient_reader(STRICTEST))
    return PatientRule(patient_reader, patient_reader, _check_pattern(key, images, patient_reader))


def _nobody(_image: str) -> str:
    """Return that the patient is not known by the name of an image."""
    return ""


def find_hidden_rule(
    images: Iterable[str],
    key: str,
    storage: DataStorage,
    root: str = "",
    others: Iterable[str] = (),
) -> PatientRule:
    """Do what `find_rule` does for images with public names: read the real ones, tell pseudonyms.

    Args:
        images: The public keys of the images.
        key: As in `find_rule`.
        storage: Where they are; it knows the real names.
        root: The folder of the data set below DATA, by its public name.
        others: Further images below DATA.

    Raises:
        DataError: The rule cannot be used. The message names no image.
    """
    real_images = [storage.real_key(image) for image in images]
    real_others = [storage.real_key(image) for image in others]
    real_root = ""
    if root and real_images:
        parts = real_images[0].replace("\\", "/").split("/")
        real_root = "/".join(parts[: root.count("/") + 1])
    try:
        rule = find_rule(real_images, key, storage.uri, real_root, real_others)
    except DataError:
        rule = None  # its message may hold names, and so may what is raised while it is known
    if rule is None:
        raise DataError(
            f"--patient-key {key}: expected a rule that fits the images of DATA by their real "
            "names, and one patient for each, found none or several: correct it "
            "(the names are not shown, because they may be people's)"
        )
    # Behind this a note may name a row of the table.
    notes = tuple(note.partition(", for example")[0] for note in rule.notes)
    return PatientRule(
        _hide_patients(rule.patient_of, storage),
        _hide_patients(rule.group_of, storage),
        notes,
    )


def _hide_patients(
    read: Callable[[str], str],
    storage: DataStorage,
) -> Callable[[str], str]:
    """Return a function that tells the pseudonym of the patient that is read from a real name."""

    def read_hidden(image: str) -> str:
        patient = read(storage.real_key(image))
        return pseudonym("patient", patient, storage.salt) if patient else ""

    return read_hidden


def _check_pattern(
    key: str,
    images: Iterable[str],
    patient_of: Callable[[str], str],
) -> tuple[str, ...]:
    """Return a note where a pattern fits some of the images; DataError where it fits none."""
    first = ""
    count = 0
    known_count = 0
    for image in images:
        first = first or image
        count += 1
        known_count += bool(patient_of(image))
    if count and not known_count:
        raise DataError(
            f"--patient-key {key} fits no image, for example not {printable(first)}: correct it"
        )
    if known_count == count:
        return ()
    return (
        f"--patient-key {key}: {known_count:,} of {count:,} images have a patient; "
        "the others count alone",
    )


def etiology_of(image: str) -> str:
    """Return bacteria, virus or an empty text, read from the file name.

    >>> etiology_of("train/PNEUMONIA/person12_virus_3.jpeg")
    'virus'
    """
    match = _match_file_name(image)
    if not match:
        return ""
    word = match["etiology"] or match["kind"] or ""
    return _ETIOLOGIES.get(word.lower(), "")


def patient_of(
    image: str,
    reading: str = "person+etiology",
) -> str:
    """Return the patient by one of READINGS, or an empty text where the file name has none.

    >>> [patient_of("person12_virus_3.jpeg", reading) for reading in ("person+etiology", "merged")]
    ['person12_virus', 'person12']
    """
    match = _match_file_name(image)
    if not match:
        return ""
    if match["person"]:
        patient = f"person{match['person']}"
        if reading in _READINGS_BY_ETIOLOGY:
            patient += f"_{match['etiology'].lower()}"
        return patient
    if match["child"]:
        kind = match["kind"].upper()
        if kind != "NORMAL" and reading in _READINGS_THAT_JOIN_ETIOLOGIES:
            kind = "PNEUMONIA"
        return f"{kind}-{match['child']}"
    series = match["series"].upper() if reading in _READINGS_BY_SERIES else ""
    return f"{series}IM-{match['number']}"


def _match_file_name(image: str) -> re.Match[str] | None:
    """Match the name of an image's file with the published names."""
    return _FILE_NAME.match(image.rpartition("/")[2])


def _patient_reader(key: str) -> Callable[[str], str]:
    """Return a function that reads the patient from an image's key."""
    if not key.startswith("regex:"):
        return lambda image: patient_of(image, key)
    pattern = re.compile(key.removeprefix("regex:"))

    def read(image: str) -> str:
        match = pattern.search(image)
        return (match["patient"] or "") if match else ""

    return read


def shared_by_reading(
    rows: pd.DataFrame,
    key: str,
) -> dict[str, dict[str, int]]:
    """Count by each reading how many patients two splits share.

    Args:
        rows: image, split and patient_id.
        key: The rule by which patient_id was read, as in `find_rule`.

    Returns:
        For each of READINGS (and first for `key`, where it is none of them) the number of shared
        patients by pair: "train/test", "train/val" and "val/test". Images without a patient under a
        reading are not counted. Hidden names can be read by no other rule than `key`.
    """
    if rows["image"].map(is_hidden_key).any():
        return {key: _count_shared(rows["split"], rows["patient_id"])}
    shared = {}
    for reading in dict.fromkeys(READINGS if key in READINGS else (key, *READINGS)):
        # A table of labels may name other patients than the file names do.
        patients: Iterable[str] = rows["patient_id"]
        if reading != key:
            patients = map(_patient_reader(reading), rows["image"])
        shared[reading] = _count_shared(rows["split"], patients)
    return shared


def _count_shared(
    splits: Iterable[str],
    patients: Iterable[str],
) -> dict[str, int]:
    """Return how many patients each two splits share."""
    members: dict[str, set[str]] = {split: set() for split in SPLITS}
    for split, patient in zip(splits, patients, strict=True):
        if patient and split in members:
            members[split].add(patient)
    return {
        "train/test": len(members["train"] & members["test"]),
        "train/val": len(members["train"] & members["val"]),
        "val/test": len(members["val"] & members["test"]),
    }
