"""Tables of labels of five collections, and any other, are read by stated rules, or refused."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr.core.errors import DataError
from cxr.core.settings import ReadingSettings
from cxr.data.labels import choices, image_labels, label_table
from cxr.data.labels.image_labels import ImageLabels, NamedImages
from tests.conftest import ROOT

REAL = ROOT / ".." / "shared" / "data" / "hospital" / "labels"
NIH = "Image Index,Finding Labels,Patient ID,Patient Age,Patient Gender,View Position\n"
CHEXPERT = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung "
    "Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,"
    "Pleural Other,Fracture,Support Devices\n"
)
MIMIC = (
    "subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,"
    "Fracture,Lung Lesion,Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,"
    "Pneumothorax,Support Devices\n"
)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def read(collection: str, path: Path, keys: list[str], **flags) -> ImageLabels:
    """Read a table and join it with images of these keys, which need not be there."""
    reading = ReadingSettings(labels=f"{collection}:{path}", **flags)
    table = label_table.read_label_table(reading)
    mapping = choices.require_choices(table, reading)
    images = NamedImages(keys, keys, "films", str, str)
    return image_labels.label_images(table, mapping, images)


def labels(found: ImageLabels) -> dict[str, int | str | None]:
    """Return the label of each image with a row, or why there is none."""
    return {
        key: row.problem.partition(":")[0] if row.label is None else row.label
        for key, row in found.by_image.items()
    }


def chexpert_row(path: str, view: str = "AP", **findings: str) -> str:
    names = CHEXPERT.strip().split(",")
    side = "Lateral" if view == "" else "Frontal"
    cells = {"Path": path, "Sex": "Female", "Age": "68", "Frontal/Lateral": side, "AP/PA": view}
    cells |= {name.replace("_", " "): state for name, state in findings.items()}
    return ",".join(cells.get(name, "") for name in names) + "\n"


def mimic_row(subject: str, study: str, **findings: str) -> str:
    cells = {"subject_id": subject, "study_id": study}
    cells |= {name.replace("_", " "): state for name, state in findings.items()}
    return ",".join(cells.get(name, "") for name in MIMIC.strip().split(",")) + "\n"


def test_nih_has_findings_joined_by_bars_and_says_who_is_shown(tmp_path):
    """Pneumonia among others is positive; age, sex, view and patient come along."""
    path = write(
        tmp_path / "Data_Entry_2017.csv",
        NIH
        + "00000001_000.png,No Finding,1,057Y,M,PA\n"
        + "00000002_000.png,Pneumonia|Edema,2,412,F,AP\n"
        + "00000003_000.png,Hernia,3,30,F,PA\n"
        + "00000004_000.png,No Finding|Pneumonia,4,30,F,PA\n",
    )
    keys = [f"images_001/images/0000000{n}_000.png" for n in range(1, 6)]
    found = read("nih", path, keys, negative=("no finding",))
    assert labels(found) == {
        keys[0]: 0,
        keys[1]: 1,
        keys[2]: "findings outside the mapping",
        keys[3]: "both positive and negative findings",
    }
    assert found.by_image[keys[0]][2:] == ("1", "57", "M", "PA", "")
    assert found.by_image[keys[1]].age == ""  # nobody is 412 years old
    assert found.books.without_row == 1
    assert any(
        "age" in note
        for note in label_table.read_label_table(ReadingSettings(labels=f"nih:{path}")).notes
    )
    others = read("nih", path, keys, negative=("others",))
    assert list(labels(others).values()) == [0, 1, 0, 1]


def test_rsna_one_box_is_enough_and_names_have_no_ending(tmp_path):
    """A patient with two boxes is one film; patientId is the name of the file, not a patient."""
    path = write(
        tmp_path / "stage_2_train_labels.csv",
        "patientId,x,y,width,height,Target\n"
        "0004cfab,,,,,0\n00436515,264,152,213,379,1\n00436515,562,152,256,453,1\n",
    )
    keys = ["stage_2_train_images/0004cfab.dcm", "stage_2_train_images/00436515.dcm"]
    found = read("rsna", path, keys, negative=("0",))
    assert labels(found) == {keys[0]: 0, keys[1]: 1}
    assert found.by_image[keys[0]].patient == ""
    assert (found.books.rows, found.books.used, found.books.repeated) == (3, 3, 0)


def test_rsna_detailed_classes(tmp_path):
    """A film with another finding is no normal one unless --negative others says so."""
    path = write(
        tmp_path / "stage_2_detailed_class_info.csv",
        "patientId,class\na,Normal\nb,No Lung Opacity / Not Normal\nc,Lung Opacity\nc,Lung Opacity\n",
    )
    keys = ["a.dcm", "b.dcm", "c.dcm"]
    normal = read("rsna", path, keys, negative=("Normal",))
    assert list(labels(normal).values()) == [0, "findings outside the mapping", 1]
    assert list(labels(read("rsna", path, keys, negative=("others",))).values()) == [0, 0, 1]


def test_vindr_readers_vote(tmp_path):
    """More than half of an image's readers decide; findings of one reader count together."""
    rows = [
        *(("a", "No finding", reader) for reader in ("R1", "R2", "R3")),
        ("b", "Consolidation", "R1"), ("b", "Nodule/Mass", "R1"),
        ("b", "Infiltration", "R2"), ("b", "No finding", "R3"),
        ("c", "Consolidation", "R1"), ("c", "No finding", "R2"),
        ("d", "ILD", "R1"), ("d", "ILD", "R2"), ("d", "Consolidation", "R3"),
    ]  # fmt: skip
    lines = [f"{image},{name},0,{reader},,,,\n" for image, name, reader in rows]
    path = write(
        tmp_path / "train.csv",
        "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n" + "".join(lines),
    )
    keys = [f"train/{name}.dicom" for name in "abcd"]
    found = read(
        "vindr", path, keys, positive=("Consolidation", "Infiltration"), negative=("No finding",)
    )
    assert list(labels(found).values()) == [
        0,
        1,
        "no majority of its readers",
        "findings outside the mapping",
    ]
    with pytest.raises(DataError, match=r"--positive has to say .* ILD 2"):
        read("vindr", path, keys, negative=("No finding",))


