"""Metrics of a binary classifier from labels and scores.

Labels are 1 for PNEUMONIA (positive) and 0 for NORMAL (negative). Intervals of these metrics are
in `intervals`.
"""

from typing import Any

import numpy as np

from cxr.core.errors import DataError

Metrics = dict[str, int | float | None]  # None: not estimable
Vector = np.ndarray[Any, Any]
PROPORTIONS = ("accuracy", "sensitivity", "specificity", "precision", "npv")


def compute_metrics(
    labels: Vector,
    scores: Vector,
    threshold: float,
) -> Metrics:
    """Return the counts and metrics of the predictions at a threshold, and the areas of the scores.

    An image is predicted positive where its score is at least the threshold.

    Args:
        labels: 0 or 1, (n,).
        scores: Finite scores, (n,); a higher score means more likely positive.
        threshold: The lowest score that counts as positive.

    Returns:
        n, positives, tp, fp, tn, fn, accuracy, sensitivity (recall), specificity, precision (PPV),
        npv, auroc (area under the ROC curve) and auprc (average precision). Precision and NPV are
        None where no image was predicted positive or negative.

    Raises:
        DataError: A class is missing, or a score is not a finite number.
    """
    from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score

    classes = np.unique(labels)
    not_finite = int((~np.isfinite(scores)).sum())
    if len(classes) < 2 or not_finite:
        raise DataError(
            f"not estimable (n = {len(labels)}): expected both classes and finite scores, "
            f"found classes {classes.tolist()}, {not_finite} scores that are not numbers"
        )
    cells = confusion_matrix(labels, scores >= threshold, labels=[0, 1]).ravel()
    tn, fp, fn, tp = cells.tolist()
    metrics: Metrics = {
        "n": len(labels),
        "positives": tp + fn,
        "tp": tp,
        "fp": fp,
        "tn": tn,
        "fn": fn,
    }
    for name, (part, whole) in proportion_counts(tp, fp, tn, fn).items():
        metrics[name] = part / whole if whole else None
    metrics["auroc"] = float(roc_auc_score(labels, scores))
    metrics["auprc"] = float(average_precision_score(labels, scores))
    return metrics


def proportion_counts(
    tp: int,
    fp: int,
    tn: int,
    fn: int,
) -> dict[str, tuple[int, int]]:
    """Return numerator and denominator of each metric that is a proportion of images.

    Args:
        tp: True positives.
        fp: False positives.
        tn: True negatives.
        fn: False negatives.

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


def check_scores(labels: Vector, scores: Vector) -> tuple[Vector, Vector]:
    """Return labels and scores as arrays that the functions of this package can compute with.

    Args:
        labels: 0 or 1, or boolean, (n,).
        scores: Numbers from 0 to 1, (n,).

    Returns:
        The labels as int64 and the scores as float64, both (n,).

    Raises:
        DataError: The lengths differ, a label is neither 0 nor 1, or a score is not a number from
            0 to 1.
    """
    labels = np.asarray(labels)
    scores = np.asarray(scores, np.float64)
    inside = (scores >= 0) & (scores <= 1)  # False for NaN, too
    outside = int((~inside).sum())
    one_each = labels.ndim == 1 and labels.shape == scores.shape
    if not one_each or outside or not np.isin(labels, (0, 1)).all():
        raise DataError(
            f"not estimable (n = {len(scores)}): expected one label of 0 or 1 and one score "
            f"within 0..1 per image, found {labels.size} labels "
            f"{np.unique(labels)[:5].tolist()} and {outside} scores that are not"
        )
    return labels.astype(np.int64), scores
