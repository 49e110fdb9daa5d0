"""A real archive: films are stored there, fetched over DICOMweb, predicted, and the reports sent back."""

import io
from pathlib import Path

import pandas as pd
import pydicom
import pytest

import cxr as library
from cxr.core.files import read_table
from cxr.core.settings import DicomOutputSettings, ReadingSettings, SplitSettings
from cxr.data.patients.pseudonyms import pseudonym
from cxr.data.phantoms import dicom_films
from cxr.storage.addresses import open_storage
from tests.support import darkness, orthanc

SALT = "a salt of the tests, long enough"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(orthanc.missing()), reason=orthanc.missing() or "installed"),
]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantom films of five devices, each with its own transfer syntax."""
    folder = tmp_path_factory.mktemp("films")
    dicom_films.make_dicom_dataset(folder, images=60, seed=6, size=64)
    return folder


@pytest.fixture(scope="module")
def archive(films, tmp_path_factory):
    """An archive that holds them."""
    with orthanc.running(tmp_path_factory.mktemp("orthanc")) as running:
        running.store(path for path in films.rglob("*") if path.is_file())
        yield running


@pytest.fixture
def environment(tmp_path, monkeypatch) -> None:
    """A salt, a cache of its own, no proxy."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("CXR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CXR_SALT", SALT)


def write_labels(films: Path, path: Path) -> list[str]:
    """Write a table of labels by SOP instance; return the UIDs of the films."""
    rows = []
    for film in sorted(film for film in films.rglob("*") if film.is_file()):
        uid = str(pydicom.dcmread(film, stop_before_pixels=True).SOPInstanceUID)
        finding = "Pneumonia" if film.parent.name == "PNEUMONIA" else "No Finding"
        rows.append({"instance": uid, "finding": finding})
    pd.DataFrame(rows).to_csv(path, index=False)
    return [row["instance"] for row in rows]


def test_an_archive_holds_the_films_as_they_were_sent(films, archive, monkeypatch):
    """Every film is listed once and read in its own transfer syntax; a study alone has its own."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    place = open_storage(archive.uri)
    paths = [path for path in films.rglob("*") if path.is_file()]
    sent = {str(pydicom.dcmread(path).SOPInstanceUID): path for path in paths}
    entries = list(place.list())
    assert len(entries) == len(sent)
    for key, data in place.read_many((entry.key, entry.version) for entry in entries):
        film = pydicom.dcmread(io.BytesIO(data))
        original = pydicom.dcmread(sent.pop(str(film.SOPInstanceUID)))
        assert film.file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID, key
        assert film.PixelData == original.PixelData
    assert not sent
    study = entries[0].key.partition("/")[0]
    of_study = {entry.key for entry in open_storage(f"{archive.uri}/studies/{study}").list()}
    assert of_study == {entry.key for entry in entries if entry.key.startswith(f"{study}/")}
    assert place.find(entries[0].key) == entries[0]


def require_joined(table: pd.DataFrame, uids: list[str]) -> None:
    """Check that a manifest has the films by their pseudonyms, and both classes."""
    assert set(table["instance"]) <= {pseudonym("instance", uid, SALT) for uid in uids}
    assert set(table["label_name"]) == {"NORMAL", "PNEUMONIA"} and len(table) == len(uids)
    assert not any(uid in table.to_csv() for uid in uids)


@pytest.mark.usefixtures("environment")
def test_preprocessing_reads_an_archive(films, archive, tmp_path):
    """Labels from a table by SOP instance, patients from the tags; no UID in the manifest."""
    uids = write_labels(films, tmp_path / "labels.csv")
    reading = ReadingSettings(
        labels=f"csv:{tmp_path / 'labels.csv'}",
        image_column="instance",
        label_column="finding",
        positive=("Pneumonia",),
        negative=("No Finding",),
    )
    work = tmp_path / "work"
    ingest = library.preprocess(archive.uri, work, reading, SplitSettings(patient_key="dicom"))
    require_joined(read_table(work / "clean_metadata.csv"), uids)
    assert ingest.patient_wise and ingest.kept == len(uids)


@pytest.mark.usefixtures("environment")
def test_from_an_archive_and_back(films, archive, finished_once, tmp_path, monkeypatch):
    """Scores by instance, and reports that the archive has then beside their films; they are no films."""
    darkness.install(monkeypatch)
    uids = write_labels(films, tmp_path / "labels.csv")
    export = next((finished_once / "runs").iterdir()) / "export"
    table = tmp_path / "p.csv"
    reports = tmp_path / "reports"
    dicom = DicomOutputSettings(keep_uids=True, dicom_sr=str(reports))
    predictions = library.predict(export, archive.uri, table, dicom=dicom)
    scored = read_table(table).query("status == 'scored'")
    assert scored["instance"].is_unique and set(scored["instance"]) <= set(uids)
    paths = list(reports.iterdir())
    assert len(paths) == predictions.reports == len(scored) > len(uids) / 2

    archive.store(paths)
    found = archive.find(Modality="SR")
    sent = [pydicom.dcmread(path) for path in paths]
    assert {_value(item, "00080018") for item in found} == {str(one.SOPInstanceUID) for one in sent}
    assert {_value(item, "0020000D") for item in found} == {
        str(one.StudyInstanceUID) for one in sent
    }

    library.predict(export, archive.uri, table)
    rows = read_table(table)
    assert sorted(rows.query("status == 'scored'")["score"]) == sorted(scored["score"])
    reasons = rows["reason"].str.partition(":")[0]
    assert (reasons == "not_a_film").sum() == len(sent)


def _value(found, tag):
    return found[tag]["Value"][0]
