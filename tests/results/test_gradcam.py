"""Maps are Grad-CAM's, survive a reload, land on what raises the score, and are drawn and summed as described.

Everything that imports Keras runs in a process of its own.
"""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from scipy.stats import binomtest

from cxr.core import plotting
from cxr.core.files import write_table
from cxr.core.settings import LABEL_NAMES
from cxr.data.images import model_input
from cxr.data.phantoms import dataset
from cxr.models.compute import backend
from cxr.results.gradcam import border_share, confusion_groups, plot, summary
from cxr.results.gradcam.summary import Attention
from cxr.storage.arrays import Cache, Recipe
from tests.conftest import ROOT

# What the snippets below share: a network small enough to train in seconds, with the head of ours.
_SMALL = """
import sys
import keras, numpy as np
from cxr.models.networks import architectures; from cxr.models.networks.model_surgery import init_batch_norm; from cxr.results.gradcam import attribution; from cxr.models.compute import backend
from cxr.core.settings import TrainingSettings
backend.configure()
keras.utils.set_random_seed(0)
layers = keras.layers

def headed(pixels, features):
    pooled = layers.GlobalAveragePooling2D(name="features")(features)
    return keras.Model(pixels, layers.Dense(1, activation="sigmoid", name="score")(pooled), name="Small")
"""


def python(code: str, *arguments: object) -> None:
    """Run `code` after the shared lines, where Keras may be imported; fail with its last words."""
    done = subprocess.run(
        [sys.executable, "-c", _SMALL + code, *map(str, arguments)], capture_output=True, text=True, check=False, cwd=ROOT,
        env=os.environ | backend.child_environment(2),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


EACH = [
    "MobileNetV2",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("VGG16", "DenseNet121")),
]


@pytest.fixture(scope="module", params=EACH)
def built(request, tmp_path_factory):
    """A folder with an architecture saved, its name, and the maps it gave then, ours and by a gradient tape."""
    folder, name = tmp_path_factory.mktemp("built"), request.param
    code = """
import tensorflow as tf
noise = np.random.default_rng(0).integers(0, 256, (5, 64, 64), dtype=np.uint8)
np.save(sys.argv[1] + "/noise.npy", noise)
name = sys.argv[2]
model = architectures.build_model(name, TrainingSettings(image_size=64), None)
init_batch_norm(model, noise[..., np.newaxis], backend.call_in_training_mode)  # untrained, every image would give the same features
head = model.get_layer("score")
# Features are not negative: weights that mostly are not either give every image a map.
size = head.kernel.shape
head.set_weights([np.random.default_rng(1).uniform(-1, 2, size) / size[0], np.array([-0.5])])
model.save(f"{sys.argv[1]}/{name}.keras")
maps, scores = attribution.gradcam_maps(model, noise, np.arange(5))
np.savez(f"{sys.argv[1]}/{name}.npz", maps=maps, scores=scores)
both = keras.Model(model.inputs, [model.get_layer("features").input, model.output])
head.activation = keras.activations.linear  # from here on the model gives the logit
with tf.GradientTape() as tape:
    features, logit = both(noise[..., np.newaxis], training=False)
slopes = tape.gradient(logit, features).numpy()
cells = features.shape[1] * features.shape[2]
assert np.abs(slopes * cells - head.kernel.numpy()[:, 0]).max() < 1e-4  # constant: w / (h w)
cam = np.maximum((features.numpy() * slopes.mean(axis=(1, 2), keepdims=True)).sum(axis=-1), 0)
peaks = cam.max(axis=(1, 2), keepdims=True)
np.save(f"{sys.argv[1]}/{name}-tape.npy", cam / np.where(peaks > 0, peaks, 1))
np.save(f"{sys.argv[1]}/{name}-logit.npy", logit.numpy()[:, 0])
"""
    python(code, folder, name)
    return folder, name


