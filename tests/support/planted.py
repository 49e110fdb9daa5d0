"""Films as DICOM whose tags, files and folders name people, and a search for these names in whatever was written."""

import base64
import binascii
import contextlib
import gzip
import io
import re
import sqlite3
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from cxr.data.phantoms.dicom_films import DEVICES, film_bytes
from cxr.data.phantoms.films import draw_film
from cxr.data.phantoms.plan import plan_images

# By tag; the patient and the UIDs get the number of the film behind them. What follows is what is searched for.
TAGS: dict[str, str] = {
    "PatientName": "Zwirbelmann^Ottokar",
    "PatientID": "PID-7731594",
    "IssuerOfPatientID": "Klinikumquarz",
    "OtherPatientNames": "Altnamova^Gundula",
    "PatientMotherBirthName": "Motherova",
    "PatientBirthDate": "19340217",
    "PatientBirthTime": "031415.926535",
    "PatientAddress": "Kuckucksgasse 99",
    "PatientTelephoneNumbers": "+49-555-1234567",
    "PatientComments": "likes-marzipan",
    "PatientReligiousPreference": "Pastafarian",
    "Occupation": "Glassblower-Q",
    "EthnicGroup": "Ethnos-secret",
    "MilitaryRank": "Oberst-Rank",
    "AccessionNumber": "ACC9988776",
    "AdmissionID": "ADM-303030",
    "StudyID": "STUDYID4242",
    "StudyDate": "20210413",
    "SeriesDate": "20210414",
    "AcquisitionDate": "20210415",
    "ContentDate": "20210416",
    "StudyTime": "142536.778899",
    "InstitutionName": "Nimmerlein-Hospital",
    "InstitutionAddress": "Nimmerleinway 7",
    "InstitutionalDepartmentName": "Radiology-North-77",
    "ReferringPhysicianName": "Referentius^Max",
    "PerformingPhysicianName": "Performatus^Ida",
    "OperatorsName": "Operatrix^Lea",
    "NameOfPhysiciansReadingStudy": "Lesemeister^Jo",
    "PhysiciansOfRecord": "Recordius^Al",
    "RequestingPhysician": "Petitorova^Eva",
    "StudyDescription": "Thorax-for-Zw",
    "SeriesDescription": "Series-secret-1",
    "ImageComments": "Comment-secret",
    "AdditionalPatientHistory": "History-secret",
    "RequestedProcedureDescription": "Procedure-secret",
    "ProtocolName": "Protocol-secret",
    "StationName": "STATIONXQ17",
    "DeviceSerialNumber": "SN-4455667",
    "CurrentPatientLocation": "Ward-Location-5",
    "StudyInstanceUID": "2.25.1112223334",
    "SeriesInstanceUID": "2.25.2223334445",
    "SOPInstanceUID": "2.25.3334445556",
    "FrameOfReferenceUID": "2.25.4445556667",
}
PRIVATE = ("QUARZPRIVATE", "Private-secret")
NESTED = "SPS-ID-8181"
FOREIGN = {
    "ISO_IR 100": "Müßiggänger^Jörg",
    "ISO_IR 192": "山田太郎^次郎",
    "ISO_IR 144": "\u0418\u0432\u0430\u043d\u043e\u0432",
}
FOLDER = "Ordnermann 1957"
FILE = "Zeltinger_Film"
LOST = "Unbekanntmann"  # a folder of no class
_NUMBERED = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


def planted_values() -> list[str]:
    """Return every value that must be found nowhere: names in their parts."""
    texts = [*TAGS.values(), *PRIVATE, NESTED, *FOREIGN.values(), FOLDER, FILE, LOST]
    values = [
        part for text in texts for part in text.split("^") if len(part) > 3 or not part.isascii()
    ]
    return [*values, "2021-04-13", "1934-02-17"]


