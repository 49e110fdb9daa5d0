"""`--test-by` makes test of the images for which it holds, whatever the folders say."""

from pathlib import Path

import pandas as pd
import pytest
from pydantic import ValidationError

from cxr.core.errors import DataError
from cxr.core.files import read_table
from cxr.core.settings import EXCLUDED, SplitSettings
from cxr.data.leakage import repair
from cxr.data.manifest.records import Ingest
from cxr.data.patients import splits, test_rule
from tests.conftest import preprocess


def table() -> pd.DataFrame:
    """Return 120 films of 60 patients, both classes alike from three makers; a tenth without one."""
    rows = []
    for number in range(120):
        patient = number // 2
        rows.append(
            {
                "image": f"film-{number}",
                "label": patient % 2,
                "source_split": ("train", "val", "test")[number % 3],
                "patient_id": f"p{patient}",
                "patient_group": f"p{patient}",
                "manufacturer": ("Agfa", "Siemens", "GE Healthcare")[patient // 2 % 3],
                "year": str(2015 + number // 12),
                "pixel_spacing": "0.1430",
            }
        )
    rows[0]["manufacturer"] = ""
    rows[1]["manufacturer"] = ""
    return pd.DataFrame(rows)


def chosen(rule: str) -> pd.DataFrame:
    rows = table()
    return rows[(test_rule.choose_test(rows, rule).rows["source_split"] == "test").to_numpy()]


def test_a_maker_becomes_test_and_the_other_folders_train_or_val():
    """Names are compared without regard to case; a folder test that was not chosen is train."""
    choice = test_rule.choose_test(table(), "manufacturer = ge healthcare")
    is_chosen = (table()["manufacturer"] == "GE Healthcare").to_numpy()
    split = choice.rows["source_split"].to_numpy()
    assert (split[is_chosen] == "test").all() and is_chosen.sum() == 40
    folders = table()["source_split"].to_numpy()
    assert (split[~is_chosen & (folders == "test")] == "train").all()
    assert (split[~is_chosen & (folders == "val")] == "val").all()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("year>=2020", 60),
        ("year > 2020", 48),
        ("year<2017", 24),
        ("year<=2017", 36),
        ("year!=2017.0", 108),
        ("year=2017", 12),
    ],
)
def test_numbers_are_compared_as_numbers(rule: str, expected: int):
    """Twelve films of each year from 2015 on."""
    assert len(chosen(rule)) == expected


def test_what_is_not_known_is_never_test_and_is_counted():
    """Not Agfa is said of those whose maker is known: the two films without one stay in train."""
    choice = test_rule.choose_test(table(), "manufacturer!=Agfa")
    known = table()["manufacturer"] != ""
    is_test = choice.rows["source_split"] == "test"
    assert not is_test[~known].any()
    assert int(is_test.sum()) == int((known & (table()["manufacturer"] != "Agfa")).sum())
    assert choice.notes == (
        "--test-by manufacturer!=Agfa: 2 images of 120 without a manufacturer, "
        "which were not made test",
    )
    assert "2 without a manufacturer" in choice.policy


def test_other_images_of_its_patients_are_set_aside():
    """Patients stay whole, and val has its share of those who are left."""
    rows = table()
    rows.loc[rows["image"] == "film-3", "patient_id"] = "p59"  # a film of 2015 of a test patient
    choice = test_rule.choose_test(rows, "year>=2023")
    kept = test_rule.set_aside_patients(choice.rows)
    divided, policy = splits.assign_splits(kept, SplitSettings(), choice.policy)
    assert list(divided.loc[divided["split"] == EXCLUDED, "image"]) == ["film-3"]
    assert policy.startswith("test is every image with year>=2023, whatever its folder; val carved")
    used = divided[divided["split"] != EXCLUDED]
    assert (used.groupby("patient_id")["split"].nunique() == 1).all()
    rest = used[used["split"] != "test"]
    assert (rest["split"] == "val").mean() == pytest.approx(0.12, abs=0.02)
    assert repair.exclude_shared_patients(divided)["split"].equals(divided["split"])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("maker=Agfa", r"one of the columns .*manufacturer.*, found maker"),
        ("split=test", r"one of the columns .*, found split"),
        ("manufacturer=Philips", r"no NORMAL and no PNEUMONIA .*Siemens \(40 images\)"),
        ("manufacturer>Agfa", "expected = or !=, as manufacturer is a text, found >"),
        ("year>=new", "expected a number after >=, found new"),
        ("pixel_spacing<1", "both classes in train, found no NORMAL and no PNEUMONIA"),
        ("image=film-3", "both classes in test, found no NORMAL image among 1"),
        ("sex=F", "expected a sex for some images, found none"),
    ],
)
def test_a_rule_that_cannot_be_used_says_what_there_is(rule: str, message: str):
    """Unknown columns, values that do not occur, comparisons that mean nothing, a missing class."""
    with pytest.raises(DataError, match=message):
        test_rule.choose_test(table().assign(sex=""), rule)


@pytest.mark.parametrize("rule", ["manufacturer", "=Agfa", "year>", "year => 2020"])
def test_what_is_no_condition_is_refused_before_anything_is_read(rule: str):
    """The settings themselves refuse it, and show one that is right."""
    with pytest.raises(ValidationError, match="year>=2025"):
        SplitSettings(test_by=rule)


def test_preprocessing_makes_test_by_the_rule_and_says_so(phantoms: Path, tmp_path: Path):
    """The folders are kept in source_split, the policy in ingest.json names the rule."""
    work = tmp_path / "work"
    preprocess(phantoms, tmp_path / "by_folder")
    by_folder = read_table(tmp_path / "by_folder" / "clean_metadata.csv")
    limit = int(by_folder["width"].quantile(0.75))
    preprocess(phantoms, work, SplitSettings(test_by=f"width>={limit}"))
    rows = read_table(work / "clean_metadata.csv")
    used = rows[rows["split"] != EXCLUDED]
    assert ((used["split"] == "test") == (used["width"] >= limit)).all()
    assert (used["split"] == "val").any()
    folders = by_folder.set_index("image")["source_split"]
    common = rows[rows["image"].isin(folders.index)]
    assert (common["source_split"].to_numpy() == folders.loc[common["image"]].to_numpy()).all()
    assert f"width>={limit}" in Ingest.read(work / "ingest.json").split_policy
