"""Calibration against scikit-learn, on scores whose true map is known, and on unsuitable sets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from pydantic import ValidationError
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from cxr.core.errors import DataError
from cxr.stats.calibration import Calibration, fit_calibration, fitting, maps, reliability
from cxr.stats.calibration.maps import logits
from cxr.stats.calibration.reliability import brier, ece, ece_by_chance, reliability_bins


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def simulate(n=2000, seed=0, slope=1.0, shift=0.0):
    """Return labels with known probabilities, scores off by a slope and a shift, and patients."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0.5, 2, n)
    labels = (rng.random(n) < sigmoid(z)).astype(int)
    return labels, sigmoid(slope * z + shift), [f"p{i // 2}" for i in range(n)]


def test_a_known_temperature_is_found():
    """Logits twice too large: temperature 2, no intercept, and the true probabilities again."""
    labels, scores, patients = simulate(4000, slope=2.0)
    result = fit_calibration(labels, scores, patients)
    assert (result.method, result.intercept) == ("temperature", 0.0)
    assert result.temperature == pytest.approx(2, rel=0.08)
    assert np.abs(result.apply(scores) - sigmoid(logits(scores) / 2)).max() < 0.02
    assert result.log_loss["temperature"] < result.log_loss["none"]
    assert "cross-validated" in result.reason and (result.images, result.patients) == (4000, 2000)


def test_a_shift_by_class_weights_is_corrected():
    """Logits moved by 1.5, as by class weights: Platt's intercept corrects that."""
    result = fit_calibration(*simulate(4000, slope=2.0, shift=1.5))
    assert result.method == "platt"
    assert (result.temperature, result.intercept) == (
        pytest.approx(2, rel=0.1),
        pytest.approx(-0.75, abs=0.15),
    )


def test_calibrated_scores_are_not_changed():
    """On true probabilities the simplest candidate is chosen: nothing changes."""
    labels, scores, patients = simulate(600)
    result = fit_calibration(labels, scores, patients)
    assert result.method == "none" and (result.apply(scores) == scores).all()


def test_isotonic_only_where_it_is_clearly_better():
    """Where no slope and intercept fit, isotonic regression gains more than one standard error."""
    rng = np.random.default_rng(0)
    scores = rng.random(3000)
    truth = np.where(scores < 0.3, 0.02, np.where(scores < 0.7, 0.5, 0.55))
    labels = (rng.random(3000) < truth).astype(int)
    result = fit_calibration(labels, scores, [""] * 3000)
    assert result.method == "isotonic"
    assert result.apply(np.array([0.1, 0.5, 0.9])) == pytest.approx([0.02, 0.5, 0.55], abs=0.06)


def test_within_one_standard_error_the_simplest_wins():
    """A mean excess loss of 0.017 with a standard error of 0.018 is as good; one of 0.02 is not."""
    best = np.array([0.50, 0.52, 0.54, 0.56, 0.58])
    near = best + np.array([0.06, 0.06, 0.02, -0.02, -0.02])  # mean 0.02, standard deviation 0.04
    far = best + 0.02
    assert np.std(near - best, ddof=1) / np.sqrt(5) == pytest.approx(0.0179, abs=1e-4)
    losses = {"none": far, "temperature": near - 0.003, "platt": far, "isotonic": best}
    assert fitting._simplest(losses) == "temperature"
    assert fitting._simplest(losses | {"temperature": near}) == "isotonic"


def test_fits_are_those_of_scikit_learn():
    """Temperature and Platt scaling are logistic regressions, Platt's on his targets."""
    labels, scores, _ = simulate(400, slope=1.7, shift=-0.4)
    z = logits(scores)[:, np.newaxis]
    reference = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(z, labels)
    result = Calibration(reason="", images=0, patients=0, **maps.fit_temperature(labels, scores))
    assert result.apply(scores) == pytest.approx(reference.predict_proba(z)[:, 1], abs=1e-6)

    positives = labels.sum()
    targets = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (400 - positives + 2))
    both = np.repeat([1, 0], 400)
    weights = np.append(targets, 1 - targets)
    reference = LogisticRegression(C=np.inf, tol=1e-10).fit(
        np.tile(z, (2, 1)), both, sample_weight=weights
    )
    result = Calibration(reason="", images=0, patients=0, **maps.fit_platt(labels, scores))
    assert result.apply(scores) == pytest.approx(reference.predict_proba(z)[:, 1], abs=1e-5)

    reference = IsotonicRegression(y_min=1 / 402, y_max=401 / 402, out_of_bounds="clip").fit(
        scores, labels
    )
    result = Calibration(reason="", images=0, patients=0, **maps.fit_isotonic(labels, scores))
    new = np.linspace(0, 1, 1001)
    assert result.apply(new) == pytest.approx(reference.predict(new), abs=1e-12)


