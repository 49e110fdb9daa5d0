"""Paired tests against another package, published examples, their definitions and simulation."""

from itertools import product

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score
from statsmodels.stats.multitest import multipletests

from cxr.core.errors import DataError
from cxr.stats.comparison import Disagreement, delong, holm, mcnemar

# The data that DeLong, DeLong & Clarke-Pearson (1988) report on, as printed in the SAS/STAT user's
# guide (LOGISTIC, "Comparing receiver operating characteristic curves"): albumin, total protein,
# K-G score, benefit (1) of surgery.
OVARIAN = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1  3.8 5.7 5 1
3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0
4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1
4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1
2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""


def simulate(n=80, seed=0, per_patient=1, same_label=False):
    """Return labels, the scores of two models with ties, and patients.

    Images of one patient share an error of each model, and, with same_label, their label.
    """
    rng = np.random.default_rng(seed)
    patients = np.arange(n) // per_patient
    labels = rng.integers(0, 2, n)
    if same_label:
        labels = labels[patients]
    shared = rng.normal(0, 0.15, (3, n))[:, patients]
    scores = []
    for model_error in shared[1:]:
        noise = rng.normal(0, 0.1, n)
        score = 0.4 + 0.2 * labels + shared[0] + model_error + noise
        scores.append(np.clip(score, 0, 1).round(2))
    return labels, scores[0], scores[1], [f"p{patient}" for patient in patients]


@pytest.mark.parametrize(
    ("column", "auroc", "variance", "z", "p"),
    [
        (0, 0.7365591397849462, 0.009090405441862261, 0.11277826904452642, 0.9102063472010351),
        (1, 0.6478494623655915, 0.010943166051776873, -0.7452183896579927, 0.45613970750747357),
    ],
)
def test_delong_is_that_of_an_independent_package(column, auroc, variance, z, p):
    """Albumin and total protein against the K-G score: the numbers of MLstatkit 0.1.91."""
    rows = np.array(OVARIAN.split(), float).reshape(43, 4)
    labels, ours, reference = rows[:, 3].astype(int), rows[:, column] / 10, (10 - rows[:, 2]) / 10
    result = delong(labels, ours, reference)
    assert (result.auroc_a, result.auroc_b) == pytest.approx((auroc, 0.7258064516129032), abs=1e-9)
    assert (result.standard_error**2, result.z, result.p) == pytest.approx(
        (variance, z, p), abs=1e-9
    )
    half = 1.959963984540054 * variance**0.5
    assert (result.low, result.high) == pytest.approx(
        (result.difference - half, result.difference + half), abs=1e-9
    )
    assert (result.method, result.images, result.patients) == ("DeLong", 43, None)


def components_by_pairs(labels, scores):
    """Return the structural components by comparing all pairs of positive and negative images."""
    positive = scores[labels == 1][:, np.newaxis]
    negative = scores[labels == 0][np.newaxis, :]
    wins = (positive > negative) + 0.5 * (positive == negative)
    return wins.mean(axis=1), wins.mean(axis=0)


def test_delong_is_its_definition():
    """Variances and covariance of the components, S10 / m + S01 / n, computed pair by pair."""
    labels, a, b, _ = simulate()
    (a10, a01), (b10, b01) = components_by_pairs(labels, a), components_by_pairs(labels, b)
    s = np.cov(a10, b10) / len(a10) + np.cov(a01, b01) / len(a01)
    result = delong(labels, a, b)
    assert result.standard_error**2 == pytest.approx(s[0, 0] + s[1, 1] - 2 * s[0, 1], abs=1e-12)
    assert result.auroc_a == pytest.approx(roc_auc_score(labels, a))
    assert result.auroc_b == pytest.approx(roc_auc_score(labels, b))
    turned = delong(labels, b, a)
    assert (turned.difference, turned.z, turned.p) == pytest.approx(
        (-result.difference, -result.z, result.p)
    )


def obuchowski(labels, scores, patients):
    """Return the covariance (2, 2) of two AUROCs, term by term as in Obuchowski (1997)."""
    names = sorted(set(patients))
    positive = labels == 1
    negative = labels == 0
    m = positive.sum()
    n = negative.sum()
    patients = np.array(patients)
    s10, s01, s11 = np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((2, 2))
    with_positive = len(set(patients[positive]))
    with_negative = len(set(patients[negative]))
    parts = [components_by_pairs(labels, model_scores) for model_scores in scores]
    for r, s, name in product((0, 1), (0, 1), names):
        own_positive = patients[positive] == name
        own_negative = patients[negative] == name
        v10 = [(v[own_positive] - v.mean()).sum() for v, _ in parts]
        v01 = [(v[own_negative] - v.mean()).sum() for _, v in parts]
        s10[r, s] += with_positive / ((with_positive - 1) * m) * v10[r] * v10[s]
        s01[r, s] += with_negative / ((with_negative - 1) * n) * v01[r] * v01[s]
        s11[r, s] += len(names) / (len(names) - 1) * v10[r] * v01[s]
    return s10 / m + s01 / n + (s11 + s11.T) / (m * n)


