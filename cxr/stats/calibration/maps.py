"""Maps of scores to probabilities, and how each kind is fitted to labels.

Every fitting function takes labels, 0 or 1 (n,), and scores, 0 to 1 (n,), and returns the
parameters of a `calibration.Calibration`. All maps are monotone: they never change the order of
two scores.
"""

from collections.abc import Callable
from typing import Literal, TypedDict

import numpy as np

from cxr.stats.metrics import Vector

Method = Literal["none", "temperature", "platt", "isotonic"]
TINY = 1e-7  # scores are clipped to TINY..1 - TINY before their logit
MAX_TEMPERATURE = 100.0
LARGEST_EXPONENT = 700  # exp(709) is the largest that float64 holds


class Parameters(TypedDict, total=False):
    """The parameters of a fitted map: those fields of `Calibration` that its method needs."""

    method: Method
    temperature: float
    intercept: float
    x: tuple[float, ...]
    y: tuple[float, ...]


def logits(scores: Vector) -> Vector:
    """Return log(score / (1 - score)) of the clipped scores, float64 (n,) within -16.2 to 16.2."""
    scores = np.asarray(scores, np.float64)
    clipped = np.clip(scores, TINY, 1 - TINY)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def sigmoid(z: Vector) -> Vector:
    """Return 1 / (1 + exp(-z)), float64 (n,), the inverse of `logits`."""
    bounded = np.clip(z, -LARGEST_EXPONENT, LARGEST_EXPONENT)
    return np.asarray(1 / (1 + np.exp(-bounded)))


def fit_none(_labels: Vector, _scores: Vector) -> Parameters:
    """Return the map that changes nothing."""
    return {"method": "none"}


def fit_temperature(labels: Vector, scores: Vector) -> Parameters:
    """Return temperature scaling: one divisor of all logits (Guo et al. 2017).

    The temperature has the smallest log loss between 0.01 and 100.
    """
    from scipy.optimize import minimize_scalar

    z = logits(scores)
    bound = np.log(MAX_TEMPERATURE)
    best = minimize_scalar(
        lambda log_temperature: _log_loss(z * np.exp(-log_temperature), labels),
        bounds=(-bound, bound),
        method="bounded",
        options={"xatol": 1e-8},
    )
    return {"method": "temperature", "temperature": float(np.exp(best.x))}


def fit_platt(labels: Vector, scores: Vector) -> Parameters:
    """Return Platt scaling: a slope and an intercept on the logits (Platt 1999).

    The targets are Platt's, a little inside 0 and 1, so that there always is a smallest loss. The
    intercept corrects what class weights in training add to every logit, which no temperature can.
    """
    from scipy.optimize import minimize

    z = logits(scores)
    positives = int(labels.sum())
    negatives = len(labels) - positives
    positive_target = (positives + 1) / (positives + 2)
    negative_target = 1 / (negatives + 2)
    targets = np.where(labels == 1, positive_target, negative_target)

    def loss_and_gradient(line: Vector) -> tuple[float, Vector]:
        predicted = line[0] * z + line[1]
        residuals = sigmoid(predicted) - targets
        gradient = np.array([(residuals * z).mean(), residuals.mean()])
        return _log_loss(predicted, targets), gradient

    best = minimize(
        loss_and_gradient,
        np.array([1.0, 0.0]),
        jac=True,
        method="L-BFGS-B",
        tol=1e-12,
        # A slope below 0 would reverse the order of the scores.
        bounds=[(1 / MAX_TEMPERATURE, MAX_TEMPERATURE), (None, None)],
    )
    slope = float(best.x[0])
    intercept = float(best.x[1])
    return {
        "method": "platt",
        "temperature": 1 / slope,
        "intercept": intercept,
    }


def fit_isotonic(labels: Vector, scores: Vector) -> Parameters:
    """Return isotonic regression, which can make ties (Zadrozny & Elkan 2002, by scikit-learn).

    Probabilities stay at least 1 / (n + 2) away from 0 and 1, because n images cannot tell a
    smaller probability from 0 (Laplace's rule of succession).
    """
    from sklearn.isotonic import IsotonicRegression

    edge = 1 / (len(labels) + 2)
    regression = IsotonicRegression(
        y_min=edge,
        y_max=1 - edge,
        out_of_bounds="clip",
    )
    regression.fit(scores, labels)
    return {
        "method": "isotonic",
        "x": tuple(regression.X_thresholds_.tolist()),
        "y": tuple(regression.y_thresholds_.tolist()),
    }


# The candidates, simplest first.
FITS: dict[Method, Callable[[Vector, Vector], Parameters]] = {
    "none": fit_none,
    "temperature": fit_temperature,
    "platt": fit_platt,
    "isotonic": fit_isotonic,
}


def _log_loss(z: Vector, targets: Vector) -> float:
    """Return the mean log loss of the logits z against targets from 0 to 1, natural logarithm."""
    return float((np.logaddexp(0, z) - targets * z).mean())
