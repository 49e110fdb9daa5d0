"""Features computed once: equal to the network's own, keyed by all that makes them."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from cxr.core.settings import Augmentation
from cxr.data.images.changes import augmentation
from cxr.models.features import features
from cxr.models.networks import architectures
from tests.conftest import ROOT

# DenseNet121 has more than four hundred layers and takes half a minute: it is among the slow tests.
EACH = [
    pytest.param(name, marks=[pytest.mark.slow] if name == "DenseNet121" else [])
    for name in architectures.ARCHITECTURES
]

START = """
import dataclasses, sys
import numpy as np, keras
from pathlib import Path
from cxr.models.networks import architectures; from cxr.models.networks import model_surgery; from cxr.data.images.changes import augmentation; from cxr.data.images.changes.stress_worlds import WORLDS; from cxr.models.compute import backend; from cxr.models.features import features
from cxr.storage.arrays import Cache, Recipe
from cxr.core.settings import TrainingSettings
root, name = Path(sys.argv[1]), sys.argv[2]
settings = TrainingSettings(image_size=32)
images = np.random.default_rng(0).integers(0, 256, (40, 32, 32), dtype=np.uint8)
keys = [f"picture{at}" for at in range(40)]
held = Cache(root / "cache", Recipe(kind="pixels", made={}, shape=(32, 32), dtype="uint8"))
held.add(keys, images)
model = architectures.build_model(name, settings, None)
model_surgery.init_batch_norm(model, images[:16][..., np.newaxis], backend.call_in_training_mode)
source = features.Source(root / "cache", name, settings, held.rows(keys), keys, model)
"""


def python(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", START + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("name", EACH)
def test_cached_and_uncached_features_are_the_same(name, tmp_path):
    """At the cut and pooled, of the image and of an augmentation: the network's own values, to float tolerance."""
    python(
        """
positions = np.array([7, 3, 39])
exact = features.cut_features(source, positions, ["0"] * 3, "float32", "float32")
assert source.computed == 3
own = np.asarray(model_surgery.submodel(model, name, None, "cut")(images[positions][..., None]))
assert np.allclose(exact[np.arange(3)], own, atol=1e-5 * np.abs(own).max())
pool = features.pooled_features(source, exact, [keys[at] for at in positions])
own = np.asarray(model_surgery.submodel(model, name, None, "features")(images[positions][..., None]))
assert np.allclose(pool[np.arange(3)], own, atol=4e-5 * np.abs(own).max())  # batches of other sizes: other kernels
assert source.part(None, "cut") is source.part(None, "cut")  # another object would be traced anew
scores = np.asarray(model_surgery.submodel(model, name, "cut", "score")(exact[np.arange(3)]))
assert np.allclose(scores, np.asarray(model(images[positions][..., None])), atol=2e-5)
view = features.cut_features(source, positions, ["2"] * 3, "float32", "float16")
changed = np.stack([augmentation.augment(images[at], keys[at], 2, settings.augmentation) for at in positions])
own = np.asarray(model_surgery.submodel(model, name, None, "cut")(changed[..., None]))
assert view.dtype == np.float16 and np.allclose(view[np.arange(3)], own, atol=2e-3 * np.abs(own).max())
if name == "VGG16":
    half = features.cut_features(source, positions, ["2"] * 3, "mixed_bfloat16", "float16")
    assert np.corrcoef(half[np.arange(3)].ravel().astype(float), own.ravel())[0, 1] > 0.99
world = features.cut_features(source, positions, ["noisy"] * 3, "float32", "float32")
changed = np.stack([WORLDS["noisy"].change(images[at], keys[at]) for at in positions])
own = np.asarray(model_surgery.submodel(model, name, None, "cut")(changed[..., None]))
assert np.allclose(world[np.arange(3)], own, atol=1e-5 * np.abs(own).max())
""",
        tmp_path,
        name,
    )


