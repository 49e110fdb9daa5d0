"""Scanning and inspecting: one root found, every file accounted for, nothing read twice."""

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cxr.core.errors import DataError
from cxr.core.files import read_table, write_table
from cxr.core.settings import ReadingSettings, SplitSettings
from cxr.data.folders.layout import Layout, Reading
from cxr.data.manifest import publish, scanning, shard_inspection
from cxr.data.manifest.records import Ingest
from cxr.storage.addresses import open_storage
from cxr.storage.local import LocalStorage
from tests.conftest import preprocess


def put(path: Path, seed: int = 0, kind: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 40), dtype=np.uint8)).save(
        path, kind
    )


def dataset(root: Path, patients: int = 12) -> Path:
    seed = 0
    for split in ("train", "test"):
        for i in range(patients):
            put(root / split / "NORMAL" / f"IM-{seed:04d}-0001.jpeg", seed)
            put(root / split / "PNEUMONIA" / f"person{seed}_virus_{i}.jpeg", seed + 1)
            seed += 2
    return root


def reasons(work: Path) -> dict[str, str]:
    return dict(read_table(work / "rejects.csv")[["image", "reason"]].itertuples(index=False))


def test_counts_add_up_on_phantoms(phantoms, tmp_path):
    """Found = kept + rejected, every file on disk is in exactly one table, all reasons are in the closed list."""
    record = preprocess(phantoms, tmp_path)
    on_disk = {p.relative_to(phantoms).as_posix() for p in phantoms.rglob("*") if p.is_file()}
    kept, rejected = (
        list(read_table(tmp_path / f"{n}.csv")["image"]) for n in ("clean_metadata", "rejects")
    )
    assert record.found == len(on_disk) == record.kept + sum(record.rejected.values())
    assert sorted(kept + rejected) == sorted(on_disk)
    for reason in (
        "duplicate",
        "label_conflict",
        "truncated",
        "empty_file",
        "not_an_image",
        "ignored",
        "unknown_class",
    ):
        assert record.rejected[reason] > 0, reason
    assert record.patient_wise
    assert Ingest.read(tmp_path / "ingest.json") == record


@pytest.mark.parametrize("above", ["", "chest_xray", "archive/Chest X-Ray"])
def test_root_is_found_from_above_and_nested_copy_is_set_aside(tmp_path, above):
    """DATA may lie above the data set; its nested copy, __MACOSX and ._ files are listed, not used."""
    root = dataset(tmp_path / "data" / above)
    shutil.copytree(root, tmp_path / "copy")
    shutil.move(tmp_path / "copy", root / "chest_xray")
    put(root / "__MACOSX" / "train" / "NORMAL" / "._a.jpeg", kind="JPEG")
    (root / "train" / ".DS_Store").write_bytes(b"x")
    put(root / "train" / "NORMAL" / "._IM-0001.jpeg", kind="JPEG")
    record = preprocess(tmp_path / "data", tmp_path / "work")
    assert record.root == above
    assert record.kept == 48 and record.rejected == {"ignored": 3, "nested_copy": 48}


def test_two_data_sets_side_by_side_are_refused(tmp_path):
    """Which of two is meant cannot be known: the error names both."""
    for name in ("a", "b"):
        dataset(tmp_path / "data" / name, 2)
    with pytest.raises(DataError, match=r"several: a \(8 images\), b \(8 images\)"):
        preprocess(tmp_path / "data", tmp_path / "work")


def test_a_folder_without_classes_is_refused_with_what_was_expected(tmp_path):
    """The error says what layout was expected."""
    put(tmp_path / "data" / "x.png")
    with pytest.raises(DataError, match="train/NORMAL"):
        preprocess(tmp_path / "data", tmp_path / "work")


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("train/NORMAL/a.jpeg", ("", "train", 0)),
        ("TRAIN/pneumonia/deep/er/a.jpeg", ("", "train", 1)),
        ("x/Test/ward 3/Normal/a.png", ("x", "test", 0)),
        ("NORMAL/a.png", ("", "", 0)),
        ("Pneumonia/set/val/NORMAL/a.png", ("Pneumonia/set", "val", 0)),
        ("test/chest/train/NORMAL/a.png", ("test/chest", "train", 0)),
        ("train/COVID/a.png", None),
        ("train/NORMAL/PNEUMONIA/a.png", None),
    ],
)
def test_split_and_label_are_read_from_the_folders(key, found):
    """The nearest split folder above the one class folder counts; two classes are nobody's guess."""
    read = Layout(ReadingSettings()).read(key)
    assert (read[:3] if isinstance(read, Reading) else None) == found


