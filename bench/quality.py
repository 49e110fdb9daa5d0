"""Models on the test set, as it is and in the stress worlds: each at the threshold that validation chose.

    python -m bench.quality WORK TRAINING [TRAINING ...] [--notebook MODEL.keras]

WORK was preprocessed (`cxr preprocess DATA --out WORK`); TRAINING is the folder of a training on it (`cxr train`, or
`python -m bench.recipes`), usually one for each seed. A line is the mean over the trainings (the lowest) in a world; the
last lines are of their averaged logits, at the mean of their thresholds' logits. MODEL.keras is what
../shared/baseline/notebook_baseline.py saved, at its threshold of 0.5. Nothing is chosen by these figures.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from cxr.core.files import read_table
from cxr.core.settings import TrainingSettings
from cxr.data.images import pixel_cache
from cxr.data.images.changes.stress_worlds import CLEAN, WORLDS
from cxr.models import runs, stress
from cxr.models.training.records import Training
from cxr.stages import data_steps
from cxr.stats import metrics
from cxr.storage.arrays import Rows

Array = np.ndarray[Any, Any]
METRICS = ("auroc", "sensitivity", "specificity")
SCORES = "scores_test_worlds.csv"


class NotebookModel:
    """The notebook's model behind the interface of ours: gray pixels 0..255 in, scores out."""

    def __init__(self, path: Path):
        import keras

        self.model = keras.models.load_model(path)

    def predict_on_batch(self, pixels: Array) -> Array:
        """Return the scores of gray images, (n, side, side, 1)."""
        scores: Array = self.model.predict_on_batch(np.repeat(pixels / 255, 3, axis=-1))
        return scores


def score_test(model: Any, table: pd.DataFrame, pixels: Rows, path: Path) -> pd.DataFrame:
    """Score all test images in every world, or read what an earlier call kept."""
    if not path.is_file():
        positions = np.flatnonzero(table["split"] == "test")
        keys = [table["pixel_sha256"].iloc[position] for position in positions]
        scores = stress.score_worlds(model, pixels[positions], keys)
        stress.write_world_scores(table.iloc[positions], scores, path)
    return read_table(path)


def measure(scores: pd.DataFrame, world: str, threshold: float, fitted: Any) -> dict[str, float]:
    """Return AUROC, sensitivity and specificity in a world."""
    labels = scores["label"].to_numpy(int)
    raw = scores[world].to_numpy(float)
    calibrated = fitted.apply(raw) if fitted else raw
    found = metrics.compute_metrics(labels, calibrated, threshold)
    found["auroc"] = metrics.compute_metrics(labels, raw, 0.5)["auroc"]
    return {name: float(found[name] or 0) for name in METRICS}


def average(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the scores of the averaged logits of several models."""
    averaged = tables[0].copy()
    for world in (CLEAN, *WORLDS):
        clipped = [np.clip(table[world].to_numpy(float), 1e-7, 1 - 1e-7) for table in tables]
        averaged[world] = expit(np.mean(logit(clipped), axis=0))
    return averaged


def raw_threshold(scores: pd.DataFrame, training: Training) -> float:
    """Return the lowest raw score of a test image that is called PNEUMONIA."""
    raw = np.sort(scores[[CLEAN, *WORLDS]].to_numpy(float).ravel())
    return float(raw[training.calibration.apply(raw) >= training.threshold].min())


def print_lines(name: str, rows: pd.DataFrame) -> None:
    """Print a line for each world: the mean (the lowest) of each metric."""
    print(f"{name:28}" + "".join(f"{metric:>20}" for metric in METRICS))
    for world in (CLEAN, *WORLDS):
        found = rows[rows["world"] == world]
        cells = [f"{found[metric].mean():.4f} ({found[metric].min():.4f})" for metric in METRICS]
        print(f"  {world:26}" + "".join(f"{cell:>20}" for cell in cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("trainings", nargs="*", type=Path)
    parser.add_argument("--notebook", type=Path)
    given = parser.parse_args()
    import keras

    table = runs.read_manifest(given.work)
    cache = data_steps.cache_pixels(given.work, TrainingSettings())
    pixels = pixel_cache.load_pixels(cache, table)
    rows = []
    tables = []
    limits = []
    for folder in given.trainings:
        training = Training.read(folder / "training.json")
        model = keras.models.load_model(folder / "model.keras", compile=False)
        scores = score_test(model, table, pixels, folder / SCORES)
        tables.append(scores)
        limits.append(logit(raw_threshold(scores, training)))
        for world in (CLEAN, *WORLDS):
            found = measure(scores, world, training.threshold, training.calibration)
            rows.append({"world": world, **found})
    if rows:
        print_lines(f"{len(tables)} trainings", pd.DataFrame(rows))
    if len(tables) > 1:
        threshold = float(expit(np.mean(limits)))
        averaged = average(tables)
        found_rows = [
            {"world": world, **measure(averaged, world, threshold, None)}
            for world in (CLEAN, *WORLDS)
        ]
        print_lines("averaged logits", pd.DataFrame(found_rows))
    if given.notebook:
        path = given.notebook.with_name(SCORES)
        scores = score_test(NotebookModel(given.notebook), table, pixels, path)
        found_rows = [
            {"world": world, **measure(scores, world, 0.5, None)} for world in (CLEAN, *WORLDS)
        ]
        print_lines("the notebook", pd.DataFrame(found_rows))


if __name__ == "__main__":
    main()
