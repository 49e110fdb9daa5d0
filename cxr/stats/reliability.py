"""How far scores are from probabilities: reliability bins, expected calibration error, Brier score."""

import numpy as np

from cxr.core.errors import DataError
from cxr.core.settings import Strict
from cxr.stats.intervals import Interval, check_scores, wilson_interval
from cxr.stats.metrics import Vector


class Bin(Strict):
    """One point of a reliability plot: the images whose score lies in one bin, and the share of them that are ill."""

    mean_score: float
    observed: float
    images: int
    interval: Interval


def reliability_bins(labels: Vector, scores: Vector, bins: int = 10) -> tuple[Bin, ...]:
    """Return the equal-width bins that hold images, lowest first, each with Wilson's interval of its observed share.

    Raises DataError for scores that are no numbers or outside 0..1.
    """
    labels, scores = check_scores(labels, scores)
    place = bin_numbers(scores, bins)
    rows = []
    for each in np.unique(place):
        ill, held = labels[place == each], scores[place == each]
        interval = wilson_interval(int(ill.sum()), len(ill))
        if interval:
            rows.append(
                Bin(
                    mean_score=float(held.mean()),
                    observed=float(ill.mean()),
                    images=len(ill),
                    interval=interval,
                )
            )
    return tuple(rows)


def ece(labels: Vector, scores: Vector, bins: int = 15) -> float:
    """Return the expected calibration error, 0..1: over equal-width bins, the mean of |observed share - mean score|.

    Weighted by images; of the probability of PNEUMONIA as in Naeini et al. (2015), not of the more likely class.
    Biased upwards on few images: compare with `ece_by_chance`. Raises DataError for no image or a score outside 0..1.
    """
    labels, scores = check_scores(labels, scores)
    _some(labels)
    return float(
        np.abs(np.bincount(bin_numbers(scores, bins), labels - scores)).sum() / len(labels)
    )


def ece_by_chance(scores: Vector, bins: int = 15, draws: int = 1000, seed: int = 0) -> float:
    """Return the ECE that only 5 % of sets with these scores exceed when perfectly calibrated (Bröcker & Smith 2007).

    An ECE below it says nothing against the calibration. Labels are drawn with the scores as probabilities, images
    independent. Raises DataError for no image or a score outside 0..1.
    """
    _, scores = check_scores(np.zeros(len(scores)), scores)
    _some(scores)
    place, rng = bin_numbers(scores, bins), np.random.default_rng(seed)
    drawn = [
        np.abs(np.bincount(place, (rng.random(len(scores)) < scores) - scores)).sum()
        for _ in range(draws)
    ]
    return float(np.quantile(drawn, 0.95) / len(scores))


def brier(labels: Vector, scores: Vector) -> float:
    """Return the mean squared difference of score and label, 0..1 (Brier 1950, by scikit-learn).

    Raises DataError for no image or a score outside 0..1.
    """
    from sklearn.metrics import brier_score_loss

    labels, scores = check_scores(labels, scores)
    _some(labels)
    return float(brier_score_loss(labels, scores))


def _some(values: Vector) -> None:
    if not len(values):
        raise DataError("not estimable (n = 0): expected at least one image, found none")


def bin_numbers(scores: Vector, bins: int) -> Vector:
    """Return the equal-width bin of each score, int64 (n,) 0..bins - 1; bins hold their upper edge, the first also 0.

    >>> bin_numbers(np.array([0.0, 0.1, 0.11, 1.0]), 10)
    array([0, 0, 1, 9])
    """
    return np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], scores)


class Quality(Strict):
    """Brier score and ECE (0..1) of raw and calibrated scores; ece_chance: what perfect calibration stays below."""

    brier_before: float
    brier_after: float
    ece_before: float
    ece_after: float
    ece_chance: float


def measure_quality(labels: Vector, raw: Vector, scores: Vector) -> Quality:
    """Return how far raw and calibrated scores (n,) are from probabilities; raises DataError as `ece` does."""
    return Quality(
        brier_before=brier(labels, raw),
        brier_after=brier(labels, scores),
        ece_before=ece(labels, raw),
        ece_after=ece(labels, scores),
        ece_chance=ece_by_chance(scores),
    )