def write_films(folder: Path, images: int, size: int, seed: int = 5) -> None:
    """Write films into train and test, all planted values in each of them; some without a suffix."""
    rng = np.random.default_rng(seed)
    charsets = list(FOREIGN)
    for planned in plan_images(rng, images):
        film, _ = draw_film(planned, seed, size)
        split, label, _ = planned.key.split("/")
        charset = charsets[planned.number % len(charsets)]
        device = DEVICES[planned.patient % len(DEVICES)]
        suffix = ".dcm" if planned.number % 2 else ""
        path = folder / split / label / FOLDER / f"{FILE}_{planned.number}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        data = film_bytes(np.asarray(film), device, _tags(planned.patient, planned.number, charset))
        path.write_bytes(_with_further_names(data))


def _tags(patient: int, number: int, charset: str) -> dict[str, Any]:
    tags = {**TAGS, "SpecificCharacterSet": charset, "RequestedProcedureID": NESTED}
    tags["PatientBirthName"] = FOREIGN[charset]
    for keyword in _NUMBERED:
        tags[keyword] += str(patient if keyword != "SOPInstanceUID" else 10_000 + number)
    return tags


def _with_further_names(data: bytes) -> bytes:
    """Return a file with private tags and names in a sequence."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    creator, value = PRIVATE
    block = dataset.private_block(0x0009, creator, create=True)
    block.add_new(0x01, "LO", value)
    item = Dataset()
    item.ScheduledProcedureStepID = NESTED
    item.PatientID = TAGS["PatientID"]
    dataset.RequestAttributesSequence = [item]
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def find_planted(*places: Path | str) -> list[str]:
    """Return where a planted value stands: in files, in their names, in texts.

    Args:
        places: Files, folders, and texts.
    """
    patterns = {value: _spellings(value) for value in planted_values()}
    found = []
    for name, data in _contents(places):
        lower = data.lower()
        for value, spellings in patterns.items():
            found += [f"{value} in {name}" for spelling in spellings if spelling in lower][:1]
    return found


def _spellings(value: str) -> set[bytes]:
    """Return how a value may stand in a file, in lower case."""
    ascii_escaped = value.encode("ascii", "backslashreplace")
    spellings = {value.encode(), value.encode("utf-16-le"), ascii_escaped, quote(value).encode()}
    for encoding in ("latin-1", "iso8859_5"):
        with contextlib.suppress(UnicodeEncodeError):
            spellings.add(value.encode(encoding))
    return {spelling.lower() for spelling in spellings}


def _contents(places: tuple[Path | str, ...]) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of files, what is packed in them unpacked."""
    for place in places:
        if isinstance(place, str):
            yield "output", place.encode("utf-8", "surrogateescape")
            continue
        paths = sorted(place.rglob("*")) if place.is_dir() else [place]
        for path in paths:
            yield f"the name {path}", str(path).encode("utf-8", "surrogateescape")
            if path.is_file():
                yield from _unpacked(str(path), path.read_bytes())


def _unpacked(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield a file and what is in it, if it is an archive, a picture, a page or a database."""
    yield name, data
    if data.startswith(b"\x1f\x8b"):
        yield from _unpacked(f"{name} unpacked", gzip.decompress(data))
    if data.startswith(b"PK\3\4"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.namelist():
                yield from _unpacked(f"{name}:{member}", archive.read(member))
    if data.startswith(b"\x89PNG"):
        for keyword, packed in re.findall(
            rb"zTXt([^\0]*)\0\0(.*?)(?=[A-Z][A-Za-z]{3})", data, re.DOTALL
        ):
            yield f"{name}:{keyword!r}", zlib.decompressobj().decompress(packed)
    if data.startswith(b"SQLite format 3"):
        connection = sqlite3.connect(f"file:{name}?mode=ro&immutable=1", uri=True)
        yield f"{name} as text", "\n".join(connection.iterdump()).encode()
        connection.close()
    for encoded in re.findall(rb"base64,([A-Za-z0-9+/=]{40,})", data):
        try:
            yield from _unpacked(f"{name} decoded", base64.b64decode(encoded))
        except binascii.Error:
            continue
