"""What the tags of a film say, as columns of the manifest: nothing in them names a person."""

import re
from datetime import date

from cxr.data.images.decoding.rejection import Rejected
from cxr.data.images.dicom.eligibility import view_of
from cxr.data.images.dicom.tags import NONSENSE, Tags
from cxr.data.patients.pseudonyms import Kind, pseudonym, require_salt

_DAYS_OF_UNIT = {"D": 1.0, "W": 7.0, "M": 30.4375, "Y": 365.25}
_AGE = re.compile("(?P<number>[0-9]{1,3}) ?(?P<unit>[DWMY]?)")  # some write years without the Y
_OLDEST = 130  # years: an age above is a mistake
_FIRST_YEAR = 1895  # Roentgen's
_LAST_YEAR = 2100
_LONGEST_TEXT = 64  # characters, as LO has them
_DATES_OF_ACQUISITION = (
    "AcquisitionDate", "AcquisitionDateTime", "ContentDate", "SeriesDate", "StudyDate",
)  # fmt: skip


def describe_tags(tags: Tags) -> dict[str, str]:
    """Return what the tags of a film say.

    Args:
        tags: Of the film.

    Returns:
        By column: `dicom_patient`, and of `ATTRIBUTE_COLUMNS` those that the tags decide; empty
        texts where nothing is known. Patient, study, series, instance, institution and station are
        pseudonyms.

    Raises:
        Rejected: The spacing of the pixels is nonsense (bad_tags).
        UsageError: No salt is set.
    """
    salt = require_salt("a DICOM file")

    def hidden(kind: Kind, text: str) -> str:
        return pseudonym(kind, text, salt) if text else ""

    instance = _text(tags, "SOPInstanceUID") or _text(tags, "MediaStorageSOPInstanceUID")
    return {
        "dicom_patient": hidden("patient", patient_of(tags)),
        "age": _age(tags),
        "sex": _sex(tags),
        "view": view_of(tags),
        "year": _year(tags),
        "modality": _code(tags, "Modality"),
        "manufacturer": _text(tags, "Manufacturer"),
        "device_model": _text(tags, "ManufacturerModelName"),
        "detector": _text(tags, "DetectorID"),
        "station": hidden("station", _text(tags, "StationName")),
        "institution": hidden("institution", _text(tags, "InstitutionName")),
        "pixel_spacing": _spacing(tags),
        "bits_stored": str(tags.whole("BitsStored") or ""),
        "photometric": _code(tags, "PhotometricInterpretation"),
        "burned_in": "yes" if _code(tags, "BurnedInAnnotation") == "YES" else "",
        "study": hidden("study", _text(tags, "StudyInstanceUID")),
        "series": hidden("series", _text(tags, "SeriesInstanceUID")),
        "instance": hidden("instance", instance),
    }


def patient_of(tags: Tags) -> str:
    """Return the key of a film's patient, empty where it is not known: not to be written anywhere.

    Two hospitals may give the same number to two people: who issued it is part of the key.
    """
    patient = _text(tags, "PatientID")
    issuer = _text(tags, "IssuerOfPatientID")
    return f"{issuer}\0{patient}" if patient and issuer else patient


def _text(tags: Tags, keyword: str) -> str:
    """Return a text with its blanks squeezed, empty where it cannot be read."""
    text = tags.text(keyword)
    if NONSENSE in text:
        return ""
    return "".join(letter for letter in text if letter.isprintable())[:_LONGEST_TEXT]


def _code(tags: Tags, keyword: str) -> str:
    """Return a code in capitals; empty where it is none, but a text in the wrong place."""
    code = tags.text(keyword).upper()
    return code if code.isascii() and code.isalnum() and len(code) <= 16 else ""


def _sex(tags: Tags) -> str:
    sex = tags.text("PatientSex").upper()
    return sex if sex in {"M", "F", "O"} else ""


def _age(tags: Tags) -> str:
    """Return the age in years: PatientAge, else whole years from the birth date to the study's."""
    match = _AGE.fullmatch(tags.text("PatientAge").upper())
    if match is not None:
        days = int(match["number"]) * _DAYS_OF_UNIT[match["unit"] or "Y"]
        return _age_text(days / _DAYS_OF_UNIT["Y"])
    born = _date(tags.text("PatientBirthDate"))
    seen = _acquisition_date(tags)
    if born is None or seen is None:
        return ""
    had_birthday = (seen.month, seen.day) >= (born.month, born.day)
    return _age_text(seen.year - born.year - (not had_birthday))


def _age_text(years: float) -> str:
    return f"{round(years, 2):g}" if 0 <= years <= _OLDEST else ""


def _year(tags: Tags) -> str:
    acquired = _acquisition_date(tags)
    return "" if acquired is None else str(acquired.year)


def _acquisition_date(tags: Tags) -> date | None:
    """Return the day of acquisition, else that of what comes nearest to it."""
    for keyword in _DATES_OF_ACQUISITION:
        found = _date(tags.text(keyword))
        if found is not None:
            return found
    return None


def _date(text: str) -> date | None:
    """Return the day that a date or time begins with: YYYYMMDD, or YYYY.MM.DD of old files."""
    digits = text.replace(".", "")[:8] if text[4:5] == "." else text[:8]
    if len(digits) != 8 or not (digits.isascii() and digits.isdigit()):
        return None
    try:
        found = date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None
    return found if _FIRST_YEAR - _OLDEST <= found.year <= _LAST_YEAR else None


def _spacing(tags: Tags) -> str:
    """Return the distance of two rows in mm, at the patient where it is known, else at the detector.

    Devices that do not know it write 0.

    Raises:
        Rejected: It is below 0.
    """
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        spacing = tags.number(keyword)
        if not spacing:
            continue
        if spacing < 0:
            raise Rejected("bad_tags", f"{keyword}: expected above 0 mm, found {spacing:g}")
        return f"{spacing:.4f}"
    return ""
