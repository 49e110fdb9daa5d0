"""The gate: planted copies are found, removed from train and never from test; what is left fails the run."""

import os
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.core.errors import DataError, LeakageError
from cxr.core.files import read_table
from cxr.core.settings import SplitSettings
from cxr.data.leakage import near_duplicates, repair
from cxr.data.manifest import comparison, distinct_images, publish, scanning
from cxr.data.manifest.records import Ingest, Leakage
from cxr.data.phantoms import dataset
from cxr.storage.addresses import open_storage
from tests.conftest import ROOT, preprocess


def rows(*cells: tuple[str, str, int, str]) -> pd.DataFrame:
    table = pd.DataFrame(cells, columns=["image", "source_split", "label", "patient_id"])
    return table.assign(split=table["source_split"])


def pairs(*named: tuple[str, str]) -> pd.DataFrame:
    table = pd.DataFrame(named, columns=["image_a", "image_b"])
    return table.assign(variant="same", distance=4.0, correlation=0.995)


def test_train_loses_its_copy_and_test_loses_nothing():
    """A chain of copies: both in test are kept, those in val and train removed, each with the image it copies."""
    table = rows(
        ("test/a", "test", 1, "1"), ("test/b", "test", 1, "2"), ("train/c", "train", 1, "3"), ("val/d", "val", 1, "4"),
        ("train/e", "train", 0, "5"),
    )  # fmt: skip
    found = pairs(("test/a", "train/c"), ("test/b", "train/c"), ("val/d", "test/a"))
    kept, rejects = repair.remove_near_duplicates(table, found)
    assert list(kept["image"]) == ["test/a", "test/b", "train/e"]
    assert dict(zip(rejects["image"], rejects["detail"], strict=True)) == {
        "val/d": "near-duplicate of test/a (same, correlation 0.995)",
        "train/c": "near-duplicate of test/a (same, correlation 0.995)",
    }
    assert set(rejects["reason"]) == {"near_duplicate"}


def test_without_test_one_copy_is_kept_and_copies_under_two_labels_are_removed():
    """First val, then train, then the smallest name; under both labels nobody knows which is right."""
    table = rows(
        ("train/a", "train", 1, "1"), ("val/b", "val", 1, "2"), ("train/c", "train", 0, "3"), ("train/d", "train", 1, "4"),
        ("train/e", "train", 1, "5"), ("test/f", "test", 0, "6"),
    )  # fmt: skip
    found = pairs(("train/a", "val/b"), ("train/c", "train/d"), ("train/e", "test/f"))
    kept, rejects = repair.remove_near_duplicates(table, found)
    assert list(kept["image"]) == ["val/b", "test/f"]
    assert dict(zip(rejects["image"], rejects["reason"], strict=True)) == {
        "train/a": "near_duplicate", "train/c": "label_conflict", "train/d": "label_conflict",
        "train/e": "label_conflict",
    }  # fmt: skip


def test_a_patient_of_test_leaves_train_and_val():
    """The split of such rows becomes `excluded`; an image without a patient is never excluded for it."""
    table = rows(
        ("a", "test", 1, "p"), ("b", "val", 1, "p"), ("c", "train", 1, "p"), ("d", "val", 0, "q"), ("e", "train", 0, "q"),
        ("f", "train", 0, ""), ("g", "test", 0, ""),
    )  # fmt: skip
    out = repair.exclude_shared_patients(table)
    assert list(out["split"]) == [
        "test",
        "excluded",
        "excluded",
        "val",
        "excluded",
        "train",
        "test",
    ]


KINDS = ("mirrored", "brighter", "smaller")


