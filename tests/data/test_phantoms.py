"""Made-up chest images: they look alike where they should, and the data set has the published shape."""

import csv
import io
import json
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError
from sklearn.metrics import roc_auc_score

from cxr.core.errors import DataError
from cxr.core.settings import LABEL_NAMES
from cxr.data.manifest.records import REJECT_REASONS
from cxr.data.phantoms import flaws
from cxr.data.phantoms.dataset import make_dataset
from cxr.data.phantoms.drawing.anatomy import Anatomy
from cxr.data.phantoms.drawing.chest import draw_chest

SMALL = {"images": 60, "seed": 3, "size": 48}
NAMES = r"person\d+_(bacteria|virus)_\d+|(NORMAL2-)?IM-\d{4}-\d{4}"


def draw(seed: int, pneumonia: bool, patient: int = 0, size: int = 64) -> np.ndarray:
    anatomy = Anatomy.draw(np.random.default_rng([9, patient]))
    return draw_chest(np.random.default_rng(seed), anatomy, pneumonia, size)[0]


def patient_of(name: str) -> str:
    return re.sub(r"_(bacteria|virus)_.*|-\d{4}\.jpeg$", "", name).removeprefix("NORMAL2-")


def good_files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.glob("*/*/*.jpeg")
        if path.parent.name in LABEL_NAMES and path.name[0] != "."
    )


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean") / "phantoms"
    make_dataset(folder, **SMALL, broken=False)
    return folder


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    folder = tmp_path_factory.mktemp("dirty") / "phantoms"
    return folder, make_dataset(folder, **SMALL)


@pytest.mark.parametrize("size", [32, 64, 256])
def test_a_chest_is_gray_bytes_of_the_size_asked_for(size: int):
    """uint8, square, with black around and white bones: the whole range is used."""
    image = draw(0, pneumonia=False, size=size)
    assert (image.shape, image.dtype) == ((size, size), np.uint8)
    assert np.percentile(image, 2) < 60
    assert np.percentile(image, 98) > 160


def test_the_same_generator_state_gives_the_same_chest():
    """Everything random comes from the generator handed in."""
    assert np.array_equal(draw(5, pneumonia=True), draw(5, pneumonia=True))
    assert not np.array_equal(draw(5, pneumonia=True), draw(6, pneumonia=True))


def test_lungs_are_darker_than_the_belly_and_the_heart_is_on_the_image_right():
    """The layout of a frontal chest X-ray, averaged over patients: the heart is at the patient's left."""
    mean = np.mean([draw(n, pneumonia=False, patient=n) for n in range(20)], axis=0)
    right_lung, heart, belly = mean[28:36, 16:22], mean[38:46, 36:42], mean[57:62, 24:40]
    assert right_lung.mean() < 0.6 * heart.mean() < 0.8 * belly.mean()
    assert mean[38:46, 36:42].mean() > mean[38:46, 22:28].mean() + 5


def test_images_of_one_patient_resemble_each_other():
    """Two images of a patient differ less, on average, than images of two patients: a leak would show."""
    same = [
        np.corrcoef(draw(n, False, n).ravel(), draw(n + 100, False, n).ravel())[0, 1]
        for n in range(25)
    ]
    other = [
        np.corrcoef(draw(n, False, n).ravel(), draw(n + 100, False, n + 1).ravel())[0, 1]
        for n in range(25)
    ]
    assert np.mean(same) > np.mean(other)


def test_the_opacity_is_where_it_is_said_to_be():
    """Pneumonia names a place inside the image, brighter than its mirror image; without it there is none."""
    brighter = []
    for seed in range(40):
        anatomy = Anatomy.draw(np.random.default_rng(seed))
        assert draw_chest(np.random.default_rng(seed), anatomy, False, 64)[1] is None
        image, place = draw_chest(np.random.default_rng(seed), anatomy, True, 64)
        assert place is not None
        assert all(0.1 < value < 0.95 for value in place)
        row, column = int(place[1] * 64), int(place[0] * 64)
        here, there = (
            around[row - 2 : row + 3, column - 2 : column + 3] for around in (image, image[:, ::-1])
        )
        brighter.append(float(here.mean()) - float(there.mean()))
    assert np.mean(np.array(brighter) > 0) > 0.7
    assert np.mean(brighter) > 20


