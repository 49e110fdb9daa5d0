"""Prediction on DICOM: instances by which scores are joined back, reports, and nothing that names a person."""

import pydicom
import pytest

from cxr.core.errors import UsageError
from cxr.core.files import read_table
from cxr.core.settings import DicomOutputSettings, FileSettings
from cxr.data.patients.pseudonyms import pseudonym
from cxr.data.phantoms import dicom_films
from cxr.serving.prediction import publishing
from tests.support import darkness, dicomweb_server

SALT = "a salt of a test, long enough"


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A folder of phantom films of all devices, and the same as PNG."""
    folder = tmp_path_factory.mktemp("films")
    dicom_films.make_dicom_dataset(
        folder / "dicom", images=24, seed=4, size=96, png_folder=folder / "png"
    )
    return folder


@pytest.fixture
def predict(finished_once, tmp_path, monkeypatch):
    """A function that predicts in this process with a made-up model: the table and the counts."""
    darkness.install(monkeypatch)
    monkeypatch.setenv("CXR_SALT", SALT)

    export = next((finished_once / "runs").iterdir()) / "export"

    def call(data, **dicom):
        out = tmp_path / "p.csv"
        predictions = publishing.predict(
            str(export), [str(data)], str(out), lambda done, total: None, FileSettings(),
            dicom=DicomOutputSettings(**dicom),
        )  # fmt: skip
        return read_table(out), predictions

    return call


def scored_of(table):
    return table[table["status"] == "scored"]


def uids_of(folder):
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(pydicom.dcmread(path).SOPInstanceUID) for path in paths}


def test_scores_are_joined_back_by_instance(films, predict):
    """By default each scored film has the pseudonym of its SOP instance; with the flag the UID itself."""
    uids = uids_of(films / "dicom")
    hashed, _ = predict(films / "dicom")
    assert list(hashed.columns)[-1] == "instance"
    found = set(scored_of(hashed)["instance"])
    assert found and found <= {pseudonym("instance", uid, SALT) for uid in uids}
    assert not any(uid in hashed.to_csv() for uid in uids)
    kept, _ = predict(films / "dicom", keep_uids=True)
    assert set(scored_of(kept)["instance"]) <= uids
    by_uid = {
        pseudonym("instance", uid, SALT): score
        for uid, score in zip(kept["instance"], kept["score"], strict=True)
    }
    for instance, score in zip(hashed["instance"], hashed["score"], strict=True):
        assert not instance or by_uid[instance] == score


def test_other_images_have_no_such_column(films, predict):
    """A folder without DICOM gives the table that it always gave."""
    table, predictions = predict(films / "png")
    assert "instance" not in table and predictions.report_folder == ""
    assert "report" not in predictions.sentence()


def test_each_scored_film_has_a_report(films, predict, tmp_path):
    """With the score of the table; set-aside films have none; a second time there are as many files."""
    folder = tmp_path / "reports"
    for _ in range(2):
        table, predictions = predict(films / "dicom", keep_uids=True, dicom_sr=str(folder))
        scored = scored_of(table)
        reports = [pydicom.dcmread(path) for path in folder.iterdir()]
        assert len(reports) == predictions.reports == predictions.scored == len(scored) > 0
        assert predictions.sentence().endswith(f"; {len(scored)} structured reports: {folder}")
    scores = dict(zip(scored["instance"], scored["score"].astype(float), strict=True))
    for report in reports:
        group = report.ContentSequence[-1].ContentSequence[0].ContentSequence
        (source,) = (item for item in group if item.ValueType == "IMAGE")
        uid = source.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        value = next(item for item in group if item.ValueType == "NUM").MeasuredValueSequence[0]
        assert float(value.NumericValue) == pytest.approx(scores[uid], abs=1e-12)


def test_images_without_a_report_are_counted(films, predict, tmp_path):
    """PNG files can be scored and have nothing that a report could refer to."""
    table, predictions = predict(films / "png", dicom_sr=str(tmp_path / "reports"))
    assert predictions.reports == 0 and not (tmp_path / "reports").exists()
    count = len(scored_of(table))
    assert f"0 structured reports ({count} scored have none: not DICOM" in predictions.sentence()


def test_reports_in_a_work_folder_stop_before_anything_is_read(films, predict, tmp_path):
    """The error comes first, and no table is written."""
    for name in ("ingest.json", "clean_metadata.csv"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(UsageError, match="outside the work folder"):
        predict(films / "dicom", dicom_sr=str(tmp_path / "reports"))
    assert not (tmp_path / "p.csv").exists()


def test_films_of_an_archive_score_as_those_of_a_folder(films, predict, monkeypatch, tmp_path):
    """By instance, over DICOMweb: the same scores; and no UID in what is written."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with dicomweb_server.archive() as archive:
        for path in (films / "dicom").rglob("*"):
            if path.is_file():
                film = pydicom.dcmread(path)
                uids = (film.StudyInstanceUID, film.SeriesInstanceUID, film.SOPInstanceUID)
                archive.films[tuple(map(str, uids))] = path.read_bytes()
        there, _ = predict(archive.uri)
    here, _ = predict(films / "dicom")
    joined = scored_of(here).merge(scored_of(there), on="instance")
    assert len(joined) == len(scored_of(here)) == len(scored_of(there)) > 0
    assert (joined["score_x"] == joined["score_y"]).all()
    text = there.to_csv()
    assert not any(uid in text for uids in archive.films for uid in uids)