def test_losses_are_of_patients_that_were_not_fitted():
    """No patient is on both sides of a fold, every image is checked once, and new losses fall."""
    labels, scores, patients = simulate(300, slope=3)
    names, numbers = np.unique(patients, return_inverse=True)
    folds = fitting._split_folds(labels, numbers, seed=0)
    assert len(names) == 150
    assert all(not set(numbers[fit_on]) & set(numbers[check_on]) for fit_on, check_on in folds)
    assert sorted(np.concatenate([check_on for _, check_on in folds])) == list(range(300))
    result = fit_calibration(labels, scores, patients)
    labels, scores, _ = simulate(5000, seed=1, slope=3)
    assert log_loss(labels, result.apply(scores)) < log_loss(labels, scores) - 0.05


MAPS = [
    Calibration(reason="", images=0, patients=0),
    Calibration(method="temperature", temperature=0.01, reason="", images=0, patients=0),
    Calibration(method="platt", temperature=3.3, intercept=-20, reason="", images=0, patients=0),
    Calibration(
        method="isotonic", x=(0.2, 0.4, 0.9), y=(0.01, 0.5, 0.99), reason="", images=0, patients=0
    ),
]


@pytest.mark.parametrize(
    "calibration_map", MAPS, ids=lambda calibration_map: calibration_map.method
)
@given(
    scores=some.lists(
        some.floats(0, 1) | some.sampled_from([0.0, 1.0, 1e-300, 1 - 1e-16]), max_size=20
    )
)
def test_every_map_keeps_the_order_within_0_and_1(calibration_map, scores):
    """Float64 in 0..1 that never falls where scores rise, also next to 0 and 1; no warning."""
    result = calibration_map.apply(np.sort(np.array(scores, np.float32)))
    assert result.dtype == np.float64 and result.shape == (len(scores),)
    assert ((result >= 0) & (result <= 1)).all() and (np.diff(result) >= 0).all()


@pytest.mark.parametrize("kept", MAPS, ids=lambda calibration_map: calibration_map.method)
def test_a_map_survives_json(kept):
    """Written and read again it is the same record and gives the same bits."""
    again = Calibration.model_validate_json(kept.model_dump_json())
    scores = np.linspace(0, 1, 101)
    assert again == kept and (again.apply(scores) == kept.apply(scores)).all()


@pytest.mark.parametrize(
    ("labels", "scores", "patients", "why"),
    [
        (
            np.repeat([0, 1], 8),
            np.linspace(0, 1, 16),
            [f"p{i}" for i in range(16)],
            "found 8 and 8",
        ),
        (np.ones(50), np.linspace(0, 1, 50), [""] * 50, "found 50 and 0"),
        (np.tile([0, 1], 50), np.full(100, 0.5), [""] * 100, "all 100 scores are the same"),
        (
            np.repeat([0, 1], 50),
            np.linspace(0, 1, 100),
            [""] * 100,
            "separate the classes perfectly",
        ),
        (np.tile([0, 1], 50), np.linspace(0, 1, 100), ["p"] * 100, "found 1 and 1"),
        ([], [], [], "found 0 and 0"),
    ],
)
def test_unsuitable_sets_are_not_calibrated(labels, scores, patients, why):
    """Tiny, one class, constant, separated, one patient: 'none' with the reason, no warning."""
    result = fit_calibration(np.array(labels), np.array(scores), patients)
    assert result.method == "none" and why in result.reason and result.log_loss == {}


