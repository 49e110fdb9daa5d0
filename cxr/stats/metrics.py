"""Figures of a binary classifier from labels and scores; their intervals are in `intervals`."""

from typing import Any

import numpy as np

from cxr.core.errors import DataError

Metrics = dict[str, int | float | None]  # None: not estimable
Vector = np.ndarray[Any, Any]
PROPORTIONS = ("accuracy", "sensitivity", "specificity", "precision", "npv")


def compute_metrics(labels: Vector, scores: Vector, threshold: float) -> Metrics:
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
    tn, fp, fn, tp = (
        int(n) for n in confusion_matrix(labels, scores >= threshold, labels=[0, 1]).ravel()
    )
    return {
        "n": len(labels),
        "positives": tp + fn,
        "tp": tp,
        "fp": fp,
        "tn": tn,
        "fn": fn,
        **{
            name: k / of if of else None
            for name, (k, of) in proportion_counts(tp, fp, tn, fn).items()
        },
        "auroc": float(roc_auc_score(labels, scores)),
        "auprc": float(average_precision_score(labels, scores)),
    }


def proportion_counts(tp: int, fp: int, tn: int, fn: int) -> dict[str, tuple[int, int]]:
    """Return (k, of) behind each proportion.

    >>> proportion_counts(3, 1, 4, 2)["sensitivity"]
    (3, 5)
    """
    return {
        "accuracy": (tp + tn, tp + fp + tn + fn),
        "sensitivity": (tp, tp + fn),
        "specificity": (tn, tn + fp),
        "precision": (tp, tp + fp),
        "npv": (tn, tn + fn),
    }
