"""Drift: e-values of binned counts against SciPy, false alarms and alarms of made-up images, expected performance."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import precision_score, recall_score

from cxr.core.errors import DataError
from cxr.stats.drift import evidence, excess
from cxr.stats.drift.binning import MORE_IMAGES, count_values, design_effect, fit_bins
from cxr.stats.drift.evidence import collect_evidence, log_evidence, log_probability
from cxr.stats.drift.excess import collect_excess, log_excess
from cxr.stats.drift.expected import expect_performance, sum_called


def one_day(batches):
    """Return the day of each batch: the first."""
    return np.zeros(len(batches), int)


def test_the_likelihood_is_the_dirichlet_multinomial_of_scipy():
    """Without the coefficient that counts the orders of the images."""
    counts = np.array([[3, 0, 7], [1, 1, 0], [0, 0, 0]])
    weights = np.array([0.5, 2.0, 4.0])
    orders = [stats.multinomial.logpmf(row, row.sum(), [1 / 3] * 3) for row in counts]
    orders = np.array(orders) + counts.sum(axis=1) * np.log(3)
    expected = [
        stats.dirichlet_multinomial.logpmf(row, weights, row.sum()) for row in counts
    ] - orders
    assert log_probability(counts, weights) == pytest.approx(expected)


def test_an_e_value_has_a_mean_of_at_most_one_without_drift():
    """Over all sequences that the null hypothesis can produce, weighted by their probability."""
    bins = fit_bins("x", np.arange(40.0), np.repeat([0, 1], 20), np.arange(40))
    rng = np.random.default_rng(0)
    weights = np.add(bins.negatives, bins.positives) + evidence.PRIOR
    draws = [rng.multinomial(30, rng.dirichlet(weights)) for _ in range(4000)]
    e_values = np.exp(log_evidence(np.array(draws), bins, any_mix=False))
    assert e_values.mean() < 1 + 3 * e_values.std() / np.sqrt(len(draws))


def test_images_like_the_reference_raise_no_alarm_and_shifted_ones_do():
    """A chance of 0.01 is not exceeded in 100 draws of 200 images; a shift by one deviation always."""
    rng = np.random.default_rng(1)
    reference = rng.normal(size=300)
    labels = rng.integers(0, 2, 300)
    bins = fit_bins("x", reference, labels, np.arange(300))
    like = []
    shifted = []
    for _ in range(100):
        values = rng.normal(size=(20, 10))
        counts = np.array([bins.count(batch) for batch in values])
        like.append(collect_evidence(counts, one_day(counts), bins).log_e.max())
        counts = np.array([bins.count(batch + 1) for batch in values])
        shifted.append(collect_evidence(counts, one_day(counts), bins).log_e.max())
    assert np.mean(np.array(like) > np.log(100)) <= 0.01
    assert min(shifted) > np.log(100)


def test_a_class_mix_that_changes_is_no_drift():
    """Positives alone raise no alarm where any mix is allowed, and one where only the reference's is."""
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], 200)
    bins = fit_bins("score", rng.normal(3 * labels), labels, np.arange(400))
    counts = np.array([bins.count(rng.normal(3, size=20)) for _ in range(10)])
    days = one_day(counts)
    assert collect_evidence(counts, days, bins).log_e.max() < 0
    assert collect_evidence(counts, days, bins, any_mix=False).log_e.max() > np.log(100)


def test_a_drift_after_a_quiet_time_is_found_and_dated():
    """After 40 days without drift, the test that starts with the first drifted day has the evidence."""
    rng = np.random.default_rng(3)
    bins = fit_bins("x", rng.normal(size=400), rng.integers(0, 2, 400), np.arange(400))
    days = np.arange(45)
    values = rng.normal(size=(45, 30)) + np.where(days >= 40, 2.0, 0.0)[:, np.newaxis]
    found = collect_evidence(np.array([bins.count(day) for day in values]), days, bins)
    assert found.log_e[:40].max() < np.log(100) < found.log_e[43]
    assert found.start[43] == 40


def test_images_of_one_patient_count_for_less():
    """Two equal images of each patient count as one of MORE_IMAGES times two, independent ones hardly less than two."""
    rng = np.random.default_rng(5)
    patients = np.repeat(np.arange(500), 2)
    own = rng.normal(size=1000)
    labels = rng.integers(0, 2, 1000)
    assert design_effect(own[patients], labels, patients) == 2 * MORE_IMAGES
    assert design_effect(own, labels, patients) == pytest.approx(1, abs=0.3)
    alike = fit_bins("x", own[patients], labels, patients)
    counts = alike.count(np.full(20, 1000.0))[np.newaxis]
    apart = alike.model_copy(update={"images_alike": 1.0})
    assert log_evidence(counts, apart)[0] > log_evidence(counts, alike)[0] > 0


def test_every_value_lies_in_one_bin():
    """Values beyond the reference and no numbers, too; equal values of the reference make one edge."""
    bins = fit_bins(
        "x", np.array([1.0, 1.0, 1.0, 1.0, np.nan]), np.array([0, 1, 0, 1, 0]), np.arange(5)
    )
    assert bins.edges == (1.0,) and bins.negatives == (2, 0, 1) and bins.positives == (2, 0, 0)
    assert count_values(np.array([-np.inf, 0.0, 2.0, np.nan]), bins.edges).tolist() == [1, 1, 2]
    with pytest.raises(DataError, match="expected numbers of the reference images, found none"):
        fit_bins("x", np.array([np.nan]), np.array([0]), np.array([0]))
    with pytest.raises(DataError, match="expected counts of 3 bins, found 2"):
        bins.require([1, 2])


def test_more_than_a_twentieth_of_hits_is_an_excess():
    """The e-value is the mean likelihood ratio by SciPy; at the limit itself it stays small."""
    expected = [
        stats.binom.pmf(7, 20, share) / stats.binom.pmf(7, 20, excess.LIMIT)
        for share in excess.ALTERNATIVES
    ]
    assert np.exp(log_excess(np.array([7]), np.array([20])))[0] == pytest.approx(np.mean(expected))
    images = np.full(20, 10)
    few = collect_excess(np.tile([0, 1], 10), images, one_day(images))
    many = collect_excess(np.full(20, 10), images, one_day(images))
    assert few.log_e.max() < np.log(20) and many.log_e[1] > np.log(100)


def test_the_expected_performance_is_that_of_labels_drawn_by_the_scores():
    """Sensitivity and precision by scikit-learn over drawn labels have the same mean and interval."""
    rng = np.random.default_rng(4)
    scores = rng.beta(1.2, 0.8, 400)
    called = scores >= 0.4
    draws = [rng.random(400) < scores for _ in range(300)]
    estimates = expect_performance(sum_called(scores[called]), sum_called(scores[~called]))
    for name, score in (("sensitivity", recall_score), ("precision", precision_score)):
        values = [score(labels, called) for labels in draws]
        low, high = np.percentile(values, [2.5, 97.5])
        assert estimates[name].value == pytest.approx(np.mean(values), abs=0.005)
        assert [estimates[name].low, estimates[name].high] == pytest.approx([low, high], abs=0.015)


def test_a_proportion_of_no_image_is_left_out():
    """Where nothing is called negative there is no npv."""
    estimates = expect_performance(sum_called(np.array([0.9, 0.8])), sum_called(np.array([])))
    assert set(estimates) == {"sensitivity", "specificity", "precision", "accuracy"}
    assert expect_performance(sum_called(np.array([])), sum_called(np.array([]))) == {}
