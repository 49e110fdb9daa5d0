"""The single path from a model and pixels to scores: validation, test and prediction all come through here."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr.core.files import write_table
from cxr.models.compute import backend
from cxr.models.features import batching
from cxr.stats.metrics import Vector
from cxr.storage.arrays import Stored

SCORE_COLUMNS = ["image", "patient_id", "etiology", "width", "height", "label"]


def score_images(
    model: Any,
    pixels: Stored,
    positions: Vector,
    batch_size: int | None = None,
    on_images: Callable[[int], None] = lambda _: None,
) -> Vector:
    """Return the model's scores, float64 (n,), of `pixels` at `positions`.

    `pixels` is uint8 (m, side, side), or what a model that begins higher up takes: activations (m, h, w, c) or features
    (m, width). Batches hold at most `batch_size` images, `backend.batch()` where not given, and are all of one size
    (the last is filled up with copies of its last image): a second size costs a second tracing of the model, on a GPU a
    second compilation.
    """
    found = [score for (score,) in model_outputs(model, pixels, positions, batch_size, on_images)]
    return np.concatenate([np.empty(0), *(score.astype(np.float64).reshape(-1) for score in found)])


def model_outputs(
    model: Any,
    pixels: Stored,
    positions: Vector,
    batch_size: int | None = None,
    on_images: Callable[[int], None] = lambda _: None,
) -> Iterator[list[Vector]]:
    """Yield, batch by batch, each output of a model, as `score` has it of its only one."""
    size = even_batch_size(len(positions), batch_size or backend.inference_batch_size())

    def read(at: Vector) -> tuple[Vector, int]:
        batch = pixels[np.pad(at, (0, size - len(at)), "edge")]
        return (batch[..., np.newaxis] if batch.ndim == 3 else batch), len(at)

    def one(given: tuple[Vector, int]) -> list[Vector]:
        batch, count = given
        found = model.predict_on_batch(batch)
        return [
            np.asarray(each)[:count] for each in (found if isinstance(found, list) else [found])
        ]

    for found in batching.map_batches(
        read, one, (positions[at : at + size] for at in range(0, len(positions), size))
    ):
        yield found
        on_images(len(found[0]))


def even_batch_size(images: int, most: int = 32) -> int:
    """Return the size, 1..most, of the fewest equal batches that hold so many images with the fewest places over.

    >>> even_batch_size(33)  # two of 17, where 32 and 1 would be two sizes, and 32 and 32 nearly twice the work
    17
    """
    return -(-images // max(1, -(-images // most))) or 1


def write_scores(rows: pd.DataFrame, raw: Vector, scores: Vector, path: Path) -> None:
    """Publish who each image is, its label, raw score and calibrated score; scores keep all their digits."""
    write_table(rows[SCORE_COLUMNS].assign(raw_score=raw, score=scores), path)
