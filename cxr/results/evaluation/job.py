"""The evaluation of the selected model on the test set: once, by a worker process of its own.

The worker process loads the exported file and first proves it to be the trained model: it scores
some validation images again and compares the state of the optimizer, which an ensemble has not. Then it scores the test set
and computes the Grad-CAM map of each image, learns the scope of the model, and scores some of the
images in the stress worlds and with parts of them hidden.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cxr.core import timing
from cxr.core.errors import ModelError
from cxr.core.files import file_sha256, read_table
from cxr.data.images import pixel_cache
from cxr.models import scoring, stress
from cxr.models.compute.worker import Emit, Job, Progress
from cxr.models.scope.learning import images_to_measure
from cxr.models.training.publishing import optimizer_sha256
from cxr.models.training.records import Training
from cxr.results.evaluation.abstention.measurement import read_judgements
from cxr.results.evaluation.abstention.referred_plot import draw_referred
from cxr.results.evaluation.in_scope import is_scoped, write_scope_test
from cxr.results.evaluation.robustness import PASSES, is_stressed, write_stress_test
from cxr.results.evaluation.scores import Evaluation, is_evaluated, test_metrics
from cxr.results.evaluation.worlds_plot import draw_worlds
from cxr.results.gradcam import attribution, summary
from cxr.results.gradcam.summary import Attention
from cxr.stats.metrics import Vector

RELOAD_TOLERANCE = 1e-5  # of a score, between training and the exported model
RELOAD_IMAGES = 64  # validation images that are scored again
OnImages = Callable[[int], None]


class _Proof(NamedTuple):
    """How the exported model was proven to be the trained one; fields of Evaluation."""

    reload_max_difference: float
    reload_images: int
    optimizer_equal: bool | None


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
        """Write what is missing of evaluation.json, scope.json, attention.json and robustness.json.

        The files that a record tells of come before it: scores_test.csv, scope.npz, gradcam.png and
        scores_test_worlds.csv. After scope.json comes scope_test.csv.

        Raises:
            ModelError: The export is not the trained model.
        """
        import keras

        run = self.run
        training = self.training
        if is_complete(run, training):
            return
        table = read_table(self.manifest)
        model = keras.models.load_model(run / "export" / "model.keras")
        on_images = _progress_counter(emit)
        if not (is_evaluated(run, training) and _has_gradcam(run, training)):
            self._score_test(table, model, on_images)
        self._learn_scope(table, model, on_images)
        self._draw_referred(table[table["split"] == "test"])
        if not is_stressed(run, training):
            self._score_under_stress(table, model, on_images)

    def _score_test(
        self,
        table: pd.DataFrame,
        model: Any,
        on_images: OnImages,
    ) -> None:
        """Prove the export and score the test set; write evaluation.json and attention.json."""
        run = self.run
        training = self.training
        test = table[table["split"] == "test"]
        reload = _reload_scores(run, training)
        reload_rows = table.set_index("image", drop=False).loc[reload["image"]]
        rows = pd.concat([reload_rows, test])
        on_images(-len(reload))  # they are no test images
        with timing.time_stage(run, "test", len(rows)):
            # Both sets in one call: another function to score with would trace the network again.
            maps, raw_scores = attribution.gradcam_maps(
                model,
                pixel_cache.load_pixels(self.pixels, rows),
                np.arange(len(rows)),
                on_images=on_images,
            )
        expected = reload["raw_score"].to_numpy()
        proof = _prove_reload(model, training, expected, raw_scores[: len(reload)])
        if not is_evaluated(run, training):
            _write_evaluation(run, training, test, raw_scores[len(reload) :], proof)
        self._learn_scope(table, model, on_images)  # the picture names images out of scope
        judgements = read_judgements(run)
        assert judgements is not None
        summary.write_gradcam(
            run,
            pixel_cache.load_pixels(self.pixels, test),
            maps[len(reload) :],
            read_table(run / "scores_test.csv").merge(judgements, on="image", validate="1:1"),
            {
                "architecture": training.architecture,
                "model_sha256": training.model_sha256,
                "threshold": training.threshold,
                "split": "test",
            },
        )

    def _learn_scope(
        self,
        table: pd.DataFrame,
        model: Any,
        on_images: OnImages,
    ) -> None:
        """Learn what the model was made for, unless that is done, and try it on the test set."""
        if is_scoped(self.run, self.training):
            return
        sizes = table["split"].value_counts()
        images = images_to_measure(sizes["train"], sizes["val"]) + sizes["test"]
        with timing.time_stage(self.run, "scope", int(images)):
            write_scope_test(
                self.run,
                self.training,
                table,
                self.pixels,
                model,
                on_images,
            )

    def _draw_referred(self, test: pd.DataFrame) -> None:
        """Draw the test images that are out of scope."""
        judgements = read_judgements(self.run)
        assert judgements is not None  # the scope was tried on them
        pixels = pixel_cache.load_pixels(self.pixels, test)
        draw_referred(pixels, read_table(self.run / "scores_test.csv"), judgements, self.run)

    def _score_under_stress(
        self,
        table: pd.DataFrame,
        model: Any,
        on_images: OnImages,
    ) -> None:
        """Score test images in the stress worlds and behind masks, draw both, write the record."""
        test_positions = np.flatnonzero(table["split"] == "test")
        rows = table.iloc[stress.choose_images(table, test_positions)]
        pixels = pixel_cache.load_pixels(self.pixels, rows)
        scores = read_table(self.run / "scores_test.csv").set_index("image").loc[rows["image"]]
        draw_worlds(pixels, rows, scores["raw_score"].to_numpy(), self.run)
        with timing.time_stage(self.run, "test_stress", PASSES * len(rows)):
            write_stress_test(
                self.run,
                self.training,
                rows,
                pixels,
                model,
                on_images,
            )


def is_complete(run: Path, training: Training) -> bool:
    """Return whether all that the job writes is there, of this model at its operating point."""
    return (
        is_evaluated(run, training)
        and is_scoped(run, training)
        and _has_gradcam(run, training)
        and is_stressed(run, training)
    )


def images_to_score(images: Mapping[str, int]) -> int:
    """Return how often an image is scored in all, about: whole patients may be a few fewer.

    Args:
        images: How many images each split has.
    """
    test_images = images["test"]
    scope_images = images_to_measure(images["train"], images["val"]) + test_images
    return test_images + scope_images + PASSES * min(test_images, stress.MOST_IMAGES)


def _has_gradcam(run: Path, training: Training) -> bool:
    """Return whether attention.json is there, of this model at its operating point."""
    path = run / "attention.json"
    return path.is_file() and Attention.read(path).is_of(training)


def _reload_scores(run: Path, training: Training) -> pd.DataFrame:
    """Return the training's own scores of some validation images, spread evenly."""
    scores = read_table(run / training.name / "scores_val.csv")
    step = max(1, len(scores) // RELOAD_IMAGES)
    return scores.iloc[::step].head(RELOAD_IMAGES)


def _progress_counter(emit: Emit) -> OnImages:
    """Return a function that adds up images and reports them."""
    done = 0

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
    optimizer_equal = None
    if not training.members:
        optimizer_equal = optimizer_sha256(model) == training.optimizer_sha256
    if difference > RELOAD_TOLERANCE or optimizer_equal is False:
        optimizer = {True: "equal", False: "different", None: "none"}[optimizer_equal]
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
