"""How a model scores in the stress worlds: the raw scores, kept in a table, and what they say.

The same images are scored in every world, so that what a world costs is seen on equal patients.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr.core.files import read_table, write_table
from cxr.core.settings import Strict
from cxr.data.images.changes.changed_images import ChangedImages
from cxr.data.images.changes.stress_worlds import CLEAN, WORLDS
from cxr.data.patients import splits
from cxr.models import scoring
from cxr.stats import intervals, metrics
from cxr.stats.calibration import Calibration
from cxr.stats.intervals import Interval
from cxr.stats.metrics import Vector
from cxr.storage.arrays import Stored

# A set is scored fourteen times: of a larger one whole patients are drawn.
MOST_IMAGES = 400
EPOCH_IMAGES = 96  # likewise, after each epoch
VAL_SCORES = "scores_val_worlds.csv"  # in the folder of a training
ROW_COLUMNS = ["image", "patient_id", "label"]
DRAWS = 1_000  # of the bootstrap, of which there are fourteen
_SEED = 0  # of the draw: the same images in every run of the same data


class WorldMetrics(Strict):
    """How well a model does in one world at its operating point.

    Attributes:
        world: The world, or "clean".
        kind: What the world changes, "" for clean.
        auroc: Area under the ROC curve of the raw scores.
        auroc_interval: Its 95 % interval, None where not estimable.
        sensitivity: At the threshold.
        sensitivity_interval: Its interval.
        specificity: At the threshold.
        specificity_interval: Its interval.
    """

    world: str
    kind: str
    auroc: float
    auroc_interval: Interval | None
    sensitivity: float
    sensitivity_interval: Interval | None
    specificity: float
    specificity_interval: Interval | None


class Robustness(Strict):
    """How well a model does in all worlds at its operating point, which stands elsewhere.

    Attributes:
        images: How many images were scored in each world.
        patients: Of how many patients.
        clean: On these images as they are.
        worlds: In each world, in the order of the table of worlds.
    """

    images: int
    patients: int
    clean: WorldMetrics
    worlds: tuple[WorldMetrics, ...]

    @property
    def mean_auroc(self) -> float:
        """Return the mean AUROC over the worlds, clean images left out."""
        return float(np.mean([world.auroc for world in self.worlds]))

    @property
    def worst(self) -> WorldMetrics:
        """Return the world with the lowest AUROC, the first of equals."""
        return min(self.worlds, key=lambda world: world.auroc)


def choose_images(
    table: pd.DataFrame,
    positions: Vector,
    most: int = MOST_IMAGES,
) -> Vector:
    """Return the positions of the images to score in every world, in rising order, int (k,).

    Of each class half as many at most, so that both can be measured; of each class whole patients.
    Where every patient of a class has more images than that, all images of the class.

    Args:
        table: The manifest.
        positions: Positions of the rows of a split, int (n,).
        most: The most images; with fewer all are chosen.
    """
    if len(positions) <= most:
        return positions
    labels = table["label"].to_numpy()[positions]
    chosen = []
    for label in np.unique(labels):
        members = positions[labels == label]
        drawn = splits.sample_patients(table, members, most // 2, _SEED)
        chosen.append(drawn if len(drawn) else members)
    return np.sort(np.concatenate(chosen))


def score_worlds(
    model: Any,
    pixels: Stored,
    keys: Sequence[str],
    on_images: Callable[[int], None] = lambda _: None,
) -> dict[str, Vector]:
    """Return the raw scores of images as they are and in every world, float64 (n,) each.

    Args:
        model: A whole Keras model.
        pixels: uint8 (n, side, side).
        keys: The digest of the pixels of each.
        on_images: Told how many more images are done.
    """
    positions = np.arange(len(keys))
    scores = {CLEAN: scoring.score_images(model, pixels, positions, on_images=on_images)}
    for world in WORLDS.values():
        changed = ChangedImages(pixels, keys, world.change)
        scores[world.name] = scoring.score_images(model, changed, positions, on_images=on_images)
    return scores


def write_world_scores(
    rows: pd.DataFrame,
    scores: Mapping[str, Vector],
    path: Path,
) -> None:
    """Write the raw scores of images in every world: a row for each image, a column for each world.

    Args:
        rows: The manifest's rows of the images.
        scores: What `score_worlds` returned for them.
        path: The file to write.
    """
    write_table(rows[ROW_COLUMNS].assign(**scores), path)


def read_world_scores(path: Path) -> pd.DataFrame | None:
    """Return what `write_world_scores` wrote, None where an earlier version wrote none."""
    return read_table(path) if path.is_file() else None


def measure_robustness(
    table: pd.DataFrame,
    calibration: Calibration,
    threshold: float,
) -> Robustness:
    """Measure how well a model does in every world.

    Args:
        table: What `write_world_scores` wrote.
        calibration: The model's map from raw scores to probabilities.
        threshold: The calibrated score from which on an image is called PNEUMONIA.

    Raises:
        DataError: A class is missing, or a score is no number.
    """
    measured = {}
    for name in (CLEAN, *WORLDS):
        kind = WORLDS[name].kind if name in WORLDS else ""
        raw = table[name].to_numpy(np.float64)  # a table that was read has texts
        measured[name] = _measure_world(table, raw, calibration, threshold, name, kind)
    return Robustness(
        images=len(table),
        patients=len(np.unique(intervals.number_patients(table["patient_id"].to_numpy()))),
        clean=measured[CLEAN],
        worlds=tuple(measured[name] for name in WORLDS),
    )


def _measure_world(
    table: pd.DataFrame,
    raw: Vector,
    calibration: Calibration,
    threshold: float,
    name: str,
    kind: str,
) -> WorldMetrics:
    """Return the metrics of one world."""
    labels = table["label"].to_numpy()
    patients = table["patient_id"].to_numpy()
    # Raw scores throughout: an isotonic calibration makes ties, and the AUROC is of scores without.
    is_positive = calibration.apply(raw) >= threshold
    raw_threshold = float(raw[is_positive].min()) if is_positive.any() else np.inf
    measured = metrics.compute_metrics(labels, raw, raw_threshold)
    bounds = intervals.bootstrap_intervals(labels, raw, patients, raw_threshold, DRAWS)
    return WorldMetrics(
        world=name,
        kind=kind,
        auroc=float(measured["auroc"] or 0.0),
        auroc_interval=bounds["auroc"],
        sensitivity=float(measured["sensitivity"] or 0.0),
        sensitivity_interval=bounds["sensitivity"],
        specificity=float(measured["specificity"] or 0.0),
        specificity_interval=bounds["specificity"],
    )
