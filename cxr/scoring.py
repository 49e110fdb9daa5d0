"""The single path from a model and pixels to scores: validation, test and prediction all come through here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr.cache import Stored
from cxr.metrics import Vector
from cxr.records import write_table

SCORE_COLUMNS = ["image", "patient_id", "etiology", "width", "height", "label"]


def score(
    model: Any,
    pixels: Stored,
    positions: Vector,
    batch_size: int = 32,
    on_images: Callable[[int], None] = lambda n: None,
) -> Vector:
    """Return the model's scores, float64 (n,), of `pixels` at `positions`.

    `pixels` is uint8 (m, side, side), or what a model that begins higher up takes: activations (m, h, w, c) or features
    (m, width).
    """
    parts = []
    for start in range(0, len(positions), batch_size):
        batch = pixels[positions[start : start + batch_size]]
        batch = batch[..., np.newaxis] if batch.ndim == 3 else batch
        parts.append(np.asarray(model.predict_on_batch(batch), np.float64).reshape(-1))
        on_images(len(batch))
    return np.concatenate(parts)


def write_scores(rows: pd.DataFrame, raw: Vector, scores: Vector, path: Path) -> None:
    """Publish who each image is, its label, raw score and calibrated score; scores keep all their digits."""
    write_table(rows[SCORE_COLUMNS].assign(raw_score=raw, score=scores), path)
