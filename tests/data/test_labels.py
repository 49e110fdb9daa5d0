"""Images are used by a table of labels: with folders and without, with every file accounted for."""

import gzip
import re
import shlex
import shutil
from pathlib import Path

import pydicom
import pytest

from cxr.core.errors import DataError
from cxr.core.files import read_table
from cxr.core.settings import ReadingSettings, SplitSettings
from cxr.data.labels import choices, image_labels, label_table
from cxr.data.manifest.records import Ingest
from cxr.data.phantoms.dicom_films import make_dicom_dataset
from flows.commands.app import app
from tests.conftest import ROOT, preprocess
from tests.data import test_label_tables
from tests.data.test_real_folders import fill, tree

FINDINGS = ("No Finding", "Pneumonia|Edema")


@pytest.fixture
def nih(tmp_path) -> Path:
    """Return a folder of 24 films and their table, as NIH ChestX-ray14 hands them out."""
    data = tmp_path / "nih"
    for part in ("images_001", "images_002"):
        fill(data / part / "images", 12, f"{part}-")
    rows = [
        f"{path.name},{FINDINGS[place // 2 % 2]},P{place // 2},{40 + place},{'MF'[place % 2]},PA"
        for place, path in enumerate(sorted(data.rglob("*.jpeg")))
    ]
    header = "Image Index,Finding Labels,Patient ID,Patient Age,Patient Gender,View Position"
    (data / "Data_Entry_2017.csv").write_text("\n".join([header, *rows]) + "\n")
    return data


def run(data: Path, carving: SplitSettings | None = None, **reading) -> Ingest:
    """Preprocess a folder; found = kept + rejected."""
    work = data.parent / "work"
    shutil.rmtree(work, ignore_errors=True)
    ingest = preprocess(data, work, carving, ReadingSettings(**reading))
    assert ingest.found == ingest.kept + sum(ingest.rejected.values())
    return ingest


def manifest(data: Path):
    return read_table(data.parent / "work" / "clean_metadata.csv").set_index("image")


def rejects(data: Path) -> dict[str, tuple[str, str]]:
    table = read_table(data.parent / "work" / "rejects.csv")
    return {row.image: (row.reason, row.detail) for row in table.itertuples()}


def test_a_table_beside_films_without_class_folders_is_named_with_its_flag(nih):
    """The error has the flag, the file and both ways to choose the negatives; it then works."""
    with pytest.raises(DataError) as caught:
        run(nih)
    message = str(caught.value)
    assert f"--labels nih:{nih}/Data_Entry_2017.csv --negative 'No Finding'" in message
    assert "--negative others" in message
    flag = re.search(r"--labels (\S+) --negative '(No Finding)'", message)
    ingest = run(nih, labels=flag[1], negative=(flag[2],))
    assert ingest.kept == 24


def test_labels_patients_and_attributes_come_from_the_table(nih):
    """The split is by the table's patients; age, sex and view are columns; the books balance."""
    ingest = run(nih, labels=f"nih:{nih}/Data_Entry_2017.csv", negative=("No Finding",))
    rows = manifest(nih)
    assert ingest.patient_wise
    assert sorted(rows["patient_id"].unique()) == sorted(f"P{number}" for number in range(12))
    assert rows.groupby("patient_id")["split"].nunique().max() == 1
    first = rows.loc["images_001/images/images_001-0.jpeg"]
    assert tuple(first[["label", "patient_id", "age", "sex", "view"]]) == (0, "P0", "40", "M", "PA")
    assert ingest.labels.labelled == {"NORMAL": 12, "PNEUMONIA": 12}
    assert ingest.labels.rows == ingest.labels.used == 24
    assert any("Pneumonia against No Finding" in note for note in ingest.notes)
    assert {row.folder for row in ingest.folders} == {".", "images_001", "images_002"}
    assert not any(row.asks for row in ingest.folders)


