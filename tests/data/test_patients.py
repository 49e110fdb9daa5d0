"""Which patient an image shows, by published names, other readings, a pattern or a table."""

import pandas as pd
import pytest
from pydantic import ValidationError

from cxr.core.errors import DataError
from cxr.core.files import write_table
from cxr.core.settings import READINGS, SplitSettings
from cxr.data.patients import patients


def read_patients(images, key):
    return patients.find_rule(images, key).table(images)


@pytest.mark.parametrize(
    ("name", "patient", "merged", "etiology"),
    [
        ("person447_virus_921_1.jpeg", "person447_virus", "person447", "virus"),
        ("person1_bacteria_2.jpeg", "person1_bacteria", "person1", "bacteria"),
        ("NORMAL2-IM-0587-0001-0002.jpeg", "NORMAL2-IM-0587", "IM-0587", ""),
        ("IM-0115-0001.jpeg", "IM-0115", "IM-0115", ""),
        ("PERSON7_VIRUS_1.JPG", "person7_virus", "person7", "virus"),
        ("scan7.png", "", "", ""),
    ],
)
def test_patient_is_read_from_published_names(name, patient, merged, etiology):
    """The default reading tells etiologies and series apart, the merged one joins them."""
    row = read_patients([f"train/X/{name}"], "person+etiology").iloc[0]
    assert tuple(row) == (patient, etiology, merged)


def test_each_reading_merges_what_it_says():
    """Four images, two persons numbered alike and two series: 4, 3, 3 and 2 patients."""
    images = [
        "person5_virus_1.jpeg",
        "person5_bacteria_2.jpeg",
        "IM-0005-1.jpeg",
        "NORMAL2-IM-0005-1.jpeg",
    ]
    assert [read_patients(images, reading)["patient_id"].nunique() for reading in READINGS] == [
        4,
        3,
        3,
        2,
    ]


def test_a_regular_expression_names_the_patient_in_the_path():
    """The group `patient` is searched in the whole key, and is the strictest reading, too."""
    table = read_patients(["ward/P17/a.png", "ward/none/b.png"], r"regex:/(?P<patient>P\d+)/")
    assert list(table["patient_id"]) == ["P17", ""]
    assert list(table["patient_group"]) == ["P17", ""]


def test_a_table_names_the_patient(tmp_path):
    """csv:FILE with image and patient_id; an image that is not in it has no patient."""
    write_table(pd.DataFrame({"image": ["a.png"], "patient_id": ["007"]}), tmp_path / "who.csv")
    assert list(read_patients(["a.png", "b.png"], f"csv:{tmp_path / 'who.csv'}")["patient_id"]) == [
        "007",
        "",
    ]
    write_table(pd.DataFrame({"image": ["a.png"], "person": ["007"]}), tmp_path / "other.csv")
    with pytest.raises(
        DataError, match="expected the columns image and patient_id, found image, person"
    ):
        read_patients(["a.png"], f"csv:{tmp_path / 'other.csv'}")
    twice = pd.DataFrame({"image": ["a.png", "a.png"], "patient_id": ["1", "2"]})
    write_table(twice, tmp_path / "twice.csv")
    with pytest.raises(DataError, match="one patient for each image, found two for a"):
        read_patients(["a.png"], f"csv:{tmp_path / 'twice.csv'}")
    with pytest.raises(DataError, match="expected a CSV file"):
        read_patients(["a.png"], "csv:nowhere.csv")


@pytest.mark.parametrize(
    ("key", "words"),
    [("name", "expected one of"), ("regex:(", "not a regular"), ("regex:P", "group named")],
)
def test_a_rule_that_cannot_work_stops_before_the_start(key, words):
    """A misspelt reading, a broken expression, an expression without the group: said at once."""
    with pytest.raises(ValidationError, match=words):
        SplitSettings(patient_key=key)


def test_shared_patients_are_counted_under_every_reading():
    """Patients told apart by etiology are not shared; where etiologies are merged, one is."""
    rows = pd.DataFrame(
        {
            "image": ["person1_virus_1.png", "person1_bacteria_1.png"],
            "split": ["train", "test"],
            "patient_id": ["person1_virus", "person1_bacteria"],
        }
    )
    shared = patients.shared_by_reading(rows, "person+etiology")
    assert shared["person+etiology"] == {"train/test": 0, "train/val": 0, "val/test": 0}
    assert shared["person"]["train/test"] == 1
    assert shared["merged"]["train/test"] == 1
