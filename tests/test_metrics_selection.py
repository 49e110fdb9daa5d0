"""Figures against references not written here; the selection rule on worked examples."""

import numpy as np
import pytest
from sklearn import metrics as reference

from cxr import metrics, selection
from cxr.errors import DataError, TrainingError
from cxr.records import Failure, Training


@pytest.fixture
def scored():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    return labels, np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1)


def test_figures_are_those_of_scikit_learn(scored):
    """Accuracy, recall, precision, specificity, AUROC and AUPRC agree with scikit-learn's own."""
    labels, scores = scored
    found, guess = metrics.figures(labels, scores, 0.47), scores >= 0.47
    expected = {
        "accuracy": reference.accuracy_score(labels, guess),
        "sensitivity": reference.recall_score(labels, guess),
        "specificity": reference.recall_score(labels, guess, pos_label=0),
        "precision": reference.precision_score(labels, guess),
        "npv": reference.precision_score(labels, guess, pos_label=0),
        "auroc": reference.roc_auc_score(labels, scores),
        "auprc": reference.average_precision_score(labels, scores),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["tp"] + found["fp"] + found["tn"] + found["fn"] == found["n"] == 300


def test_wilson_is_the_published_worked_example():
    """Newcombe (1998), table I: 81 of 263 gives 0.2553 to 0.3662 by Wilson's method."""
    found = metrics.wilson({"tp": 81, "fn": 263 - 81, "tn": 0, "fp": 29})
    assert found["sensitivity"] == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert found["specificity"] == pytest.approx((0.0, 0.1170), abs=5e-5)  # 0 of 29, same table


def test_what_cannot_be_estimated_is_said():
    """One class or a NaN score is an error with n; a precision of nothing is None, not a number."""
    with pytest.raises(DataError, match=r"not estimable \(n = 3\)"):
        metrics.figures(np.ones(3), np.array([0.1, 0.2, 0.3]), 0.5)
    with pytest.raises(DataError, match="1 scores that are not numbers"):
        metrics.figures(np.array([0, 1]), np.array([0.1, np.nan]), 0.5)
    assert metrics.figures(np.array([0, 1]), np.array([0.1, 0.2]), 0.5)["precision"] is None


@pytest.mark.parametrize("wanted", [0.8, 0.95, 1.0])
def test_operating_point_has_the_highest_specificity_that_keeps_the_sensitivity(scored, wanted):
    """Against every threshold that the ROC curve of scikit-learn offers."""
    labels, scores = scored
    found = metrics.figures(labels, scores, metrics.operating_point(labels, scores, wanted))
    false_alarms, sensitivity, _ = reference.roc_curve(labels, scores, drop_intermediate=False)
    assert found["sensitivity"] >= wanted
    assert found["specificity"] == pytest.approx(1 - false_alarms[sensitivity >= wanted].min())


def test_constant_scores_still_have_an_operating_point():
    """All scores equal: everything is called pneumonia, sensitivity 1, specificity 0."""
    labels, scores = np.array([0, 1, 1]), np.full(3, 0.5)
    found = metrics.figures(labels, scores, metrics.operating_point(labels, scores, 0.95))
    assert (found["sensitivity"], found["specificity"], found["auroc"]) == (1.0, 0.0, 0.5)


def training(name: str, auroc: float, sensitivity: float, specificity: float) -> Training:
    figures = dict.fromkeys(("n", "positives", "tp", "fp", "tn", "fn"), 1) | {
        "auroc": auroc, "sensitivity": sensitivity, "specificity": specificity,
        "accuracy": 0.9, "precision": 0.9, "npv": None, "auprc": 0.9,
    }  # fmt: skip
    return Training(
        architecture=name, weights="none", weights_sha256="", image_size=32, seed=0, epochs=1, best_epoch=1, seconds=1,
        images_per_second=1, threshold=0.5, val=figures, model_sha256="", optimizer_sha256="", versions={},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("candidates", "chosen"),
    [
        ([("MobileNetV2", 0.95, 0.96, 0.8), ("VGG16", 0.99, 0.95, 0.9)], "VGG16"),  # too far below the best
        ([("MobileNetV2", 0.985, 0.97, 0.8), ("VGG16", 0.99, 0.95, 0.9)], "MobileNetV2"),  # fewer missed
        ([("MobileNetV2", 0.985, 0.99, 0.4), ("VGG16", 0.99, 0.95, 0.9)], "VGG16"),  # below the floor
        ([("MobileNetV2", 0.985, 0.95, 0.8), ("VGG16", 0.984, 0.95, 0.9)], "VGG16"),  # equal: fewer false alarms
        ([("MobileNetV2", 0.6, 0.95, 0.1), ("VGG16", 0.6, 0.97, 0.2)], "VGG16"),  # none reaches the floor
    ],
)
def test_selection_follows_its_rule(candidates, chosen):
    """Within 0.01 AUROC of the best and above the floor: highest sensitivity, then specificity."""
    found = selection.select([training(*each) for each in candidates], [])
    assert found.architecture == chosen
    assert ("do not use" in found.reason) == all(each[3] < 0.5 for each in candidates)


def test_failed_architectures_are_named_and_none_trained_is_an_error(tmp_path):
    """The run goes on without the failed one, and ends where none is left."""
    failed = Failure(architecture="VGG16", error="out of memory")
    assert selection.select([training("DenseNet121", 0.9, 0.95, 0.8)], [failed]).failed == {"VGG16": "out of memory"}
    table = selection.compare([training("DenseNet121", 0.9, 0.95, 0.8)], [failed], tmp_path)
    assert list(table["status"]) == ["trained", "failed"]
    with pytest.raises(TrainingError, match="VGG16: out of memory"):
        selection.select([], [failed])
