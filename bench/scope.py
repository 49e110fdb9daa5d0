"""The scope of a model: which distance tells foreign images best, and how many the shipped one marks.

    python -m bench.scope EXPORT WORK TEST --films FOLDER [--full FOLDER] [--methods]

EXPORT is an export folder with a scope, WORK the work folder that it is from (its pixel cache is read), TEST the folder
of the test images, FOLDER films of other patients, such as adults. The images of each set are written as files and go
through `cxr predict`; a line is how many of them are marked (abstained or rejected) at the default rate, with Wilson's
interval, and the most frequent reason. Of the test images 200 (--most) are changed. --full: the same films as in training, from
other files (full resolution).

With --methods, distances are compared instead, all in the features of the exported model and all fitted on the same
images of train: Mahalanobis' with one covariance for both classes (Lee et al., NeurIPS 2018), the 5th nearest neighbour
(Sun et al., ICML 2022), and the part outside the leading components, as in ViM (Wang et al., CVPR 2022, without its
logit); in the statistics at the cut, in the pooled features, and in both (the mean of the standardised logarithms);
fitted on images as they are, or also on each in one stress world. Each is cut at the 99th percentile of validation.
"""

import argparse
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

import cxr
from cxr.core.files import read_table
from cxr.data.images import model_input, pixel_cache
from cxr.data.images.changes.changed_images import ChangedImages
from cxr.data.images.changes.stress_worlds import WORLDS
from cxr.models.scope import learning
from cxr.models.scope.opened_model import OpenedModel, open_model
from cxr.stats.intervals import wilson_interval
from tests.support import foreign_images

Array = np.ndarray[Any, Any]
Distance = Callable[[Array], Array]
COMPONENTS = 64  # that the residual leaves out
NEIGHBOUR = 5


def in_world(films: Iterable[Image.Image], name: str) -> list[Image.Image]:
    """Return square films in a stress world."""
    changed = []
    for film in films:
        pixels = model_input.resize(film, foreign_images.SIDE)
        key = hashlib.sha256(pixels.tobytes()).hexdigest()
        changed.append(Image.fromarray(WORLDS[name].change(pixels, key)))
    return changed


def all_sets(
    test: Path, full: Path | None, most: int
) -> tuple[dict[str, list[Image.Image]], list[str]]:
    """Return the images of each set, and the names of those that no model of such films was made for."""
    some = foreign_images.films_of(test, most)
    sets = {"test images": foreign_images.films_of(test, None)}
    if full is not None:
        sets["full resolution"] = foreign_images.films_of(full, None)
    for name in WORLDS:
        sets[f"test, {name}"] = in_world(some, name)
    foreign = foreign_images.all_made() | {
        "negatives": list(foreign_images.negatives(some)),
        "quarter turns": list(foreign_images.quarter_turns(some)),
        "corners": list(foreign_images.corners(some)),
        "blurred": list(foreign_images.blurred(some)),
    }
    return sets | foreign, list(foreign)


def describe_marked(table: pd.DataFrame) -> tuple[int, str]:
    """Return how many images of a table are marked, and why most of them are."""
    marked = table[table["status"] != "scored"]
    kinds = marked["reason"].str.split(":").str[0].value_counts()
    return len(marked), ", ".join(f"{count} {kind}" for kind, count in kinds.head(3).items())


def show(name: str, marked: int, images: int, reasons: str) -> None:
    """Print a line of the table."""
    interval = wilson_interval(marked, images)
    assert interval is not None
    print(
        f"{name:36} {marked:5} of {images:5}  {marked / images:7.2%} "
        f"({interval.low:.2%} to {interval.high:.2%})  {reasons}",
        flush=True,
    )


def measure_shipped(export: Path, test: Path, films: Path, full: Path | None, most: int) -> None:
    """Print what `cxr predict` marks of each set."""
    sets, foreign = all_sets(test, full, most)
    pooled_marked = 0
    pooled_images = 0
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for name, images in sets.items():
            folder = root / name.replace(" ", "_")
            folder.mkdir()
            for number, image in enumerate(images):
                image.save(folder / f"{number:05}.png")
        out = root / "predictions.csv"
        cxr.predict(export, [root / name.replace(" ", "_") for name in sets], out)
        table = read_table(out)
        for name, images in sets.items():
            is_of_set = table["image"].str.contains(f"/{name.replace(' ', '_')}/", regex=False)
            marked, reasons = describe_marked(table[is_of_set])
            show(name, marked, len(images), reasons)
            if name in foreign:
                pooled_marked += marked
                pooled_images += len(images)
        show("all foreign images", pooled_marked, pooled_images, "")
        if "CXR_SALT_FILE" not in os.environ and "CXR_SALT" not in os.environ:
            salt = root / "salt.txt"
            salt.write_text("0123456789abcdef" * 4)
            salt.chmod(0o600)
            os.environ["CXR_SALT_FILE"] = str(salt)
        cxr.predict(export, films, root / "films.csv")
        table = read_table(root / "films.csv")
        is_film = ~table["reason"].str.startswith("not_an_image")
        marked, reasons = describe_marked(table[is_film])
        show(f"films of {films.name}", marked, int(is_film.sum()), reasons)


