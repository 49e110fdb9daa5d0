"""Intervals against scikit-learn resample by resample, published examples and closed forms."""

import numpy as np
import pytest
from sklearn import metrics as reference

from cxr.core.errors import DataError
from cxr.stats import intervals
from cxr.stats.weighted_metrics import METRICS, weighted_metrics


def simulate(n=300, ties=False, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    scores = np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1)
    if ties:
        scores = np.round(scores, 1)
    return labels, scores


@pytest.mark.parametrize("ties", [False, True])
def test_weighted_metrics_are_those_of_scikit_learn(ties):
    """Each metric of each resample is scikit-learn's with sample_weight, tied scores included."""
    labels, scores = simulate(120, ties)
    weights = np.random.default_rng(1).poisson(1.0, (20, 120)).astype(float)
    result = weighted_metrics(labels, scores, weights, 0.5)
    predictions = scores >= 0.5
    for draw, weight in enumerate(weights):
        expected = {
            "accuracy": reference.accuracy_score(labels, predictions, sample_weight=weight),
            "sensitivity": reference.recall_score(labels, predictions, sample_weight=weight),
            "specificity": reference.recall_score(
                labels, predictions, pos_label=0, sample_weight=weight
            ),
            "precision": reference.precision_score(labels, predictions, sample_weight=weight),
            "npv": reference.precision_score(
                labels, predictions, pos_label=0, sample_weight=weight
            ),
            "auroc": reference.roc_auc_score(labels, scores, sample_weight=weight),
            "auprc": reference.average_precision_score(labels, scores, sample_weight=weight),
            "brier": reference.brier_score_loss(labels, scores, sample_weight=weight),
        }
        assert {name: result[name][draw] for name in METRICS} == pytest.approx(expected, abs=1e-9)


def test_resamples_draw_whole_patients():
    """The weights are those of a plain loop that draws patients with all their images."""
    of = np.array([0, 1, 1, 2, 2, 2])
    weights = np.concatenate(list(intervals.resampled_weights(of, 500, seed=3)))
    rng = np.random.default_rng(3)
    plain = [[(drawn == patient).sum() for patient in of] for drawn in rng.integers(0, 3, (500, 3))]
    assert (weights == np.array(plain)).all()


def test_blocks_change_nothing(monkeypatch):
    """The same seed gives the same intervals in blocks of any size; another seed gives others."""
    labels, scores = simulate()
    patients = [f"p{i // 3}" for i in range(300)]
    whole = intervals.bootstrap_intervals(labels, scores, patients, 0.5, draws=200)
    assert intervals.bootstrap_intervals(labels, scores, patients, 0.5, draws=200, seed=1) != whole
    monkeypatch.setattr(intervals, "BLOCK", 1)
    in_parts = intervals.bootstrap_intervals(labels, scores, patients, 0.5, draws=200)
    for name, interval in whole.items():
        assert in_parts[name].low == pytest.approx(interval.low, abs=1e-12)
        assert in_parts[name].high == pytest.approx(interval.high, abs=1e-12)


def test_one_image_per_patient_gives_the_binomial_interval():
    """Without repeated patients the accuracy's interval is p +- 1.96 sqrt(p (1 - p) / n)."""
    labels, scores = simulate(1000)
    result = intervals.bootstrap_intervals(labels, scores, [""] * 1000, 0.5)["accuracy"]
    p = ((scores >= 0.5) == labels).mean()
    half = 1.96 * np.sqrt(p * (1 - p) / 1000)
    assert (result.low, result.high) == pytest.approx((p - half, p + half), abs=0.003)
    assert (result.images, result.patients, result.method) == (1000, 1000, "patient bootstrap")


def test_copies_of_an_image_add_nothing():
    """Every image four times: as wide as once if by patient, half as wide if by image."""
    labels, scores = simulate(250)
    four_labels = np.repeat(labels, 4)
    four_scores = np.repeat(scores, 4)
    patients = np.repeat([f"p{i}" for i in range(250)], 4)
    once = intervals.bootstrap_intervals(labels, scores, [""] * 250, 0.5)
    by_patient = intervals.bootstrap_intervals(four_labels, four_scores, patients, 0.5)
    by_image = intervals.bootstrap_intervals(four_labels, four_scores, [""] * 1000, 0.5)
    for name in METRICS:
        width = once[name].high - once[name].low
        width_by_patient = by_patient[name].high - by_patient[name].low
        width_by_image = by_image[name].high - by_image[name].low
        assert width_by_patient / width == pytest.approx(1, abs=0.1)
        assert width_by_image / width == pytest.approx(0.5, abs=0.06)