def plant(folder, kind: str, count: int = 2):
    """Copy test images into train as `kind` says; the names are new patients. Returns the planted keys."""
    planted = []
    for i, path in enumerate(sorted((folder / "test" / "PNEUMONIA").glob("person*.jpeg"))[:count]):
        image = Image.open(path).convert("L")
        if kind == "mirrored":
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        elif kind == "brighter":
            image = Image.fromarray(np.clip(np.asarray(image) * 1.12, 0, 255).astype(np.uint8))
        elif kind == "smaller":
            image = image.resize(
                (image.width * 4 // 5, image.height * 4 // 5), Image.Resampling.LANCZOS
            )
        target = folder / "train" / "PNEUMONIA" / f"person80{i}{KINDS.index(kind)}_virus_{i}.jpeg"
        image.save(target, quality=80)
        planted.append(target.relative_to(folder).as_posix())
    return planted


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Phantoms with mirrored, brighter and smaller copies of test images in train."""
    folder = tmp_path_factory.mktemp("planted") / "data"
    dataset.make_dataset(folder, images=80, size=96, seed=4)
    return folder, [key for kind in KINDS for key in plant(folder, kind)]


def test_planted_copies_are_taken_out_and_the_gate_passes(planted, tmp_path):
    """Repaired: every planted copy is a listed near_duplicate, nothing else is, the record is clean."""
    folder, keys = planted
    record = preprocess(folder, tmp_path)
    rejects = read_table(tmp_path / "rejects.csv")
    near = rejects[rejects["reason"] == "near_duplicate"]
    own = [
        "train/NORMAL/IM-9201-0001.jpeg",
        "train/PNEUMONIA/person9202_virus_9202.jpeg",
    ]  # the phantoms' own copies
    assert sorted(near["image"]) == sorted(keys + own)
    assert (
        record.leakage.clean and record.leakage.removed == len(keys + own) and record.patient_wise
    )
    assert (tmp_path / "leakage" / "pairs.png").is_file()
    assert Leakage.read(tmp_path / "leakage" / "leakage.json") == record.leakage


def test_without_repair_the_gate_fails_with_the_pairs(planted, tmp_path):
    """The error counts the pairs and names the contact sheet; nothing looks finished afterwards."""
    folder, keys = planted
    with pytest.raises(LeakageError, match=r"pairs of near-duplicates.*pairs.png.*--allow-leakage"):
        preprocess(folder, tmp_path, SplitSettings(repair_leakage=False))
    table = read_table(tmp_path / "leakage" / "pairs.csv")
    left = table[(table["split_a"] != table["split_b"])]
    assert set(keys) <= set(left["image_a"]) | set(left["image_b"])
    assert (
        not (tmp_path / "ingest.json").exists() and not (tmp_path / "clean_metadata.csv").exists()
    )


def test_allowed_leakage_runs_on_and_is_recorded(planted, tmp_path):
    """--allow-leakage without repair: the copies stay, and the record that the card carries says so."""
    folder, keys = planted
    record = preprocess(folder, tmp_path, SplitSettings(repair_leakage=False, allow_leakage=True))
    assert (
        record.leakage.allowed
        and not record.leakage.clean
        and record.leakage.pairs_left >= len(keys)
    )
    assert set(keys) <= set(read_table(tmp_path / "clean_metadata.csv")["image"])


def test_distinct_images_are_found_once_in_a_preprocessing(planted, tmp_path, monkeypatch):
    """What the search worked out is handed on to the publishing by a record that names the tables."""
    folder, _ = planted
    calls = []
    find = distinct_images.find_distinct_images
    monkeypatch.setattr(
        distinct_images, "find_distinct_images", lambda *a: calls.append(1) or find(*a)
    )
    preprocess(folder, tmp_path)
    assert len(calls) == 1


def test_a_table_that_changed_on_its_way_is_not_published(planted, tmp_path):
    """The digest in the record says so; nothing looks finished afterwards."""
    folder, _ = planted
    preprocess(folder, tmp_path)
    storage, settings = open_storage(str(folder)), SplitSettings()
    scan = scanning.scan(storage, tmp_path)
    compared = publish.find_near_duplicates(scan, tmp_path, settings)
    path = scanning.folder_of(scan, tmp_path) / compared.pairs.name
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(DataError, match=r"near_duplicates.csv: expected the table of SHA-256"):
        publish.publish_manifest(scan, compared, tmp_path, settings)
    assert not (tmp_path / "ingest.json").exists()
    assert publish.find_near_duplicates(scan, tmp_path, settings) == compared.model_copy(
        update={"compared": compared.images}
    )


def test_a_run_with_other_images_publishes_what_a_first_run_of_them_does(planted, tmp_path):
    """Images come and go between the runs: the tables are the same to the byte, and the new images alone were compared."""
    source, _ = planted
    data = tmp_path / "data"
    paths = sorted(path for path in source.rglob("*.jpeg") if path.is_file())
    keys = [path.relative_to(source) for path in paths]
    absent = [keys[1::5], keys[::7], keys[3::6]]
    images = 0
    for away in absent:
        for key in keys:
            target = data / key
            target.parent.mkdir(parents=True, exist_ok=True)
            if key in away:
                target.unlink(missing_ok=True)
            elif not target.exists():
                shutil.copy2(source / key, target)
        stepwise = preprocess(data, tmp_path / "stepwise")
        shutil.rmtree(tmp_path / "once", ignore_errors=True)
        once = preprocess(data, tmp_path / "once")
        assert stepwise.model_copy(update={"newly_read": once.newly_read}) == once
        for name in ("clean_metadata.csv", "rejects.csv", "leakage/pairs.csv"):
            published = [(tmp_path / work / name).read_bytes() for work in ("stepwise", "once")]
            assert published[0] == published[1], name
        scan = scanning.scan(open_storage(str(data)), tmp_path / "stepwise")
        folder = scanning.folder_of(scan, tmp_path / "stepwise")
        search = comparison.Comparison.read(folder / comparison.COMPARISON)
        assert search.found > 3
        assert (search.compared == search.images) == (images == 0)
        images = search.images


def test_found_pairs_are_remembered(planted, tmp_path, monkeypatch):
    """The second, unchanged run compares nothing again."""
    folder, _ = planted
    first = preprocess(folder, tmp_path)
    monkeypatch.setattr(
        near_duplicates, "find_near_duplicates", lambda *a: pytest.fail("searched again")
    )
    assert preprocess(folder, tmp_path) == first.model_copy(update={"newly_read": 0})


def test_names_without_a_patient_are_said(tmp_path):
    """No key that fits: the split is not called patient-wise, and the count of such images stands in the record."""
    dataset.make_dataset(tmp_path / "data", images=60, size=64, seed=2)
    for path in (tmp_path / "data").rglob("*.jpeg"):
        if path.is_file() and path.parent.name in {"NORMAL", "PNEUMONIA"}:
            path.rename(path.with_name(path.name.replace("person", "x").replace("IM-", "y")))
    record = preprocess(tmp_path / "data", tmp_path / "work", SplitSettings(repair_leakage=True))
    assert not record.patient_wise and record.leakage.without_patient == record.kept
    assert Ingest.read(tmp_path / "work" / "ingest.json") == record


def test_a_touched_file_does_not_confuse_the_contact_sheet(planted, tmp_path):
    """A paired image with a new time is inspected again; the sheet is drawn from the rows in use."""
    folder, keys = planted
    data = shutil.copytree(folder, tmp_path / "data")
    preprocess(data, tmp_path / "work")
    os.utime(data / keys[0], (1, 1))
    assert (
        preprocess(data, tmp_path / "work").leakage.clean
        and (tmp_path / "work" / "leakage" / "pairs.png").is_file()
    )


def test_the_report_says_how_much_leakage_the_data_had(planted, tmp_path):
    """Counted in the splits as given, before the repair: all planted pairs, and the patients that train and val share."""
    folder, keys = planted
    found = preprocess(folder, tmp_path).leakage
    assert found.source_pairs >= len(keys) and found.pairs_left == 0
    assert (
        found.given["person+etiology"]["train/val"]
        > 0
        == found.readings["person+etiology"]["train/val"]
    )


REAL = ROOT.parent / "shared" / "data" / "chest_xray_dev"


@pytest.mark.slow
@pytest.mark.skipif(
    not REAL.is_dir(),
    reason="the real images are not on this machine: ../shared/data/chest_xray_dev",
)
def test_twenty_planted_copies_of_real_images_are_all_found_and_no_other_pair(tmp_path):
    """Resized, re-encoded, mirrored or brightened copies of test images in train: the gate fails; repaired, it passes."""
    data = tmp_path / "data"
    shutil.copytree(REAL, data, copy_function=os.link)
    chosen = sorted((data / "test").rglob("*.jpeg"))[::31][:20]
    planted = []
    for i, path in enumerate(chosen):
        target = (
            data
            / "train"
            / path.parent.name
            / (f"person88{i:02d}_virus_1.jpeg" if i % 2 else f"IM-88{i:02d}-1.jpeg")
        )
        spoil(Image.open(path).convert("L"), i).save(target, quality=(60, 82, 91)[i % 3])
        planted.append(target.relative_to(data).as_posix())
    with pytest.raises(LeakageError, match="pairs of near-duplicates"):
        preprocess(data, tmp_path / "work", SplitSettings(repair_leakage=False))
    table = read_table(tmp_path / "work" / "leakage" / "pairs.csv")
    assert set(planted) == (set(table["image_a"]) | set(table["image_b"])) & set(planted)
    # A copy of an image that has exact copies of its own pairs with the one kept: 20 pairs, none without a planted file.
    assert (
        len(table) == 20 and (table["image_a"].isin(planted) | table["image_b"].isin(planted)).all()
    )
    record = preprocess(data, tmp_path / "work")
    assert (
        record.leakage.clean and record.leakage.removed == record.rejected["near_duplicate"] == 20
    )


def spoil(image: Image.Image, i: int) -> Image.Image:
    """Return the image smaller, mirrored, brighter, as it is (to be encoded again), or mirrored and brighter."""
    if i % 5 == 0:
        return image.resize((image.width * 2 // 3, image.height * 2 // 3), Image.Resampling.LANCZOS)
    if i % 5 in {1, 4}:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image.point(lambda value: min(255, round(value * 1.12))) if i % 5 in {2, 4} else image
