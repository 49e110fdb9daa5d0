"""clean_metadata.csv is refused where it breaks a rule, in words that a person can act on."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.core import files
from cxr.core.errors import DataError
from cxr.core.files import read_table, write_table
from cxr.core.settings import LABEL_NAMES
from cxr.data.manifest import contract, known_datasets
from cxr.data.manifest.records import Ingest

SPLITS = ("train", "train", "val", "test", "excluded")


def table(**changed: object) -> pd.DataFrame:
    """Ten rows that keep every rule, one of each split and class (two of train)."""
    rows = [
        row(number, split, number % 2)
        for number, split in enumerate([s for s in SPLITS for _ in (0, 1)])
    ]
    return pd.DataFrame(rows).assign(**changed)


def row(number: int, split: str, label: int) -> dict[str, object]:
    return {
        "image": f"train/{LABEL_NAMES[label]}/{number}.jpeg", "label": label, "label_name": LABEL_NAMES[label],
        "split": split, "source_split": "train", "patient_id": f"p{number}", "etiology": ["", "virus"][label],
        "md5": f"{number:032x}", "pixel_sha256": f"{number:064x}", "phash": f"{0:064x}", "width": 100, "height": 90,
        "mode": "L", "bytes": 5000, "mean": 120.5, "std": 60.0, "format": "JPEG", "icc": 0, "exif": 1,
        "quantisation": "071f0329",
    }  # fmt: skip


def ingest(**changed: object) -> Ingest:
    """The record that fits `table()`, without the fields that are not looked at."""
    counts = {
        "train": {"NORMAL": 2, "PNEUMONIA": 2},
        **{s: {"NORMAL": 1, "PNEUMONIA": 1} for s in ("val", "test")},
    }
    return Ingest.model_construct(**({"kept": 10, "splits": counts} | changed))


def refusal(rows: pd.DataFrame, record: Ingest | None = None) -> str:
    with pytest.raises(DataError) as raised:
        contract.check_manifest(rows, record)
    return str(raised.value)


def test_a_table_that_keeps_its_promises_comes_back_as_it_is():
    """With its record, with columns beyond the promised ones, and whatever its index."""
    rows = table(thumbnail="a:1").set_index(np.arange(10) * 3)
    assert contract.check_manifest(rows, ingest()) is rows


def test_a_table_from_the_disk_keeps_its_promises(tmp_path: Path):
    """Texts are Python objects and numbers int64 and float64 after `read_table`; empty texts stay empty texts."""
    write_table(table(), tmp_path / "clean_metadata.csv")
    contract.check_manifest(
        read_table(tmp_path / "clean_metadata.csv").astype({"icc": int, "exif": int}), ingest()
    )


def test_odd_file_names_pass_and_can_be_printed(tmp_path: Path):
    """Line breaks, undecodable bytes and foreign scripts are names like others, escaped where they are shown."""
    odd = [
        "a\nb.jpeg",
        "r\udce9sum.jpeg",
        "肺炎.jpeg",
        "a,b\r.jpeg",
        *(f"{n}.jpeg" for n in range(6)),
    ]
    write_table(table(image=odd), tmp_path / "t.csv")
    rows = read_table(tmp_path / "t.csv").astype({"icc": int, "exif": int})
    assert list(contract.check_manifest(rows)["image"]) == odd
    message = refusal(rows.assign(width=0))
    message.encode()
    assert "found 0 in a\\nb.jpeg, 0 in r\\udce9sum.jpeg" in message


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("label", 2, "label: expected 0 or 1, found 2"),
        ("label", "0", "label: expected 0 or 1"),
        ("label_name", "SICK", "label_name: expected one of NORMAL, PNEUMONIA"),
        ("split", "Train", 'split: expected one of train, val, test, excluded, found "Train"'),
        ("source_split", "other", "source_split: expected one of"),
        ("patient_id", 5, "patient_id: expected a text"),
        ("etiology", "fungus", "etiology: expected one of bacteria, virus, an empty text"),
        ("md5", "ABC", "md5: expected 32 hex digits"),
        ("phash", "g" * 64, "phash: expected 64 hex digits"),
        ("width", 0, "width: expected whole numbers above 0"),
        ("height", -1, "height: expected whole numbers above 0, found -1"),
        ("bytes", 1.5, "bytes: expected whole numbers above 0"),
        ("mode", "CMYK", "mode: expected one of L"),
        ("mean", 256.0, "mean: expected numbers from 0 to 255"),
        ("mean", "120", "mean: expected numbers from 0 to 255"),
        ("std", float("nan"), "std: expected a value in every row, found nan"),
        ("md5", None, "md5: expected a value in every row"),
        ("format", "JPEG2000", "format: expected one of JPEG"),
        ("icc", 2, "icc: expected 0 or 1"),
        ("quantisation", "xyz", "quantisation: expected 8 hex digits"),
        ("pixel_sha256", "0" * 64, "pixel_sha256: expected values that occur once"),
        ("image", "a.jpeg", 'image: expected values that occur once, found "a.jpeg" in row 1'),
        ("image", "", "image: expected a file's key"),
    ],
)
def test_a_broken_rule_is_named_with_what_was_expected_and_found(
    column: str, value: object, expected: str
):
    """One line in plain words, the first three rows and the number of the others, and what to do."""
    message = refusal(table(**{column: value}))
    assert expected in message
    assert "Preprocess again" in message
    assert len(message) < 700
    assert "7 row(s) more" in message


def test_a_name_that_is_not_the_labels_is_refused():
    """Row 5 says 1 and NORMAL: one of the two is wrong."""
    rows = table()
    rows.loc[5, "label_name"] = "NORMAL"
    message = refusal(rows)
    assert (
        'label_name: expected the name of the label (0 NORMAL, 1 PNEUMONIA), found "NORMAL" in train/'
        in message
    )
    assert "more" not in message


def test_every_missing_column_and_every_broken_rule_is_named():
    """One repair at a time would take an afternoon."""
    message = refusal(table(width=0, split="x").drop(columns=["md5", "icc", "image"]))
    for expected in (
        "a column md5, found none",
        "a column icc",
        "a column image",
        "width: expected",
        "split: expected",
    ):
        assert expected in message


def test_an_empty_table_is_refused():
    """No row is no data set."""
    assert "found none" in refusal(table().iloc[:0])


def test_counts_that_do_not_add_up_with_the_record_are_refused():
    """A row deleted by hand: the total and its class differ."""
    message = refusal(table().drop(index=7), ingest())
    assert (
        "expected 10 rows, found 9; test PNEUMONIA: expected 1 images, found 0. Preprocess again"
        in message
    )


def test_excluded_rows_count_as_kept_but_in_no_split():
    """Moving a row from val to excluded leaves the total and breaks val."""
    moved = table().assign(
        split=["train"] * 4 + ["excluded", "val"] + ["test"] * 2 + ["excluded"] * 2
    )
    assert "val NORMAL: expected 1 images, found 0" in refusal(moved, ingest())


def test_the_published_data_set_has_no_differences():
    """5,856 files."""
    counts = known_datasets.KNOWN["kermany"]
    assert known_datasets.differences_from_known("kermany", counts) == []
    assert sum(sum(split.values()) for split in counts.values()) == 5856


def test_differences_to_a_known_data_set_are_sentences():
    """Fewer, more, missing and unexpected splits."""
    counts = {
        "train": {"NORMAL": 1340, "PNEUMONIA": 3875},
        "test": {"NORMAL": 234, "PNEUMONIA": 400},
        "": {"NORMAL": 3},
    }
    assert known_datasets.differences_from_known("kermany", counts) == [
        "train NORMAL: expected 1,341 images as published (kermany), found 1,340 (1 fewer)",
        "val NORMAL: expected 8 images as published (kermany), found 0 (8 fewer)",
        "val PNEUMONIA: expected 8 images as published (kermany), found 0 (8 fewer)",
        "test PNEUMONIA: expected 390 images as published (kermany), found 400 (10 more)",
        "no split folder NORMAL: expected 0 images as published (kermany), found 3 (3 more)",
    ]


def test_an_unknown_data_set_is_refused():
    """The message lists what is known."""
    with pytest.raises(DataError, match="kermany"):
        known_datasets.differences_from_known("chexpert", {})


def test_counts_are_by_split_and_class():
    """What `differences` takes."""
    assert contract.count_images(table()) == {"train": {"NORMAL": 5, "PNEUMONIA": 5}}
    assert contract.count_images(table(), "split")["val"] == {"NORMAL": 1, "PNEUMONIA": 1}


@pytest.mark.parametrize("column", ["bit_depth", "inverted"])
def test_columns_that_earlier_tables_lack_are_checked_where_they_are(column: str):
    """A table of an earlier version is fine without them; where they are, wrong values are named."""
    later = table().assign(bit_depth=8, inverted=0)
    assert contract.check_manifest(later.drop(columns=column)) is not None
    assert contract.check_manifest(later.assign(bit_depth=12, inverted=1)) is not None
    assert column in refusal(later.assign(**{column: 2}))


def test_formats_and_modes_of_deep_and_double_pictures_are_known():
    """What the inspection writes of an MPO and of a 16-bit file keeps the promises."""
    assert contract.check_manifest(table().assign(format="MPO")) is not None
    assert (
        contract.check_manifest(table().assign(format="TIFF", mode="I;16", quantisation=""))
        is not None
    )


BREAKS = {
    "kept": table(),
    "an image twice, in different parts": table(
        image=["a.png", *(f"{n}.png" for n in range(8)), "a.png"]
    ),
    "pixels twice": table(pixel_sha256=["0" * 64, *(f"{n:064x}" for n in range(1, 9)), "0" * 64]),
    "a rule in a later part": table(width=[100] * 9 + [0]),
    "a label of another name": table(label_name=["PNEUMONIA", *table()["label_name"][1:]]),
    "another count": table(split=["test", *table()["split"][1:]]),
    "a row less": table()[:9],
    "no row": table()[:0],
}


@pytest.mark.parametrize("case", BREAKS)
def test_a_file_is_checked_in_parts_as_the_whole_table_is(case, tmp_path, monkeypatch):
    """The same tables pass, and the others are refused in the same words, with the rows of the whole table."""
    path = tmp_path / "clean_metadata.csv"
    write_table(BREAKS[case], path)
    monkeypatch.setattr(files, "PART_ROWS", 4)
    if case == "kept":
        contract.check_file(path, ingest())
        return
    with pytest.raises(DataError) as raised:
        contract.check_file(path, ingest())
    assert str(raised.value) == refusal(read_table(path), ingest())
