"""The last layer alone: logistic regression on pooled features, solved instead of trained.

The problem is convex: L-BFGS reaches in a second what gradient steps on batches are still far from after a minute.
"""

import time
import warnings
from typing import Any, NamedTuple

import numpy as np

PENALTIES = (1e-4, 1e-3, 1e-2)  # of the squared weights, beside the mean log loss; tried in turn
ITERATIONS = 10  # in an epoch
Array = np.ndarray[Any, Any]


class Solved(NamedTuple):
    """The layer's kernel (width, 1) and bias (1,), float32; the weighted mean log loss there, and the seconds it took."""

    kernel: Array
    bias: Array
    loss: float
    seconds: float


def solve(
    kernel: Array, bias: Array, features: Array, labels: Array, weights: Array, penalty: float
) -> Solved:
    """Return the layer ITERATIONS of L-BFGS further towards the least penalised log loss, or there.

    `features` is float32 (n, width), `labels` int (n,), `weights` (n,), about 1 each. The algorithm: Liu and Nocedal,
    "On the limited memory BFGS method for large scale optimization", Mathematical Programming 45 (1989).
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from threadpoolctl import threadpool_limits

    started = time.perf_counter()
    layer = LogisticRegression(
        C=1 / (2 * penalty * len(labels)), max_iter=ITERATIONS, warm_start=True
    )
    layer.coef_, layer.intercept_ = kernel.T, bias
    with (
        warnings.catch_warnings(),
        threadpool_limits(1),
    ):  # the products are small: threads only wait for each other
        warnings.simplefilter("ignore", ConvergenceWarning)  # the next epoch goes on
        layer.fit(features, labels, weights)
        loss = log_loss(labels, layer.predict_proba(features), sample_weight=weights)
    found = layer.coef_.T.astype(np.float32), layer.intercept_.astype(np.float32)
    return Solved(*found, float(loss), time.perf_counter() - started)
