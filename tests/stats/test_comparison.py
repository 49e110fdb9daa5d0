"""Paired tests against an independent package, published examples, their definitions, and simulated copies."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from cxr.core.errors import DataError
from cxr.stats.comparison import delong, holm, mcnemar

# The data that DeLong, DeLong & Clarke-Pearson (1988) report on, as printed in the SAS/STAT user's guide (LOGISTIC,
# "Comparing receiver operating characteristic curves"): albumin, total protein, K-G score, benefit (1) of surgery.
OVARIAN = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1  3.8 5.7 5 1
3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0
4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1
4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1
2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""


def made(n=80, seed=0, per_patient=1, alike=False):
    """Return labels, two models' scores with ties, and patients whose images share each model's error (and label)."""
    rng = np.random.default_rng(seed)
    patients = np.arange(n) // per_patient
    labels = rng.integers(0, 2, n)[patients] if alike else rng.integers(0, 2, n)
    shared = rng.normal(0, 0.15, (3, n))[:, patients]
    a, b = (
        np.clip(0.4 + 0.2 * labels + shared[0] + shared[i] + rng.normal(0, 0.1, n), 0, 1)
        for i in (1, 2)
    )
    return labels, a.round(2), b.round(2), [f"p{each}" for each in patients]


@pytest.mark.parametrize(
    ("column", "auroc", "variance", "z", "p"),
    [
        (0, 0.7365591397849462, 0.009090405441862261, 0.11277826904452642, 0.9102063472010351),
        (1, 0.6478494623655915, 0.010943166051776873, -0.7452183896579927, 0.45613970750747357),
    ],
)
def test_delong_is_that_of_an_independent_package(column, auroc, variance, z, p):
    """Albumin and total protein against the K-G score: the numbers of MLstatkit 0.1.91 (its z is of the second)."""
    rows = np.array(OVARIAN.split(), float).reshape(43, 4)
    labels, ours, reference = rows[:, 3].astype(int), rows[:, column] / 10, (10 - rows[:, 2]) / 10
    found = delong(labels, ours, reference)
    assert (found.auroc_a, found.auroc_b) == pytest.approx((auroc, 0.7258064516129032), abs=1e-9)
    assert (found.standard_error**2, found.z, found.p) == pytest.approx((variance, z, p), abs=1e-9)
    half = 1.959963984540054 * variance**0.5
    assert (found.low, found.high) == pytest.approx(
        (found.difference - half, found.difference + half), abs=1e-9
    )
    assert (found.method, found.images, found.patients) == ("DeLong", 43, None)


def directly(labels, scores):
    """Return the structural components by comparing every ill with every healthy image (DeLong 1988, eq. 4)."""
    ill, healthy = scores[labels == 1], scores[labels == 0]
    beats = np.array([[1.0 if x > y else 0.5 if x == y else 0.0 for y in healthy] for x in ill])
    return beats.mean(axis=1), beats.mean(axis=0)


def test_delong_is_its_definition():
    """Variances and covariance of the components, S10 / m + S01 / n, computed pair by pair."""
    labels, a, b, _ = made()
    (a10, a01), (b10, b01) = directly(labels, a), directly(labels, b)
    s = np.cov(a10, b10) / len(a10) + np.cov(a01, b01) / len(a01)
    found = delong(labels, a, b)
    assert found.standard_error**2 == pytest.approx(s[0, 0] + s[1, 1] - 2 * s[0, 1], abs=1e-12)
    assert found.auroc_a == pytest.approx(roc_auc_score(labels, a))
    assert found.auroc_b == pytest.approx(roc_auc_score(labels, b))
    turned = delong(labels, b, a)
    assert (turned.difference, turned.z, turned.p) == pytest.approx(
        (-found.difference, -found.z, found.p)
    )


def obuchowski(labels, scores, patients):
    """Return the covariance (2, 2) of two AUROCs for clustered data, term by term as in Obuchowski (1997)."""
    names = sorted(set(patients))
    ill, healthy = labels == 1, labels == 0
    m, n = ill.sum(), healthy.sum()
    of = np.array(patients)
    s10, s01, s11 = np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((2, 2))
    with_ill, with_healthy = len(set(of[ill])), len(set(of[healthy]))
    parts = [directly(labels, each) for each in scores]
    for r, s, name in product((0, 1), (0, 1), names):
        mine_ill, mine_healthy = of[ill] == name, of[healthy] == name
        v10 = [parts[k][0][mine_ill].sum() - mine_ill.sum() * parts[k][0].mean() for k in (0, 1)]
        v01 = [
            parts[k][1][mine_healthy].sum() - mine_healthy.sum() * parts[k][1].mean()
            for k in (0, 1)
        ]
        s10[r, s] += with_ill / ((with_ill - 1) * m) * v10[r] * v10[s]
        s01[r, s] += with_healthy / ((with_healthy - 1) * n) * v01[r] * v01[s]
        s11[r, s] += len(names) / (len(names) - 1) * v10[r] * v01[s]
    return s10 / m + s01 / n + (s11 + s11.T) / (m * n)


@pytest.mark.parametrize("per_patient", [1, 2, 5])
def test_delong_by_patient_is_its_definition(per_patient):
    """Obuchowski's covariance, patients with ill and healthy images included."""
    labels, a, b, patients = made(per_patient=per_patient)
    s = obuchowski(labels, (a, b), patients)
    found = delong(labels, a, b, patients)
    assert found.standard_error**2 == pytest.approx(s[0, 0] + s[1, 1] - 2 * s[0, 1], abs=1e-12)
    assert (found.method, found.patients) == ("DeLong, by patient", 80 / per_patient)