def test_vindr_labels_of_images(tmp_path):
    """The table with a column for each finding has Pneumonia, and its readers vote, too."""
    path = write(
        tmp_path / "image_labels_train.csv",
        "image_id,rad_id,Cardiomegaly,Pneumonia,No finding\n"
        "a,R1,0,1,0\na,R2,1,1,0\na,R3,0,0,1\nb,R1,0,0,1\nb,R2,0,0,1\nb,R3,1,0,0\n",
    )
    found = read("vindr", path, ["train/a.dicom", "train/b.dicom"], negative=("No finding",))
    assert list(labels(found).values()) == [1, 0]


@pytest.mark.parametrize(
    ("uncertain", "expected"),
    [("ignore", "uncertain"), ("positive", 1), ("negative", "findings outside the mapping")],
)
def test_chexpert_blank_one_zero_and_minus_one(uncertain, expected, tmp_path):
    """Blank and 0 are absent, -1 is what --uncertain says; laterals are laterals."""
    folder = "CheXpert-v1.0-small/train"
    path = write(
        tmp_path / "train.csv",
        CHEXPERT
        + chexpert_row(f"{folder}/patient00001/study1/view1_frontal.jpg", No_Finding="1.0")
        + chexpert_row(f"{folder}/patient00002/study1/view1_frontal.jpg", "PA", Pneumonia="1.0")
        + chexpert_row(f"{folder}/patient00002/study2/view2_lateral.jpg", "", Pneumonia="-1.0")
        + chexpert_row(f"{folder}/patient00003/study1/view1_frontal.jpg", Pneumonia="0.0"),
    )
    keys = [
        "train/patient00001/study1/view1_frontal.jpg",
        "train/patient00002/study1/view1_frontal.jpg",
        "train/patient00002/study2/view2_lateral.jpg",
        "train/patient00003/study1/view1_frontal.jpg",
    ]
    found = read("chexpert", path, keys, negative=("No Finding",), uncertain=uncertain)
    assert list(labels(found).values()) == [0, 1, expected, "findings outside the mapping"]
    assert [row.view for row in found.by_image.values()] == ["AP", "PA", "LATERAL", "AP"]
    assert found.by_image[keys[1]].patient == found.by_image[keys[2]].patient == "patient00002"
    assert found.by_image[keys[0]][3:5] == ("68", "F")
    assert found.books.uncertain_findings == {"Pneumonia": 1}


