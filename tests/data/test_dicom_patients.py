"""Who the patient of a DICOM film is: PatientID, by its pseudonym, unless a given rule says otherwise."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.core.errors import DataError, LeakageError
from cxr.core.files import read_table
from cxr.core.settings import ReadingSettings, SplitSettings
from cxr.data.manifest.records import Ingest
from cxr.data.patients.pseudonyms import pseudonym
from cxr.data.phantoms.dicom_films import DEVICES, film_bytes
from cxr.data.phantoms.films import draw_film
from cxr.data.phantoms.plan import plan_images
from cxr.stages import data_steps
from cxr.storage.addresses import open_storage
from tests.conftest import preprocess

pytestmark = pytest.mark.usefixtures("salt")
SEED = 3


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 films in folders of classes, two of each patient; every file is called IM-0001-N.dcm.

    The first four have no PatientID; text is burned into one.
    """
    folder = tmp_path_factory.mktemp("dicom")
    rng = np.random.default_rng(SEED)
    for number, planned in enumerate(plan_images(rng, 40)):
        film, _ = draw_film(planned, SEED, 64)
        patient = f"MRN-{number // 2:04d}" if number >= 4 else None
        label = "NORMAL" if number // 2 % 2 else "PNEUMONIA"
        path = folder / label / f"ward {patient}" / f"IM-0001-{number:04d}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        tags = {"PatientID": patient}
        if number == 7:
            tags |= {"BurnedInAnnotation": "YES", "WindowCenterWidthExplanation": "LUNG"}
        path.write_bytes(film_bytes(np.asarray(film), DEVICES[0], tags))
    return folder


def manifest(films: Path, work: Path, **settings) -> pd.DataFrame:
    preprocess(films, work, SplitSettings(**settings))
    return read_table(work / "clean_metadata.csv")


@pytest.mark.parametrize("key", ["person+etiology", "dicom"])
def test_the_patient_is_that_of_the_tags(films, tmp_path, salt, key):
    """A name that looks like a published one says nothing; without PatientID an image counts alone."""
    rows = manifest(films, tmp_path, patient_key=key)
    counts = rows["patient_id"].value_counts()
    assert counts.pop("") == 4
    assert set(counts) == {2}
    assert set(counts.index) == {
        pseudonym("patient", f"MRN-{number:04d}", salt) for number in range(2, 20)
    }
    assert rows.groupby("patient_id")["split"].nunique().drop("").max() == 1
    assert set(rows["split"]) == {"train", "val", "test"}
    ingest = Ingest.read(tmp_path / "ingest.json")
    assert ingest.leakage.patient_key == "dicom"
    (note,) = [note for note in ingest.notes if "burned" in note]
    assert note.startswith("text may be burned into 1 film (1 by their tag, 0 by how")


def test_a_given_table_is_matched_by_real_names(films, tmp_path, salt):
    """Its patients are pseudonyms, too; where it says nothing, PatientID does."""
    table = tmp_path / "patients.csv"
    lines = [
        f"{path.name},{'A' if index < 4 else ''}"
        for index, path in enumerate(sorted(films.rglob("*.dcm"), key=lambda path: path.name))
    ]
    table.write_text("image,patient_id\n" + "\n".join([*lines, "Nobody.dcm,B"]) + "\n")
    work = tmp_path / "work"
    rows = manifest(films, work, patient_key=f"csv:{table}")
    counts = rows["patient_id"].value_counts()
    assert counts[pseudonym("patient", "A", salt)] == 4
    assert counts[pseudonym("patient", "MRN-0019", salt)] == 2
    ingest = (work / "ingest.json").read_text()
    assert "1 rows name no image" in ingest
    assert "Nobody" not in ingest


def test_a_pattern_reads_real_names_and_tells_pseudonyms(films, tmp_path, salt):
    """`regex:` sees the folders as they are called."""
    rows = manifest(films, tmp_path, patient_key="regex:ward (?P<patient>MRN-[0-9]+)/")
    assert pseudonym("patient", "MRN-0007", salt) in set(rows["patient_id"])


