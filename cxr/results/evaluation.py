"""The chosen model on the hold-out test set, once, by a fresh process that also proves the export whole.

Done by `child.run`: it loads the exported file, scores some validation images again (must equal the training's own
scores), compares the optimizer's state, and scores test, each image with its Grad-CAM map.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr.core import timing
from cxr.core.errors import ModelError
from cxr.core.files import file_sha256, read_table
from cxr.core.formatting import printable as printable  # noqa: PLC0414 - others import it from here
from cxr.core.records import Record
from cxr.core.settings import LABEL_NAMES as LABEL_NAMES  # noqa: PLC0414 - others import it from here
from cxr.data.images import pixel_cache
from cxr.models import scoring
from cxr.models.compute.worker import Emit, Job, Progress
from cxr.models.training.records import Training
from cxr.models.training.trainer import optimizer_sha256
from cxr.results.gradcam import attribution, summary
from cxr.stats import intervals, metrics, reliability, subgroups
from cxr.stats.intervals import Interval
from cxr.stats.metrics import Metrics, Vector
from cxr.stats.reliability import Quality
from cxr.stats.subgroups import Subgroup


class Evaluation(Record):
    """The chosen model on the test set, scored once, and its proof of a whole export."""

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
        return (self.model_sha256, self.threshold) == (training.model_sha256, training.threshold)


RELOAD_TOLERANCE = 1e-5
RELOAD_IMAGES = 64


class EvaluationJob(Job):
    """Score the test set with the exported model, and prove the export to be what was trained.

    Attributes:
        run: The run's folder, with the model in export/.
        training: The record of the chosen model.
        manifest: clean_metadata.csv.
        pixels: The folder of the pixel cache.
    """

    run: Path
    training: Training
    manifest: Path
    pixels: Path

    def work(self, emit: Emit) -> None:
        """Write what is missing of evaluation.json (after scores_test.csv) and attention.json (after gradcam.png).

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
        known = _known(run, training)
        rows = pd.concat([table.set_index("image", drop=False).loc[known["image"]], test])
        model = keras.models.load_model(run / "export" / "model.keras")
        done = -len(known)

        def count(images: int) -> None:
            nonlocal done
            done += images
            emit(Progress(done=max(0, done)))

        with timing.time_stage(run, "test", len(rows)):
            # Both in one go: another function to score with is another tracing of the network.
            stored = pixel_cache.load_pixels(self.pixels, rows)
            maps, raw = attribution.gradcam_maps(
                model, stored, np.arange(len(rows)), on_images=count
            )
        proof = _proof(model, training, known["raw_score"].to_numpy(), raw[: len(known)])
        maps = maps[len(known) :]
        raw = raw[len(known) :]
        if not is_evaluated(run, training):
            calibrated = training.calibration.apply(raw)
            scoring.write_scores(test, raw, calibrated, run / "scores_test.csv")
            Evaluation(
                architecture=training.architecture,
                model_sha256=training.model_sha256,
                threshold=training.threshold,
                **test_metrics(read_table(run / "scores_test.csv"), training.threshold),
                **proof,
                scores_sha256=file_sha256(run / "scores_test.csv"),
            ).write(run / "evaluation.json")
        described = {
            "architecture": training.architecture,
            "model_sha256": training.model_sha256,
            "threshold": training.threshold,
            "split": "test",
        }
        scores = read_table(run / "scores_test.csv")
        summary.write_gradcam(
            run, pixel_cache.load_pixels(self.pixels, test), maps, scores, described
        )


def is_evaluated(run: Path, training: Training) -> bool:
    """Return whether evaluation.json is there, of that very model."""
    return (run / "evaluation.json").is_file() and Evaluation.read(run / "evaluation.json").is_of(
        training
    )


def has_gradcam(run: Path, training: Training) -> bool:
    """Return whether attention.json is there, of that very model and threshold."""
    if not (run / "attention.json").is_file():
        return False
    found = summary.Attention.read(run / "attention.json")
    return (found.model_sha256, found.threshold) == (training.model_sha256, training.threshold)


def _known(run: Path, training: Training) -> pd.DataFrame:
    """Return the training's own scores of validation images spread evenly."""
    before = read_table(run / training.name / "scores_val.csv")
    return before.iloc[:: max(1, len(before) // RELOAD_IMAGES)].head(RELOAD_IMAGES)


def _proof(model: Any, training: Training, before: Vector, again: Vector) -> dict[str, Any]:
    """Return how the exported model was proven to be the trained one; raises ModelError where it is not."""
    difference, equal = (
        float(np.abs(again - before).max()),
        optimizer_sha256(model) == training.optimizer_sha256,
    )
    if difference > RELOAD_TOLERANCE or not equal:
        raise ModelError(
            f"the exported model is not the trained one: scores differ by up to {difference:.2g} (expected at most "
            f"{RELOAD_TOLERANCE}), optimizer state {'equal' if equal else 'different'}: delete the run folder, run again"
        )
    return {
        "reload_max_difference": difference,
        "reload_images": len(before),
        "optimizer_equal": equal,
    }


def test_metrics(scores: pd.DataFrame, threshold: float) -> dict[str, Any]:
    """Return test, intervals, calibration_quality and subgroups of an Evaluation, from scores_test.csv alone.

    Raises DataError for a missing class or a score that is not a number.
    """
    labels, values = scores["label"].to_numpy(), scores["score"].to_numpy()
    return {
        "test": metrics.compute_metrics(labels, values, threshold),
        "intervals": intervals.bootstrap_intervals(
            labels, values, scores["patient_id"].to_numpy(), threshold
        ),
        "calibration_quality": reliability.measure_quality(
            labels, scores["raw_score"].to_numpy(), values
        ),
        "subgroups": subgroups.measure_subgroups(scores, threshold),
    }