def test_maps_are_those_of_a_gradient_tape(built):
    """relu(sum w_k A_k), scaled, is Grad-CAM by automatic differentiation of the logit, to 1e-4; scores are the model's."""
    folder, name = built
    found, by_tape = np.load(folder / f"{name}.npz"), np.load(folder / f"{name}-tape.npy")
    assert found["maps"].shape == (5, 2, 2) and found["maps"].dtype == np.float32
    assert found["maps"].min() >= 0 and (found["maps"].max(axis=(1, 2)) == 1).all()
    assert found["maps"].min() < 0.99, "a map that is equal everywhere tests nothing"
    assert np.abs(found["maps"] - by_tape).max() < 1e-4
    assert found["scores"].dtype == np.float64
    assert found["scores"] == pytest.approx(
        1 / (1 + np.exp(-np.load(folder / f"{name}-logit.npy"))), abs=1e-5
    )


def test_a_reloaded_model_gives_the_same_maps(built):
    """model.keras, loaded in a fresh process: maps and scores equal to 1e-5."""
    code = """
folder, name = sys.argv[1:]
again = attribution.gradcam_maps(keras.models.load_model(f"{folder}/{name}.keras"), np.load(f"{folder}/noise.npy"), np.arange(5))
before = np.load(f"{folder}/{name}.npz")
assert np.abs(again[0] - before["maps"]).max() <= 1e-5 and np.abs(again[1] - before["scores"]).max() <= 1e-5
"""
    python(code, *built)


def test_the_map_of_an_ensemble_is_the_mean_of_its_networks_maps(tmp_path):
    """Each scaled to 1 before, the coarser ones enlarged; scores are the ensemble's; also where the lower part is shared."""
    code = """
from cxr.models.networks import ensembles
from cxr.results.gradcam.border_share import enlarge_maps
def network(seed, cell):
    keras.utils.set_random_seed(cell)
    pixels = keras.Input((None, None, 1))
    lower = layers.Conv2D(3, 3, padding="same", name="lower")(layers.Rescaling(1 / 255)(pixels))
    keras.utils.set_random_seed(seed)
    upper = layers.Conv2D(4, 3, padding="same", activation="relu")(layers.AveragePooling2D(cell)(lower))
    return headed(pixels, upper)
images = np.random.default_rng(1).integers(0, 256, (4, 32, 32)).astype(np.uint8)
for cells in ((8, 8, 8), (4, 8)):
    networks = [network(seed, cell) for seed, cell in enumerate(cells, 1)]
    own = [attribution.gradcam_maps(one, images, np.arange(4))[0] for one in networks]
    side = max(each.shape[1] for each in own)
    mean = np.mean([enlarge_maps(each, side) for each in own], axis=0)
    ensembles.build_ensemble(networks).model.save(sys.argv[1])
    model = keras.models.load_model(sys.argv[1])
    maps, scores = attribution.gradcam_maps(model, images, np.arange(4), batch_size=2)
    assert maps.dtype == np.float32 and maps.shape == (4, side, side) and (maps.max(axis=(1, 2)) == 1).all()
    assert np.abs(maps - mean / mean.max(axis=(1, 2), keepdims=True)).max() < 1e-6
    assert np.allclose(scores, model.predict_on_batch(images[..., None])[:, 0], atol=1e-6)
"""
    python(code, tmp_path / "model.keras")


def test_a_hand_built_map_lands_on_the_bright_spot():
    """A network that averages brightness attends to the spot alone; with the weight's sign turned it attends to the rest.

    A head that brightness only lowers has maps of nothing, without a warning; one without pooling is refused.
    """
    code = """
import warnings
warnings.simplefilter("error", RuntimeWarning)
from cxr.core.errors import DataError
pixels = keras.Input((None, None, 1))
light = layers.AveragePooling2D(8, name="light")(layers.Rescaling(1 / 255)(pixels))
channels = layers.Concatenate()([light, layers.Rescaling(-1, 1)(light)])
model = headed(pixels, channels)
images = np.zeros((3, 64, 64), np.uint8)
for at, (row, column) in enumerate([(1, 6), (4, 4), (7, 0)]):
    images[at, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = 255
seen = []
model.get_layer("score").set_weights([np.array([[2.0], [0.0]]), np.array([-1.0])])
maps, scores = attribution.gradcam_maps(model, images, np.array([2, 0]), batch_size=1, on_images=seen.append)
assert seen == [1, 1]
expected = np.zeros((2, 8, 8)); expected[0, 7, 0] = expected[1, 1, 6] = 1
assert np.array_equal(maps, expected)
assert np.allclose(scores, 1 / (1 + np.exp(1 - 2 / 64)), atol=1e-6)  # 1 of 64 cells is bright
model.get_layer("score").set_weights([np.array([[0.0], [2.0]]), np.array([-1.0])])
assert np.array_equal(attribution.gradcam_maps(model, images, np.array([2, 0]))[0], 1 - expected)
model.get_layer("score").set_weights([np.array([[-2.0], [0.0]]), np.array([0.0])])
nothing, _ = attribution.gradcam_maps(model, images, np.arange(3))
assert nothing.shape == (3, 8, 8) and not nothing.any()
for wrong, rows, words in (
    (keras.Model(pixels, light), [0], "average pooling named 'features'"), (model, [], "found none"),
):
    try:
        attribution.gradcam_maps(wrong, images, np.array(rows, int))
    except DataError as error:
        assert words in str(error), error
    else:
        raise AssertionError(words)
"""
    python(code)


