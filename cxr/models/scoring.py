"""The single path from a model and pixels to scores: validation, test and prediction take it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr.core.files import write_table
from cxr.data.images.changes.changed_images import ChangedImages
from cxr.models.compute import backend
from cxr.models.features import batching
from cxr.stats.metrics import Vector
from cxr.stats.subgroups import ATTRIBUTES
from cxr.storage.arrays import Stored

SCORE_COLUMNS = ["image", "patient_id", "etiology", "width", "height", "label"]


def score_images(
    model: Any,
    pixels: Stored | ChangedImages,
    positions: Vector,
    batch_size: int | None = None,
    on_images: Callable[[int], None] = lambda _: None,
) -> Vector:
    """Score images with a model of one output.

    Args:
        model: A Keras model.
        pixels: uint8 (m, side, side), or what a model that begins higher up takes: activations
            (m, h, w, c) or features (m, width).
        positions: Which of them to score, int (n,).
        batch_size: The most images in a batch; `backend.inference_batch_size()` where not given.
        on_images: Told how many more images are done.

    Returns:
        The raw scores, float64 (n,).
    """
    scores = [np.empty(0)]
    batches = model_outputs(
        model,
        pixels,
        positions,
        batch_size,
        on_images,
    )
    for (output,) in batches:
        scores.append(output.astype(np.float64).reshape(-1))
    return np.concatenate(scores)


def model_outputs(
    model: Any,
    pixels: Stored | ChangedImages,
    positions: Vector,
    batch_size: int | None = None,
    on_images: Callable[[int], None] = lambda _: None,
) -> Iterator[list[Vector]]:
    """Yield, batch by batch, the list of a model's outputs; see `score_images` for the arguments.

    Batches are all of one size (the last is filled up with copies of its last image): a second size
    costs a second tracing of the model, on a GPU a second compilation.
    """
    most = batch_size or backend.inference_batch_size()
    size = even_batch_size(len(positions), most)

    def prepare(batch: Vector) -> tuple[Vector, int]:
        filled = np.pad(batch, (0, size - len(batch)), "edge")
        inputs = pixels[filled]
        if inputs.ndim == 3:
            inputs = inputs[..., np.newaxis]
        return inputs, len(batch)

    def compute(prepared: tuple[Vector, int]) -> list[Vector]:
        inputs, count = prepared
        outputs = model.predict_on_batch(inputs)
        if not isinstance(outputs, list):
            outputs = [outputs]
        return [np.asarray(output)[:count] for output in outputs]

    batches = (positions[start : start + size] for start in range(0, len(positions), size))
    for outputs in batching.map_batches(prepare, compute, batches):
        yield outputs
        on_images(len(outputs[0]))


def even_batch_size(images: int, most: int = 32) -> int:
    """Return the size of the fewest equal batches that hold all images.

    Of these sizes it is the smallest, so that the fewest places are unused.

    Args:
        images: How many images there are.
        most: The largest size allowed.

    Two batches of 17 hold 33 images: 32 and 1 would be two sizes, 32 and 32 nearly twice the work.

    >>> even_batch_size(33)
    17
    """
    batches = -(-images // most)
    if batches == 0:
        return 1
    return -(-images // batches)


def write_scores(
    rows: pd.DataFrame,
    raw: Vector,
    scores: Vector,
    path: Path,
) -> None:
    """Write the table of a set's scores; they keep all their digits.

    What the manifest has of ATTRIBUTES goes along: subgroups are measured from this table alone.

    Args:
        rows: The manifest's rows of the set.
        raw: Their raw scores.
        scores: Their calibrated scores.
        path: The file to write.
    """
    known = [name for name in ATTRIBUTES if name in rows]
    write_table(rows[[*SCORE_COLUMNS, *known]].assign(raw_score=raw, score=scores), path)
