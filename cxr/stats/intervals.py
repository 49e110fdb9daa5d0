"""95 % intervals of figures: patients drawn with replacement (bootstrap), or Wilson's of a single proportion.

Images of one patient resemble each other, so whole patients are drawn, never images. Left out: differences between
two models (cxr.stats.comparison); the calibration error, whose draws are biased upwards (simulated on 600 images, its percentile
interval held the truth in 0 to 71 % of the sets; see cxr.stats.reliability.ece_by_chance); and any interval where the data
cannot say: that is None, never a number.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from cxr.core.errors import DataError
from cxr.core.settings import Strict
from cxr.stats.metrics import PROPORTIONS, Vector

METRICS = (*PROPORTIONS, "auroc", "auprc", "brier")
MISSING_DRAWS = 0.05  # a figure not estimable in more of the draws has no interval
BLOCK = 1_000_000  # weights in memory at a time: 8 MB, and about ten such arrays while a block is worked on


class Interval(Strict):
    """A 95 % interval: how it was made, and of how many images (the figure's own denominator) and patients."""

    low: float
    high: float
    method: Literal["patient bootstrap", "Wilson"]
    images: int
    patients: int | None = None


def wilson_interval(k: int, n: int, patients: int | None = None) -> Interval | None:
    """Return the 95 % interval of k of n (Wilson 1927, by scipy), 0..1; None for n = 0.

    Images count as independent, so it is a little too narrow where patients have several; `patients` is only noted.
    Raises ValueError (scipy's) unless 0 <= k <= n.

    >>> wilson_interval(0, 29)
    Interval(low=0.0, high=0.11696979849974073, method='Wilson', images=29, patients=None)
    """
    from scipy.stats import binomtest

    if n == 0:
        return None
    found = binomtest(k, n).proportion_ci(method="wilson")
    return Interval(
        low=float(found.low), high=float(found.high), method="Wilson", images=n, patients=patients
    )


def bootstrap_intervals(
    labels: Vector,
    scores: Vector,
    patients: Sequence[str] | Vector,
    threshold: float,
    draws: int = 2000,
    seed: int = 0,
) -> dict[str, Interval | None]:
    """Return the 95 % interval of each of FIGURES by the patient-clustered percentile bootstrap (Field & Welsh 2007).

    `labels` (n,) 0 or 1, `scores` (n,) 0..1, `patients` (n,) text: images of one patient are drawn together, an image
    without one ("") on its own. None: not estimable, that is fewer than two patients behind the figure, the figure
    missing in more than 5 % of the draws, or the same in every draw (an AUROC of 1, constant scores). A proportion of
    exactly 0 or 1 also never varies; it gets Wilson's interval, which takes its images as independent.
    Raises DataError for scores that are no numbers or outside 0..1, labels other than 0 and 1, or unequal lengths.
    """
    labels, scores = check_scores(labels, scores)
    of = number_patients(patients)
    if len(of) != len(labels) or np.isnan(threshold):
        raise DataError(
            f"expected one patient per image and a threshold, found {len(of)} of {len(labels)}, {threshold}"
        )
    if not len(labels):
        return dict.fromkeys(METRICS)
    found = weighted_metrics(labels, scores, np.ones((1, len(labels))), threshold)
    blocks = [
        weighted_metrics(labels, scores, each, threshold) for each in _weights(of, draws, seed)
    ]
    behind = _denominators(labels, scores >= threshold)
    return {
        name: _interval(
            name,
            float(found[name][0]),
            np.concatenate([block[name] for block in blocks]),
            of[behind[name]],
        )
        for name in METRICS
    }


def check_scores(labels: Vector, scores: Vector) -> tuple[Vector, Vector]:
    """Return labels as int64 (n,) of 0 and 1 and scores as float64 (n,) within 0..1; raises DataError otherwise."""
    labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
    outside = int((~((scores >= 0) & (scores <= 1))).sum())
    if (
        labels.shape != scores.shape
        or labels.ndim != 1
        or outside
        or not np.isin(labels, (0, 1)).all()
    ):
        raise DataError(
            f"not estimable (n = {len(scores)}): expected one label of 0 or 1 and one score within 0..1 per image, "
            f"found {labels.size} labels {np.unique(labels)[:5].tolist()} and {outside} scores that are not"
        )
    return labels.astype(np.int64), scores


def number_patients(patients: Sequence[str] | Vector) -> Vector:
    """Return the patient of each image as a number 0..patients - 1, int64 (n,); an image without one ("") is its own.

    >>> number_patients(["b", "", "a", "b", ""])
    array([1, 2, 0, 1, 3])
    """
    names = np.asarray(patients, dtype=str)
    missing = names == ""
    known, numbers = np.unique(names[~missing], return_inverse=True)
    of = np.empty(len(names), np.int64)
    of[~missing], of[missing] = numbers, len(known) + np.arange(missing.sum())
    return of


def weighted_metrics(
    labels: Vector, scores: Vector, weights: Vector, threshold: float
) -> dict[str, Vector]:
    """Return each of FIGURES, float64 (draws,), under `weights` (draws, n) of the images; NaN where not estimable.

    The numbers are those of scikit-learn with `sample_weight`, tied scores included.
    """
    ill, called = labels == 1, scores >= threshold
    cells = np.stack([ill & called, ~ill & called, ~ill & ~called, ill & ~called], axis=1).astype(
        np.float64
    )
    tp, fp, tn, fn = (weights @ cells).T
    total = tp + fp + tn + fn
    auroc, auprc = _areas(labels, scores, weights)
    return {
        "accuracy": _ratio(tp + tn, total),
        "sensitivity": _ratio(tp, tp + fn),
        "specificity": _ratio(tn, tn + fp),
        "precision": _ratio(tp, tp + fp),
        "npv": _ratio(tn, tn + fn),
        "auroc": auroc,
        "auprc": auprc,
        "brier": _ratio(weights @ (scores - labels) ** 2, total),
    }


def _areas(labels: Vector, scores: Vector, weights: Vector) -> tuple[Vector, Vector]:
    """Return AUROC (trapezoids) and AUPRC (average precision: steps), each (draws,), by one sort of the scores."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(
        np.append(np.diff(scores[order]), -1.0)
    )  # equal scores enter the curve together
    weights = weights[:, order]
    called = np.cumsum(weights, axis=1)[:, ends]
    weights *= labels[order]
    tp = np.cumsum(weights, axis=1)[:, ends]
    fp, caught = called - tp, np.diff(tp, prepend=0.0)
    positives, negatives = tp[:, -1], fp[:, -1]
    under_roc = (np.diff(fp, prepend=0.0) * (tp - caught / 2)).sum(axis=1)
    under_pr = (caught * np.divide(tp, called, out=np.zeros_like(tp), where=called > 0)).sum(axis=1)
    return _ratio(under_roc, positives * negatives), _ratio(under_pr, positives * (negatives > 0))


def _ratio(part: Vector, whole: Vector) -> Vector:
    found: Vector = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return found


def _weights(of: Vector, draws: int, seed: int) -> Iterator[Vector]:
    """Yield blocks (some draws, n): how often each image's patient was drawn, as many patients drawn as there are."""
    rng, patients = np.random.default_rng(seed), int(of.max()) + 1
    size = max(1, BLOCK // len(of))
    for start in range(0, draws, size):
        rows = min(size, draws - start)
        drawn = (
            rng.integers(0, patients, (rows, patients)) + patients * np.arange(rows)[:, np.newaxis]
        )
        counts = np.bincount(drawn.ravel(), minlength=rows * patients).reshape(rows, patients)
        yield counts.astype(np.float64)[:, of]


def _denominators(labels: Vector, called: Vector) -> dict[str, Vector]:
    """Return which images (n,) each figure is a figure of."""
    everything = dict.fromkeys(METRICS, np.ones(len(labels), bool))
    return everything | {
        "sensitivity": labels == 1,
        "specificity": labels == 0,
        "precision": called,
        "npv": ~called,
    }


def _interval(name: str, found: float, drawn: Vector, of: Vector) -> Interval | None:
    patients, kept = len(np.unique(of)), drawn[~np.isnan(drawn)]
    if np.isnan(found) or patients < 2:
        return None
    if name in PROPORTIONS and found in (0.0, 1.0):
        return wilson_interval(round(found * len(of)), len(of), patients)
    if len(kept) < (1 - MISSING_DRAWS) * len(drawn) or np.ptp(kept) < 1e-12:
        return None
    low, high = (float(end) for end in np.percentile(kept, (2.5, 97.5)))
    return Interval(
        low=low, high=high, method="patient bootstrap", images=len(of), patients=patients
    )
