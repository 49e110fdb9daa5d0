"""Where in an image a score comes from: Grad-CAM maps of any of our networks, their figure and their border share.

Left out: any claim that a map outlines disease. It says which cells of the network's last, coarse grid raise the score,
which is enough to notice a network that reads the side marker. Maps are of PNEUMONIA; those of NORMAL would be the same
sums with the other sign.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cxr.core.errors import DataError
from cxr.data.images.border import BORDER_FRACTION
from cxr.models import scoring
from cxr.stats.metrics import Vector
from cxr.storage.arrays import Stored

if TYPE_CHECKING:
    pass

GROUPS = {
    "tp": "Pneumonia found",
    "fn": "Pneumonia missed",
    "fp": "False alarms",
    "tn": "Normals left alone",
}
MAP_SIDE = 224  # pixels: what maps are stretched to before they are summed or drawn
_RESAMPLES = 2000


def gradcam_maps(
    model: Any,
    pixels: Stored,
    positions: Vector,
    batch_size: int | None = None,
    on_images: Callable[[int], None] = lambda _: None,
) -> tuple[Vector, Vector]:
    """Return Grad-CAM maps, float32 (n, h, w), and model scores, float64 (n,), of `pixels` at `positions`.

    `pixels` is uint8 (m, side, side). A map's largest value is 1; where nothing raises the score it is all 0.
    Grad-CAM (Selvaraju et al., ICCV 2017) is relu(sum_k a_k A_k) over the last feature maps A_k, where a_k is the
    mean over their h x w cells of d logit / d A_k. Here logit = sum_k w_k mean(A_k) + b (average pooling, one dense
    unit), so d logit / d A_k = w_k / (h w) in every cell, and the map is relu(sum_k w_k A_k) up to a factor
    that the scaling to 1 removes: no gradient is taken, whatever the backend. It is the class activation
    map of Zhou et al. (CVPR 2016). The sigmoid is left out, as usual:
    its slope, too, is a positive factor. Raises DataError for a model without such a head, or no positions.
    """
    both, weights = _with_last_features(model)
    found, scores = [], []
    for features, score in scoring.model_outputs(both, pixels, positions, batch_size, on_images):
        found.append(np.maximum(features.astype(np.float32) @ weights, 0))
        scores.append(score.astype(np.float64).reshape(-1))
    if not found:
        raise DataError(
            "attention: expected at least one image, found none: check the split and its scores"
        )
    raw = np.concatenate(found)
    peaks = raw.max(axis=(1, 2), keepdims=True)
    return raw / np.where(peaks > 0, peaks, 1), np.concatenate(scores)


def _with_last_features(model: Any) -> tuple[Any, Vector]:
    """Return a model that gives the last feature maps beside the score, and the head's weights, float32 (c,)."""
    import keras

    layers: dict[str, Any] = {layer.name: layer for layer in model.layers}
    kinds = {"features": keras.layers.GlobalAveragePooling2D, "score": keras.layers.Dense}
    if (
        not all(isinstance(layers.get(name), kind) for name, kind in kinds.items())
        or layers["score"].units != 1
    ):
        raise DataError(
            "attention: expected a model with average pooling named 'features' and one dense unit named 'score', found "
            f"the last layers {list(layers)[-3:]}: use a model.keras that this pipeline exported"
        )
    both = keras.Model(model.inputs, [layers["features"].input, model.output])
    return both, np.asarray(keras.ops.convert_to_numpy(layers["score"].kernel), np.float32)[:, 0]


def enlarge_maps(maps: Vector, side: int = MAP_SIDE) -> Vector:
    """Return maps (n, h, w) stretched to (n, side, side), float64, as Pillow's bilinear enlargement would."""
    down, across = (_bilinear(cells, side) for cells in maps.shape[1:])
    large: Vector = np.einsum(
        "yi,nij,xj->nyx", down, maps.astype(np.float64), across, optimize=True
    )
    return large


def _bilinear(cells: int, side: int) -> Vector:
    """Return the matrix (side, cells) that interpolates between the cells' centres and is flat beyond the outer."""
    centres = (np.arange(side) + 0.5) * cells / side - 0.5
    return np.stack([np.interp(centres, np.arange(cells), unit) for unit in np.eye(cells)], axis=1)


def border_share(maps: Vector, side_fraction: float = BORDER_FRACTION) -> Vector:
    """Return the share 0..1 of each stretched map's sum that lies in the border ring, float64 (n,).

    `maps` is (n, h, w), not negative; the ring is the outer `side_fraction` of each side. NaN for a map
    that is all 0: it has no share. Compare with `uniform_share`; the coarser the maps, the nearer to it they come.
    """
    total, within = _summed(maps, np.ones(MAP_SIDE)), _summed(maps, _inner(side_fraction))
    share: Vector = 1 - np.divide(within, total, out=np.full(len(maps), np.nan), where=total > 0)
    return share.clip(0, 1)


def _summed(maps: Vector, weights: Vector) -> Vector:
    """Return the sum over rows and columns of the stretched maps, each weighted, without stretching them."""
    down, across = (weights @ _bilinear(cells, MAP_SIDE) for cells in maps.shape[1:])
    sums: Vector = np.einsum("i,nij,j->n", down, maps.astype(np.float64), across)
    return sums


def _inner(side_fraction: float) -> Vector:
    """Return how much of each of the _SIDE pixels lies within the ring, 0..1: the ring may cut through a pixel."""
    low, high = side_fraction * MAP_SIDE, (1 - side_fraction) * MAP_SIDE
    left = np.arange(MAP_SIDE)
    inside: Vector = np.minimum(left + 1, high) - np.maximum(left, low)
    return inside.clip(0, 1)


def uniform_share(side_fraction: float = BORDER_FRACTION) -> float:
    """Return the border share of a map that is equal everywhere: the ring's share of the area.

    >>> round(uniform_share(0.1), 6)  # 1 - 0.8 x 0.8
    0.36
    """
    return 1 - (1 - 2 * side_fraction) ** 2


def confusion_groups(table: pd.DataFrame, threshold: float) -> dict[str, Vector]:
    """Return the rows of `table` (image, label, score) in each group of GROUPS, the most certain first.

    A prediction is PNEUMONIA where score >= threshold. Equal scores are in the order of their names.
    """
    said, ill = table["score"] >= threshold, table["label"] == 1
    rows = {"tp": said & ill, "fn": ~said & ill, "fp": said & ~ill, "tn": ~said & ~ill}
    order = {
        said: np.lexsort((table["image"], table["score"] * (-1 if said else 1)))
        for said in (True, False)
    }
    return {name: _ordered(order[name in {"tp", "fp"}], rows[name].to_numpy()) for name in GROUPS}


def _ordered(order: Vector, wanted: Vector) -> Vector:
    rows: Vector = order[wanted[order]]
    return rows


def mean_interval(shares: Vector, seed: int = 0) -> tuple[float, float] | None:
    """Return the 95 % percentile bootstrap interval of the mean (Efron and Tibshirani 1993, chapter 13).

    Images are resampled, 2000 times; None for fewer than two.
    """
    if len(shares) < 2:
        return None
    rng = np.random.default_rng(seed)
    means = [rng.choice(shares, len(shares)).mean() for _ in range(_RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
