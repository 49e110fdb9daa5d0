"""The evaluation of the selected model on the test set: once, by a worker process of its own.

The worker process loads the exported file and first proves it to be the trained model: it scores
some validation images again and compares the state of the optimizer. Then it scores the test set
and computes the Grad-CAM map of each image.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cxr.core import timing
from cxr.core.errors import ModelError
from cxr.core.files import file_sha256, read_table
from cxr.core.records import Record
from cxr.data.images import pixel_cache
from cxr.models import scoring
from cxr.models.compute.worker import Emit, Job, Progress
from cxr.models.training.publishing import optimizer_sha256
from cxr.models.training.records import Training
from cxr.results.gradcam import attribution, summary
from cxr.results.gradcam.summary import Attention
from cxr.stats import intervals, metrics, reliability, subgroups
from cxr.stats.intervals import Interval
from cxr.stats.metrics import Metrics, Vector
from cxr.stats.reliability import Quality
from cxr.stats.subgroups import Subgroup

RELOAD_TOLERANCE = 1e-5  # of a score, between training and the exported model
RELOAD_IMAGES = 64  # validation images that are scored again


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
        reload_max_difference: The largest difference of a validation score after reloading.
        reload_images: How many validation images were compared.
        optimizer_equal: Whether the state of the optimizer is that of the training.
        scores_sha256: Of scores_test.csv.
    """

    architecture: str
    model_sha256: str
    threshold: float
    test: Metrics
    intervals: dict[str, Interval | None]
    calibration_quality: Quality
    subgroups: tuple[Subgroup, ...]
    reload_max_difference: float
    reload_images: int
    optimizer_equal: bool
    scores_sha256: str

    def is_of(self, training: Training) -> bool:
        """Return whether this is the evaluation of that very model at its operating point."""
        same_model = self.model_sha256 == training.model_sha256
        return same_model and self.threshold == training.threshold


class _Proof(NamedTuple):
    """How the exported model was proven to be the trained one; fields of Evaluation."""

    reload_max_difference: float
    reload_images: int
    optimizer_equal: bool


class EvaluationJob(Job):
    """Score the test set with the exported model, and prove the export to be what was trained.

    Attributes:
        run: The run's folder, with the model in export/.
        training: The record of the selected model.
        manifest: clean_metadata.csv.
        pixels: The folder of the pixel cache.
    """

    run: Path
    training: Training
    manifest: Path
    pixels: Path

    def work(self, emit: Emit) -> None:
        """Write what is missing of evaluation.json and attention.json, with their files first.

        evaluation.json comes after scores_test.csv, attention.json after gradcam.png.

        Raises:
            ModelError: The export is not the trained model.
        """
        import keras

        run = self.run
        training = self.training
        if is_evaluated(run, training) and has_gradcam(run, training):
            return
        table = read_table(self.manifest)
        test = table[table["split"] == "test"]
        reload = _reload_scores(run, training)
        reload_rows = table.set_index("image", drop=False).loc[reload["image"]]
        rows = pd.concat([reload_rows, test])
        model = keras.models.load_model(run / "export" / "model.keras")
        with timing.time_stage(run, "test", len(rows)):
            # Both sets in one call: another function to score with would trace the network again.
            maps, raw_scores = attribution.gradcam_maps(
                model,
                pixel_cache.load_pixels(self.pixels, rows),
                np.arange(len(rows)),
                on_images=_progress_counter(emit, ignored=len(reload)),
            )
        expected = reload["raw_score"].to_numpy()
        proof = _prove_reload(model, training, expected, raw_scores[: len(reload)])
        if not is_evaluated(run, training):
            _write_evaluation(run, training, test, raw_scores[len(reload) :], proof)
        summary.write_gradcam(
            run,
            pixel_cache.load_pixels(self.pixels, test),
            maps[len(reload) :],
            read_table(run / "scores_test.csv"),
            {
                "architecture": training.architecture,
                "model_sha256": training.model_sha256,
                "threshold": training.threshold,
                "split": "test",
            },
        )


def is_evaluated(run: Path, training: Training) -> bool:
    """Return whether evaluation.json is there, of this model at its operating point."""
    path = run / "evaluation.json"
    return path.is_file() and Evaluation.read(path).is_of(training)


def has_gradcam(run: Path, training: Training) -> bool:
    """Return whether attention.json is there, of this model at its operating point."""
    path = run / "attention.json"
    return path.is_file() and Attention.read(path).is_of(training)


def test_metrics(scores: pd.DataFrame, threshold: float) -> dict[str, Any]:
    """Return what an Evaluation says about scores, from these alone.

    Args:
        scores: The rows of scores_test.csv.
        threshold: The lowest score that counts as positive.

    Returns:
        test, intervals, calibration_quality and subgroups of an Evaluation.

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
    }


def _reload_scores(run: Path, training: Training) -> pd.DataFrame:
    """Return the training's own scores of some validation images, spread evenly."""
    scores = read_table(run / training.name / "scores_val.csv")
    step = max(1, len(scores) // RELOAD_IMAGES)
    return scores.iloc[::step].head(RELOAD_IMAGES)


def _progress_counter(emit: Emit, ignored: int) -> Callable[[int], None]:
    """Return a function that adds up images and reports them, the first `ignored` ones left out."""
    done = -ignored

    def count(images: int) -> None:
        nonlocal done
        done += images
        emit(Progress(done=max(0, done)))

    return count


def _prove_reload(
    model: Any,
    training: Training,
    trained_scores: Vector,
    exported_scores: Vector,
) -> _Proof:
    """Return the proof that the exported model is the trained one.

    Raises:
        ModelError: It is not.
    """
    difference = float(np.abs(exported_scores - trained_scores).max())
    optimizer_equal = optimizer_sha256(model) == training.optimizer_sha256
    if difference > RELOAD_TOLERANCE or not optimizer_equal:
        optimizer = "equal" if optimizer_equal else "different"
        raise ModelError(
            f"the exported model is not the trained one: scores differ by up to {difference:.2g} "
            f"(expected at most {RELOAD_TOLERANCE}), optimizer state {optimizer}: delete the run "
            "folder, run again"
        )
    return _Proof(
        reload_max_difference=difference,
        reload_images=len(trained_scores),
        optimizer_equal=optimizer_equal,
    )


def _write_evaluation(
    run: Path,
    training: Training,
    test: pd.DataFrame,
    raw_scores: Vector,
    proof: _Proof,
) -> None:
    """Write scores_test.csv, then evaluation.json."""
    path = run / "scores_test.csv"
    calibrated = training.calibration.apply(raw_scores)
    scoring.write_scores(test, raw_scores, calibrated, path)
    evaluation = Evaluation(
        architecture=training.architecture,
        model_sha256=training.model_sha256,
        threshold=training.threshold,
        **test_metrics(read_table(path), training.threshold),
        **proof._asdict(),
        scores_sha256=file_sha256(path),
    )
    evaluation.write(run / "evaluation.json")
