"""robustness.json: the selected model on test images in the stress worlds and behind masks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr.core.files import file_sha256
from cxr.core.records import Record
from cxr.data.images.changes.masks import DESCRIPTIONS
from cxr.data.images.changes.stress_worlds import WORLDS
from cxr.models import scoring, stress
from cxr.models.stress import Robustness
from cxr.models.training.records import Training
from cxr.results.evaluation.reliance import (
    MaskMetrics,
    count_fewest_patients,
    measure_masks,
    score_masks,
    warn_of_reliance,
)
from cxr.stats.calibration import Calibration
from cxr.storage.arrays import Stored

NAME = "robustness.json"
SCORES_NAME = "scores_test_worlds.csv"
PASSES = 1 + len(WORLDS) + len(DESCRIPTIONS)  # how many times each image is scored


class StressTest(Record):
    """The selected model on test images as they are, in every stress world and behind every mask.

    Attributes:
        architecture: Of the model.
        model_sha256: Of the model.
        threshold: The lowest score that counts as positive.
        worlds: How well it does in the stress worlds.
        masks: How well it ranks the images with a part of them hidden.
        fewest_patients: How many patients the class has that has fewer.
        warning: What to tell a person where it uses what is no lung, or "".
        world_scores_sha256: Of scores_test_worlds.csv.
    """

    architecture: str
    model_sha256: str
    threshold: float
    worlds: Robustness
    masks: tuple[MaskMetrics, ...]
    fewest_patients: int
    warning: str
    world_scores_sha256: str

    def is_of(self, training: Training) -> bool:
        """Return whether this is a record of that very model at its operating point."""
        same_model = self.model_sha256 == training.model_sha256
        return same_model and self.threshold == training.threshold

    def summary(self) -> str:
        """Return the mean and the worst world in one sentence, without a full stop."""
        worst = self.worlds.worst
        return (
            f"AUROC {self.worlds.mean_auroc:.3f} on average over {len(self.worlds.worlds)} stress "
            f"worlds, {worst.auroc:.3f} in the worst ({worst.world}; sensitivity "
            f"{worst.sensitivity:.3f}, specificity {worst.specificity:.3f}), "
            f"{self.worlds.clean.auroc:.3f} on the same {self.worlds.images} test images as they are"
        )


def read_stress_test(run: Path) -> StressTest | None:
    """Return robustness.json of a run, None where an earlier version wrote none."""
    path = run / NAME
    return StressTest.read(path) if path.is_file() else None


def is_stressed(run: Path, training: Training) -> bool:
    """Return whether robustness.json is there, of this model at its operating point."""
    stress_test = read_stress_test(run)
    return stress_test is not None and stress_test.is_of(training)


def stress_metrics(
    table: pd.DataFrame,
    calibration: Calibration,
    threshold: float,
) -> dict[str, Any]:
    """Return what a StressTest says about scores, from these alone.

    Args:
        table: The rows of scores_test_worlds.csv.
        calibration: The model's map from raw scores to probabilities.
        threshold: The lowest calibrated score that counts as positive.

    Returns:
        worlds, masks, fewest_patients and warning of a StressTest.

    Raises:
        DataError: A class is missing, or a score is no number.
    """
    masks = measure_masks(table)
    fewest_patients = count_fewest_patients(table)
    return {
        "worlds": stress.measure_robustness(table, calibration, threshold),
        "masks": masks,
        "fewest_patients": fewest_patients,
        "warning": warn_of_reliance(masks, len(table), fewest_patients),
    }


def write_stress_test(
    run: Path,
    training: Training,
    rows: pd.DataFrame,
    pixels: Stored,
    model: Any,
    on_images: Callable[[int], None] = lambda _: None,
) -> StressTest:
    """Score images in every world and behind every mask, and write what comes out.

    Writes scores_test_worlds.csv, then robustness.json.

    Args:
        run: The run's folder.
        training: The record of the selected model.
        rows: The manifest's rows of the images, chosen by `stress.choose_images`.
        pixels: Their pixels, uint8 (n, side, side).
        model: The exported model.
        on_images: Told how many more images are done.

    Returns:
        The record.
    """
    keys = list(rows["pixel_sha256"])
    positions = np.arange(len(rows))
    scores = stress.score_worlds(model, pixels, keys, on_images)
    scores |= score_masks(
        lambda images: scoring.score_images(model, images, positions, on_images=on_images),
        pixels,
        keys,
        rows["label"].to_numpy(),
    )
    path = run / SCORES_NAME
    stress.write_world_scores(rows, scores, path)
    table = stress.read_world_scores(path)
    assert table is not None  # it was just written
    record = StressTest(
        architecture=training.architecture,
        model_sha256=training.model_sha256,
        threshold=training.threshold,
        **stress_metrics(table, training.calibration, training.threshold),
        world_scores_sha256=file_sha256(path),
    )
    return record.write(run / NAME)