def test_one_image_per_patient_is_plain_delong():
    """Exactly: with a patient of its own, or none, for each image there is nothing to sum."""
    labels, a, b, patients = made()
    plain = delong(labels, a, b)
    for names in (patients, [""] * 80):
        found = delong(labels, a, b, names)
        assert (found.standard_error, found.z, found.p) == pytest.approx(
            (plain.standard_error, plain.z, plain.p)
        )


def test_copies_of_an_image_add_nothing():
    """Every image twice within its patient: the same standard error by patient, too small by sqrt(2) without."""
    labels, a, b, patients = made(200)
    twice = [np.repeat(each, 2) for each in (labels, a, b)]
    once, by_patient, by_image = (
        delong(labels, a, b),
        delong(*twice, np.repeat(patients, 2)),
        delong(*twice),
    )
    assert by_patient.standard_error == pytest.approx(once.standard_error)
    assert once.standard_error / by_image.standard_error == pytest.approx(np.sqrt(2), rel=0.01)


def test_repeated_patients_are_not_more_evidence():
    """400 sets of 60 patients, 5 images each, no true difference: about 5 % significant by patient, far more by image."""
    sets = [made(300, seed, per_patient=5, alike=True) for seed in range(400)]
    by_patient = np.mean([delong(*each).p < 0.05 for each in sets])
    by_image = np.mean([delong(*each[:3]).p < 0.05 for each in sets])
    assert by_patient < 0.09
    assert by_image > 0.2


@pytest.mark.parametrize("patients", [None, list("aabbccdd")])
def test_nothing_that_varies_is_no_evidence(patients):
    """The same scores, or two perfect models: difference 0, p = 1; perfect against constant: no p to be had."""
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    mixed, perfect = np.array([1, 3, 2, 5, 4, 6, 8, 7]) / 10, np.arange(8) / 10
    for a, b in ((mixed, mixed), (mixed, mixed**2), (perfect, labels), (perfect * 0, perfect * 0)):
        found = delong(labels, a, b, patients)
        assert (found.difference, found.z, found.p, found.low, found.standard_error) == (
            0,
            0,
            1,
            None,
            0,
        )
    found = delong(labels, perfect, np.full(8, 0.5), patients)
    assert (found.difference, found.z, found.p, found.low) == (0.5, None, None, None)


@pytest.mark.parametrize(
    ("labels", "patients"),
    [([1, 1, 1, 1], None), ([], None), ([0, 1, 1, 1], None), ([0, 0, 1, 1], list("aabc"))],
)
def test_too_little_is_said(labels, patients):
    """One class, nothing, a single healthy image, or a single patient with healthy ones: an error with n."""
    scores = np.linspace(0, 1, len(labels))
    with pytest.raises(DataError, match=rf"not estimable \(n = {len(labels)}\)"):
        delong(np.array(labels), scores, scores**2, patients)


def test_what_is_no_data_is_an_error():
    """NaN scores, columns of different lengths, predictions that are scores, no image of the kind asked for."""
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


def test_mcnemar_is_the_sign_test_of_the_discordant():
    """8 images only a has right, 2 only b: p = 2 (1 + 10 + 45) / 1024 = 0.109375; equal models: p = 1."""
    labels = np.ones(100, int)
    a, b = np.ones(100, int), np.ones(100, int)
    b[:8], a[8:10], a[10:13], b[10:13] = 0, 0, 0, 0
    found = mcnemar(labels, a, b)
    assert (found.both_right, found.only_a, found.only_b, found.both_wrong) == (87, 8, 2, 3)
    assert (
        found.p == pytest.approx(2 * (1 + 10 + 45) / 1024) == pytest.approx(binomtest(2, 10).pvalue)
    )
    assert mcnemar(labels, a, a).p == 1
    assert mcnemar(labels, a.astype(bool), b.astype(bool)) == found


def test_mcnemar_of_the_ill_compares_sensitivities():
    """On the ill a catches two more, on the healthy b raises one alarm more; together they are all images."""
    labels = np.array([1, 1, 1, 1, 0, 0, 0])
    a, b = np.array([1, 1, 1, 0, 0, 0, 1]), np.array([0, 0, 1, 0, 1, 0, 1])
    ill, healthy, every = (mcnemar(labels, a, b, of) for of in ("positive", "negative", "all"))
    assert (ill.only_a, ill.only_b, ill.images) == (2, 0, 4)
    assert (healthy.only_a, healthy.only_b, healthy.images) == (1, 0, 3)
    assert (every.only_a, every.both_right, every.images) == (3, 2, 7)


def test_holm_by_hand():
    """0.01 x 5, 0.02 x 4, 0.03 x 3, then 0.04 x 2 and 0.05 x 1 raised to the one before; order and None are kept."""
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx((0.05, 0.08, 0.09, 0.09, 0.09))
    assert holm([0.5, None, 0.01]) == pytest.approx((0.5, None, 0.02))
    assert holm([0.9, 0.8]) == (1.0, 1.0)
    assert holm([]) == () and holm([None]) == (None,)
