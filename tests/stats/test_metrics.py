"""Metrics against scikit-learn's."""

import numpy as np
import pytest
from sklearn import metrics as reference

from cxr.core.errors import DataError
from cxr.stats import metrics


@pytest.fixture
def scored():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    return labels, np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1)


def test_metrics_are_those_of_scikit_learn(scored):
    """Accuracy, recall, precision, specificity, AUROC and AUPRC agree with scikit-learn's own."""
    labels, scores = scored
    result = metrics.compute_metrics(labels, scores, 0.47)
    predictions = scores >= 0.47
    expected = {
        "accuracy": reference.accuracy_score(labels, predictions),
        "sensitivity": reference.recall_score(labels, predictions),
        "specificity": reference.recall_score(labels, predictions, pos_label=0),
        "precision": reference.precision_score(labels, predictions),
        "npv": reference.precision_score(labels, predictions, pos_label=0),
        "auroc": reference.roc_auc_score(labels, scores),
        "auprc": reference.average_precision_score(labels, scores),
    }
    assert {name: result[name] for name in expected} == pytest.approx(expected)
    assert result["tp"] + result["fp"] + result["tn"] + result["fn"] == result["n"] == 300


def test_what_cannot_be_estimated_is_said():
    """One class or a NaN score is an error with n; a precision of nothing is None, not a number."""
    with pytest.raises(DataError, match=r"not estimable \(n = 3\)"):
        metrics.compute_metrics(np.ones(3), np.array([0.1, 0.2, 0.3]), 0.5)
    with pytest.raises(DataError, match="1 scores that are not numbers"):
        metrics.compute_metrics(np.array([0, 1]), np.array([0.1, np.nan]), 0.5)
    assert metrics.compute_metrics(np.array([0, 1]), np.array([0.1, 0.2]), 0.5)["precision"] is None
