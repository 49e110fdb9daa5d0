"""Metrics of many weighted copies of one test set at once: what the bootstrap computes on.

scikit-learn computes one weighted metric at a time. The bootstrap needs eight metrics of 2,000
resamples, so they are computed here for all resamples together. The tests compare each of them
with scikit-learn.
"""

import numpy as np

from cxr.stats.metrics import PROPORTIONS, Vector

METRICS = (*PROPORTIONS, "auroc", "auprc", "brier")


def weighted_metrics(
    labels: Vector,
    scores: Vector,
    weights: Vector,
    threshold: float,
) -> dict[str, Vector]:
    """Return each of METRICS under every row of weights.

    The values are those of scikit-learn with `sample_weight`, tied scores included.

    Args:
        labels: 0 or 1, int64 (n,).
        scores: 0 to 1, float64 (n,).
        weights: How often each image counts, float64 (resamples, n), at least 0.
        threshold: The lowest score that counts as positive.

    Returns:
        By metric, float64 (resamples,); NaN where a resample gives no value.
    """
    positive = labels == 1
    called_positive = scores >= threshold
    cells = [
        positive & called_positive,
        ~positive & called_positive,
        ~positive & ~called_positive,
        positive & ~called_positive,
    ]
    tp, fp, tn, fn = (weights @ np.stack(cells, axis=1).astype(np.float64)).T
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


def _areas(
    labels: Vector,
    scores: Vector,
    weights: Vector,
) -> tuple[Vector, Vector]:
    """Return AUROC (trapezoidal rule) and AUPRC (average precision), each (resamples,)."""
    order = np.argsort(-scores, kind="stable")
    # Images with the same score enter a curve together: it has a point only after the last of them.
    points = np.flatnonzero(np.append(np.diff(scores[order]), -1.0))
    weights = weights[:, order]
    called_positive = np.cumsum(weights, axis=1)[:, points]
    weights *= labels[order]
    tp = np.cumsum(weights, axis=1)[:, points]
    fp = called_positive - tp
    positives = tp[:, -1]
    negatives = fp[:, -1]

    tp_steps = np.diff(tp, prepend=0.0)
    fp_steps = np.diff(fp, prepend=0.0)
    under_roc = (fp_steps * (tp - tp_steps / 2)).sum(axis=1)
    precision = np.divide(
        tp,
        called_positive,
        out=np.zeros_like(tp),
        where=called_positive > 0,
    )
    under_pr = (tp_steps * precision).sum(axis=1)
    auroc = _ratio(under_roc, positives * negatives)
    # Without negatives every precision is 1, whatever the scores are: no value.
    auprc = _ratio(under_pr, positives * (negatives > 0))
    return auroc, auprc


def _ratio(part: Vector, whole: Vector) -> Vector:
    """Return part / whole, and NaN where whole is 0."""
    ratio: Vector = np.divide(
        part,
        whole,
        out=np.full(len(part), np.nan),
        where=whole > 0,
    )
    return ratio
