"""How far scores are from probabilities: reliability bins, calibration error and Brier score."""

import numpy as np

from cxr.core.errors import DataError
from cxr.core.settings import Strict
from cxr.stats.intervals import Interval, wilson_interval
from cxr.stats.metrics import Vector, check_scores


class Bin(Strict):
    """One point of a reliability diagram: the images whose scores lie in one bin.

    Attributes:
        mean_score: Their mean score.
        observed: The share of them that are positive.
        images: How many they are.
        interval: The 95 % interval of `observed`.
    """

    mean_score: float
    observed: float
    images: int
    interval: Interval


class Quality(Strict):
    """How far raw and calibrated scores are from probabilities.

    Attributes:
        brier_before: Brier score of the raw scores, 0 to 1.
        brier_after: Brier score of the calibrated scores, 0 to 1.
        ece_before: Expected calibration error of the raw scores, 0 to 1.
        ece_after: Expected calibration error of the calibrated scores, 0 to 1.
        ece_chance: What the error of perfectly calibrated scores stays below in 95 % of the sets.
    """

    brier_before: float
    brier_after: float
    ece_before: float
    ece_after: float
    ece_chance: float


def measure_quality(
    labels: Vector,
    raw: Vector,
    scores: Vector,
) -> Quality:
    """Return how far raw and calibrated scores are from probabilities.

    Args:
        labels: 0 or 1, (n,).
        raw: Scores of the model, 0 to 1, (n,).
        scores: The calibrated scores, 0 to 1, (n,).

    Raises:
        DataError: There is no image, or a score is not within 0 to 1.
    """
    return Quality(
        brier_before=brier(labels, raw),
        brier_after=brier(labels, scores),
        ece_before=ece(labels, raw),
        ece_after=ece(labels, scores),
        ece_chance=ece_by_chance(scores),
    )


def brier(labels: Vector, scores: Vector) -> float:
    """Return the Brier score: the mean squared difference of score and label (Brier 1950).

    Args:
        labels: 0 or 1, (n,).
        scores: 0 to 1, (n,).

    Returns:
        0 to 1, by scikit-learn.

    Raises:
        DataError: There is no image, or a score is not within 0 to 1.
    """
    from sklearn.metrics import brier_score_loss

    labels, scores = check_scores(labels, scores)
    _require_images(labels)
    return float(brier_score_loss(labels, scores))


def ece(
    labels: Vector,
    scores: Vector,
    bins: int = 15,
) -> float:
    """Return the expected calibration error of the probability of PNEUMONIA.

    Over equal-width bins, this is the mean of |observed share - mean score|, weighted by images
    (Naeini et al. 2015; of the positive class, not of the more likely one). With few images it is
    biased upwards: compare it with `ece_by_chance`.

    Args:
        labels: 0 or 1, (n,).
        scores: 0 to 1, (n,).
        bins: How many bins.

    Returns:
        0 to 1.

    Raises:
        DataError: There is no image, or a score is not within 0 to 1.
    """
    labels, scores = check_scores(labels, scores)
    _require_images(labels)
    return _mean_gap(labels, scores, bin_numbers(scores, bins))


def ece_by_chance(
    scores: Vector,
    bins: int = 15,
    draws: int = 1000,
    seed: int = 0,
) -> float:
    """Return the calibration error that perfectly calibrated scores stay below in 95 % of the sets.

    Labels are drawn with the scores as their probabilities, images independent: the consistency
    resampling of Bröcker & Smith (2007). An error below this value is no evidence against the
    calibration.

    Args:
        scores: 0 to 1, (n,).
        bins: How many bins.
        draws: How many sets of labels to draw.
        seed: Seed of the draws.

    Raises:
        DataError: There is no image, or a score is not within 0 to 1.
    """
    _, scores = check_scores(np.zeros(len(scores)), scores)
    _require_images(scores)
    numbers = bin_numbers(scores, bins)
    rng = np.random.default_rng(seed)
    errors = []
    for _ in range(draws):
        drawn_labels = rng.random(len(scores)) < scores
        errors.append(_mean_gap(drawn_labels, scores, numbers))
    return float(np.quantile(errors, 0.95))


def reliability_bins(
    labels: Vector,
    scores: Vector,
    bins: int = 10,
) -> tuple[Bin, ...]:
    """Return the equal-width bins that hold images, lowest scores first.

    Each observed share comes with Wilson's interval.

    Args:
        labels: 0 or 1, (n,).
        scores: 0 to 1, (n,).
        bins: How many bins.

    Raises:
        DataError: The lengths differ, a label is neither 0 nor 1, or a score is not within 0 to 1.
    """
    labels, scores = check_scores(labels, scores)
    numbers = bin_numbers(scores, bins)
    diagram = []
    for number in np.unique(numbers):
        bin_labels = labels[numbers == number]
        bin_scores = scores[numbers == number]
        interval = wilson_interval(int(bin_labels.sum()), len(bin_labels))
        if interval is None:  # only an empty bin has no interval
            continue
        diagram.append(
            Bin(
                mean_score=float(bin_scores.mean()),
                observed=float(bin_labels.mean()),
                images=len(bin_labels),
                interval=interval,
            )
        )
    return tuple(diagram)


def bin_numbers(scores: Vector, bins: int) -> Vector:
    """Return the equal-width bin of each score, int64 (n,) from 0 to bins - 1.

    A score on the edge of two bins is in the lower one.

    >>> bin_numbers(np.array([0.0, 0.1, 0.11, 1.0]), 10)
    array([0, 0, 1, 9])
    """
    inner_edges = np.linspace(0, 1, bins + 1)[1:-1]
    return np.searchsorted(inner_edges, scores)


def _mean_gap(
    labels: Vector,
    scores: Vector,
    numbers: Vector,
) -> float:
    """Return the mean of |observed share - mean score| over bins, weighted by images."""
    gaps = np.abs(np.bincount(numbers, labels - scores))
    return float(gaps.sum() / len(scores))


def _require_images(values: Vector) -> None:
    """Raise DataError if there is no image."""
    if not len(values):
        raise DataError("not estimable (n = 0): expected at least one image, found none")