def test_names_with_spaces_commas_newlines_and_foreign_bytes_survive(tmp_path):
    """Odd names go through CSV and back and are read by the very same name."""
    root = dataset(tmp_path / "data", 6)
    odd = [
        "a b,c.JPG",
        "line\nbreak.jpeg",
        'quo"te.PNG',
        "Lunge-ü-肺.jpeg",
        "NA.jpeg",
        "\r.jpg",
        b"latin-\xe9.jpeg".decode("utf-8", "surrogateescape"),
    ]
    for i, name in enumerate(odd):
        put(root / "train" / "NORMAL" / name, 900 + i, "PNG" if name.endswith("PNG") else "JPEG")
    preprocess(root, tmp_path / "work")
    kept = set(read_table(tmp_path / "work" / "clean_metadata.csv")["image"])
    assert {f"train/NORMAL/{name}" for name in odd} <= kept


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
        min_size=1,
        max_size=5,
    )
)
def test_any_text_survives_a_table(tmp_path_factory, texts):
    """Whatever a file name holds, the table gives it back."""
    import pandas as pd

    path = tmp_path_factory.mktemp("t") / "t.csv"
    write_table(pd.DataFrame({"image": texts, "reason": texts}), path)
    assert list(read_table(path)["image"]) == texts


def test_hostile_files_are_listed(tmp_path):
    """Links out of the folder, broken links, pipes, unreadable and vanished files are rejects, not crashes."""
    root = dataset(tmp_path / "data", 60)
    normal = root / "train" / "NORMAL"
    outside = tmp_path / "secret.jpeg"
    put(outside, 5)
    (normal / "out.jpeg").symlink_to(outside)
    (normal / "out_folder").symlink_to(tmp_path)
    (normal / "broken.jpeg").symlink_to(normal / "nothing.jpeg")
    (normal / "inside.jpeg").symlink_to(next(normal.glob("IM-*")))
    (normal / "loop").symlink_to(root)
    os.mkfifo(normal / "pipe.jpeg")
    put(normal / "gone.jpeg", 977)
    (normal / "notes.txt").write_text("x")
    put(normal / "png_inside.jpeg", 978, "PNG")
    work, storage = tmp_path / "work", open_storage(str(root))
    scan = scanning.scan(storage, work, ReadingSettings(exclude=("out_folder",)))
    (normal / "gone.jpeg").unlink()
    for shard in scan.shards:
        shard_inspection.inspect_shard(storage, scanning.folder_of(scan, work), shard)
    from cxr.data.manifest import publish

    comparison = publish.find_near_duplicates(scan, work, SplitSettings())
    publish.publish_manifest(scan, comparison, work, SplitSettings())
    named = {key.removeprefix("train/NORMAL/"): reason for key, reason in reasons(work).items()}
    assert named == {
        "out.jpeg": "outside_root", "out_folder": "excluded", "broken.jpeg": "unreadable", "inside.jpeg": "duplicate",
        "loop": "ignored", "pipe.jpeg": "not_an_image", "gone.jpeg": "vanished", "notes.txt": "not_an_image",
    }  # fmt: skip
    table = read_table(work / "clean_metadata.csv").set_index("image")
    assert table.loc["train/NORMAL/png_inside.jpeg", "format"] == "PNG"


def test_a_file_that_may_not_be_read_is_listed_and_tried_again(tmp_path, monkeypatch):
    """Missing permission is a reject this time; the next run reads the file, and only that one."""
    root, work = dataset(tmp_path / "data", 6), tmp_path / "work"
    shut = "train/NORMAL/IM-0000-0001.jpeg"
    read = LocalStorage._read

    def refuse(self, key, version, count):
        if key == shut:
            raise PermissionError(13, "Permission denied")
        return read(self, key, version, count)

    monkeypatch.setattr(LocalStorage, "_read", refuse)
    preprocess(root, work)
    assert reasons(work) == {shut: "unreadable"}
    monkeypatch.setattr(LocalStorage, "_read", read)
    record = preprocess(root, work)
    assert record.newly_read == 1 and not record.rejected


