"""Learn the scope of a model from train and validation, with the model itself.

Train images are kept as they are and in one stress world each: the model is chosen, and its
threshold set, in these worlds, so they are within its scope. Without them a film that was blurred a
little, or stretched, would be called out of scope (bench/scope.py).
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cxr.data.images import pixel_cache
from cxr.data.images.changes.changed_images import ChangedImages
from cxr.data.images.changes.stress_worlds import WORLDS
from cxr.data.patients import splits
from cxr.models import scoring
from cxr.models.scope.neighbours import learn_neighbours
from cxr.models.scope.opened_model import OpenedModel
from cxr.models.scope.properties import film_cells, typical_film
from cxr.models.scope.reference import Scope, ScopeReference, measure_images
from cxr.stats.metrics import Vector
from cxr.storage.arrays import Stored

MOST_TRAIN_IMAGES = 1_500  # each is measured twice; more tell no better (bench/scope.py)
MOST_VAL_IMAGES = 4_000  # the units are patients, and a thousand of them allow p = 0.001
_BLOCK = 256  # images whose pixels are in memory at a time
_SEED = 0  # of the draw of patients: the same images in every run of the same data
OnImages = Callable[[int], None]


class Chosen(NamedTuple):
    """The rows of the manifest that a scope is learned from.

    Attributes:
        train: Those of train.
        val: Those of validation.
    """

    train: pd.DataFrame
    val: pd.DataFrame


def images_to_measure(train_images: int, val_images: int) -> int:
    """Return how many images go through the network, about: whole patients may be a few fewer."""
    return 2 * min(train_images, MOST_TRAIN_IMAGES) + min(val_images, MOST_VAL_IMAGES)


def choose_rows(table: pd.DataFrame) -> Chosen:
    """Return the rows of train and validation to learn from, by whole patients.

    Args:
        table: The manifest.
    """
    return Chosen(
        train=_draw(table, "train", MOST_TRAIN_IMAGES),
        val=_draw(table, "val", MOST_VAL_IMAGES),
    )


def learn_scope(
    opened: OpenedModel,
    chosen: Chosen,
    val_scores: Vector,
    pixels: Path,
    model_sha256: str,
    on_images: OnImages = lambda _: None,
) -> Scope:
    """Learn the scope of a model.

    Args:
        opened: The model with its features.
        chosen: The rows of train and validation.
        val_scores: The calibrated scores of the rows of validation, float (n,).
        pixels: The folder of the pixel cache.
        model_sha256: The digest of the model's file.
        on_images: Told how many more images are measured.
    """
    started = time.perf_counter()
    train_pixels = pixel_cache.load_pixels(pixels, chosen.train)
    changed = _changed_images(train_pixels, chosen.train)
    features = np.concatenate(
        [
            read_features(opened.model, train_pixels, on_images),
            read_features(opened.model, changed, on_images),
        ]
    )
    neighbours = learn_neighbours(features, opened.cut_width)
    shrunk = [film_cells(train_pixels[block]) for block in _blocks(len(chosen.train))]
    film = typical_film(np.concatenate(shrunk))
    val_pixels = pixel_cache.load_pixels(pixels, chosen.val)
    val_features = read_features(opened.model, val_pixels, on_images)
    measuring = time.perf_counter()
    measured = [
        measure_images(neighbours, film, val_features[block], val_pixels[block])
        for block in _blocks(len(chosen.val))
    ]
    measured_in = time.perf_counter() - measuring
    groups = splits.patient_groups(chosen.val)
    validation = pd.DataFrame(
        {
            "score": val_scores,
            "label": chosen.val["label"].to_numpy(np.int8),
            "patient": pd.factorize(groups)[0],
        }
    )
    reference = ScopeReference(
        model_sha256=model_sha256,
        train_images=len(chosen.train),
        train_patients=splits.patient_groups(chosen.train).nunique(),
        val_images=len(chosen.val),
        val_patients=groups.nunique(),
        seconds=round(time.perf_counter() - started, 1),
        milliseconds=round(1000 * measured_in / len(chosen.val), 2),
    )
    table = pd.concat([validation, pd.concat(measured, ignore_index=True)], axis=1)
    return Scope(reference, table, neighbours, film)


def read_features(
    model: Any,
    images: Stored | ChangedImages,
    on_images: OnImages = lambda _: None,
) -> Vector:
    """Return the features of images, float32 (n, d).

    Args:
        model: That of an `OpenedModel`.
        images: uint8 (n, side, side).
        on_images: Told how many more images are done.
    """
    positions = np.arange(len(images))
    batches = scoring.model_outputs(model, images, positions, on_images=on_images)
    return np.concatenate([features.astype(np.float32) for features, _ in batches])


def _blocks(images: int) -> list[slice]:
    """Return slices of so many images of which each fits into memory, however large they are."""
    return [slice(start, start + _BLOCK) for start in range(0, images, _BLOCK)]


def _draw(table: pd.DataFrame, split: str, most: int) -> pd.DataFrame:
    """Return the rows of whole patients of a split."""
    positions = np.flatnonzero(table["split"] == split)
    drawn = splits.sample_patients(table, positions, most, _SEED)
    return table.iloc[drawn].reset_index(drop=True)


def _changed_images(pixels: Stored, rows: pd.DataFrame) -> ChangedImages:
    """Return each image in one stress world, which the digest of its pixels decides."""
    changes = [world.change for world in WORLDS.values()]

    def change(image: Vector, key: str) -> Vector:
        return changes[int(key[:8], 16) % len(changes)](image, key)

    return ChangedImages(pixels, list(rows["pixel_sha256"]), change)