def test_more_images_cost_their_own_features_and_any_change_another_key(tmp_path):
    """Known rows are not computed again; another augmentation is another row; other settings another folder."""
    python(
        """
first = features.cut_features(source, np.arange(30), ["1"] * 30, "float32", "float16")
assert source.computed == 30
more = features.cut_features(source, np.arange(33), ["1"] * 33, "float32", "float16")
assert source.computed == 33 and first.name == more.name
assert np.array_equal(first[np.arange(30)], more[np.arange(30)])
features.cut_features(source, np.arange(33), ["1"] * 33, "float32", "float16")
assert source.computed == 33
names = {first.name}
other = features.cut_features(source, np.arange(30), ["2"] * 30, "float32", "float16")
assert source.computed == 63 and other.name == first.name and not np.array_equal(other[0], first[0])
features.cut_features(source, np.arange(30), ["1", "2"] * 15, "float32", "float16")
assert source.computed == 63
names.add(features.cut_features(source, np.arange(1), ["1"] * 1, "mixed_bfloat16", "float16").name)
gentler = settings.model_copy(update={"augmentation": settings.augmentation.model_copy(update={"rotation": 1.0})})
names.add(features.cut_features(dataclasses.replace(source, settings=gentler), np.arange(1), ["1"] * 1, "float32", "float16").name)
assert features.cut_features(dataclasses.replace(source, settings=gentler), np.arange(1), ["0"] * 1, "float32", "float16").name not in names
top = model.get_layer("score"); top.set_weights([w + 1 for w in top.get_weights()])
assert features.cut_features(source, np.arange(1), ["1"] * 1, "float32", "float16").name == first.name
bottom = model.get_layer("Conv1"); bottom.set_weights([w + 1e-3 for w in bottom.get_weights()])
names.add(features.cut_features(source, np.arange(1), ["1"] * 1, "float32", "float16").name)
assert len(names) == 4
""",
        tmp_path,
        "MobileNetV2",
    )


def test_each_augmentation_has_its_share_of_the_images_and_no_pass_repeats_one():
    """About a third of 3,000 images has each of three indices in a pass; an image has each index once in three passes."""
    keys = [hashlib.sha256(str(at).encode()).hexdigest() for at in range(3000)]
    first, second, third = (
        [features.augmentation_index(key, number, 2) for key in keys] for number in range(3)
    )
    assert all(900 < first.count(index) < 1100 for index in range(3))
    assert all(set(own) == {0, 1, 2} for own in zip(first, second, third, strict=True))
    assert {features.augmentation_index(key, 0, 0) for key in keys} == {0}


def test_augmentations_are_derived_from_the_key_of_the_image():
    """The same key, index and ranges give the same pixels; index 0 is the image; nothing is mirrored; size and dtype stay."""
    image = np.zeros((64, 64), np.uint8)
    image[8:24, 8:24] = 200  # a mark in the upper left
    ranges = Augmentation()
    assert augmentation.augment(image, "k", 0, ranges) is image
    first = augmentation.augment(image, "k", 1, ranges)
    assert first.shape == image.shape and first.dtype == np.uint8
    assert np.array_equal(first, augmentation.augment(image.copy(), "k", 1, ranges))
    assert not np.array_equal(first, augmentation.augment(image, "k", 2, ranges))
    assert not np.array_equal(first, augmentation.augment(image, "other", 1, ranges))
    whole = Augmentation(area=1.0)  # a part of the image may show no mark
    for view in range(1, 200):
        seen = augmentation.augment(image, "k", view, whole).astype(float)
        rows, columns = np.indices(image.shape)
        weight = seen - np.median(seen)
        assert (weight * rows).sum() / weight.sum() < 31 and (
            weight * columns
        ).sum() / weight.sum() < 31


def test_no_ranges_change_nothing_and_each_range_is_kept():
    """All ranges 0: the image itself. One range at a time changes geometry, or levels, and stays within itself."""
    image = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))
    nothing = dict.fromkeys(Augmentation.model_fields, 0.0) | {"area": 1.0, "stretch": 1.0}
    still = augmentation.augment(image, "k", 1, Augmentation(**nothing))
    assert np.abs(still.astype(int) - image).max() <= 1
    for view in range(1, 50):
        lighter = augmentation.augment(
            image, "k", view, Augmentation(**nothing | {"brightness": 0.1})
        ).astype(int)
        inner = (image > 30) & (image < 225)
        assert np.abs(lighter - image)[inner].max() <= 0.1 * 255 + 1
        shifted = augmentation.augment(
            np.full((64, 64), 255, np.uint8), "k", view, Augmentation(**nothing | {"shift": 0.1})
        )
        assert (shifted == 0).mean() <= 1 - 0.9**2 + 0.05


def test_crops_keep_their_share_of_the_area_and_are_stretched_within_bounds():
    """Read back from images whose gray levels are their columns or rows: width, height, and that nothing black comes in."""
    ranges = Augmentation(area=0.3, stretch=4 / 3, rotation=0, gamma=0, contrast=0, brightness=0)
    columns = np.tile(np.arange(100, 200, dtype=np.uint8), (100, 1))
    areas = []
    ratios = []
    for index in range(1, 300):
        across = augmentation.augment(columns, "k", index, ranges)[0].astype(int)
        down = augmentation.augment(columns.T.copy(), "k", index, ranges)[:, 0].astype(int)
        width = (across[98] - across[1]) / 97
        height = (down[98] - down[1]) / 97
        areas.append(width * height)
        ratios.append(width / height)
        assert min(across[1:99].min(), down[1:99].min()) >= 100
    assert 0.27 < min(areas) < 0.35
    assert max(areas) > 0.9
    assert 0.72 < min(ratios) < 0.8
    assert 1.25 < max(ratios) < 1.39