@pytest.mark.parametrize("per_patient", [1, 2, 5])
def test_delong_by_patient_is_its_definition(per_patient):
    """Obuchowski's covariance, patients with positive and negative images included."""
    labels, a, b, patients = simulate(per_patient=per_patient)
    s = obuchowski(labels, (a, b), patients)
    result = delong(labels, a, b, patients)
    assert result.standard_error**2 == pytest.approx(s[0, 0] + s[1, 1] - 2 * s[0, 1], abs=1e-12)
    assert (result.method, result.patients) == ("DeLong, by patient", 80 / per_patient)


def test_one_image_per_patient_is_plain_delong():
    """Exactly: with a patient of its own, or none, for each image there is nothing to sum."""
    labels, a, b, patients = simulate()
    plain = delong(labels, a, b)
    for names in (patients, [""] * 80):
        result = delong(labels, a, b, names)
        assert (result.standard_error, result.z, result.p) == pytest.approx(
            (plain.standard_error, plain.z, plain.p)
        )


def test_copies_of_an_image_add_nothing():
    """Every image twice: the same standard error by patient, too small by sqrt(2) by image."""
    labels, a, b, patients = simulate(200)
    twice = [np.repeat(column, 2) for column in (labels, a, b)]
    once = delong(labels, a, b)
    by_patient = delong(*twice, np.repeat(patients, 2))
    by_image = delong(*twice)
    assert by_patient.standard_error == pytest.approx(once.standard_error)
    assert once.standard_error / by_image.standard_error == pytest.approx(np.sqrt(2), rel=0.01)


def test_repeated_patients_are_not_more_evidence():
    """Without a true difference, about 5 % of sets are significant by patient, more by image."""
    sets = [simulate(300, seed, per_patient=5, same_label=True) for seed in range(400)]
    by_patient = np.mean(
        [delong(labels, a, b, patients).p < 0.05 for labels, a, b, patients in sets]
    )
    by_image = np.mean([delong(labels, a, b).p < 0.05 for labels, a, b, _ in sets])
    assert by_patient < 0.09
    assert by_image > 0.2


@pytest.mark.parametrize("patients", [None, list("aabbccdd")])
def test_nothing_that_varies_is_no_evidence(patients):
    """Equal scores, or two perfect models: difference 0, p = 1; perfect against constant: no p."""
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    mixed = np.array([1, 3, 2, 5, 4, 6, 8, 7]) / 10
    perfect = np.arange(8) / 10
    for a, b in ((mixed, mixed), (mixed, mixed**2), (perfect, labels), (perfect * 0, perfect * 0)):
        result = delong(labels, a, b, patients)
        assert (result.difference, result.z, result.p, result.low, result.standard_error) == (
            0,
            0,
            1,
            None,
            0,
        )
    result = delong(labels, perfect, np.full(8, 0.5), patients)
    assert (result.difference, result.z, result.p, result.low) == (0.5, None, None, None)


@pytest.mark.parametrize(
    ("labels", "patients"),
    [([1, 1, 1, 1], None), ([], None), ([0, 1, 1, 1], None), ([0, 0, 1, 1], list("aabc"))],
)
def test_too_few_images_are_an_error(labels, patients):
    """One class, no image, one negative image, or one patient with them: an error with n."""
    scores = np.linspace(0, 1, len(labels))
    with pytest.raises(DataError, match=rf"not estimable \(n = {len(labels)}\)"):
        delong(np.array(labels), scores, scores**2, patients)


def test_invalid_input_is_an_error():
    """NaN, different lengths, predictions that are scores, and an empty subset are refused."""
    labels = np.array([0, 0, 1, 1])
    for a, patients in (
        ([0.1, np.nan, 0.2, 0.3], None),
        ([0.1, 0.2, 0.3], None),
        ([0.1, 0.2, 0.3, 0.4], ["a"]),
    ):
        with pytest.raises(DataError):
            delong(labels, np.array(a), np.full(4, 0.5), patients)
    with pytest.raises(DataError, match="predictions of 0 or 1"):
        mcnemar(labels, np.full(4, 0.5), labels)
    with pytest.raises(DataError, match=r"not estimable \(n = 0\)"):
        mcnemar(np.zeros(4), labels, labels, "positive")


