"""What is left of a model's errors where it does not answer every image.

An image without an answer is referred: a person reads it. Whether that pays is seen in two ways:
the metrics on the images that are answered, and the curve of the share of wrong answers by the
share of images that are answered, where the least certain are referred first (El-Yaniv and Wiener,
"On the foundations of noise-free selective classification", 2010).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cxr.core.settings import Strict
from cxr.stats.calibration.maps import logits
from cxr.stats.intervals import Interval, bootstrap_intervals
from cxr.stats.metrics import Vector, check_scores

DRAWS = 1_000  # of the bootstrap


class Answered(Strict):
    """The metrics on the images that are answered, and how many are not.

    Attributes:
        images: All images.
        referred: How many of them are not answered.
        referred_positives: How many of these are positive.
        wrong: How many answers are wrong.
        sensitivity: Among the answered; None if none of them is positive.
        sensitivity_interval: Its 95 % interval, None where not estimable.
        specificity: Among the answered; None if none of them is negative.
        specificity_interval: Its 95 % interval, None where not estimable.
    """

    images: int
    referred: int
    referred_positives: int
    wrong: int
    sensitivity: float | None
    sensitivity_interval: Interval | None
    specificity: float | None
    specificity_interval: Interval | None


class RiskCurve(NamedTuple):
    """The share of wrong answers by the share of images that are answered.

    Attributes:
        answered: The share of images that are answered, rising to 1, float64 (k,).
        risk: The share of these answers that is wrong, float64 (k,).
        area: The mean risk over all shares of answered images (AURC), 0 to 1: lower is better.
    """

    answered: Vector
    risk: Vector
    area: float


def measure_answered(
    labels: Vector,
    scores: Vector,
    patients: Sequence[str] | Vector,
    threshold: float,
    is_answered: Vector,
) -> Answered:
    """Return the metrics on the images that are answered.

    Args:
        labels: 0 or 1, (n,).
        scores: 0 to 1, (n,).
        patients: The patient of each image, text (n,); an image with "" is a patient of its own.
        threshold: The lowest score that counts as positive.
        is_answered: Which images are answered, bool (n,).

    Raises:
        DataError: A label is neither 0 nor 1, or a score is not within 0 to 1.
    """
    labels, scores = check_scores(labels, scores)
    kept_labels = labels[is_answered]
    kept_scores = scores[is_answered]
    intervals = bootstrap_intervals(
        kept_labels,
        kept_scores,
        np.asarray(patients)[is_answered],
        threshold,
        DRAWS,
    )
    is_right = (kept_scores >= threshold) == (kept_labels == 1)
    return Answered(
        images=len(labels),
        referred=int((~is_answered).sum()),
        referred_positives=int(labels[~is_answered].sum()),
        wrong=int((~is_right).sum()),
        sensitivity=_share(is_right[kept_labels == 1]),
        sensitivity_interval=intervals["sensitivity"],
        specificity=_share(is_right[kept_labels == 0]),
        specificity_interval=intervals["specificity"],
    )


def _share(marks: Vector) -> float | None:
    """Return the share of True, or None if there are no marks."""
    return float(marks.mean()) if len(marks) else None


def threshold_distance(scores: Vector, threshold: float) -> Vector:
    """Return how far scores are from the threshold, in logits, float64 (n,): how sure an answer is.

    Args:
        scores: 0 to 1, (n,).
        threshold: The lowest score that counts as positive.
    """
    distance: Vector = np.abs(logits(np.asarray(scores)) - logits(np.array([threshold])))
    return distance


def risk_coverage(is_wrong: Vector, certainty: Vector) -> RiskCurve:
    """Return the risk-coverage curve of answers, of which the least certain are referred first.

    Images of the same certainty are answered together or not at all.

    Args:
        is_wrong: Which answers are wrong, bool (n,), at least one.
        certainty: The higher, the later an image is referred, (n,), no NaN.
    """
    order = np.argsort(-certainty, kind="stable")
    wrong = np.cumsum(is_wrong[order])
    last_of_equals = np.flatnonzero(np.append(np.diff(certainty[order]), -1.0))
    count = last_of_equals + 1
    answered = count / len(is_wrong)
    risk = wrong[last_of_equals] / count
    steps = np.diff(answered, prepend=0.0)
    return RiskCurve(answered=answered, risk=risk, area=float((risk * steps).sum()))
