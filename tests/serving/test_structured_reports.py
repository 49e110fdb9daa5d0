"""Structured reports: what they say, whom they name, who can read them, and where they may be written."""

import io
import shutil
import subprocess

import highdicom
import numpy as np
import pydicom
import pytest

from cxr.core.errors import UsageError
from cxr.data.phantoms import dicom_films
from cxr.results.cards.model_card import Card
from cxr.serving.structured_reports.film_header import read_header
from cxr.serving.structured_reports.report import make_report
from cxr.serving.structured_reports.report_folder import ReportFolder, require_report_folder
from cxr.storage.addresses import open_storage

TAGS = {
    "PatientID": "MRN-17",
    "PatientName": "Phantom^Paula",
    "PatientBirthDate": "19500701",
    "PatientSex": "F",
    "StudyDate": "20210815",
    "StudyTime": "101500",
    "StudyID": "S1",
    "AccessionNumber": "ACC17",
    "ReferringPhysicianName": "Doctor^Dora",
    "StudyInstanceUID": "2.25.1.1",
    "SeriesInstanceUID": "2.25.1.2",
    "SOPInstanceUID": "2.25.1.3",
}
DSRDUMP = shutil.which("dsrdump")


@pytest.fixture(scope="module")
def card(finished_once):
    return Card.read(next((finished_once / "runs").iterdir()) / "export" / "model_card.json")


def film(device=dicom_films.DEVICES[0], **tags):
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (40, 32)).astype(np.uint8)
    return dicom_films.film_bytes(pixels, device, TAGS | tags)


def report_of(data, score, card, folder):
    """The report of a film as it is read back from the folder that it was written to."""
    reports = ReportFolder(str(folder), card)
    reports.add(read_header(data), score)
    assert (reports.written, reports.missing) == (1, 0)
    (path,) = folder.glob("*")
    return pydicom.dcmread(path)


def contents(item, found=None):
    """Every content item below one: its value by the meaning of its name."""
    found = {} if found is None else found
    for child in item.get("ContentSequence", []):
        name = child.get("ConceptNameCodeSequence")
        value = child.get("TextValue") or child.get("UID")
        if child.ValueType == "NUM":
            value = float(child.MeasuredValueSequence[0].NumericValue)
        if child.ValueType == "CODE":
            value = child.ConceptCodeSequence[0].CodeMeaning
        if name:
            found[name[0].CodeMeaning] = value
        contents(child, found)
    return found


@pytest.mark.parametrize("device", dicom_films.DEVICES, ids=lambda device: device.syntax)
def test_a_report_belongs_to_its_film(card, tmp_path, device):
    """In each transfer syntax: patient, study and instance are the film's; the report is a new series."""
    report = report_of(film(device), 0.75, card, tmp_path)
    for keyword, value in TAGS.items():
        if keyword not in {"SeriesInstanceUID", "SOPInstanceUID"}:
            assert report.get(keyword) == value, keyword
    assert report.SeriesInstanceUID != TAGS["SeriesInstanceUID"] and report.Modality == "SR"
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    (source,) = series.ReferencedSOPSequence
    assert study.StudyInstanceUID == TAGS["StudyInstanceUID"]
    assert series.SeriesInstanceUID == TAGS["SeriesInstanceUID"]
    assert source.ReferencedSOPInstanceUID == TAGS["SOPInstanceUID"]


@pytest.mark.parametrize(("off", "word"), [(0.0, "Present"), (-1e-9, "Absent"), (0.01, "Present")])
def test_a_report_says_what_the_table_says(card, tmp_path, off, word):
    """Score and threshold as numbers; the decision as the threshold makes it; which model it was."""
    score = card.threshold + off
    found = contents(report_of(film(), score, card, tmp_path))
    assert found["Pneumonia score of the model"] == pytest.approx(score, abs=1e-13)
    assert found["Threshold of the model"] == pytest.approx(card.threshold, abs=1e-13)
    assert found["Decision: the score is at or above the threshold"] == word
    assert found["Finding"] == "Pneumonia"
    assert card.architecture in found["Algorithm Name"] and card.run in found["Algorithm Version"]
    assert card.model_sha256 in found["Algorithm Parameters"]


def test_a_report_is_no_diagnosis(card, tmp_path):
    """Partial, preliminary, unverified, research: in the flags that machines read, and in words."""
    report = report_of(film(), 0.9, card, tmp_path)
    flags = (report.CompletionFlag, report.PreliminaryFlag, report.VerificationFlag)
    assert flags == ("PARTIAL", "PRELIMINARY", "UNVERIFIED")
    assert report.ContentQualification == "RESEARCH"
    assert "not for clinical use" in report.SeriesDescription
    assert "not for clinical use" in contents(report)["Comment"]


