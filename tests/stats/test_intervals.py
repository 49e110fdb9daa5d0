"""Intervals against scikit-learn draw by draw, published examples, closed forms and what cannot be estimated."""

import numpy as np
import pytest
from sklearn import metrics as reference

from cxr.core.errors import DataError
from cxr.stats import intervals
from cxr.stats.weighted_metrics import METRICS, weighted_metrics


def made(n=300, ties=False, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    scores = np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1)
    return labels, np.round(scores, 1) if ties else scores


@pytest.mark.parametrize("ties", [False, True])
def test_figures_of_a_draw_are_those_of_scikit_learn(ties):
    """Each figure of each draw is scikit-learn's with sample_weight, to 1e-9, tied scores included."""
    labels, scores = made(120, ties)
    weights = np.random.default_rng(1).poisson(1.0, (20, 120)).astype(float)
    found = weighted_metrics(labels, scores, weights, 0.5)
    guess = scores >= 0.5
    for draw, weight in enumerate(weights):
        expected = {
            "accuracy": reference.accuracy_score(labels, guess, sample_weight=weight),
            "sensitivity": reference.recall_score(labels, guess, sample_weight=weight),
            "specificity": reference.recall_score(labels, guess, pos_label=0, sample_weight=weight),
            "precision": reference.precision_score(labels, guess, sample_weight=weight),
            "npv": reference.precision_score(labels, guess, pos_label=0, sample_weight=weight),
            "auroc": reference.roc_auc_score(labels, scores, sample_weight=weight),
            "auprc": reference.average_precision_score(labels, scores, sample_weight=weight),
            "brier": reference.brier_score_loss(labels, scores, sample_weight=weight),
        }
        assert {name: found[name][draw] for name in METRICS} == pytest.approx(
            expected, abs=1e-9
        )


def test_a_draw_is_that_of_drawing_patients_one_by_one():
    """The weights are those of a plain loop: patients drawn with replacement, all their images each time."""
    of = np.array([0, 1, 1, 2, 2, 2])
    weights = np.concatenate(list(intervals._resampled_weights(of, 500, seed=3)))
    rng = np.random.default_rng(3)
    plain = [[(drawn == patient).sum() for patient in of] for drawn in rng.integers(0, 3, (500, 3))]
    assert (weights == np.array(plain)).all()


def test_blocks_change_nothing(monkeypatch):
    """The same seed gives the same intervals however few draws fit into memory at a time; another seed others."""
    labels, scores = made()
    patients = [f"p{i // 3}" for i in range(300)]
    whole = intervals.bootstrap_intervals(labels, scores, patients, 0.5, draws=200)
    assert intervals.bootstrap_intervals(labels, scores, patients, 0.5, draws=200, seed=1) != whole
    monkeypatch.setattr(intervals, "BLOCK", 1)
    in_parts = intervals.bootstrap_intervals(labels, scores, patients, 0.5, draws=200)
    for name, found in whole.items():
        assert (in_parts[name].low, in_parts[name].high) == pytest.approx(
            (found.low, found.high), abs=1e-12
        )


def test_one_image_per_patient_gives_the_interval_of_a_proportion():
    """Without repeated patients the accuracy's interval is the binomial's: p +- 1.96 sqrt(p (1 - p) / n)."""
    labels, scores = made(1000)
    found = intervals.bootstrap_intervals(labels, scores, [""] * 1000, 0.5)["accuracy"]
    p = ((scores >= 0.5) == labels).mean()
    half = 1.96 * np.sqrt(p * (1 - p) / 1000)
    assert (found.low, found.high) == pytest.approx((p - half, p + half), abs=0.003)
    assert (found.images, found.patients, found.method) == (1000, 1000, "patient bootstrap")


def test_copies_of_an_image_add_nothing():
    """Every image four times within its patient: as wide as without copies, where images alone would halve it."""
    labels, scores = made(250)
    four = [np.repeat(each, 4) for each in (labels, scores)]
    once = intervals.bootstrap_intervals(labels, scores, [""] * 250, 0.5)
    by_patient = intervals.bootstrap_intervals(
        *four, np.repeat([f"p{i}" for i in range(250)], 4), 0.5
    )
    by_image = intervals.bootstrap_intervals(*four, [""] * 1000, 0.5)
    for name in METRICS:
        wide, same, narrow = (
            each[name].high - each[name].low for each in (once, by_patient, by_image)
        )
        assert same / wide == pytest.approx(1, abs=0.1)
        assert narrow / wide == pytest.approx(0.5, abs=0.06)