def test_a_patient_of_the_table_in_two_splits_is_leakage(nih):
    """Patients of the table are checked, whatever the file names say: train loses its part."""
    table = nih / "Data_Entry_2017.csv"
    lines = table.read_text().splitlines()
    splits = ["split", *(["test"] * 5 + ["train"] * 19)]
    table.write_text("\n".join(f"{a},{b}" for a, b in zip(lines, splits, strict=True)))
    ingest = run(nih, labels=f"nih:{table}", negative=("No Finding",), split_column="split")
    assert ingest.splits["test"] == {"NORMAL": 3, "PNEUMONIA": 2}
    assert ingest.leakage.excluded == 1
    assert ingest.leakage.given["person+etiology"]["train/test"] == 1
    assert ingest.leakage.clean


def test_what_labels_nothing_is_counted_and_listed(nih):
    """Rows without images, images without rows, uncertain, outside the mapping, other views."""
    table = nih / "Data_Entry_2017.csv"
    lines = table.read_text().splitlines()
    lines[1] = lines[1].replace("No Finding", "Hernia")
    lines[2] = lines[2].replace(",PA", ",LL")
    lines[3] = lines[3].replace("images_001-10", "lost")
    lines.append(lines[5])
    table.write_text("\n".join(lines))
    ingest = run(nih, labels=f"nih:{table}", negative=("No Finding",))
    found = rejects(nih)
    names = [line.partition(",")[0] for line in lines]
    assert found[f"images_001/images/{names[1]}"] == (
        "no_label",
        "findings outside the mapping: Hernia",
    )
    assert found[f"images_001/images/{names[2]}"][0] == "other_view"
    assert found["images_001/images/images_001-10.jpeg"][1].startswith("no row in the table")
    assert ingest.rejected == {"not_an_image": 1, "no_label": 2, "other_view": 1}
    listed = read_table(nih.parent / "work" / "label_rows.csv")
    assert list(zip(listed["row"], listed["image"], listed["problem"], strict=True)) == [
        ("4", "lost.jpeg", "no_image"),
        ("26", names[5], "repeated"),
    ]
    books = ingest.labels
    assert books.rows == books.used + books.rows_without_image + books.rows_of_several_images
    assert books.images == sum(books.labelled.values()) + books.without_row + sum(
        books.without_label.values()
    )
    assert ingest.kept + ingest.rejected["other_view"] == sum(books.labelled.values())
    with_laterals = run(nih, labels=f"nih:{table}", negative=("No Finding",), views=("PA", "LL"))
    assert "other_view" not in with_laterals.rejected


def test_the_table_is_right_where_folders_say_otherwise(tmp_path):
    """Conflicts are counted and listed; an image without a row keeps the class of its folder."""
    data = tree(tmp_path / "data", images=8)
    table = tmp_path / "t.csv"
    table.write_text(
        "image,label\n"
        "train/NORMAL/img0.jpeg,ill\ntrain/NORMAL/img1.jpeg,well\ntest/PNEUMONIA/img2.jpeg,odd\n"
    )
    ingest = run(data, labels=f"csv:{table}", positive=("ill",), negative=("well",))
    rows = manifest(data)
    assert rows.loc["train/NORMAL/img0.jpeg", "label_name"] == "PNEUMONIA"
    assert rows.loc["train/NORMAL/img1.jpeg", "label_name"] == "NORMAL"
    assert rows.loc["train/PNEUMONIA/img1.jpeg", "label_name"] == "PNEUMONIA"
    assert rejects(data)["test/PNEUMONIA/img2.jpeg"][0] == "no_label"
    assert (ingest.labels.conflicts, ingest.labels.without_row) == (1, 29)
    listed = read_table(data.parent / "work" / "label_rows.csv")
    assert listed.loc[0, "image"] == "train/NORMAL/img0.jpeg"
    assert listed.loc[0, "problem"] == "conflict"
    assert rows["source_split"].isin({"train", "test"}).all()
    # Without the table the folders count again, and nothing of it is left.
    again = preprocess(data, data.parent / "work")
    assert again.labels is None
    assert not (data.parent / "work" / "label_rows.csv").exists()