def test_brightness_and_contrast_do_not_give_the_class_away():
    """Exposure is drawn alike for both classes: mean and spread rank the classes little better than chance."""
    images = [draw(n, pneumonia=bool(n % 2), patient=n) for n in range(200)]
    labels = [n % 2 for n in range(200)]
    for measure in (np.mean, np.std):
        assert 0.35 < roc_auc_score(labels, [measure(image) for image in images]) < 0.68


def test_the_good_files_are_as_many_as_asked_for_in_the_published_layout(clean: Path):
    """A quarter is test, 8 are val, more PNEUMONIA than NORMAL, and every name has the published form."""
    files = good_files(clean)
    counts = {
        (s, c): len(list((clean / s / c).iterdir()))
        for s in ("train", "val", "test")
        for c in LABEL_NAMES
    }
    assert len(files) == sum(counts.values()) == 60
    assert counts["val", "NORMAL"] == counts["val", "PNEUMONIA"] == 4
    assert counts["test", "NORMAL"] + counts["test", "PNEUMONIA"] == 15
    assert counts["train", "PNEUMONIA"] / counts["train", "NORMAL"] == pytest.approx(1.6, abs=0.25)
    assert all(re.fullmatch(NAMES, path.stem) for path in files)


def test_the_images_are_8_bit_gray_jpegs_of_varying_size(clean: Path):
    """Mode and format are the same for both classes; sides vary around the size asked for."""
    sizes = set()
    for path in good_files(clean):
        with Image.open(path) as image:
            assert (image.format, image.mode) == ("JPEG", "L")
            sizes.add(image.size)
    assert len(sizes) > 20
    assert all(48 * 0.8 < side < 48 * 1.35 for size in sizes for side in size)


def test_test_patients_are_nowhere_else_and_val_patients_are_in_train(clean: Path):
    """As published: val shares patients with train, test has its own. Each has 1 to 3 images."""
    splits, images = defaultdict(set), defaultdict(int)
    for path in good_files(clean):
        splits[patient_of(path.name)].add(path.parts[-3])
        images[patient_of(path.name)] += 1
    assert set(map(frozenset, splits.values())) <= {
        frozenset({"train"}), frozenset({"train", "val"}), frozenset({"test"})
    }  # fmt: skip
    assert sum("val" in splits_of_patient for splits_of_patient in splits.values()) == 8
    assert set(images.values()) == {1, 2, 3}


def test_equal_arguments_give_equal_bytes_and_another_seed_gives_others(
    clean: Path, tmp_path: Path
):
    """The data set is a function of its arguments."""
    make_dataset(tmp_path / "again", **SMALL, broken=False)
    make_dataset(tmp_path / "other", **(SMALL | {"seed": 4}), broken=False)
    read = {
        folder: {
            path.relative_to(folder): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        for folder in (clean, tmp_path / "again", tmp_path / "other")
    }
    assert read[clean] == read[tmp_path / "again"]
    assert not set(read[clean].values()) & set(read[tmp_path / "other"].values())


def test_every_pneumonia_image_has_its_opacity_listed(dirty: tuple[Path, dict[str, int]]):
    """`.opacities.csv` has one row per PNEUMONIA image that preprocessing may keep, copies included."""
    folder, _ = dirty
    with (folder / ".opacities.csv").open() as file:
        rows = list(csv.DictReader(file))
    listed = {row["image"] for row in rows}
    there = {
        path.relative_to(folder).as_posix()
        for path in good_files(folder)
        if path.parts[-2] == "PNEUMONIA"
    }
    rejected = {key for key in there - listed if re.search(r"person91\d\d_", key)}
    assert listed == there - rejected
    assert all(0 < float(row[axis]) < 1 for row in rows for axis in "xy")


def test_the_counts_use_the_reject_reasons_and_cover_every_file(dirty: tuple[Path, dict[str, int]]):
    """Kinds are "good" and reasons out of the closed list; their sum is every file that is not the maker's own."""
    folder, counts = dirty
    own = {".phantom.json", ".opacities.csv"}
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in own]
    assert counts.keys() - {"good"} <= set(REJECT_REASONS)
    assert sum(counts.values()) == len(files)
    assert counts["good"] == 60


