"""The tags of a film: the few that are read, whatever stands in them."""

import functools
import io
import logging
import re
import threading
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr.core.errors import UsageError
from cxr.data.images.decoding.rejection import Pixels
from cxr.data.images.dicom.elements import PickedElements, pick_elements

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# By keyword, as in DICOM PS3.6. Nothing else of a file is read: no name, no free text, no private tag.
_READ = (
    "MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "SpecificCharacterSet", "ImageType",
    "SOPClassUID", "SOPInstanceUID", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate",
    "AcquisitionDateTime", "Modality", "PresentationIntentType", "Manufacturer", "InstitutionName",
    "StationName", "ManufacturerModelName", "PatientID", "IssuerOfPatientID", "PatientBirthDate",
    "PatientSex", "PatientAge", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "ViewPosition",
    "DetectorID", "StudyInstanceUID", "SeriesInstanceUID", "PatientOrientation", "SamplesPerPixel",
    "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "PixelSpacing",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "BurnedInAnnotation",
    "WindowCenter", "WindowWidth", "RescaleIntercept", "RescaleSlope",
    "WindowCenterWidthExplanation", "VOILUTFunction", "ModalityLUTSequence", "VOILUTSequence",
    "ViewCodeSequence", "PresentationLUTShape",
)  # fmt: skip
NONSENSE = "\N{REPLACEMENT CHARACTER}"  # the text of a value that cannot be converted
_WARNINGS_OF_PYDICOM = r"pydicom\."
_FILTER = ("ignore", None, Warning, re.compile(_WARNINGS_OF_PYDICOM), 0)  # as `warnings` keeps it
_filter_lock = threading.Lock()


class Tags:
    """The tags of one dataset; what is missing, of another type or nonsense is empty.

    Args:
        dataset: As pydicom read it.
        is_little_endian: The order of bytes in values that are bytes.
    """

    def __init__(self, dataset: "Dataset", is_little_endian: bool = True):
        self._dataset = dataset
        self._is_little_endian = is_little_endian

    def _value(self, keyword: str) -> Any:
        """Return a value as pydicom converts it: None where it is missing, NONSENSE where it cannot."""
        try:
            return self._dataset.get(keyword)
        except Exception:  # noqa: BLE001 - a value of any bytes can make a conversion raise anything
            return NONSENSE

    def texts(self, keyword: str) -> list[str]:
        """Return the values of a tag as texts, stripped; none where it is missing."""
        value = self._value(keyword)
        if value is None or value == "":
            return []
        values = [value] if isinstance(value, str | bytes | int | float) else value
        try:
            return [" ".join(str(item).replace("\0", " ").split()) for item in values]
        except TypeError:
            return [str(value).strip()]  # a single object, such as a name

    def text(self, keyword: str) -> str:
        """Return the first value of a tag as a text, empty where it is missing."""
        texts = self.texts(keyword)
        return texts[0] if texts else ""

    def numbers(self, keyword: str) -> list[float]:
        """Return the values of a tag as finite numbers; none where one of them is not."""
        numbers = []
        for text in self.texts(keyword):
            try:
                number = float(text)
            except ValueError:
                return []
            if not abs(number) < 1e12:  # infinite, not a number, or nothing that a film has
                return []
            numbers.append(number)
        return numbers

    def number(self, keyword: str, default: float | None = None) -> float | None:
        """Return the first value of a tag as a number, `default` where there is none."""
        numbers = self.numbers(keyword)
        return numbers[0] if numbers else default

    def whole(self, keyword: str) -> int | None:
        """Return the first value of a tag as a whole number, None where it is none."""
        number = self.number(keyword)
        if number is None or number != int(number):
            return None
        return int(number)

    def words(self, keyword: str, bytes_of_one: int | None = None) -> Pixels:
        """Return the numbers of a look-up table, int64.

        Where the file does not say how they are encoded they are bytes: words of 16 bits, or of 8
        where there are just `bytes_of_one` of them.
        """
        value = self._value(keyword)
        if not isinstance(value, bytes):
            return np.array(self.numbers(keyword), np.int64)
        if bytes_of_one is not None and len(value) in {bytes_of_one, bytes_of_one + 1}:
            return np.frombuffer(value, np.uint8).astype(np.int64)
        order = "<" if self._is_little_endian else ">"
        return np.frombuffer(value[: len(value) // 2 * 2], f"{order}u2").astype(np.int64)

    def items(self, keyword: str) -> list["Tags"]:
        """Return the items of a sequence."""
        value = self._value(keyword)
        if isinstance(value, str | bytes):
            return []
        try:
            return [Tags(item, self._is_little_endian) for item in value or []]
        except TypeError:
            return []

    def __contains__(self, keyword: str) -> bool:
        return keyword in self._dataset


def read_tags(data: bytes) -> tuple[Tags, PickedElements]:
    """Read the tags of a DICOM file.

    Args:
        data: The file.

    Returns:
        The tags, and the elements as they stand in the file, with the pixels.

    Raises:
        Rejected: It cannot be read as DICOM, see `pick_elements`.
        UsageError: What reads DICOM is not installed.
    """
    _require_libraries()
    configure_pydicom()
    from pydicom.dataset import Dataset
    from pydicom.filereader import read_dataset

    picked = pick_elements(data, _wanted_tags())
    dataset = Dataset()
    parts = [
        (picked.meta, False, True),
        (picked.header, picked.is_implicit, picked.is_little_endian),
    ]
    for encoded, is_implicit, is_little_endian in parts:
        dataset.update(read_dataset(io.BytesIO(encoded), is_implicit, is_little_endian))
    return Tags(dataset, picked.is_little_endian), picked


@functools.cache
def _wanted_tags() -> dict[int, bool]:
    """Return the tags that are read, and whether each is a sequence."""
    from pydicom.datadict import tag_for_keyword

    tags = {keyword: tag_for_keyword(keyword) for keyword in _READ}
    return {tag: keyword.endswith("Sequence") for keyword, tag in tags.items() if tag is not None}


def _require_libraries() -> None:
    """Raise UsageError where what reads DICOM is not installed: no file is at fault."""
    try:
        import imagecodecs  # noqa: F401
        import pydicom  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"a DICOM file: {error.name} reads it and is not installed: "
            "pip install cxr-pipeline[dicom], or leave DICOM files out (--exclude)"
        ) from None


def configure_pydicom() -> None:
    """Keep pydicom from checking, printing or warning of values, which would show them.

    Call it before each file, it is cheap. Afterwards nonsense is read as it stands, also where
    warnings are errors, and nothing of it gets into a log.
    """
    _configure_once()
    # As in `decoding.pillow_setup`: added once, and again where somebody has reset the filters.
    if _FILTER not in warnings.filters:
        with _filter_lock:
            warnings.filterwarnings("ignore", module=_WARNINGS_OF_PYDICOM)


@functools.cache
def _configure_once() -> None:
    from pydicom import config

    config.settings.reading_validation_mode = config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
