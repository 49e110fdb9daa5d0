"""A site: the promise of its threshold, and what is said of a model there."""

import numpy as np
import pytest
from scipy.stats import beta

from cxr.serving.sites.promise import (
    CONFIDENCE,
    patients_needed,
    promise_threshold,
    promised_rank,
)


@pytest.mark.parametrize("patients", [59, 92, 93, 137, 400])
def test_the_rank_is_the_highest_that_keeps_the_promise(patients):
    """The share below an order statistic is a Beta variable: it stays below 5 % surely enough."""
    rank = promised_rank(patients, 0.95)
    assert beta.cdf(0.05, rank, patients - rank + 1) >= CONFIDENCE
    assert beta.cdf(0.05, rank + 1, patients - rank) < CONFIDENCE


def test_too_few_patients_are_told_how_many_more_it_needs():
    """58 patients promise nothing, 59 do; what fewer could promise, and the images, are said."""
    assert promised_rank(58, 0.95) == 0
    assert patients_needed(0.95) == 59
    labels = np.repeat([1, 0], [40, 60])
    scores = np.linspace(0.9, 0.1, 100)
    found = promise_threshold(labels, scores, np.arange(100).astype(str), 0.95)
    assert found.threshold is None
    assert found.patients_needed == 19
    assert found.images_needed == 48  # 19 of 40 in every 100
    assert found.attainable == pytest.approx(0.05 ** (1 / 40))
    assert "Too few: 40 patients" in found.sentence()


def test_a_patient_counts_by_the_lowest_of_their_scores():
    """All of a patient's PNEUMONIA images have to be called; NORMAL ones say nothing of that."""
    patients = np.array([*np.repeat(np.arange(60).astype(str), 2), *(["0"] * 3)])
    labels = np.array([1] * 120 + [0] * 3)
    scores = np.array([0.9, 0.5] * 60 + [0.01, 0.4, 0.45])
    found = promise_threshold(labels, scores, patients, 0.95)
    assert (found.patients, found.images, found.rank) == (60, 120, 1)
    assert found.threshold == pytest.approx(0.475)  # half-way to the next lower score


def test_the_promise_is_kept_as_often_as_it_says():
    """Over a thousand samples the threshold misses more than 5 % of patients in about 5 % of them."""
    rng = np.random.default_rng(0)
    patients = np.arange(160).astype(str)
    labels = np.repeat([1, 0], 80)
    kept = 0
    for _ in range(1_000):
        scores = rng.random(160)  # a share t of all patients is below the threshold t
        kept += promise_threshold(labels, scores, patients, 0.95).threshold <= 0.05
    assert 0.95 <= kept / 1_000 <= 0.995
