"""The performance that scores let expect where no image has a label: confidence-based estimates.

If scores are probabilities, each image called positive is a true positive with the probability of
its score (Guo et al. 2017 call such scores calibrated; NannyML calls the estimate CBPE). The
estimate says nothing if they are not.
"""

import math

import numpy as np

from cxr.core.settings import Strict
from cxr.stats.metrics import Vector

_Z = 1.959964  # of a 95 % interval


class Called(Strict):
    """The images that were called one class, as sums that identify none of them.

    Attributes:
        images: How many they are.
        score: The sum of their scores.
        variance: The sum of score x (1 - score).
    """

    images: int = 0
    score: float = 0.0
    variance: float = 0.0

    def __add__(self, other: "Called") -> "Called":
        """Return the sums over both groups of images."""
        return Called(
            images=self.images + other.images,
            score=self.score + other.score,
            variance=self.variance + other.variance,
        )


class Estimate(Strict):
    """A proportion that scores let expect, with the 95 % interval of chance alone.

    Attributes:
        value: The proportion, 0 to 1.
        low: Of the interval.
        high: Of the interval.
    """

    value: float
    low: float
    high: float


def sum_called(scores: Vector) -> Called:
    """Return the sums of images that were called one class.

    Args:
        scores: Their calibrated scores, 0 to 1, (n,).
    """
    scores = np.asarray(scores, np.float64)
    return Called(
        images=len(scores),
        score=float(scores.sum()),
        variance=float((scores * (1 - scores)).sum()),
    )


def expect_performance(positive: Called, negative: Called) -> dict[str, Estimate]:
    """Return the expected sensitivity, specificity, precision, npv and accuracy.

    Args:
        positive: The images called positive.
        negative: The images called negative.

    Returns:
        By name; a proportion of no image is left out.
    """
    true_positives = positive.score
    false_positives = positive.images - positive.score
    false_negatives = negative.score
    true_negatives = negative.images - negative.score
    of_positive = positive.variance
    of_negative = negative.variance
    parts = {
        "sensitivity": (true_positives, false_negatives, of_positive, of_negative),
        "specificity": (true_negatives, false_positives, of_negative, of_positive),
    }
    estimates = {}
    for name, (right, wrong, right_variance, wrong_variance) in parts.items():
        total = right + wrong
        if total > 0:
            # The delta method: right and wrong come from different images.
            variance = (wrong**2 * right_variance + right**2 * wrong_variance) / total**4
            estimates[name] = _with_interval(right / total, variance)
    images = positive.images + negative.images
    sums = {
        "precision": (true_positives, positive.images, of_positive),
        "npv": (true_negatives, negative.images, of_negative),
        "accuracy": (true_positives + true_negatives, images, of_positive + of_negative),
    }
    for name, (right, count, sum_variance) in sums.items():
        if count:
            estimates[name] = _with_interval(right / count, sum_variance / count**2)
    return estimates


def _with_interval(value: float, variance: float) -> Estimate:
    """Return a proportion with its normal interval, cut at 0 and 1."""
    half = _Z * math.sqrt(variance)
    return Estimate(value=value, low=max(0.0, value - half), high=min(1.0, value + half))