def test_unchanged_files_are_not_read_again(tmp_path, monkeypatch):
    """A second run reads nothing; a changed and a new file are read, and only those."""
    root, work = dataset(tmp_path / "data", 6), tmp_path / "work"
    first = preprocess(root, work)
    read = LocalStorage._read
    keys = []
    monkeypatch.setattr(
        LocalStorage, "_read", lambda self, key, *more: keys.append(key) or read(self, key, *more)
    )
    second = preprocess(root, work)
    assert keys == [] and second.newly_read == 0 and second.manifest_sha256 == first.manifest_sha256
    put(root / "train" / "NORMAL" / "IM-0000-0001.jpeg", 500)
    put(root / "train" / "NORMAL" / "IM-7000-0001.jpeg", 501)
    third = preprocess(root, work)
    assert sorted(keys) == ["train/NORMAL/IM-0000-0001.jpeg", "train/NORMAL/IM-7000-0001.jpeg"]
    assert third.kept == first.kept + 1


def test_shards_bound_the_number_of_tasks(tmp_path):
    """Many images make larger shards, not more tasks than asked for."""
    root = dataset(tmp_path / "data", 12)
    scan = scanning.scan(open_storage(str(root)), tmp_path / "work", shard_size=1, most_shards=10)
    assert len(scan.shards) <= 10 and scan.new == 48


def test_metadata_has_the_columns_users_rely_on(phantoms, tmp_path):
    """The columns of clean_metadata.csv come in their order; labels and names agree."""
    preprocess(phantoms, tmp_path)
    with (tmp_path / "clean_metadata.csv").open(newline="") as file:
        columns = next(csv.reader(file))
    promised = "image label label_name split source_split patient_id etiology md5 pixel_sha256 phash width height mode bytes mean std"
    assert columns[:16] == promised.split()
    table = read_table(tmp_path / "clean_metadata.csv")
    assert set(zip(table["label"], table["label_name"], strict=True)) == {
        (0, "NORMAL"),
        (1, "PNEUMONIA"),
    }
    assert table["image"].is_unique and table["phash"].str.len().eq(64).all()


def test_an_edited_manifest_is_refused_at_the_hand_over(phantoms, tmp_path):
    """Two rows that change places between splits keep every rule: the digest in ingest.json tells."""
    from cxr.core.errors import DataError
    from cxr.models import runs

    preprocess(phantoms, tmp_path)
    assert len(runs.read_manifest(tmp_path)) == runs.read_ingest(tmp_path).kept
    path = tmp_path / "clean_metadata.csv"
    path.write_text(path.read_text().replace(",train,train,", ",test,train,", 1))
    with pytest.raises(DataError, match="was changed since it was written"):
        runs.read_manifest(tmp_path)


def test_a_shard_that_is_gone_is_said_with_its_images(phantoms, tmp_path):
    """Its images count as not inspected; the next preprocessing inspects them again."""
    first = preprocess(phantoms, tmp_path)
    scan = scanning.scan(open_storage(str(phantoms)), tmp_path)
    folder = scanning.folder_of(scan, tmp_path)
    (path,) = (folder / "inspected").glob("*.csv")
    path.unlink()
    with pytest.raises(DataError, match=f"{scan.images} listed images were not inspected"):
        publish.find_near_duplicates(scan, tmp_path, SplitSettings())
    assert preprocess(phantoms, tmp_path) == first


def test_some_columns_of_a_table_are_what_the_whole_table_says(tmp_path):
    """In the order asked for and with their types; a column that is not there, or a short row, is said."""
    path = tmp_path / "table.csv"
    write_table(pd.DataFrame({"image": ["a,b", ""], "label": [1, 0], "mean": [0.5, 2.0]}), path)
    some = read_table(path, ["mean", "image"])
    pd.testing.assert_frame_equal(some, read_table(path)[["mean", "image"]])
    with pytest.raises(DataError, match="expected numbers and as many cells as columns"):
        read_table(path, ["label", "width"])
    path.write_text("image,label,mean\nx,1\n", encoding="utf-8")
    with pytest.raises(DataError, match="expected numbers and as many cells as columns"):
        read_table(path, ["image", "mean"])