def test_mimic_labels_studies_and_finds_views_and_splits_beside_them(tmp_path):
    """All films of a study have its labels; views and splits are those of the film."""
    path = write(
        tmp_path / "mimic-cxr-2.0.0-chexpert.csv",
        MIMIC
        + mimic_row("10000032", "50414267", No_Finding="1.0")
        + mimic_row("10000764", "57375967", Pneumonia="1.0")
        + mimic_row("19999999", "59999999", Pneumonia="1.0"),
    )
    keys = [
        "files/p10/p10000032/s50414267/02aa804e.jpg",
        "files/p10/p10000032/s50414267/174413ec.jpg",
        "files/p10/p10000764/s57375967/096052b7.jpg",
    ]
    alone = read("mimic", path, keys, negative=("No Finding",))
    assert list(labels(alone).values()) == [0, 0, 1]
    assert (alone.books.used, alone.books.rows_without_image) == (2, 1)
    head = "dicom_id,subject_id,study_id"
    write(
        tmp_path / "mimic-cxr-2.0.0-metadata.csv",
        f"{head},ViewPosition\n02aa804e,10000032,50414267,PA\n174413ec,10000032,50414267,LATERAL\n",
    )
    packed = gzip.compress(f"{head},split\n096052b7,10000764,57375967,validate\n".encode())
    (tmp_path / "mimic-cxr-2.0.0-split.csv.gz").write_bytes(packed)
    found = read("mimic", path, keys, negative=("No Finding",))
    assert [(row.view, row.split) for row in found.by_image.values()] == [
        ("PA", ""),
        ("LATERAL", ""),
        ("", "val"),
    ]
    assert found.by_image[keys[0]].patient == "10000032"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_any_other_table_is_read_by_the_names_of_its_columns(encoding, tmp_path):
    """Separator, findings and columns are what flags say; a gzip is unpacked."""
    text = (
        "file;Befund;Pat;Alter;Geschlecht;view;fold\n"
        "a;Pneumonie, Erguss;P1;6 months;w;pa;train\n"
        "b;unauffällig;P2;70;m;ap;test\n"
    )
    path = tmp_path / "reports.csv.gz"
    path.write_bytes(gzip.compress(text.encode(encoding)))
    found = read(
        "csv",
        path,
        ["x/a.png", "x/b.png"],
        image_column="File",
        label_column="befund",
        separator=",",
        positive=("Pneumonie",),
        negative=("unauffällig",),
        patient_column="Pat",
        age_column="Alter",
        sex_column="Geschlecht",
        view_column="view",
        split_column="fold",
    )
    assert found.by_image["x/a.png"] == (1, "", "P1", "0.5", "F", "PA", "train")
    assert found.by_image["x/b.png"] == (0, "", "P2", "70", "M", "AP", "test")


def test_minus_one_in_a_column_of_labels_is_uncertain(tmp_path):
    """1.0 is 1, and -1 is uncertain unless it is named as a finding."""
    path = write(tmp_path / "t.csv", "image,label\na.png,1.0\nb.png,0\nc.png,-1\n")
    keys = ["a.png", "b.png", "c.png"]
    for uncertain, expected in (("ignore", "uncertain"), ("positive", 1), ("negative", 0)):
        found = read("csv", path, keys, positive=("1",), negative=("0",), uncertain=uncertain)
        assert list(labels(found).values()) == [1, 0, expected]
    named = read("csv", path, keys, positive=("1",), negative=("0", "-1"))
    assert list(labels(named).values()) == [1, 0, 0]


def test_repeated_rows_count_together_and_are_listed(tmp_path):
    """Two rows of an image that contradict each other set it aside; the second one is listed."""
    path = write(tmp_path / "t.csv", "image,label\na.png,ill\na.png,well\nx/b.png,ill\nb.png,ill\n")
    found = read("csv", path, ["x/a.png", "x/b.png"], positive=("ill",), negative=("well",))
    assert labels(found) == {"x/a.png": "both positive and negative findings", "x/b.png": 1}
    assert found.books.repeated == 2
    assert list(zip(found.rows["row"], found.rows["problem"], strict=True)) == [
        (3, "repeated"),
        (5, "repeated"),
    ]


def test_a_name_that_fits_two_images_labels_neither(tmp_path):
    """Both rows are listed with the reason, and the books say so."""
    path = write(tmp_path / "t.csv", "image,label\n1.png,ill\n2.png,well\n")
    found = read(
        "csv", path, ["a/1.png", "b/1.png", "b/2.png"], positive=("ill",), negative=("well",)
    )
    assert labels(found) == {"b/2.png": 0}
    assert list(found.rows["problem"]) == ["several_images"]
    assert found.books.rows_of_several_images == 1