def test_each_metric_carries_its_own_n():
    """Sensitivity is of the positives, precision of the predicted positives, AUROC of all."""
    labels, scores = simulate()
    result = intervals.bootstrap_intervals(labels, scores, [""] * 300, 0.5)
    assert result["sensitivity"].images == labels.sum()
    assert result["specificity"].images == 300 - labels.sum()
    assert result["precision"].images == (scores >= 0.5).sum()
    assert result["auroc"].images == 300


def test_proportions_of_nothing_and_everything_are_wilsons():
    """Newcombe (1998), table I: 0 of 29 gives 0 to 0.1170, 81 of 263 gives 0.2553 to 0.3662."""
    assert intervals.wilson_interval(0, 0) is None
    result = intervals.wilson_interval(81, 263)
    assert (result.low, result.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    labels, scores = np.repeat([0, 1], 29), np.repeat([0.9, 0.8], 29)
    result = intervals.bootstrap_intervals(labels, scores, [""] * 58, 0.5)
    assert (result["specificity"].low, result["specificity"].high) == pytest.approx(
        (0, 0.1170), abs=5e-5
    )
    assert (result["specificity"].method, result["specificity"].images) == ("Wilson", 29)
    assert result["npv"] is None  # no image was predicted negative


NOT_ESTIMABLE = [
    # labels, scores, patients, the metrics that have an interval
    ([1, 1, 0, 1, 0], [0.9, 0.8, 0.1, 0.7, 0.6], ["p"] * 5, set()),  # one patient cannot vary
    ([], [], [], set()),
    ([1], [0.4], [""], set()),
    ([1] * 9, [0.9, 0.8] * 4 + [0.1], [""] * 9, {"accuracy", "sensitivity", "precision", "brier"}),
    # Constant scores.
    ([0, 1] * 10, [0.5] * 20, [""] * 20,
     {"accuracy", "precision", "sensitivity", "specificity", "auprc"}),
    # All negatives are of one patient.
    ([0] * 5 + [1] * 95, [0.2] * 5 + [0.9] * 95, ["a"] * 5 + [""] * 95,
     {"accuracy", "sensitivity", "precision", "brier"}),
]  # fmt: skip


@pytest.mark.parametrize(("labels", "scores", "patients", "known"), NOT_ESTIMABLE)
def test_what_cannot_be_estimated_has_no_interval(labels, scores, patients, known):
    """None, no warning: too few patients, one class, constant, a class in too few resamples."""
    result = intervals.bootstrap_intervals(
        np.array(labels), np.array(scores), patients, 0.5, draws=300
    )
    assert set(result) == set(METRICS)
    estimated = {name for name, interval in result.items() if interval}
    assert estimated == known
    assert all(0 <= interval.low <= interval.high <= 1 for interval in result.values() if interval)


def test_perfect_separation_has_no_interval_of_the_areas():
    """An AUROC of 1 is 1 in every resample: the bootstrap cannot say how much lower it may be."""
    labels = np.repeat([0, 1], 30)
    result = intervals.bootstrap_intervals(labels, np.where(labels, 0.9, 0.1), [""] * 60, 0.5)
    assert result["auroc"] is None and result["auprc"] is None
    assert result["sensitivity"].method == "Wilson"


@pytest.mark.parametrize(
    ("labels", "scores", "patients"),
    [
        ([0, 1], [0.1, np.nan], "ab"),
        ([0, 1], [0.1, 1.1], "ab"),
        ([0, 2], [0.1, 0.2], "ab"),
        ([0, 1, 1], [0.1, 0.2], "ab"),
        ([0, 1], [0.1, 0.2], "abc"),
    ],
)
def test_invalid_input_is_an_error(labels, scores, patients):
    """NaN, a score above 1, a third label or columns of different lengths."""
    with pytest.raises(DataError, match="expected one"):
        intervals.bootstrap_intervals(np.array(labels), np.array(scores), list(patients), 0.5)


def test_images_without_a_patient_stand_alone():
    """An image with an empty patient is a patient of its own."""
    assert intervals.number_patients(["b", "", "a", "b", ""]).tolist() == [1, 2, 0, 1, 3]
    assert intervals.number_patients([]).tolist() == []