def test_highdicom_reads_it_back(card, tmp_path):
    """As a measurement report (TID 1500) with one measurement group for its film."""
    report_of(film(), 0.25, card, tmp_path)
    (path,) = tmp_path.glob("*")
    report = highdicom.sr.srread(path)
    (group,) = report.content.get_image_measurement_groups()
    values = [item.value for item in group.get_measurements()]
    assert values == pytest.approx([0.25, card.threshold])
    assert group.finding_type.meaning == "Pneumonia"
    (evidence,) = report.get_evidence()
    assert evidence[2] == TAGS["SOPInstanceUID"]


@pytest.mark.skipif(DSRDUMP is None, reason="dcmtk is not installed")
@pytest.mark.parametrize("name", ["Phantom^Paula", "Böse^Zoë"])
def test_dcmtk_reads_it_without_complaint(card, tmp_path, name):
    """`dsrdump` shows the tree and has nothing to say of it, not even a warning."""
    data = film(PatientName=name, SpecificCharacterSet="ISO_IR 192")
    report_of(data, 0.0, card, tmp_path)
    (path,) = tmp_path.glob("*")
    shown = subprocess.run([DSRDUMP, path], capture_output=True, check=False)
    assert shown.returncode == 0 and shown.stderr == b""
    tree = shown.stdout.decode("latin-1")
    assert name in tree and '(272519000,SCT,"Absent")' in tree and "PARTIAL" in tree


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        (["ISO_IR 192"], "王^小东=王^小東"),
        (["ISO_IR 144"], "Жюль^Лия"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["ISO_IR 100"], "Buc^Jérôme"),
    ],
)
def test_names_in_any_character_set_stay_the_same(card, tmp_path, charset, name):
    """The report's own character set holds them; the archive must know its patient again."""
    data = film(PatientName=name, SpecificCharacterSet=charset)
    assert str(report_of(data, 0.5, card, tmp_path).PatientName) == name


@pytest.mark.parametrize(
    "odd",
    [
        {"PatientSex": "unknown", "PatientBirthDate": "summer", "StudyTime": "noon"},
        {"PatientName": "one^two^three^four^five^six", "PatientID": "x" * 90},
        {"PatientID": None, "PatientName": None, "StudyDate": None, "AccessionNumber": None},
        {"PatientID": "a\\b"},
    ],
)
def test_what_an_archive_holds_is_taken_as_it_is(card, tmp_path, odd):
    """Nonsense in the patient's tags, or nothing, is no reason to lose a report."""
    report = report_of(film(**odd), 0.5, card, tmp_path)
    assert report.SOPInstanceUID.startswith("2.25.") and report.StudyInstanceUID == "2.25.1.1"


@pytest.mark.parametrize("uid", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_without_a_uid_there_is_no_report(card, tmp_path, uid):
    """It could not be put anywhere: it is counted, as is a film that is not DICOM."""
    reports = ReportFolder(str(tmp_path / "reports"), card)
    reports.add(read_header(film(**{uid: None})), 0.5)
    reports.add(None, 0.5)
    assert (reports.written, reports.missing) == (0, 2) and not (tmp_path / "reports").exists()


def test_equal_results_have_equal_reports(card):
    """The same film, model and score give the same UID, another score another; one series a study."""
    header = read_header(film())
    first = make_report(header, 0.5, card, 1)
    again = make_report(header, 0.5, card, 2)
    other = make_report(header, 0.6, card, 1)
    assert first.SOPInstanceUID == again.SOPInstanceUID != other.SOPInstanceUID
    assert first.SeriesInstanceUID == other.SeriesInstanceUID


def test_reports_stay_out_of_a_work_folder(tmp_path):
    """They name patients, and a work folder must not: neither it nor a folder in it."""
    work = tmp_path / "work"
    work.mkdir()
    for name in ("ingest.json", "clean_metadata.csv"):
        (work / name).write_text("{}")
    for folder in (work, work / "runs" / "reports"):
        with pytest.raises(UsageError, match="outside the work folder"):
            require_report_folder(str(folder))
    require_report_folder(str(tmp_path / "elsewhere"))
    with pytest.raises(UsageError, match="nothing is written there"):
        require_report_folder("dicomweb+http://127.0.0.1:9/dicom-web")
    assert not (tmp_path / "elsewhere").exists()


def test_reports_on_s3(card, moto_bucket):
    """They are written there as well, and as little into a work folder."""
    place = open_storage(f"{moto_bucket.uri}/reports")
    require_report_folder(place.uri)
    ReportFolder(place.uri, card).add(read_header(film()), 0.5)
    (entry,) = place.list()
    assert pydicom.dcmread(io.BytesIO(place.read(entry.key))).Modality == "SR"
    open_storage(moto_bucket.uri).write("ingest.json", b"{}")
    with pytest.raises(UsageError, match="outside the work folder"):
        require_report_folder(place.uri)


def test_only_the_owner_may_read_a_report(card, tmp_path):
    """On this machine nobody else has to see it."""
    report_of(film(), 0.5, card, tmp_path)
    (path,) = tmp_path.glob("*")
    assert path.stat().st_mode & 0o077 == 0
