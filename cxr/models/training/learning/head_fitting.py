"""The head alone: logistic regression on pooled features, fitted once for each of a few penalties.

The problem is convex: L-BFGS reaches in a second what gradient steps on batches are still far from
after a minute. It is stopped early, by the validation AUROC.
"""

import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from cxr.models.compute import keras_internals

PENALTIES = (1e-4, 1e-3, 1e-2)  # of the squared weights, beside the mean log loss
ROUNDS = 20  # at most, for each penalty
ITERATIONS = 10  # of L-BFGS in a round; a round starts L-BFGS afresh where the last one ended
Array = np.ndarray[Any, Any]


class Solution(NamedTuple):
    """A head.

    Attributes:
        kernel: float32 (width, 1).
        bias: float32 (1,).
        loss: The weighted mean log loss on train.
    """

    kernel: Array
    bias: Array
    loss: float


class Fit(NamedTuple):
    """The best head of one penalty.

    Attributes:
        penalty: The penalty.
        solution: The head.
        auroc: Its validation AUROC.
        seconds: What finding it took.
    """

    penalty: float
    solution: Solution
    auroc: float
    seconds: float


def fit(
    start: Solution,
    features: Array,
    labels: Array,
    weights: Array,
    validate: Callable[[Solution], float],
    patience: int,
) -> list[Fit]:
    """Fit the head with each of PENALTIES.

    Args:
        start: Where each penalty's search begins; its loss is not read.
        features: Pooled features of train, float32 (n, width).
        labels: 0 or 1 for each, int (n,).
        weights: The weight of each in the loss, (n,), about 1.
        validate: Returns the validation AUROC of a head.
        patience: A penalty's search ends after so many rounds without a better validation AUROC.

    Returns:
        One fit a penalty: the head after the round of the highest AUROC, the first of equals.
    """
    fits = []
    for penalty in PENALTIES:
        started = time.perf_counter()
        solution = start
        best = start
        best_auroc = -np.inf
        rounds_without_gain = 0
        for _ in range(ROUNDS):
            solution = fit_head(
                solution.kernel,
                solution.bias,
                features,
                labels,
                weights,
                penalty,
            )
            auroc = validate(solution)
            if auroc > best_auroc:
                best = solution
                best_auroc = auroc
                rounds_without_gain = 0
            else:
                rounds_without_gain += 1
            if rounds_without_gain >= patience:
                break
        seconds = time.perf_counter() - started
        fits.append(Fit(penalty, best, float(best_auroc), seconds))
    return fits


def fit_head(
    kernel: Array,
    bias: Array,
    features: Array,
    labels: Array,
    weights: Array,
    penalty: float,
) -> Solution:
    """Fit a head for ITERATIONS of L-BFGS, or to the least penalised log loss if that is nearer.

    The algorithm: Liu and Nocedal, "On the limited memory BFGS method for large scale
    optimization", Mathematical Programming 45 (1989).

    Args:
        kernel: Where it begins, float32 (width, 1).
        bias: Likewise, float32 (1,).
        features: Pooled features, float32 (n, width).
        labels: 0 or 1 for each, int (n,).
        weights: The weight of each in the loss, (n,), about 1.
        penalty: Of the squared weights, beside the mean log loss.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from threadpoolctl import threadpool_limits

    strength = 1 / (2 * penalty * len(labels))
    model = LogisticRegression(
        C=strength,
        max_iter=ITERATIONS,
        warm_start=True,
    )
    keras_internals.set_coefficients(model, kernel, bias)
    # The products are small: with several threads, they would only wait for each other.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # the next round goes on
        model.fit(features, labels, weights)
        probabilities = model.predict_proba(features)
        loss = log_loss(labels, probabilities, sample_weight=weights)
    return Solution(
        kernel=model.coef_.T.astype(np.float32),
        bias=model.intercept_.astype(np.float32),
        loss=float(loss),
    )