def test_reversed_scores_are_mapped_to_the_prevalence():
    """Where higher scores are less likely positive, the order is kept: all get the prevalence."""
    labels, scores, patients = simulate(400)
    result = fit_calibration(labels, 1 - scores, patients)
    assert result.method != "none"
    assert result.apply(scores) == pytest.approx(np.full(400, labels.mean()), abs=0.1)


def test_invalid_input_is_an_error():
    """NaN, scores above 1, missing patients, no image, and a temperature of 0 are refused."""
    for scores in ([0.1, np.nan], [0.1, 1.5]):
        for call in (
            lambda s: fit_calibration(np.array([0, 1]), s, ["a", "b"]),
            MAPS[1].apply,
            lambda s: ece(np.array([0, 1]), s),
        ):
            with pytest.raises(DataError):
                call(np.array(scores))
    with pytest.raises(DataError, match="one patient per image"):
        fit_calibration(np.array([0, 1]), np.array([0.1, 0.2]), ["a"])
    for call in (ece, brier, lambda labels, scores: ece_by_chance(scores)):
        with pytest.raises(DataError, match=r"not estimable \(n = 0\)"):
            call(np.array([]), np.array([]))
    with pytest.raises(ValidationError):
        Calibration(temperature=0, reason="", images=0, patients=0)


def test_ece_by_hand():
    """Two bins: 0.2 and 0.4 with one positive (gap 0.2), 0.9 positive (gap 0.1)."""
    assert ece(np.array([0, 1, 1]), np.array([0.2, 0.4, 0.9]), bins=2) == pytest.approx(
        (2 * 0.2 + 0.1) / 3
    )
    assert ece(np.array([1, 0]), np.array([1.0, 0.0])) == 0
    assert ece(np.array([0, 0]), np.array([1.0, 1.0])) == 1  # one class is enough
    assert reliability.bin_numbers(np.array([0.0, 0.1, 0.11, 1.0]), 10).tolist() == [0, 0, 1, 9]


def test_reliability_is_the_curve_of_scikit_learn():
    """Bins are those of calibration_curve; their counts give the ECE; intervals hold the share."""
    labels, scores, _ = simulate(500, slope=2)
    scores = np.append(scores[:-3], [0.0, 0.5, 1.0])
    rows = reliability_bins(labels, scores, bins=10)
    observed, mean = calibration_curve(labels, scores, n_bins=10)
    assert [row.observed for row in rows] == pytest.approx(observed.tolist())
    assert [row.mean_score for row in rows] == pytest.approx(mean.tolist())
    assert sum(row.images for row in rows) == 500 and rows[0].interval.images == rows[0].images
    gap = sum(row.images * abs(row.observed - row.mean_score) for row in rows) / 500
    assert ece(labels, scores, bins=10) == pytest.approx(gap)
    assert all(
        row.interval.low - 1e-12 <= row.observed <= row.interval.high + 1e-12 for row in rows
    )
    assert reliability_bins(np.array([]), np.array([])) == ()


def test_one_calibrated_set_in_twenty_exceeds_ece_by_chance():
    """About 5 % of perfectly calibrated sets are above it; far too extreme scores are."""
    sets = [simulate(400, seed) for seed in range(200)]
    above = np.mean(
        [ece(labels, scores) > ece_by_chance(scores, draws=200) for labels, scores, _ in sets]
    )
    assert 0.01 <= above <= 0.1
    labels, scores, _ = simulate(400, slope=2.5)
    assert ece(labels, scores) > ece_by_chance(scores)


def test_brier_is_that_of_scikit_learn_and_order_is_kept():
    """Brier by scikit-learn, one class included; a temperature changes no AUROC."""
    labels, scores, _ = simulate(200)
    assert brier(labels, scores) == pytest.approx(brier_score_loss(labels, scores))
    assert brier(np.zeros(2), np.array([0.1, 0.3])) == pytest.approx(0.05)
    warm = Calibration(method="temperature", temperature=1.7, reason="", images=0, patients=0)
    assert roc_auc_score(labels, warm.apply(scores)) == roc_auc_score(labels, scores)
