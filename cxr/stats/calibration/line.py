"""Slope and intercept of a calibration: are scores too extreme, and are they too high?

A logistic regression of the label on the logit of the score (Cox 1958; Van Calster et al. 2019).
Perfect probabilities have slope 1 and intercept 0. A slope below 1 says that scores are too
extreme. The intercept is that of the line with slope 1: above 0, scores are too low on average.
"""

from typing import NamedTuple

import numpy as np

from cxr.core.settings import Strict
from cxr.stats.calibration.maps import logits, sigmoid
from cxr.stats.intervals import number_patients
from cxr.stats.metrics import Vector, check_scores

_STEPS = 100
_CLOSE = 1e-10
_STEEPEST = 50.0  # a slope beyond it says that the classes are separated: it grows without end


class Estimate(Strict):
    """A number with its 95 % interval, by patient."""

    value: float
    low: float
    high: float


class CalibrationLine(Strict):
    """How the logits of scores relate to the outcomes; None where not estimable."""

    slope: Estimate | None
    intercept: Estimate | None


class _Fit(NamedTuple):
    """Coefficients, their standard errors and the degrees of freedom of these, float64 (k,) each."""

    coefficients: Vector
    errors: Vector
    freedom: Vector


def fit_line(
    labels: Vector,
    scores: Vector,
    patients: Vector,
) -> CalibrationLine:
    """Return the calibration line of scores, with intervals that take patients as the units.

    The standard errors are those of Liang & Zeger (1986) with the residuals corrected for their
    leverage (Mancl & DeRouen 2001). The interval is Student's, with one degree of freedom less than
    the effective number of patients (Carter, Schnepel & Steigerwald 2017): where the classes are
    nearly separated a few patients decide the slope, and the normal distribution knows too much.

    Args:
        labels: 0 or 1, (n,).
        scores: 0 to 1, (n,).
        patients: The patient of each image, text (n,); an image with "" is a patient of its own.

    Returns:
        The line; None for what is not estimable: a class is missing, the scores are constant or
        separate the classes.
    """
    labels, scores = check_scores(labels, scores)
    clusters = np.unique(number_patients(patients), return_inverse=True)[1]
    z = logits(scores)
    ones = np.ones((len(z), 1))
    level = _fit(labels, ones, z, clusters)
    sloped = None
    if np.ptp(z) > 0:
        sloped = _fit(labels, np.column_stack([ones[:, 0], z]), np.zeros(len(z)), clusters)
    return CalibrationLine(
        slope=_estimate(sloped, 1),
        intercept=_estimate(level, 0),
    )


def _fit(
    labels: Vector,
    design: Vector,
    offset: Vector,
    clusters: Vector,
) -> _Fit | None:
    """Return a logistic regression by Newton's method, None where it has no finite best."""
    k = int(clusters.max()) + 1 if len(clusters) else 0
    if k < 2 or len(np.unique(labels)) < 2:
        return None
    coefficients = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        predicted = sigmoid(design @ coefficients + offset)
        weights = predicted * (1 - predicted)
        information = design.T @ (design * weights[:, np.newaxis])
        if np.linalg.cond(information) > 1 / _CLOSE:
            return None
        step = np.linalg.solve(information, design.T @ (labels - predicted))
        # A long step may overshoot where scores are extreme.
        coefficients = coefficients + step * min(1.0, 2.0 / np.abs(step).max(initial=_CLOSE))
        if np.abs(coefficients).max() > _STEEPEST:
            return None
        if np.abs(step).max() < _CLOSE:
            break
    else:
        return None
    bread = np.linalg.inv(information)
    residuals = labels - predicted
    squares = np.empty((k, design.shape[1]))  # what each patient adds to the variances
    for cluster in range(k):
        own = clusters == cluster
        rows = design[own]
        leverage = rows @ bread @ (rows * weights[own, np.newaxis]).T
        corrected = np.linalg.solve(np.eye(len(rows)) - leverage, residuals[own])
        squares[cluster] = (bread @ rows.T @ corrected) ** 2
    variances = squares.sum(axis=0)
    effective = variances**2 / (squares**2).sum(axis=0)
    return _Fit(coefficients, np.sqrt(variances), np.maximum(effective - 1, 1))


def _estimate(fit: _Fit | None, place: int) -> Estimate | None:
    """Return one coefficient with its interval."""
    from scipy.stats import t

    if fit is None:
        return None
    value = float(fit.coefficients[place])
    half = float(t.ppf(0.975, fit.freedom[place]) * fit.errors[place])
    return Estimate(value=value, low=value - half, high=value + half)