def test_each_figure_carries_its_own_n():
    """Sensitivity is of the ill, precision of the ones called pneumonia, AUROC of all."""
    labels, scores = made()
    found = intervals.bootstrap_intervals(labels, scores, [""] * 300, 0.5)
    of = {name: found[name].images for name in ("sensitivity", "specificity", "precision", "auroc")}
    assert of == {
        "sensitivity": labels.sum(), "specificity": 300 - labels.sum(), "precision": (scores >= 0.5).sum(), "auroc": 300,
    }  # fmt: skip


def test_proportions_of_nothing_and_everything_are_wilsons():
    """Newcombe (1998), table I: 0 of 29 gives 0 to 0.1170, 81 of 263 gives 0.2553 to 0.3662."""
    assert intervals.wilson_interval(0, 0) is None
    found = intervals.wilson_interval(81, 263)
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    labels, scores = np.repeat([0, 1], 29), np.repeat([0.9, 0.8], 29)
    found = intervals.bootstrap_intervals(labels, scores, [""] * 58, 0.5)
    assert (found["specificity"].low, found["specificity"].high) == pytest.approx(
        (0, 0.1170), abs=5e-5
    )
    assert (found["specificity"].method, found["specificity"].images) == ("Wilson", 29)
    assert found["npv"] is None  # nobody was called healthy


NOT_ESTIMABLE = [
    # labels, scores, patients, the figures that have an interval
    ([1, 1, 0, 1, 0], [0.9, 0.8, 0.1, 0.7, 0.6], ["p"] * 5, set()),  # one patient cannot vary
    ([], [], [], set()),
    ([1], [0.4], [""], set()),
    ([1] * 9, [0.9, 0.8] * 4 + [0.1], [""] * 9, {"accuracy", "sensitivity", "precision", "brier"}),
    ([0, 1] * 10, [0.5] * 20, [""] * 20, {"accuracy", "precision", "sensitivity", "specificity", "auprc"}),  # constant
    ([0] * 5 + [1] * 95, [0.2] * 5 + [0.9] * 95, ["a"] * 5 + [""] * 95,
     {"accuracy", "sensitivity", "precision", "brier"}),  # all the healthy are one patient
]  # fmt: skip


@pytest.mark.parametrize(("labels", "scores", "patients", "known"), NOT_ESTIMABLE)
def test_what_cannot_be_estimated_has_no_interval(labels, scores, patients, known):
    """None, without a warning: too few patients, one class, constant scores, a class in too few draws."""
    found = intervals.bootstrap_intervals(
        np.array(labels), np.array(scores), patients, 0.5, draws=300
    )
    assert set(found) == set(METRICS)
    estimated = {name for name, each in found.items() if each}
    assert estimated == known
    assert all(0 <= each.low <= each.high <= 1 for each in found.values() if each)


def test_perfect_separation_has_no_interval_of_the_areas():
    """An AUROC of 1 is 1 in every draw: the bootstrap cannot say how much lower it may be, and is not asked."""
    labels = np.repeat([0, 1], 30)
    found = intervals.bootstrap_intervals(labels, np.where(labels, 0.9, 0.1), [""] * 60, 0.5)
    assert found["auroc"] is None and found["auprc"] is None
    assert found["sensitivity"].method == "Wilson"


@pytest.mark.parametrize(
    ("labels", "scores", "patients"),
    [([0, 1], [0.1, np.nan], "ab"), ([0, 1], [0.1, 1.1], "ab"), ([0, 2], [0.1, 0.2], "ab"), ([0, 1, 1], [0.1, 0.2], "ab"),
     ([0, 1], [0.1, 0.2], "abc")],
)  # fmt: skip
def test_what_is_no_data_is_an_error(labels, scores, patients):
    """NaN, a score above 1, a third label or columns of different lengths."""
    with pytest.raises(DataError, match="expected one"):
        intervals.bootstrap_intervals(np.array(labels), np.array(scores), list(patients), 0.5)


def test_images_without_a_patient_stand_alone():
    """An empty patient is no patient: such images are never drawn together."""
    assert intervals.number_patients(["b", "", "a", "b", ""]).tolist() == [1, 2, 0, 1, 3]
    assert intervals.number_patients([]).tolist() == []
