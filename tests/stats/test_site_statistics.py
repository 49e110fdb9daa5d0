"""Intervals of few patients, the calibration line, and the correction for another prevalence."""

import numpy as np
import pytest
from scipy.stats import ks_2samp, t

from cxr.stats.calibration.line import fit_line
from cxr.stats.calibration.maps import logits, sigmoid
from cxr.stats.calibration.prevalence import adjust, compare_classes, logit_shift
from cxr.stats.intervals import mean_interval, wilson_by_patient, wilson_interval


def drawn(seed: int, patients: int, slope: float = 1.0, intercept: float = 0.0):
    """Return labels, scores and patients of two images each; the logit of P(label) is a line."""
    rng = np.random.default_rng(seed)
    whose = np.repeat(np.arange(patients), 2)
    z = rng.normal(0, 2, patients)[whose] + rng.normal(0, 0.5, 2 * patients)
    labels = (rng.random(2 * patients) < sigmoid(slope * z + intercept)).astype(int)
    return labels, sigmoid(z), whose.astype(str)


@pytest.mark.parametrize(("k", "n"), [(50, 60), (1, 30), (60, 60)])
def test_independent_images_get_wilson_s_interval(k, n):
    """Where the variance is that of a binomial proportion, it is the interval that SciPy computes."""
    value = k / n
    found = wilson_by_patient(value, value * (1 - value) / n, n, n)
    reference = wilson_interval(k, n)
    assert found.low == pytest.approx(reference.low)
    assert found.high == pytest.approx(reference.high)


def test_images_of_one_patient_count_less_than_as_many_patients():
    """Images that are all alike within a patient have the interval of as many patients as there are."""
    right = np.repeat([1.0, 1.0, 0.0, 1.0, 0.0, 1.0], 5)
    alike = mean_interval(right, np.repeat(list("abcdef"), 5))
    alone = mean_interval(right, np.full(30, ""))
    assert alike.high - alike.low > 1.8 * (alone.high - alone.low)
    assert (alike.images, alike.patients) == (30, 6)
    assert mean_interval(np.ones(9), np.repeat(list("abc"), 3)).low == pytest.approx(
        wilson_interval(3, 3).low
    )


def test_one_patient_has_no_interval():
    """Nothing tells how patients differ; no image gives no interval either."""
    assert mean_interval(np.array([1.0, 0.0]), np.array(["a", "a"])) is None
    assert mean_interval(np.array([]), np.array([])) is None


def test_the_calibration_line_is_that_of_statsmodels():
    """Slope and intercept are its own; the interval is wider than its bias-reduced error, not much."""
    import statsmodels.api as sm

    labels, scores, patients = drawn(1, 150, slope=0.7, intercept=-0.4)
    groups = patients.astype(int)
    logistic = sm.families.Binomial()
    design = sm.add_constant(logits(scores))
    fitted = sm.GEE(labels, design, groups, family=logistic).fit(cov_type="bias_reduced")
    line = fit_line(labels, scores, patients)
    assert line.slope.value == pytest.approx(fitted.params[1], abs=1e-6)
    error = fitted.bse[1]
    half = (line.slope.high - line.slope.low) / 2
    assert t.ppf(0.975, 149) * error < half < t.ppf(0.975, 5) * error
    offset = sm.GLM(labels, np.ones(300), family=logistic, offset=logits(scores))
    assert line.intercept.value == pytest.approx(offset.fit().params[0], abs=1e-6)


def test_the_standard_error_is_the_bias_reduced_one():
    """Of 3,000 alike patients the interval is that of the normal distribution and statsmodels' error."""
    import statsmodels.api as sm

    rng = np.random.default_rng(2)
    z = rng.choice([-0.5, 0.5], 3_000)
    labels = (rng.random(3_000) < sigmoid(z)).astype(int)
    design = sm.add_constant(z)
    fitted = sm.GEE(labels, design, np.arange(3_000), family=sm.families.Binomial())
    error = fitted.fit(cov_type="bias_reduced").bse[1]
    line = fit_line(labels, sigmoid(z), np.arange(3_000).astype(str))
    half = (line.slope.high - line.slope.low) / 2
    assert half == pytest.approx(1.959964 * error, rel=2e-3)


def test_a_calibration_line_that_has_no_end_is_not_estimable():
    """Scores that separate the classes have no slope, constant ones none either, one class no line."""
    labels = np.repeat([0, 1], 20)
    patients = np.arange(40).astype(str)
    separated = fit_line(labels, np.linspace(0.1, 0.9, 40), patients)
    assert separated.slope is None and separated.intercept is not None
    assert fit_line(labels, np.full(40, 0.3), patients).slope is None
    assert fit_line(np.ones(40, int), np.linspace(0.1, 0.9, 40), patients).intercept is None


def test_the_prior_correction_is_bayes_theorem():
    """The odds change by the ratio of the prevalences' odds, and nothing changes without a change."""
    old, new = 0.6, 0.1
    score = 0.7
    weighted = score * new / old
    expected = weighted / (weighted + (1 - score) * (1 - new) / (1 - old))
    moved = adjust(np.array([score]), logit_shift(old, new))
    assert moved[0] == pytest.approx(expected)
    assert adjust(np.array([score]), logit_shift(old, old))[0] == score


def test_the_distance_of_classes_is_kolmogorov_s():
    """Class by class, ties included, it is the statistic that SciPy computes."""
    rng = np.random.default_rng(3)
    labels = tuple(rng.integers(0, 2, n) for n in (80, 120))
    scores = tuple(rng.random(n).round(2) for n in (80, 120))
    patients = tuple(np.arange(n).astype(str) for n in (80, 120))
    for found in compare_classes(labels, scores, patients):
        own = [s[k == found.label] for s, k in zip(scores, labels, strict=True)]
        assert found.distance == pytest.approx(ks_2samp(*own).statistic)
        assert found.p_holm >= found.p > 0


def test_only_another_look_speaks_against_the_correction():
    """Another share of PNEUMONIA alone is no evidence; scores that rise within a class are."""
    rng = np.random.default_rng(0)

    def place(positives, negatives, rise=0.0):
        labels = np.repeat([1, 0], [positives, negatives])
        scores = sigmoid(rng.normal(np.where(labels == 1, 2.0, -2.0) + rise, 1))
        return labels, scores, np.arange(len(labels)).astype(str)

    for other, same in [(place(20, 180), True), (place(100, 100, rise=1.5), False)]:
        pairs = zip(place(150, 50), other, strict=True)
        found = compare_classes(*(tuple(pair) for pair in pairs))
        assert all(comparison.p_holm >= 0.05 for comparison in found) == same