def write_chests(folder, count, side):
    """Write phantom chests, their manifest with the places of the opacities, and their cache; return the manifest."""
    dataset.make_dataset(folder / "data", images=count, size=side, broken=False)
    files = sorted((folder / "data").glob("*/*/*.jpeg"))
    with (folder / "data" / ".opacities.csv").open(newline="") as file:
        places = {row["image"]: (float(row["x"]), float(row["y"])) for row in csv.DictReader(file)}
    keys = [path.relative_to(folder / "data").as_posix() for path in files]
    table = pd.DataFrame({"image": keys, "split": [key.split("/")[0] for key in keys]})
    table["label"] = [LABEL_NAMES.index(key.split("/")[1]) for key in keys]
    table[["x", "y"]] = [places.get(key, (np.nan, np.nan)) for key in keys]
    cache = []
    for path in files:
        with Image.open(path) as image:
            cache.append(model_input.resize(image, side))
    table["pixel_sha256"] = [f"picture{at}" for at in range(len(table))]
    held = Cache(
        folder / "cache", Recipe(kind="pixels", made={}, shape=(side, side), dtype="uint8")
    )
    held.add(list(table["pixel_sha256"]), np.stack(cache))
    write_table(table, folder / "manifest.csv")
    return table


_TRAINED = """
from pathlib import Path
from cxr.data.images import pixel_cache
from cxr.core.files import read_table
folder = Path(sys.argv[1])
table = read_table(folder / "manifest.csv")
cache = pixel_cache.load_pixels(next((folder / "cache").iterdir()), table)
train, test = (np.flatnonzero(table["split"] == split) for split in ("train", "test"))
labels = table["label"].to_numpy().astype("float32")
model = network()
model.compile(keras.optimizers.Adam(2e-3), "binary_crossentropy", jit_compile=False)
model.fit(cache[train][..., np.newaxis], labels[train], epochs=epochs, batch_size=16, verbose=0)
maps, scores = attribution.gradcam_maps(model, cache, test)
np.savez(folder / "trained.npz", maps=maps, scores=scores)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Chests and a small convolutional network trained on them: maps and scores of test."""
    folder = tmp_path_factory.mktemp("chests")
    table = write_chests(folder, 300, 64)
    network = """
def network():
    pixels = keras.Input((None, None, 1))
    features = layers.Rescaling(1 / 64, -2)(pixels)
    for filters, stride in ((16, 2), (32, 2), (48, 2), (64, 1)):
        features = layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False)(features)
        features = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(features))
    return headed(pixels, features)

epochs = 12
"""
    python(network + _TRAINED, folder)
    with np.load(folder / "trained.npz") as found:
        return folder, table, found["maps"], found["scores"]


def pointing_game(maps, places, half):
    """Return (hits, n, chance) of the strongest cells' centres within `half` of the places, boxes of fractions.

    Zhang et al., "Top-down neural attention by excitation backprop" (ECCV 2016). Chance is the higher of two: the
    share of cells that would hit, and how often the cell of one image hits the place of another, which
    counts for a network that always looks at the middle of the chest.
    """
    height, width = maps.shape[1:]
    rows, columns = np.divmod(maps.reshape(len(maps), -1).argmax(axis=1), width)
    strongest = np.stack([(columns + 0.5) / width, (rows + 0.5) / height], axis=1)
    cells = np.stack(
        np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height), -1
    ).reshape(-1, 2)
    near = (np.abs(strongest[np.newaxis] - places[:, np.newaxis]) <= half).all(axis=2)
    anywhere = (np.abs(cells[np.newaxis] - places[:, np.newaxis]) <= half).all(axis=2).mean()
    elsewhere = near[~np.eye(len(near), dtype=bool)].mean()
    return int(near.diagonal().sum()), len(places), float(max(anywhere, elsewhere))