def test_copies_and_the_pair_with_two_labels_are_there(dirty: tuple[Path, dict[str, int]]):
    """Six exact copies, three of them of a test or val image in train, and one picture under both classes."""
    folder, counts = dirty
    same = defaultdict(list)
    for path in good_files(folder):
        same[path.read_bytes()].append(path.parts[-3:-1])
    pairs = [places for data, places in same.items() if len(places) > 1 and data]
    conflicts = [places for places in pairs if len({label for _, label in places}) > 1]
    across = [places for places in pairs if len({split for split, _ in places}) > 1]
    assert (len(pairs) - len(conflicts), len(conflicts), len(across)) == (6, 1, 3)
    assert (counts["duplicate"], counts["label_conflict"]) == (6, 2)


def test_the_broken_files_are_broken_in_the_way_said(dirty: tuple[Path, dict[str, int]]):
    """One cut JPEG, one empty file, one HTML page, one CMYK and one 16-bit image; PNG and RGB ones stay good."""
    folder, counts = dirty
    states = defaultdict(int)
    for path in sorted(folder.glob("t*/*/*")):
        if path.parent.name in LABEL_NAMES and path.name[0] != ".":
            states[state(path.read_bytes())] += 1
    assert states["truncated"] == states["empty"] == states["no image"] == 1
    assert states["JPEG CMYK"] == states["PNG I;16"] == states["PNG L"] == states["JPEG RGB"] == 1
    assert counts["ignored"] == 3
    assert len(list(folder.glob("train/*.jpeg"))) == counts["unknown_class"] == 1


def state(data: bytes) -> str:
    if not data:
        return "empty"
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return f"{image.format} {image.mode}"
    except UnidentifiedImageError:
        return "no image"
    except OSError:
        return "truncated"


def test_a_second_call_returns_the_counts_and_touches_nothing(dirty: tuple[Path, dict[str, int]]):
    """An existing data set is taken as it is when it was made with the same arguments."""
    folder, counts = dirty
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert make_dataset(folder, **SMALL) == counts
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("change", [{"images": 61}, {"seed": 4}, {"size": 49}, {"broken": False}])
def test_other_arguments_for_an_existing_folder_are_refused(
    dirty: tuple[Path, dict[str, int]], change: dict
):
    """The message names both what was asked for and what is there."""
    with pytest.raises(DataError, match=r"expected .* found .* choose another folder"):
        make_dataset(dirty[0], **(SMALL | change))


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path):
    """A person's own folder is never written into."""
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(DataError, match="something else"):
        make_dataset(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_too_few_images_are_refused(tmp_path: Path):
    """Below 20 images the splits cannot hold both classes."""
    with pytest.raises(DataError, match="at least 20 images, got 19"):
        make_dataset(tmp_path / "few", images=19)
    assert not (tmp_path / "few").exists()


@pytest.mark.parametrize("images", [20, 23, 39])
def test_small_data_sets_have_both_classes_everywhere(tmp_path: Path, images: int):
    """From 20 images on each split holds each class."""
    counts = make_dataset(tmp_path / "small", images=images, size=32)
    assert counts["good"] == images
    assert all(
        list((tmp_path / "small" / s / c).iterdir())
        for s in ("train", "val", "test")
        for c in LABEL_NAMES
    )


def test_a_run_that_dies_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The folder appears whole or not at all, and the temporary one beside it goes."""

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(flaws, "write_broken", die)
    with pytest.raises(KeyboardInterrupt):
        make_dataset(tmp_path / "half", images=20, size=32)
    assert list(tmp_path.iterdir()) == []


def test_the_stored_state_is_readable(clean: Path):
    """`.phantom.json` says how the data set was made."""
    assert json.loads((clean / ".phantom.json").read_text()) == SMALL | {
        "broken": False,
        "counts": {"good": 60},
    }