REFUSED = {
    "no choice": ("nih", NIH + "a.png,Pneumonia,1,1,M,PA\n", {}, "--negative FINDING|--negative others"),
    "misspelt": (
        "nih",
        NIH + "a.png,Pneumonia,1,1,M,PA\n",
        {"negative": ("NoFinding",)},
        "NoFinding is no finding of the table: its findings, by rows, are Pneumonia 1",
    ),
    "another collection": ("rsna", NIH + "a.png,Pneumonia,1,1,M,PA\n", {}, "--labels nih:"),
    "no such column": ("csv", "name,label\na,b\n", {}, "column image, found name, label"),
    "recognised": ("csv", NIH + "a.png,Pneumonia,1,1,M,PA\n", {}, "--labels nih:"),
    "no rows": ("nih", NIH, {}, "found none"),
    "a wrong state": (
        "chexpert",
        CHEXPERT + chexpert_row("train/a.jpg", Pneumonia="maybe"),
        {},
        "expected 1, 0, -1 or nothing in the column Pneumonia",
    ),
    "two patients": (
        "nih",
        NIH + "a.png,Pneumonia,1,1,M,PA\na.png,No Finding,2,1,M,PA\n",
        {"negative": ("others",)},
        "expected one patient for each image",
    ),
    "no split": (
        "csv",
        "image,label,fold\na.png,ill,3\n",
        {"split_column": "fold", "positive": ("ill",), "negative": ("others",)},
        "expected train, val or test",
    ),
    "both": (
        "csv",
        "image,label\na.png,ill\n",
        {"positive": ("ill",), "negative": ("ill",)},
        "both --positive and --negative",
    ),
    "an open quote": ("csv", 'image,label\n"a.png,ill\nb.png,ill\n', {}, "cells in every row|line break"),
    "other images": (
        "csv",
        "image,label\nz.png,ill\n",
        {"positive": ("ill",), "negative": ("others",)},
        "none of 1 rows names one image",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_with_what_to_do(case, tmp_path):
    """The error says what was expected and found."""
    collection, text, flags, message = REFUSED[case]
    path = write(tmp_path / "t.csv", text)
    with pytest.raises(DataError, match=message):
        read(collection, path, ["a.png"], **flags)


def test_a_flag_without_a_table_is_refused():
    """--negative alone would be dropped in silence."""
    with pytest.raises(ValueError, match="--negative says how a table of labels is read"):
        ReadingSettings(negative=("No Finding",))


def test_a_finding_that_is_nowhere_in_the_table_is_noted(tmp_path):
    """Of several findings one may be misspelt, or rare: a note says which is nowhere."""
    path = write(tmp_path / "t.csv", "image,label\na.png,ill\nb.png,well\n")
    reading = ReadingSettings(labels=f"csv:{path}", positive=("ill", "sick"), negative=("well",))
    mapping = choices.require_choices(label_table.read_label_table(reading), reading)
    assert mapping.positive == ("ill",)
    assert mapping.notes == (f"{path}: --positive sick is no finding of the table",)


def test_the_question_shows_both_answers_with_their_counts(tmp_path):
    """Findings with counts, and what "No Finding" and "others" would mean."""
    path = write(
        tmp_path / "t.csv",
        NIH + "a.png,Pneumonia,1,1,M,PA\nb.png,No Finding,2,1,M,PA\nc.png,Hernia,3,1,M,PA\n",
    )
    with pytest.raises(DataError) as caught:
        read("nih", path, ["a.png"])
    assert (
        "--negative 'No Finding' (1 images with it against 1 with Pneumonia; 1 are set aside)"
        in str(caught.value)
    )
    assert "--negative others (2 images without Pneumonia" in str(caught.value)
    assert "Hernia 1" in str(caught.value)


@settings(max_examples=40)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from("abcdef"), st.sampled_from(["ill", "well", "odd", "ill|odd", ""])
        ),
        min_size=1,
        max_size=20,
    ),
    images=st.sets(st.sampled_from(["a.png", "b.png", "x/c.png", "y/c.png", "g.png"]), min_size=1),
    others=st.booleans(),
)
def test_the_books_balance_whatever_the_table_says(rows, images, others, tmp_path_factory):
    """Every row and every image is counted once, and findings are counted as pandas does."""
    path = tmp_path_factory.mktemp("tables") / "t.csv"
    frame = pd.DataFrame([*rows, ("a", "ill"), ("a", "well")], columns=["image", "label"])
    frame.to_csv(path, index=False)
    keys = sorted({*images, "a.png"})
    negative = ("others",) if others else ("well",)
    found = read("csv", path, keys, positive=("ill",), negative=negative)
    books = found.books
    assert books.rows == len(frame)
    assert books.rows == books.used + books.rows_without_image + books.rows_of_several_images
    unlabelled = sum(books.without_label.values())
    assert len(keys) == sum(books.labelled.values()) + books.without_row + unlabelled
    findings = frame["label"].str.split("|").explode()
    assert books.findings == findings[findings != ""].value_counts().to_dict()
    # The same rule, written down row by row.
    by_name = frame[frame["label"] != ""].groupby("image")["label"].agg("|".join)
    for key, row in found.by_image.items():
        said = set(by_name.get(key.rpartition("/")[2].removesuffix(".png"), "").split("|"))
        expected = None
        if "ill" in said:
            expected = 1 if others or "well" not in said else None
        elif others or "well" in said:
            expected = 0
        assert row.label == expected


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the real tables (shared/data/hospital) are not here")
@pytest.mark.parametrize(
    ("collection", "name", "flags"),
    [
        (
            "nih",
            "nih_Data_Entry_2017_v2020_head.csv",
            {"positive": ("Infiltration",), "negative": ("No Finding",)},
        ),
        ("rsna", "rsna_stage_2_train_labels_head.csv", {"negative": ("0",)}),
        (
            "vindr",
            "vinbigdata_train_head.csv",
            {"positive": ("Consolidation", "Infiltration"), "negative": ("No finding",)},
        ),
    ],
)
def test_the_heads_of_the_published_tables(collection, name, flags):
    """They are read as they are; findings are counted as pandas does, and the books balance."""
    frame = pd.read_csv(REAL / name, dtype=str)
    image, label = {
        "nih": ("Image Index", "Finding Labels"),
        "rsna": ("patientId", "Target"),
        "vindr": ("image_id", "class_name"),
    }[collection]
    keys = sorted(f"films/{stem.removesuffix('.png')}.dcm" for stem in frame[image].unique())
    table = label_table.read_label_table(ReadingSettings(labels=f"{collection}:{REAL / name}"))
    assert table.counts() == frame[label].str.split("|").explode().value_counts().to_dict()
    found = read(collection, REAL / name, keys, **flags)
    assert found.books.used == len(frame)
    assert found.books.without_row == 0
    assert found.books.labelled["NORMAL"] > 0


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the real tables (shared/data/hospital) are not here")
def test_the_header_of_chexpert_is_known_and_without_rows_refused():
    """Its columns are those of CheXpert, and a table without rows labels nothing."""
    reading = ReadingSettings(labels=f"chexpert:{REAL / 'chexpert_train_header.csv'}")
    with pytest.raises(DataError, match="found none"):
        label_table.read_label_table(reading)