def test_the_pointing_game_counts_as_computed_by_hand():
    """Two maps of 2 x 2, places in opposite corners: both hit; 1 of 4 cells would; each other's place is never hit."""
    maps = np.array([[[1, 0], [0, 0.5]], [[0, 0.5], [0, 1]]])
    places = np.array([[0.25, 0.25], [0.75, 0.75]])
    assert pointing_game(maps, places, 0.1) == (2, 2, 0.25)
    assert pointing_game(maps[::-1], places, 0.1) == (0, 2, 1.0)


def assert_maps_land_on_opacities(table, maps, scores):
    """Fail unless the strongest cells of test PNEUMONIA are at the opacities more often than chance, p < 0.01.

    At the opacity: in a box of half-width 0.13, the middle of what `phantom` draws, and 1/8 of the side more (a cell of
    8 x 8, half a cell of 4 x 4). A second, weaker opacity has no place on record: a perfect network would miss some.
    """
    test = table[table["split"] == "test"]
    ill = (test["label"] == 1).to_numpy()
    assert scores[ill].mean() > scores[~ill].mean() + 0.2, (
        "the network learned nothing: its maps would mean nothing"
    )
    hits, count, chance = pointing_game(
        maps[ill], test.loc[ill, ["x", "y"]].to_numpy(), 0.13 + 1 / 8
    )
    print(f"pointing game: {hits} of {count}, chance {chance:.3f}")
    assert binomtest(hits, count, chance, alternative="greater").pvalue < 0.01


def test_trained_maps_land_on_opacities_more_often_than_chance(trained):
    """A small network, 8 x 8 cells: trained on phantoms, on held-out ones it attends to what makes them PNEUMONIA."""
    _, table, maps, scores = trained
    assert_maps_land_on_opacities(table, maps, scores)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_maps_of_a_trained_mobilenet_land_on_opacities_more_often_than_chance(tmp_path):
    """MobileNetV2 from random weights, all of it released, 128 pixels: with 4 x 4 cells, too, it attends to the opacity."""
    table = write_chests(tmp_path, 500, 128)
    network = """
def network():
    model = architectures.build_model("MobileNetV2", TrainingSettings(image_size=128), None)
    for layer in model.layers:
        layer.trainable = True
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.8  # 0.999 would take thousands of steps to forget its start
    return model

epochs = 5
"""
    python(network + _TRAINED, tmp_path)
    with np.load(tmp_path / "trained.npz") as found:
        assert found["maps"].shape[1:] == (4, 4)
        assert_maps_land_on_opacities(table, found["maps"], found["scores"])


def test_figure_and_record_are_of_every_image(trained, tmp_path):
    """gradcam.png and attention.json: every group's counts balanced, the mean that of its groups, an interval about it."""
    folder, table, maps, scores = trained
    rows = table[table["split"] == "test"].reset_index(drop=True).assign(score=scores)
    of = {"architecture": "Small", "model_sha256": "0" * 64, "threshold": 0.5, "split": "test"}
    cache = Cache.open(next((folder / "cache").iterdir()))
    written = summary.write_gradcam(
        tmp_path, cache.rows(list(rows["pixel_sha256"])), maps, rows, of
    )
    record = Attention.read(tmp_path / "attention.json")
    assert record == written and (record.architecture, record.split) == ("Small", "test")
    assert record.images == record.examined == len(scores)
    assert record.grid == (8, 8) and record.uniform_share == pytest.approx(0.36)
    said, ill = scores >= 0.5, (rows["label"] == 1).to_numpy()
    sizes = {"tp": said & ill, "fn": ~said & ill, "fp": said & ~ill, "tn": ~said & ~ill}
    assert {name: group.images for name, group in record.groups.items()} == {
        k: v.sum() for k, v in sizes.items()
    }
    assert sum(group.with_map for group in record.groups.values()) == record.with_map
    low, high = record.interval
    assert 0 <= low <= record.border_share <= high <= 1
    mean = (
        sum(group.with_map * (group.border_share or 0) for group in record.groups.values())
        / record.with_map
    )
    assert mean == pytest.approx(record.border_share)
    with Image.open(tmp_path / record.figure) as picture:
        assert picture.format == "PNG" and picture.width > 800
    assert (tmp_path / record.figure).stat().st_size < 400_000


