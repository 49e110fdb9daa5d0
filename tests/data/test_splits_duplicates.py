"""Exact duplicates and label conflicts are removed, and splits are patient-wise."""

import numpy as np
import pandas as pd
import pytest
from sklearn.utils.class_weight import compute_class_weight

from cxr.core.errors import DataError
from cxr.core.settings import SplitSettings
from cxr.data.leakage import exact_duplicates
from cxr.data.patients import splits


def rows(*cells: tuple[str, str, int, str, str]) -> pd.DataFrame:
    return pd.DataFrame(cells, columns=["image", "source_split", "label", "md5", "pixel_sha256"])


def test_class_weights_are_those_of_scikit_learn():
    """12 NORMAL and 20 PNEUMONIA: 32 / (2 x 12) and 32 / (2 x 20), to the last digit."""
    weights = splits.class_weights({"NORMAL": 12, "PNEUMONIA": 20})
    labels = np.array([0] * 12 + [1] * 20)
    expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=labels)
    assert weights == dict(enumerate(expected))


@pytest.mark.parametrize("missing", ["NORMAL", "PNEUMONIA"])
def test_a_class_missing_from_train_is_an_error_that_names_it(missing: str):
    """The weight of a class without images would be infinite."""
    counts = {name: 5 for name in ("NORMAL", "PNEUMONIA") if name != missing}
    with pytest.raises(DataError, match=f"found no {missing}"):
        splits.class_weights(counts)


def test_test_is_kept_before_val_before_train_then_the_smallest_name():
    """One image of each picture is kept: in test where test has it."""
    table = rows(
        ("train/a", "train", 0, "1", "p"),
        ("test/z", "test", 0, "1", "p"),
        ("val/b", "val", 0, "2", "p"),
        ("train/d", "train", 1, "3", "q"),
        ("train/c", "train", 1, "4", "q"),
        ("train/e", "train", 0, "5", "r"),
    )
    kept, rejects = exact_duplicates.remove_exact_duplicates(table)
    assert list(kept["image"]) == ["test/z", "train/c", "train/e"]
    assert dict(zip(rejects["image"], rejects["detail"], strict=True)) == {
        "val/b": "same pixels as test/z",
        "train/a": "same bytes as test/z",
        "train/d": "same pixels as train/c",
    }
    assert set(rejects["reason"]) == {"duplicate"}


def test_a_picture_under_both_labels_is_removed():
    """Which label is right cannot be known: all copies are rejected, each with its reason."""
    table = rows(
        ("a", "train", 0, "1", "p"),
        ("b", "test", 1, "1", "p"),
        ("c", "train", 0, "1", "p"),
        ("d", "", 1, "2", "q"),
    )
    kept, rejects = exact_duplicates.remove_exact_duplicates(table)
    assert list(kept["image"]) == ["d"]
    assert sorted(rejects["image"]) == ["a", "b", "c"] and set(rejects["reason"]) == {
        "label_conflict"
    }


def many(patients: int = 200, source: str = "train") -> pd.DataFrame:
    rng = np.random.default_rng(3)
    cells = []
    for patient in range(patients):
        images = range(rng.integers(1, 5))
        cells += [
            (f"{source}/{patient}_{i}", source, int(patient % 3 > 0), f"p{patient}") for i in images
        ]
    table = pd.DataFrame(cells, columns=["image", "source_split", "label", "patient_id"])
    return table.assign(patient_group=table["patient_id"])


def shared(table: pd.DataFrame) -> int:
    return int((table.groupby("patient_id")["split"].nunique() > 1).sum())


def test_validation_is_carved_by_patient_and_stratified():
    """About 12 % of the images are val, by patient, stratified, and reproducible by the seed."""
    table = pd.concat(
        [many(), many(60, "test").assign(patient_id=lambda t: "t" + t["patient_id"])],
        ignore_index=True,
    )
    table["patient_group"] = table["patient_id"]
    out, policy = splits.assign_splits(table, SplitSettings())
    pool = out[out["split"] != "test"]
    share = (pool["split"] == "val").mean()
    assert 0.09 < share < 0.15 and shared(out) == 0
    assert (out["split"] == "test").equals(table["source_split"] == "test")
    by_split = pool.groupby("split")["label"].mean()
    assert abs(by_split["train"] - by_split["val"]) < 0.12
    assert "12%" in policy and out.equals(splits.assign_splits(table, SplitSettings())[0])
    assert not out.equals(splits.assign_splits(table, SplitSettings(split_seed=1))[0])


def test_published_validation_is_kept_where_asked():
    """keep_published_val leaves val and train as they were given."""
    table = pd.concat([many(), many(9, "val"), many(9, "test")], ignore_index=True)
    out, policy = splits.assign_splits(table, SplitSettings(keep_published_val=True))
    assert out["split"].equals(table["source_split"]) and "val as published" in policy


def test_test_is_carved_where_there_is_none():
    """Images without split folders: test and val are carved by patient, and the policy says so."""
    out, policy = splits.assign_splits(many(source=""), SplitSettings())
    assert set(out["split"]) == {"train", "val", "test"} and shared(out) == 0
    assert policy.startswith("test carved")


def test_too_few_patients_is_an_error_with_numbers():
    """One patient a class cannot be divided."""
    with pytest.raises(DataError, match="at least 2 patients each, found 2 patient"):
        splits.assign_splits(many(2), SplitSettings())


def test_one_class_only_is_an_error():
    """Nothing can be learnt of one class."""
    with pytest.raises(DataError, match="both classes"):
        splits.assign_splits(many()[lambda t: t["label"] == 1], SplitSettings())


def test_images_without_a_patient_stand_alone():
    """Without a patient each image is its own group, so that nothing is merged by accident."""
    table = many().assign(patient_id="")
    assert splits.patient_groups(table).is_unique


def test_validation_is_carved_by_the_strictest_reading():
    """Patients that a stricter reading joins are never divided, whatever the patient key says."""
    table = many()
    number = table["patient_id"].str[1:].astype(int)
    # Four patients of one label make a group.
    table["patient_group"] = (number % 3).astype(str) + "_" + (number // 12).astype(str)
    out, _ = splits.assign_splits(
        pd.concat([table, many(9, "test")], ignore_index=True), SplitSettings()
    )
    carved = out[out["split"] != "test"]
    assert (carved.groupby("patient_group")["split"].nunique() == 1).all() and (
        carved["split"] == "val"
    ).any()


def test_subset_takes_whole_patients():
    """A share of the train patients, both labels, none divided."""
    table = many()
    part = splits.subset_by_patient(table, 0.3, 0)
    whole = table[table["patient_id"].isin(part["patient_id"])]
    assert (
        0.2 < len(part) / len(table) < 0.4
        and len(part) == len(whole)
        and part["label"].nunique() == 2
    )