WHOLE = """
import json, resource, sys, time
import pandas as pd
from cxr.core.settings import ReadingSettings
from cxr.data.survey.survey import survey_folders
from cxr.storage.base import Entry

class Bucket:
    uri = place = "s3://made-up/nih"
    def list(self, prefix=""):
        for number, name in enumerate(names):
            yield Entry(f"images_{number // 10_000 + 1:03d}/images/{name}", 400_000, "1")
    def peek_many(self, wanted, count):
        assert not list(wanted)
        return iter(())
    def read_many(self, wanted):
        assert not list(wanted)
        return iter(())

path = sys.argv[1]
names = sorted(pd.read_csv(path, usecols=["Image Index"], dtype=str)["Image Index"])
start = time.process_time()
survey = survey_folders(Bucket(), ReadingSettings(labels=f"nih:{path}", negative=("No Finding",)))
seconds = time.process_time() - start
books = survey.labels.books
print(json.dumps({
    "seconds": seconds,
    "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    "findings": books.findings,
    "labelled": books.labelled,
    "unused": sum(books.without_label.values()) + books.without_row,
    "found": survey.found,
    "kept": len(survey.images),
    "rejects": len(survey.rejects),
    "question": survey.question,
}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the real tables (shared/data/hospital) are not here")
def test_the_whole_nih_table_takes_seconds_and_little_memory():
    """112,120 rows are read, joined and accounted for in 20 s and 1 GB; counts are pandas' own."""
    path = REAL / "nih_Data_Entry_2017_v2020.csv.gz"
    done = subprocess.run(
        [sys.executable, "-c", WHOLE, str(path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    told = json.loads(done.stdout)
    findings = pd.read_csv(path)["Finding Labels"]
    assert told["findings"] == findings.str.split("|").explode().value_counts().to_dict()
    parts = findings.str.split("|").map(set)
    is_ill = np.array(["Pneumonia" in part for part in parts])
    is_normal = np.array(["No Finding" in part for part in parts])
    assert told["labelled"] == {"NORMAL": int(is_normal.sum()), "PNEUMONIA": int(is_ill.sum())}
    assert told["found"] == len(findings) == told["kept"] + told["rejects"]
    assert told["unused"] == told["rejects"]
    assert told["question"] == ""
    assert told["seconds"] < 20
    assert told["megabytes"] < 1000
