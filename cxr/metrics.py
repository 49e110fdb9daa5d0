"""Figures of a binary classifier from labels and scores. Every count-based one comes with n and an interval."""

from typing import Any

import numpy as np

from cxr.errors import DataError
from cxr.records import Figures

Vector = np.ndarray[Any, Any]
PROPORTIONS = ("accuracy", "sensitivity", "specificity", "precision", "npv")


def figures(labels: Vector, scores: Vector, threshold: float) -> Figures:
    """Return n, positives, tp, fp, tn, fn, accuracy, sensitivity (recall), specificity, precision, npv, auroc, auprc.

    A prediction is PNEUMONIA where score >= threshold. precision and npv are None where nothing was predicted so.
    Raises DataError for a missing class or a score that is not a number.
    """
    from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score

    if len(np.unique(labels)) < 2 or not np.isfinite(scores).all():
        raise DataError(
            f"not estimable (n = {len(labels)}): expected both classes and finite scores, found classes "
            f"{np.unique(labels).tolist()}, {int((~np.isfinite(scores)).sum())} scores that are not numbers"
        )
    tn, fp, fn, tp = (int(n) for n in confusion_matrix(labels, scores >= threshold, labels=[0, 1]).ravel())
    return {
        "n": len(labels), "positives": tp + fn, "tp": tp, "fp": fp, "tn": tn, "fn": fn,
        **{name: k / of if of else None for name, (k, of) in _ratios(tp, fp, tn, fn).items()},
        "auroc": float(roc_auc_score(labels, scores)),
        "auprc": float(average_precision_score(labels, scores)),
    }  # fmt: skip


def _ratios(tp: int, fp: int, tn: int, fn: int) -> dict[str, tuple[int, int]]:
    return {
        "accuracy": (tp + tn, tp + fp + tn + fn), "sensitivity": (tp, tp + fn), "specificity": (tn, tn + fp),
        "precision": (tp, tp + fp), "npv": (tn, tn + fn),
    }  # fmt: skip


def wilson(found: Figures) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval of each proportion in `found` (Wilson 1927, by scipy), 0..1.

    Images of one patient count as independent here, so the intervals are a little too narrow.
    """
    from scipy.stats import binomtest

    counts = _ratios(*(int(found[name] or 0) for name in ("tp", "fp", "tn", "fn")))
    return {
        name: tuple(float(end) for end in binomtest(k, of).proportion_ci(method="wilson"))  # type: ignore[misc]
        for name, (k, of) in counts.items()
        if of
    }


def operating_point(labels: Vector, scores: Vector, min_sensitivity: float) -> float:
    """Return the threshold with the highest specificity among those with at least `min_sensitivity`.

    Half-way between the two neighbouring scores, so that a score's last bit decides nothing. To be called on
    validation data only.

    >>> operating_point(np.array([0, 0, 1, 1]), np.array([0.1, 0.3, 0.5, 0.9]), 0.95)
    0.4
    """
    positive = np.sort(scores[labels == 1])
    allowed = int(np.floor(len(positive) * (1 - min_sensitivity) + 1e-9))
    lowest = float(positive[allowed])
    below = scores[scores < lowest]
    return (lowest + float(below.max())) / 2 if len(below) else lowest
