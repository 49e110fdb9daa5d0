"""Labels that readers corrected are applied to train and validation, and every answer is accounted for."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from cxr.core.errors import DataError
from cxr.core.files import read_table
from cxr.core.settings import SplitSettings
from cxr.data.labels.corrections import applying
from cxr.data.labels.corrections.answers import Answer, read_answers
from cxr.data.manifest import contract, publish, scanning
from cxr.data.manifest.comparison import COMPARISON, Comparison
from cxr.data.manifest.records import Ingest
from cxr.data.patients.hidden_storage import open_data
from tests.conftest import preprocess

HEADER = "rank,image,given_label,corrected_label,reader,date,pixel_sha256"


def digest(number: int) -> str:
    return f"{number:064x}"


def table(path: Path, *rows: str, header: str = HEADER) -> str:
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


def row(image: str, label: str, number: int, reader: str = "Dr. A", day: str = "2026-03-31") -> str:
    return f"1,{image},NORMAL,{label},{reader},{day},{digest(number)}"


def publish_again(data: Path, work: Path, settings: SplitSettings) -> Ingest:
    """Publish the manifest of images that are inspected and compared already."""
    scan = scanning.scan(open_data(str(data)), work)
    found = Comparison.read(scanning.folder_of(scan, work) / COMPARISON)
    return publish.publish_manifest(scan, found, work, settings)


@pytest.fixture
def images() -> pd.DataFrame:
    """Six images: two of each split, one of each class."""
    return pd.DataFrame(
        {
            "image": [f"{split}/{name}" for split in ("train", "val", "test") for name in "ab"],
            "label": [0, 1] * 3,
            "label_name": ["NORMAL", "PNEUMONIA"] * 3,
            "split": ["train"] * 2 + ["val"] * 2 + ["test"] * 2,
            "pixel_sha256": [digest(number) for number in range(6)],
            "etiology": ["", "virus"] * 3,
        }
    )


def answer(image: str, number: int, label: str, reader: str = "Dr. A", line: int = 2) -> Answer:
    return Answer("review.csv", line, image, digest(number), label, reader, date(2026, 3, 31))


def test_rows_with_a_corrected_label_are_answers_whatever_the_spreadsheet_did(tmp_path, caplog):
    """A byte order mark, semicolons, dotted dates and known class words are read; a row with a reader alone is said."""
    path = tmp_path / "review.csv"
    text = "\n".join([HEADER, row("a.png", "healthy", 1, day="31.3.2026"), row("b.png", "", 2)])
    path.write_bytes(b"\xef\xbb\xbf" + text.replace(",", ";").encode())
    (found,) = read_answers([str(path)])
    assert found == Answer(str(path), 2, "a.png", digest(1), "NORMAL", "Dr. A", date(2026, 3, 31))
    assert "1 row with a reader or a date and no corrected_label" in caplog.text


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (row("a.png", "maybe", 1), "maybe in place of NORMAL, PNEUMONIA or exclude"),
        (row("a.png", "NORMAL", 1, reader=""), "no reader"),
        (row("a.png", "NORMAL", 1, day=""), "nothing in place of a date"),
        (row("a.png", "NORMAL", 1, day="3/4/2026"), "3/4/2026 in place of a date"),
        (row("a.png", "NORMAL", 1, day="2026-02-30"), "2026-02-30 in place of a date"),
        (row("a.png", "NORMAL", 1, day="0026-03-31"), "nobody can have read"),
        (row("a.png", "NORMAL", 1, day="2999-01-01"), "nobody can have read"),
    ],
)
def test_an_answer_that_cannot_be_used_stops_the_run_and_names_its_row(tmp_path, line, problem):
    """An unknown label, no reader, or a date that is none or lies in the future."""
    path = table(tmp_path / "review.csv", row("ok.png", "NORMAL", 2), line)
    with pytest.raises(DataError, match="correct the rows") as error:
        read_answers([path])
    assert problem in str(error.value) and "row 3 (a.png)" in str(error.value)


def test_a_film_read_today_east_of_here_is_not_of_the_future(tmp_path):
    """Where it is tomorrow already, today's reading has tomorrow's date."""
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    path = table(tmp_path / "review.csv", row("a.png", "NORMAL", 1, day=str(tomorrow)))
    assert read_answers([path])[0].day == tomorrow


def test_a_table_without_its_columns_or_answers_is_refused(tmp_path):
    """The message names the columns, or says what to fill in."""
    with pytest.raises(DataError, match="found no pixel_sha256 and no corrected_label"):
        read_answers([table(tmp_path / "a.csv", "a,b,c", header="image,reader,date")])
    with pytest.raises(DataError, match="expected a corrected_label in some row, found none in 1"):
        read_answers([table(tmp_path / "b.csv", row("a.png", "", 1))])


def test_answers_change_train_and_validation_and_never_test(images):
    """Each answer has one outcome; splits, and everything about test, stay as they were."""
    answers = [
        answer("train/a", 0, "PNEUMONIA"),
        answer("train/b", 1, "exclude"),
        answer("val/a", 2, "NORMAL"),
        answer("val/b", 3, "NORMAL", reader="Dr. B"),
        answer("test/a", 4, "PNEUMONIA"),
        answer("train/gone", 9, "NORMAL"),
    ]
    corrected = applying.apply_answers(images, answers, "data", "")
    found = corrected.rows.set_index("image")
    assert list(corrected.answers["outcome"]) == [
        "corrected", "excluded", "confirmed", "corrected", "test", "gone",
    ]  # fmt: skip
    assert found.loc["train/a", "label"] == 1 and found.loc["val/b", "label_name"] == "NORMAL"
    assert found.loc["train/b", "split"] == "excluded" and found.loc["train/b", "label"] == 1
    assert list(found["split"].drop("train/b")) == list(images["split"].drop(1))
    assert found.loc["test/a", "label"] == 0
    assert corrected.record.corrected == {
        "train: NORMAL to PNEUMONIA": 1,
        "val: PNEUMONIA to NORMAL": 1,
    }
    assert corrected.record.not_applied == {"test": 1, "gone": 1}
    assert corrected.record.readers == {"Dr. A": 3, "Dr. B": 1}
    test_note, gone_note = corrected.notes
    assert "test/a" in test_note and "train/gone" in gone_note
    described = corrected.describe(images).set_index("image")
    assert list(described["given_label"]) == list(images["label_name"])
    assert (
        described.loc["val/b", "etiology"] == "" and described.loc["train/b", "etiology"] == "virus"
    )
    assert described.loc["val/b", "label_reader"] == "Dr. B"


def test_another_picture_of_the_same_name_keeps_its_label(images):
    """What was read is recognised by its pixels."""
    corrected = applying.apply_answers(
        images, [answer("train/a", 7, "PNEUMONIA"), answer("train/b", 1, "NORMAL")], "data", ""
    )
    assert list(corrected.answers["outcome"]) == ["other_content", "corrected"]
    assert corrected.rows["label"][0] == 0 and "train/a" in corrected.notes[0]


def test_two_readers_agree_or_are_told_where_they_do_not(images):
    """Both names are kept where they agree; otherwise the message names both rows."""
    first = answer("train/a", 0, "PNEUMONIA")
    agreeing = answer("train/a", 0, "PNEUMONIA", reader="Dr. B", line=3)
    corrected = applying.apply_answers(images, [first, agreeing], "data", "")
    assert corrected.readings["train/a"].readers == "Dr. A and Dr. B"
    assert corrected.record.repeated == 1
    disagreeing = answer("train/a", 0, "exclude", reader="Dr. B", line=3)
    with pytest.raises(
        DataError, match=r"PNEUMONIA by Dr\. A \(review\.csv row 2\) and exclude by"
    ):
        applying.apply_answers(images, [first, disagreeing], "data", "")


def test_a_table_of_another_data_set_is_refused(images):
    """No row names an image: the message shows one name of each side."""
    with pytest.raises(DataError, match="expected images of this data set") as error:
        applying.apply_answers(images, [answer("other/x.png", 0, "NORMAL")], "data", "")
    assert "other/x.png" in str(error.value) and "train/a" in str(error.value)


def test_corrections_that_leave_no_image_of_a_class_are_refused(images, tmp_path):
    """The message says which class of which split is empty."""
    path = table(tmp_path / "review.csv", row("val/b", "NORMAL", 3))
    with pytest.raises(DataError, match="found no PNEUMONIA image in val after the corrections"):
        applying.correct_labels(images, [path], "data", "")


def test_corrected_labels_are_in_the_manifest_and_its_account(phantoms, tmp_path):
    """Splits stay; the label as given is kept beside the new one, and the run's data are others."""
    before = preprocess(phantoms, tmp_path)
    manifest = read_table(tmp_path / "clean_metadata.csv")
    assert "given_label" not in manifest and before.corrections is None
    train = manifest[(manifest["split"] == "train") & (manifest["label"] == 0)]
    test = manifest[manifest["split"] == "test"].iloc[0]
    lines = [
        f"1,{image},NORMAL,{label},Dr. A,2026-03-31,{pixels}"
        for image, pixels, label in (
            (train["image"].iloc[0], train["pixel_sha256"].iloc[0], "PNEUMONIA"),
            (train["image"].iloc[1], train["pixel_sha256"].iloc[1], "exclude"),
            (test["image"], test["pixel_sha256"], "exclude"),
        )
    ]
    path = table(tmp_path / "review.csv", *lines)
    after = publish_again(phantoms, tmp_path, SplitSettings(label_corrections=(path,)))
    corrected = read_table(tmp_path / "clean_metadata.csv")
    contract.check_manifest(corrected, after)
    assert after == Ingest.read(tmp_path / "ingest.json")
    assert after.manifest_sha256 != before.manifest_sha256 and after.kept == before.kept
    assert after.splits["train"]["NORMAL"] == before.splits["train"]["NORMAL"] - 2
    assert after.splits["train"]["PNEUMONIA"] == before.splits["train"]["PNEUMONIA"] + 1
    assert (
        after.splits["val"] == before.splits["val"]
        and after.splits["test"] == before.splits["test"]
    )
    changed = corrected[corrected["label_name"] != corrected["given_label"]]
    assert list(changed["image"]) == [train["image"].iloc[0]]
    assert list(changed["label_date"]) == ["2026-03-31"]
    assert after.leakage.excluded == before.leakage.excluded, "those set aside for their patient"
    (used,) = [row.used for row in after.folders if row.folder == "train/NORMAL"]
    assert used["train PNEUMONIA"] == 1
    assert "not applied, because test labels are never changed" in after.notes[-1]
    outcomes = read_table(tmp_path / applying.CORRECTED_ROWS)
    assert list(outcomes["outcome"]) == ["corrected", "excluded", "test"]
    with pytest.raises(DataError, match=r"2 corrected labels from .* were used here before"):
        publish_again(phantoms, tmp_path, SplitSettings())
    assert Ingest.read(tmp_path / "ingest.json") == after, "what was published stays"
    (tmp_path / applying.CORRECTED_ROWS).unlink()
    assert publish_again(phantoms, tmp_path, SplitSettings()).corrections is None
    assert not (tmp_path / applying.CORRECTED_ROWS).exists()