def test_a_rule_that_fits_nothing_names_no_file(films, tmp_path):
    """The message of such an error has an example elsewhere."""
    with pytest.raises(DataError, match="are not shown") as refused:
        manifest(films, tmp_path, patient_key="regex:person(?P<patient>[0-9]+)")
    assert "IM-" not in str(refused.value)
    assert "ward" not in str(refused.value)


def test_the_gate_counts_patients_of_tags(films, tmp_path):
    """A patient in two published splits is found though no name says so."""
    data = tmp_path / "data"
    for index, path in enumerate(sorted(films.rglob("*.dcm"))):
        split = "test" if index % 4 == 3 else "train"
        copy = data / split / path.relative_to(films)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    with pytest.raises(LeakageError, match=r"[1-9][0-9]* patients are in two splits"):
        manifest(data, tmp_path / "work", repair_leakage=False)
    rows = manifest(data, tmp_path / "work")
    used = rows[(rows["split"] != "excluded") & (rows["patient_id"] != "")]
    assert used.groupby("patient_id")["split"].nunique().max() == 1


def test_another_salt_in_the_same_work_folder_is_refused(films, tmp_path, monkeypatch):
    """It would make every patient another, and the splits, too; the first salt goes on as before."""
    first = manifest(films, tmp_path)
    with monkeypatch.context() as changed:
        changed.setenv("CXR_SALT", "another salt, long enough, too")
        with pytest.raises(DataError, match="made with another salt"):
            manifest(films, tmp_path)
    assert manifest(films, tmp_path).equals(first)


def test_a_window_that_films_lack_is_said(films, tmp_path):
    """Where no film has it, it is misspelt; where some have, the others are shown otherwise."""
    with pytest.raises(DataError, match="--window BONE: 0 of 40 DICOM files"):
        preprocess(films, tmp_path / "none", reading=ReadingSettings(window="BONE"))
    preprocess(films, tmp_path / "one", reading=ReadingSettings(window="LUNG"))
    notes = Ingest.read(tmp_path / "one" / "ingest.json").notes
    assert any(note.startswith("--window LUNG: 1 of 40 DICOM files") for note in notes)


def test_dicom_as_the_rule_needs_a_patient_id(films, tmp_path):
    """What was asked for would not happen."""
    data = tmp_path / "data"
    for path in sorted(films.rglob("*.dcm"), key=lambda path: path.name)[:4]:
        copy = data / path.relative_to(films)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="none of 4 DICOM files has a PatientID"):
        manifest(data, tmp_path / "work", patient_key="dicom")


_INSPECT = """
import json, sys
from pathlib import Path
from cxr.core.settings import FileSettings, PixelSettings
from cxr.stages.data_steps import inspect_shard
shard, data, work = sys.argv[1:]
found = inspect_shard(shard, data, Path(work), FileSettings(), PixelSettings(image_size=32))
print(found.images, found.rejected)
"""


def test_another_process_finds_the_films_in_a_bucket(films, tmp_path, moto_bucket):
    """The salt comes from its own environment, and no film is kept in the cache for objects."""
    storage = open_storage(f"{moto_bucket.uri}/films")
    for path in films.rglob("*.dcm"):
        storage.write(path.relative_to(films).as_posix(), path.read_bytes())
    scan = data_steps.scan_images(storage.uri, tmp_path, ReadingSettings(), "dicom")
    assert scan.images == 40
    command = [sys.executable, "-c", _INSPECT, scan.shards[0], storage.uri, str(tmp_path)]
    inspected = subprocess.run(command, capture_output=True, text=True, check=True)
    assert inspected.stdout.split() == ["40", "0"]
    kept = [path for path in (tmp_path / "cxr-cache").rglob("*") if path.is_file()]
    assert not [path for path in kept if b"DICM" in path.read_bytes()]