def test_split_folders_count_where_the_table_has_no_splits(tmp_path):
    """stage_2_train_images is train; a test folder without labels is asked about."""
    data = tmp_path / "rsna"
    fill(data / "stage_2_train_images", 12)
    fill(data / "stage_2_test_images", 3, "other")
    table = tmp_path / "stage_2_train_labels.csv"
    lines = [f"img{number},,,,,{number % 2}" for number in range(12)]
    table.write_text("\n".join(["patientId,x,y,width,height,Target", *lines]))
    with pytest.raises(DataError, match=r"stage_2_test_images.*--exclude stage_2_test_images"):
        run(data, labels=f"rsna:{table}", negative=("0",))
    ingest = run(data, labels=f"rsna:{table}", negative=("0",), exclude=("stage_2_test_images",))
    assert ingest.rejected == {"excluded": 3}
    assert set(manifest(data)["source_split"]) == {"train"}


def test_masks_with_the_names_of_films_are_no_films(nih):
    """A folder of masks does not make the names ambiguous."""
    fill(nih / "masks", 0)
    shutil.copytree(nih / "images_001" / "images", nih / "masks", dirs_exist_ok=True)
    ingest = run(nih, labels=f"nih:{nih}/Data_Entry_2017.csv", negative=("No Finding",))
    assert ingest.kept == 24
    assert ingest.rejected == {"not_an_image": 1, "mask": 12}


def test_a_table_in_a_bucket(moto_bucket, nih):
    """DATA and table may be objects; a compressed table beside the films is found by its columns."""
    packed = gzip.compress((nih / "Data_Entry_2017.csv").read_bytes())
    (nih / "Data_Entry_2017.csv").unlink()
    (nih / "Data_Entry_2017.csv.gz").write_bytes(packed)
    moto_bucket.upload(nih, "nih")
    uri = f"s3://{moto_bucket.name}/nih"
    with pytest.raises(DataError, match=f"--labels nih:{uri}/Data_Entry_2017.csv.gz"):
        preprocess(uri, nih.parent / "work")
    reading = ReadingSettings(labels=f"nih:{uri}/Data_Entry_2017.csv.gz", negative=("No Finding",))
    assert preprocess(uri, nih.parent / "work", reading=reading).kept == 24


TABLES = {
    "nih": (
        test_label_tables.NIH + "a.png,No Finding,1,1,M,PA\nb.png,Pneumonia,2,1,M,PA\n",
        ["images_001/images/a.png", "images_002/images/b.png"],
    ),
    "rsna": (
        "patientId,x,y,width,height,Target\na,,,,,0\nb,1,1,1,1,1\n",
        ["stage_2_train_images/a.dcm", "stage_2_train_images/b.dcm"],
    ),
    "vindr": (
        "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n"
        "a,No finding,14,R1,,,,\nb,Consolidation,4,R1,1,1,1,1\n"
        "b,Infiltration,6,R2,1,1,1,1\nb,Lung Opacity,7,R3,1,1,1,1\n",
        ["train/a.dicom", "train/b.dicom"],
    ),
    "chexpert": (
        test_label_tables.CHEXPERT
        + test_label_tables.chexpert_row("CheXpert-v1.0-small/train/p1/a.jpg", No_Finding="1.0")
        + test_label_tables.chexpert_row("CheXpert-v1.0-small/train/p2/b.jpg", Pneumonia="1.0"),
        ["train/p1/a.jpg", "train/p2/b.jpg"],
    ),
    "mimic": (
        test_label_tables.MIMIC
        + test_label_tables.mimic_row("10000032", "1", No_Finding="1.0")
        + test_label_tables.mimic_row("10000033", "2", Pneumonia="1.0"),
        ["files/p10/p10000032/s1/a.jpg", "files/p10/p10000033/s2/b.jpg"],
    ),
    "csv": (
        "file,findings,patient,age,sex,view,split\n"
        "a,normal,P1,1,M,PA,train\nb,pneumonia;edema,P2,1,M,PA,test\n",
        ["films/a.png", "films/b.png"],
    ),
}