@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (7, 7), (5, 8)])
def test_the_border_share_of_a_uniform_map_is_the_rings_area(grid):
    """A ring of a tenth of each side: 1 - 0.8 x 0.8 = 0.36, whatever the grid and the level."""
    maps = np.stack([np.full(grid, level, np.float32) for level in (0.2, 1)])
    assert border_share.border_share(maps) == pytest.approx([0.36, 0.36], abs=1e-12)
    assert border_share.uniform_share() == pytest.approx(0.36)
    assert border_share.border_share(maps, 0.25) == pytest.approx(
        [border_share.uniform_share(0.25)] * 2, abs=1e-12
    )


def test_the_border_share_of_a_spot_is_where_the_spot_is():
    """In the middle of 20 x 20 cells nothing lies in the ring of two cells, in a corner everything; no map, no share."""
    maps = np.zeros((3, 20, 20), np.float32)
    maps[0, 9:11, 9:11] = maps[1, 0, 0] = 1
    shares = border_share.border_share(maps)
    assert shares.dtype == np.float64
    assert shares[:2] == pytest.approx([0, 1], abs=1e-12) and np.isnan(shares[2])


def test_stretching_is_pillows_bilinear_enlargement():
    """The pixels that are summed and drawn are those of the common bilinear resize, edges included."""
    maps = np.random.default_rng(0).random((2, 5, 7)).astype(np.float32)
    large = border_share.enlarge_maps(maps, 64)
    for map_, own in zip(maps, large, strict=True):
        expected = np.asarray(Image.fromarray(map_).resize((64, 64), Image.Resampling.BILINEAR))
        assert np.abs(own - expected).max() < 1e-5


def test_groups_run_from_the_most_certain_to_the_threshold():
    """Score >= threshold counts as PNEUMONIA; equal scores are in the order of their names."""
    table = pd.DataFrame(
        {
            "image": list("fedcba"),
            "label": [1, 1, 1, 0, 0, 0],
            "score": [0.5, 0.9, 0.1, 0.7, 0.2, 0.2],
        }
    )
    found = confusion_groups.confusion_groups(table, 0.5)
    assert {name: rows.tolist() for name, rows in found.items()} == {
        "tp": [1, 0],
        "fn": [2],
        "fp": [3],
        "tn": [5, 4],
    }
    assert [rows.tolist() for rows in confusion_groups.confusion_groups(table, 0.51).values()] == [
        [1],
        [2, 0],
        [3],
        [5, 4],
    ]


def test_the_bootstrap_interval_covers_the_mean():
    """Close to mean +- 1.96 s / sqrt(n) for many images, repeatable, None where one image cannot vary."""
    shares = np.random.default_rng(0).random(300)
    low, high = border_share.mean_interval(shares)
    reach = 1.96 * shares.std() / np.sqrt(300)
    assert (low, high) == pytest.approx(
        (shares.mean() - reach, shares.mean() + reach), abs=0.1 * reach
    )
    assert border_share.mean_interval(shares) == (low, high)
    assert (
        border_share.mean_interval(shares[:1]) is None
        and border_share.mean_interval(shares[:0]) is None
    )


def shown(count, side=64):
    """Return noise images with a spot's map each, and a table with two labels."""
    rng = np.random.default_rng(0)
    maps = np.zeros((count, 7, 7), np.float32)
    maps[np.arange(count), rng.integers(0, 7, count), rng.integers(0, 7, count)] = 1
    names = [f"test/NORMAL/$strange_{number}$.jpeg" for number in range(count)]
    table = pd.DataFrame(
        {"image": names, "label": np.arange(count) % 2, "score": np.linspace(0, 1, count)}
    )
    return rng.integers(0, 256, (count, side, side), dtype=np.uint8), maps, table


