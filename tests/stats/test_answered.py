"""Tests of what is left of errors where a model does not answer every image."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from cxr.stats.abstention.answered import measure_answered, risk_coverage, threshold_distance

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 0])
SCORES = np.array([0.1, 0.2, 0.7, 0.3, 0.9, 0.8, 0.4, 0.6, 0.95, 0.55])
PATIENTS = np.array([f"p{number}" for number in range(10)])


def test_metrics_are_those_of_the_answered_images():
    """Against scikit-learn's counts, with one wrong answer and one right one referred."""
    is_answered = np.ones(10, bool)
    is_answered[[6, 7]] = False
    found = measure_answered(LABELS, SCORES, PATIENTS, 0.5, is_answered)
    predicted = SCORES[is_answered] >= 0.5
    tn, fp, fn, tp = confusion_matrix(LABELS[is_answered], predicted).ravel()
    assert (found.images, found.referred, found.referred_positives) == (10, 2, 2)
    assert found.wrong == fp + fn
    assert found.sensitivity == pytest.approx(tp / (tp + fn))
    assert found.specificity == pytest.approx(tn / (tn + fp))
    assert found.sensitivity_interval is not None
    assert found.sensitivity_interval.images == 3


def test_nothing_answered_has_no_metrics():
    """Where all is referred there is neither a wrong answer nor a sensitivity."""
    found = measure_answered(LABELS, SCORES, PATIENTS, 0.5, np.zeros(10, bool))
    assert (found.referred, found.wrong, found.sensitivity) == (10, 0, None)
    assert found.specificity_interval is None


def test_the_curve_by_hand():
    """Four answers of which the second most certain is wrong; the last two are equally certain."""
    curve = risk_coverage(np.array([False, True, False, False]), np.array([9.0, 8.0, 1.0, 1.0]))
    assert curve.answered.tolist() == [0.25, 0.5, 1.0]
    assert curve.risk.tolist() == [0.0, 0.5, 0.25]
    assert curve.area == pytest.approx(0.25 * 0 + 0.25 * 0.5 + 0.5 * 0.25)


def test_certainty_that_says_nothing_leaves_the_risk_as_it_is():
    """Referring at random costs and gains nothing: the curve is flat at the risk of all."""
    rng = np.random.default_rng(0)
    is_wrong = rng.random(20_000) < 0.1
    curve = risk_coverage(is_wrong, rng.random(20_000))
    assert curve.risk[-1] == pytest.approx(is_wrong.mean())
    assert curve.area == pytest.approx(is_wrong.mean(), abs=0.01)


def test_the_distance_from_the_threshold_is_the_same_on_both_sides():
    """In logits, so that 0.5 is as far from 0.2 as 0.2 is from 0.0588."""
    distance = threshold_distance(np.array([0.5, 0.2, 1 / 17]), 0.2)
    assert distance.tolist() == pytest.approx([np.log(4), 0, np.log(4)])
