"""Decision curve: what acting on scores is worth, beside acting on every image and on none.

Whoever acts from a probability t on holds a false positive to be worth t / (1 - t) of a true positive.
In these units the net benefit is true positives minus false positives, per image (Vickers & Elkin 2006,
Med Decis Making 26:565). A model is useful at t where its net benefit exceeds that of both plain policies.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cxr.core.errors import DataError
from cxr.core.settings import Strict
from cxr.stats.intervals import number_patients, resampled_weights
from cxr.stats.metrics import Vector, check_scores

# From one false positive for 99 true positives to the reverse.
THRESHOLDS = tuple(percent / 100 for percent in range(1, 100))


class DecisionPoint(Strict):
    """Net benefits at one threshold probability, per image.

    Attributes:
        threshold: The probability from which on one acts, above 0 and below 1.
        model: Of acting on the scores.
        low: The lower end of its 95 % interval; None where not estimable.
        high: The upper end.
        treat_all: Of acting on every image; that of acting on none is 0.
        gain_low: The lower end of the 95 % interval of what the model adds to the better of these
            two; None where not estimable.
    """

    threshold: float
    model: float
    low: float | None
    high: float | None
    treat_all: float
    gain_low: float | None

    @property
    def useful(self) -> bool:
        """Whether the model is above both plain policies, with its interval."""
        return self.gain_low is not None and self.gain_low > 0


class DecisionCurve(Strict):
    """Net benefits over threshold probabilities on one set of images.

    Attributes:
        images: How many images there are.
        patients: How many patients they show.
        prevalence: Of what is looked for, among these images.
        points: One for each threshold, rising.
    """

    images: int
    patients: int
    prevalence: float
    points: tuple[DecisionPoint, ...]

    def useful_ranges(self) -> list[tuple[float, float]]:
        """Return the first and the last threshold of each stretch on which the model is useful."""
        ranges: list[tuple[float, float]] = []
        was_useful = False
        for point in self.points:
            if point.useful and was_useful:
                ranges[-1] = (ranges[-1][0], point.threshold)
            elif point.useful:
                ranges.append((point.threshold, point.threshold))
            was_useful = point.useful
        return ranges

    def sentence(self) -> str:
        """Return where the model is useful, without a full stop."""
        ranges = [f"{100 * low:.0f} to {100 * high:.0f} %" for low, high in self.useful_ranges()]
        if not ranges:
            return (
                "At no threshold probability is the model better for sure than calling every film "
                "positive, or none"
            )
        return (
            f"For whoever acts from a probability of {', or '.join(ranges)} on, the model is better "
            "than calling every film positive, or none, its 95 % interval included"
        )


class _Benefits(NamedTuple):
    """Net benefits of the model and of acting on every image, float64 (samples, thresholds) each."""

    model: Vector
    treat_all: Vector


def net_benefit(
    labels: Vector,
    scores: Vector,
    thresholds: Sequence[float] = THRESHOLDS,
    prevalence: float | None = None,
) -> Vector:
    """Return the net benefit of acting on scores, per image, float64 (thresholds,).

    Args:
        labels: 0 or 1, (n,), both among them.
        scores: Probabilities, (n,); one acts on those at or above a threshold.
        thresholds: Above 0 and below 1.
        prevalence: Where the scores are used; by default that of the labels.

    Raises:
        DataError: A class is missing, or an argument is outside its range.
    """
    labels, scores = check_scores(labels, scores)
    once = np.ones((1, len(labels)))
    of_model: Vector = _benefits(labels, scores, thresholds, once, prevalence).model[0]
    return of_model


def treat_all_benefit(
    prevalence: float,
    thresholds: Sequence[float] = THRESHOLDS,
) -> Vector:
    """Return the net benefit of acting on every image, float64 (thresholds,)."""
    return prevalence - (1 - prevalence) * _odds(thresholds)


def measure_decision_curve(
    labels: Vector,
    scores: Vector,
    patients: Sequence[str] | Vector,
    thresholds: Sequence[float] = THRESHOLDS,
    draws: int = 2000,
    seed: int = 0,
) -> DecisionCurve:
    """Return the decision curve of calibrated scores, with a bootstrap of whole patients.

    Args:
        labels: 0 or 1, (n,), both among them.
        scores: Probabilities, (n,).
        patients: The patient of each image, text (n,); an image with "" is a patient of its own.
        thresholds: Above 0 and below 1, rising.
        draws: How many resamples.
        seed: Seed of the resamples.

    Raises:
        DataError: A class is missing, or an argument is outside its range.
    """
    labels, scores = check_scores(labels, scores)
    patient_numbers = number_patients(patients)
    measured = _benefits(labels, scores, thresholds, np.ones((1, len(labels))))
    blocks = [
        _benefits(labels, scores, thresholds, weights)
        for weights in resampled_weights(patient_numbers, draws, seed)
    ]
    model = np.concatenate([block.model for block in blocks])
    treat_all = np.concatenate([block.treat_all for block in blocks])
    gains = model - np.maximum(treat_all, 0)
    count = len(np.unique(patient_numbers))
    points = []
    for number, threshold in enumerate(thresholds):
        low, high = _ends(model[:, number], count)
        point = DecisionPoint(
            threshold=threshold,
            model=float(measured.model[0, number]),
            low=low,
            high=high,
            treat_all=float(measured.treat_all[0, number]),
            gain_low=_ends(gains[:, number], count)[0],
        )
        points.append(point)
    return DecisionCurve(
        images=len(labels),
        patients=count,
        prevalence=float(labels.mean()),
        points=tuple(points),
    )


def _ends(resampled: Vector, patients: int) -> tuple[float | None, float | None]:
    """Return the ends of a percentile interval; None with fewer than two patients."""
    if patients < 2:
        return None, None
    low, high = np.percentile(resampled, (2.5, 97.5)).tolist()
    return low, high


def _benefits(
    labels: Vector,
    scores: Vector,
    thresholds: Sequence[float],
    weights: Vector,
    prevalence: float | None = None,
) -> _Benefits:
    """Return the net benefits in samples of the images.

    Args:
        labels: 0 or 1, (n,).
        scores: 0 to 1, (n,).
        thresholds: Above 0 and below 1.
        weights: How often each image is in each sample, (samples, n).
        prevalence: Where the scores are used; by default that of each sample.

    Raises:
        DataError: A class is missing, or an argument is outside its range.
    """
    is_positive = labels == 1
    if is_positive.all() or not is_positive.any():
        raise DataError(
            f"expected images of both classes for a decision curve, found {is_positive.sum()} "
            f"positive of {len(labels)}"
        )
    if prevalence is not None and not 0 < prevalence < 1:
        raise DataError(f"expected a prevalence above 0 and below 1, found {prevalence}")
    odds = _odds(thresholds)
    acted_on = scores[:, np.newaxis] >= np.asarray(thresholds)
    true_positives = weights[:, is_positive] @ acted_on[is_positive]
    false_positives = weights[:, ~is_positive] @ acted_on[~is_positive]
    positives = weights[:, is_positive].sum(axis=1, keepdims=True)
    negatives = weights[:, ~is_positive].sum(axis=1, keepdims=True)
    if prevalence is None:
        total = positives + negatives
        model = (true_positives - false_positives * odds) / total
        return _Benefits(model, (positives - negatives * odds) / total)
    found = prevalence * true_positives / positives
    false_alarms = (1 - prevalence) * false_positives / negatives
    treat_all = np.broadcast_to(treat_all_benefit(prevalence, thresholds), found.shape)
    return _Benefits(found - false_alarms * odds, treat_all)


def _odds(thresholds: Sequence[float]) -> Vector:
    """Return what a false positive is worth at each threshold, in true positives.

    Raises:
        DataError: A threshold is not above 0 and below 1.
    """
    values = np.asarray(thresholds, np.float64)
    if not ((values > 0) & (values < 1)).all():
        raise DataError("expected threshold probabilities above 0 and below 1, found others")
    return values / (1 - values)