@pytest.fixture
def figures(monkeypatch):
    """Every figure that would be published, not rendered."""
    kept: list[Figure] = []
    monkeypatch.setattr(
        plotting, "save_png", lambda figure, path, largest: kept.append(figure) or path
    )
    return kept


def texts(figure: Figure) -> str:
    return "\n".join(item.get_text() for item in figure.findobj(Text))


def test_the_figure_says_what_each_image_is(figures, tmp_path):
    """A row for each group with its n, at most four images in it, and under each image name, score and label."""
    pixels, maps, table = shown(30)
    plot.draw_gradcam(pixels, maps, table, 0.4, tmp_path / "gradcam.png")
    words = texts(figures[0])
    for expected in (
        "n = 30 images (15 NORMAL, 15 PNEUMONIA)", "Threshold 0.4", "7 x 7 cells", "True positives, n = 9",
        "False negatives, n = 6", "False positives, n = 9", "True negatives, n = 6",
        "$strange_29$\nscore 1.000, label PNEUMONIA", "$strange_0$\nscore 0.000, label NORMAL",
    ):  # fmt: skip
        assert expected in words
    assert (
        "none in this set" not in words and words.count("score ") == 16 + 1
    )  # the note says it, too
    assert sum(bool(axes.images) for axes in figures[0].axes) == 16 + 1  # and the key


def test_an_empty_group_is_named_as_such(figures, tmp_path):
    """No false positives, one map of nothing: the row says none in this set."""
    pixels, maps, table = shown(6)
    table["score"] = table["label"] * 0.8
    maps[1] = 0
    plot.draw_gradcam(pixels, maps, table, 0.5, tmp_path / "gradcam.png")
    words = texts(figures[0])
    assert (
        words.count("none in this set") == 2
        and words.count("nothing raised the score") == 1
        and "False positives, n = 0" in words
    )
    assert "n = 6 images (3 NORMAL, 3 PNEUMONIA)" in words and "True positives, n = 3" in words


def test_the_png_is_small_and_gray_where_nothing_is_attended(tmp_path):
    """Noise is the worst there is to compress: still under 400 kB; with maps of nothing the images stay gray."""
    pixels, maps, table = shown(40, side=256)
    path = plot.draw_gradcam(pixels, maps, table, 0.5, tmp_path / "gradcam.png")
    assert path.stat().st_size < 400_000
    with Image.open(path) as picture:
        drawn = np.asarray(picture.convert("RGB")).astype(int)
    assert drawn[0, 0].tolist() == [255, 255, 255] and drawn.shape[0] > drawn.shape[1] > 800
    assert np.ptp(drawn, axis=2).max() > 100
    plot.draw_gradcam(pixels[:3], maps[:3] * 0, table[:3], 0.01, path)
    with Image.open(path) as picture:
        rows = np.asarray(picture.convert("RGB")).astype(int)[190:350]
    assert np.ptp(rows, axis=2).max() == 0


def test_images_maps_and_rows_must_be_as_many(tmp_path):
    """One map too few is an error, not a figure with the wrong captions."""
    pixels, maps, table = shown(4)
    with pytest.raises(ValueError, match="got 4, 3, 4"):
        plot.draw_gradcam(pixels, maps[:3], table, 0.5, tmp_path / "gradcam.png")


def test_a_record_of_no_attention_is_valid_json():
    """Where no image has a map every share is None, so the record can be read back."""
    members = dict(zip(confusion_groups.GROUPS, np.arange(8).reshape(4, 2), strict=True))
    of = {
        "architecture": "VGG16",
        "model_sha256": "",
        "threshold": 0.5,
        "split": "test",
        "figure": "gradcam.png",
    }
    record = summary.summarise_maps(np.zeros((8, 7, 7), np.float32), members, of)
    assert (record.examined, record.with_map, record.border_share, record.interval) == (
        8,
        0,
        None,
        None,
    )
    assert json.loads(record.model_dump_json())["groups"]["tp"] == {
        "images": 2, "examined": 2, "with_map": 0, "border_share": None,
    }  # fmt: skip
    assert Attention.model_validate_json(record.model_dump_json()) == record