def test_mcnemar_is_the_sign_test_of_the_disagreements():
    """8 images right by a alone, 2 by b: p = 2 (1 + 10 + 45) / 1024; equal models: p = 1."""
    labels = np.ones(100, int)
    a = np.ones(100, int)
    b = np.ones(100, int)
    b[:8] = 0
    a[8:10] = 0
    a[10:13] = 0
    b[10:13] = 0
    result = mcnemar(labels, a, b)
    assert (result.both_right, result.only_a, result.only_b, result.both_wrong) == (87, 8, 2, 3)
    assert result.p == pytest.approx(2 * (1 + 10 + 45) / 1024)
    assert result.p == pytest.approx(binomtest(2, 10).pvalue)
    assert mcnemar(labels, a, a).p == 1
    assert mcnemar(labels, a.astype(bool), b.astype(bool)) == result


def test_mcnemar_of_one_class_compares_sensitivities_or_specificities():
    """Model a has two more true positives, b one more false positive; classes add up to all."""
    labels = np.array([1, 1, 1, 1, 0, 0, 0])
    a = np.array([1, 1, 1, 0, 0, 0, 1])
    b = np.array([0, 0, 1, 0, 1, 0, 1])
    positive = mcnemar(labels, a, b, "positive")
    negative = mcnemar(labels, a, b, "negative")
    everything = mcnemar(labels, a, b, "all")
    assert (positive.only_a, positive.only_b, positive.images) == (2, 0, 4)
    assert (negative.only_a, negative.only_b, negative.images) == (1, 0, 3)
    assert (everything.only_a, everything.both_right, everything.images) == (3, 2, 7)


@pytest.mark.parametrize(("former", "present"), [("ill", "positive"), ("healthy", "negative")])
def test_subsets_of_version_0_1_are_read(former, present):
    """A stored comparison says "ill" and "healthy", which are the positives and negatives now."""
    stored = mcnemar(np.array([0, 1]), np.array([0, 1]), np.array([1, 1])).model_dump()
    assert Disagreement.model_validate(stored | {"of": former}).of == present
    with pytest.raises(ValidationError):
        Disagreement.model_validate(stored | {"of": "some"})


def test_holm_by_hand():
    """Multiplied by 5, 4, 3, 2, 1 in order of size and never falling; order and None are kept."""
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx((0.05, 0.08, 0.09, 0.09, 0.09))
    assert holm([0.5, None, 0.01]) == pytest.approx((0.5, None, 0.02))
    assert holm([0.9, 0.8]) == (1.0, 1.0)
    assert holm([]) == () and holm([None]) == (None,)


def test_holm_is_that_of_statsmodels():
    """Bit for bit, ties included."""
    p_values = np.random.default_rng(4).integers(1, 60, 40) / 100
    expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values.tolist()) == tuple(expected.tolist())


def test_delong_of_several_sets_tests_the_mean_auroc():
    """Of equal sets it is the test of one; of different ones the mean AUROC, and the error of jackknifed means."""
    rng = np.random.default_rng(5)
    labels = np.repeat([0, 1], [60, 80])
    a = np.clip(0.4 + 0.2 * labels[:, None] + rng.normal(0, 0.15, (140, 3)), 0, 1)
    b = np.clip(a - 0.05 * labels[:, None] + rng.normal(0, 0.1, (140, 3)), 0, 1)
    one = delong(labels, a[:, 0], b[:, 0])
    assert delong(labels, a[:, [0, 0]], b[:, [0, 0]]) == one
    found = delong(labels, a, b)
    aurocs = [roc_auc_score(labels, a[:, k]) - roc_auc_score(labels, b[:, k]) for k in range(3)]
    assert found.difference == pytest.approx(np.mean(aurocs))

    def mean_difference(kept):
        return np.mean(
            [
                roc_auc_score(labels[kept], a[kept, k]) - roc_auc_score(labels[kept], b[kept, k])
                for k in range(3)
            ]
        )

    draws = []
    for _ in range(400):
        kept = np.concatenate([rng.choice(60, 60), 60 + rng.choice(80, 80)])
        draws.append(mean_difference(kept))
    assert found.standard_error == pytest.approx(np.std(draws), rel=0.15)