def mahalanobis(train: Array, labels: Array) -> Distance:
    """Return the distance to the nearer class mean, by the covariance within classes."""
    means = np.stack([train[labels == label].mean(axis=0) for label in (0, 1)])
    centred = train - means[labels]
    covariance = centred.T @ centred / len(train)
    ridge = 0.01 * np.trace(covariance) / len(covariance)
    inverse = np.linalg.inv(covariance + ridge * np.eye(len(covariance)))
    factor = np.linalg.cholesky(inverse)
    return lambda rows: np.min(
        [(((rows - mean) @ factor) ** 2).sum(axis=1) for mean in means], axis=0
    )


def nearest(train: Array, _: Array) -> Distance:
    """Return the squared distance to the 5th nearest image."""
    squares = (train**2).sum(axis=1)

    def distance(rows: Array) -> Array:
        found = (rows**2).sum(axis=1, keepdims=True) + squares - 2 * rows @ train.T
        return np.maximum(np.partition(found, NEIGHBOUR - 1, axis=1)[:, NEIGHBOUR - 1], 1e-9)

    return distance


def residual(train: Array, _: Array) -> Distance:
    """Return the squared length outside the leading components of train."""
    mean = train.mean(axis=0)
    _, vectors = np.linalg.eigh((train - mean).T @ (train - mean))
    outside = vectors[:, : -min(COMPONENTS, train.shape[1] // 2)]
    return lambda rows: (((rows - mean) @ outside) ** 2).sum(axis=1)


METHODS = {"Mahalanobis": mahalanobis, "5th neighbour": nearest, "residual (ViM)": residual}


def split_features(features: Array, cut: int) -> dict[str, Array]:
    """Return the statistics at the cut, and the pooled features at length 1."""
    pooled = features[:, cut:].astype(np.float64)
    lengths = np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-9)
    return {"cut": features[:, :cut].astype(np.float64), "pooled": pooled / lengths}


def compare_methods(
    opened: OpenedModel, work: Path, sets: dict[str, Array], foreign: list[str]
) -> None:
    """Print what each method marks of each kind of set."""
    table = read_table(work / "clean_metadata.csv")
    folder = next((work / "cache").glob("pixels-*"))
    chosen = learning.choose_rows(table)
    train = pixel_cache.load_pixels(folder, chosen.train)
    keys = list(chosen.train["pixel_sha256"])
    worlds = list(WORLDS.values())

    def change(image: Array, key: str) -> Array:
        return worlds[int(key[:8], 16) % len(worlds)].change(image, key)

    changed = ChangedImages(train, keys, change)
    measured = {name: learning.read_features(opened.model, pixels) for name, pixels in sets.items()}
    measured["val"] = learning.read_features(
        opened.model, pixel_cache.load_pixels(folder, chosen.val)
    )
    as_is = learning.read_features(opened.model, train)
    both = np.concatenate([as_is, learning.read_features(opened.model, changed)])
    labels = chosen.train["label"].to_numpy(int)
    for fit_name, fit in {"as they are": as_is, "and in worlds": both}.items():
        fit_labels = np.resize(labels, len(fit))
        for method, learn in METHODS.items():
            logs: dict[str, dict[str, Array]] = {}
            for part, rows in split_features(fit, opened.cut_width).items():
                scale = rows.std(axis=0) + 1e-6 if part == "cut" else 1.0
                distance = learn(rows / scale, fit_labels)
                logs[part] = {
                    name: np.log(distance(split_features(features, opened.cut_width)[part] / scale))
                    for name, features in measured.items()
                }
            logs["both"] = {
                name: sum(
                    (logs[p][name] - logs[p]["val"].mean()) / logs[p]["val"].std()
                    for p in ("cut", "pooled")
                )
                for name in measured
            }
            for part, values in logs.items():
                limit = np.quantile(values["val"], 0.99)
                shares = {name: float((found > limit).mean()) for name, found in values.items()}
                sizes = [len(sets[name]) for name in foreign]
                pooled = np.average([shares[name] for name in foreign], weights=sizes)
                in_worlds = [shares[f"test, {name}"] for name in WORLDS]
                films = values["films"]
                margin = (films.min() - limit) / values["val"].std()
                print(
                    f"{method:15} {part:6} {fit_name:13} test {shares['test images']:.2%}, "
                    f"worlds {np.mean(in_worlds):.1%} (worst {max(in_worlds):.0%}), "
                    f"foreign {pooled:.1%}, films {(films > limit).sum()} of {len(films)} "
                    f"(margin {margin:+.2f} sd), full resolution {shares.get('full resolution', 0):.1%}",
                    flush=True,
                )


def main() -> None:
    """Measure the shipped scope, or compare methods."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("export", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--films", type=Path, required=True)
    parser.add_argument("--full", type=Path)
    parser.add_argument("--most", type=int, default=200, help="images of a set made of test images")
    parser.add_argument("--methods", action="store_true")
    arguments = parser.parse_args()
    if not arguments.methods:
        measure_shipped(
            arguments.export, arguments.test, arguments.films, arguments.full, arguments.most
        )
        return
    import keras

    opened = open_model(keras.models.load_model(arguments.export / "model.keras"))
    images, foreign = all_sets(arguments.test, arguments.full, arguments.most)
    images["films"] = foreign_images.films_of(arguments.films, None)
    side = foreign_images.SIDE
    sets = {
        name: np.stack([model_input.prepare_for_model(image, side, True) for image in members])
        for name, members in images.items()
    }
    compare_methods(opened, arguments.work, sets, foreign)


if __name__ == "__main__":
    main()