def commands() -> list[str]:
    text = (ROOT / "docs" / "your_data.md").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.startswith("cxr ")]


@pytest.mark.parametrize("collection", TABLES)
def test_the_commands_of_the_page_your_data_read_tables_of_that_form(collection, tmp_path):
    """Each collection has one command, whose flags give its films the labels meant."""
    command = next(line for line in commands() if f"--labels {collection}:" in line)
    text, keys = TABLES[collection]
    path = tmp_path / "table.csv"
    path.write_text(text)
    words = [
        f"{collection}:{path}" if word.startswith(f"{collection}:") else word
        for word in shlex.split(command)[1:]
    ]
    _, bound, *_ = app.parse_args(words)
    reading = bound.arguments["reading"]
    table = label_table.read_label_table(reading)
    found = image_labels.label_images(
        table,
        choices.require_choices(table, reading),
        image_labels.NamedImages(keys, keys, bound.arguments["data"], str, str),
    )
    assert [found.by_image[key].label for key in keys] == [0, 1]


def test_names_and_patients_of_a_table_are_hidden_with_dicom(tmp_path, monkeypatch):
    """The table knows films by their real names; what is written of it holds pseudonyms alone."""
    monkeypatch.setenv("CXR_SALT", "a salt of sixteen or more")
    data = tmp_path / "films"
    make_dicom_dataset(data, images=16, seed=3)
    paths = sorted(path for path in data.rglob("*") if path.is_file())
    films = [path.relative_to(data).as_posix() for path in paths]
    rows = [
        f"{key},{FINDINGS[place // 2 % 2]},Muster-{place // 2}" for place, key in enumerate(films)
    ]
    table = tmp_path / "t.csv"
    lost = "Erika-Mustermann-lost.dcm,Pneumonia,Muster-99"
    table.write_text("\n".join(["image,label,patient", *rows, lost]) + "\n")
    ingest = run(
        data,
        labels=f"csv:{table}",
        positive=("Pneumonia",),
        negative=("No Finding",),
        patient_column="patient",
    )
    assert ingest.labels.used == len(films)
    written = b"".join(
        path.read_bytes() for path in (tmp_path / "work").rglob("*") if path.is_file()
    )
    assert b"Muster" not in written
    assert manifest(data)["patient_id"].str.fullmatch("[0-9a-f]{16}").all()


def test_the_view_of_a_table_counts_where_tags_say_another_one(tmp_path, monkeypatch):
    """A lateral by its tags is a PA film by the table, also if it was set aside before."""
    monkeypatch.setenv("CXR_SALT", "a salt of sixteen or more")
    data = tmp_path / "films"
    keys = make_dicom_dataset(data, images=40, seed=3, size=64)
    for key in [key for key in keys if key.startswith("train/")][:3]:
        film = pydicom.dcmread(data / key)
        film.ViewPosition = "LL"
        film.save_as(data / key)
    assert run(data).rejected["other_view"] == 3
    table = tmp_path / "t.csv"
    rows = [f"{key},{'ill' if 'PNEU' in key else 'well'},PA" for key in keys]
    table.write_text("\n".join(["image,label,view", *rows]))
    reading = ReadingSettings(
        labels=f"csv:{table}", positive=("ill",), negative=("well",), view_column="view"
    )
    ingest = preprocess(data, tmp_path / "work", reading=reading)
    assert "other_view" not in ingest.rejected
    assert set(manifest(data)["view"]) == {"PA"}
