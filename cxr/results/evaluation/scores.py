"""evaluation.json: the metrics of the selected model on the test set, from its scores."""

from pathlib import Path
from typing import Any

import pandas as pd

from cxr.core.records import Record
from cxr.models.training.records import Training
from cxr.stats import intervals, metrics, subgroups
from cxr.stats.calibration import reliability
from cxr.stats.calibration.reliability import Quality
from cxr.stats.intervals import Interval
from cxr.stats.metrics import Metrics
from cxr.stats.subgroups import Subgroup, SubgroupTest


class Evaluation(Record):
    """The selected model on the test set, and the proof that its export is whole.

    Attributes:
        architecture: Of the model.
        model_sha256: Of the model.
        threshold: The lowest score that counts as positive.
        test: Counts and metrics at the threshold.
        intervals: The 95 % interval of each metric; None where not estimable.
        calibration_quality: Of the raw and the calibrated scores.
        subgroups: Metrics of parts of the test set.
        subgroup_tests: Whether these differ; None in records up to version 0.2.
        reload_max_difference: The largest difference of a validation score after reloading.
        reload_images: How many validation images were compared.
        optimizer_equal: Whether the state of the optimizer is that of the training; None for an
            ensemble, which has no one optimizer.
        scores_sha256: Of scores_test.csv.
    """

    architecture: str
    model_sha256: str
    threshold: float
    test: Metrics
    intervals: dict[str, Interval | None]
    calibration_quality: Quality
    subgroups: tuple[Subgroup, ...]
    subgroup_tests: tuple[SubgroupTest, ...] | None = None
    reload_max_difference: float
    reload_images: int
    optimizer_equal: bool | None
    scores_sha256: str

    def is_of(self, training: Training) -> bool:
        """Return whether this is the evaluation of that very model at its operating point."""
        same_model = self.model_sha256 == training.model_sha256
        return same_model and self.threshold == training.threshold


def is_evaluated(run: Path, training: Training) -> bool:
    """Return whether evaluation.json is there, of this model at its operating point."""
    path = run / "evaluation.json"
    return path.is_file() and Evaluation.read(path).is_of(training)


def test_metrics(scores: pd.DataFrame, threshold: float) -> dict[str, Any]:
    """Return what an Evaluation says about scores, from these alone.

    Args:
        scores: The rows of scores_test.csv.
        threshold: The lowest score that counts as positive.

    Returns:
        test, intervals, calibration_quality, subgroups and subgroup_tests of an Evaluation.

    Raises:
        DataError: A class is missing, or a score is not a number.
    """
    labels = scores["label"].to_numpy()
    calibrated = scores["score"].to_numpy()
    raw = scores["raw_score"].to_numpy()
    patients = scores["patient_id"].to_numpy()
    return {
        "test": metrics.compute_metrics(labels, calibrated, threshold),
        "intervals": intervals.bootstrap_intervals(labels, calibrated, patients, threshold),
        "calibration_quality": reliability.measure_quality(labels, raw, calibrated),
        "subgroups": subgroups.measure_subgroups(scores, threshold),
        "subgroup_tests": subgroups.compare_subgroups(scores, threshold),
    }
