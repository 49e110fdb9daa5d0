"""A real archive: films are stored there and fetched over DICOMweb as they were sent."""

import io
from pathlib import Path

import pydicom
import pytest

from cxr.data.phantoms import dicom_films
from cxr.storage.addresses import open_storage
from tests.support import orthanc

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
