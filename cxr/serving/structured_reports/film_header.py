"""What a report needs of a film: its UIDs, its patient and its study."""

import io
from typing import TYPE_CHECKING

from cxr.data.images.decoding.rejection import Rejected
from cxr.data.images.dicom.elements import pick_elements
from cxr.data.images.dicom.tags import configure_pydicom

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Of patient and study, copied as they stand in the film.
COPIED = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "ReferringPhysicianName",
)
IDENTIFIERS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


def read_header(data: bytes) -> "Dataset | None":
    """Return what a report needs of a film: its UIDs, its patient and its study.

    Args:
        data: The DICOM file, which could be decoded.

    Returns:
        A dataset in a character set that holds its texts; None if a UID is missing, without which
        there is no report, or a text of it is longer than any of a film.
    """
    from pydicom.dataset import Dataset

    try:
        found = _read_tags(data)
    except Rejected:
        return None
    header = Dataset()
    for keyword in IDENTIFIERS:
        uid = _text(found, keyword)
        if not uid:
            return None
        setattr(header, keyword, uid)
    for keyword in COPIED:
        setattr(header, keyword, _text(found, keyword))
    header.SpecificCharacterSet = _character_set("".join(_text(found, name) for name in COPIED))
    return header


def _character_set(text: str) -> str:
    """Return the character set of a text: Latin-1 where it is enough, which every reader knows."""
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return "ISO_IR 192"  # UTF-8
    return "ISO_IR 100"


def _read_tags(data: bytes) -> "Dataset":
    """Return the few tags that are needed, within the bounds by which films are read."""
    from pydicom.datadict import tag_for_keyword
    from pydicom.dataset import Dataset
    from pydicom.filereader import read_dataset

    configure_pydicom()
    tags = map(tag_for_keyword, ("SpecificCharacterSet", *IDENTIFIERS, *COPIED))
    picked = pick_elements(data, {tag: False for tag in tags if tag is not None})
    dataset = Dataset()
    dataset.update(
        read_dataset(io.BytesIO(picked.header), picked.is_implicit, picked.is_little_endian)
    )
    return dataset


def _text(dataset: "Dataset", keyword: str) -> str:
    """Return a value as text; empty where it is missing or cannot be read."""
    from pydicom.multival import MultiValue

    try:
        value = dataset.get(keyword)
    except Exception:  # noqa: BLE001 - a value of any bytes can make a conversion raise anything
        return ""
    if value is None:
        return ""
    if isinstance(value, MultiValue):
        return "\\".join(map(str, value))
    return str(value)
