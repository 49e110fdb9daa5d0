"""The chosen model on the hold-out test set, once, by a fresh process that also proves the export whole.

Run as `python -m cxr.evaluation` by `child.run`: it loads the exported file, scores some validation images
again (must equal the training's own scores), compares the optimizer's state, then scores test.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cxr import child, metrics, pixels, scoring
from cxr.errors import ModelError
from cxr.records import Evaluation, Training, file_sha256, read_table
from cxr.training import optimizer_sha256

RELOAD_TOLERANCE = 1e-5
RELOAD_IMAGES = 64


def main(job: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    """Write scores_test.csv and then evaluation.json; raises ModelError where the export is not the trained model."""
    import keras

    child.limit_threads()
    run, training = Path(job["run"]), Training.model_validate(job["training"])
    model = keras.models.load_model(run / "export" / "model.keras")
    table, cache = read_table(Path(job["manifest"])), pixels.load(Path(job["pixels"]))
    difference, images = _reload_difference(model, cache, table, run / training.architecture / "scores_val.csv")
    equal = optimizer_sha256(model) == training.optimizer_sha256
    if difference > RELOAD_TOLERANCE or not equal:
        raise ModelError(
            f"the exported model is not the trained one: scores differ by up to {difference:.2g} (expected at most "
            f"{RELOAD_TOLERANCE}), optimizer state {'equal' if equal else 'different'}: delete the run folder, run again"
        )
    positions = np.flatnonzero(table["split"] == "test")
    done = [0]

    def progress(count: int) -> None:
        done[0] += count
        emit({"done": done[0], "of": len(positions)})

    scores = scoring.score(model, cache, positions, on_images=progress)
    scoring.write_scores(table.iloc[positions], scores, run / "scores_test.csv")
    figures = metrics.figures(table["label"].to_numpy()[positions], scores, training.threshold)
    Evaluation(
        architecture=training.architecture, model_sha256=training.model_sha256, threshold=training.threshold, test=figures,
        intervals=metrics.wilson(figures), reload_max_difference=difference, reload_images=images,
        optimizer_equal=equal, scores_sha256=file_sha256(run / "scores_test.csv"),
    ).write(run / "evaluation.json")  # fmt: skip


def _reload_difference(model: Any, cache: Any, table: Any, scores_val: Path) -> tuple[float, int]:
    """Return the largest difference to the training's scores, over validation images spread evenly, and their number."""
    before = read_table(scores_val)
    some = before.iloc[:: max(1, len(before) // RELOAD_IMAGES)].head(RELOAD_IMAGES)
    rows = table.reset_index().set_index("image").loc[some["image"], "index"].to_numpy()
    again = scoring.score(model, cache, rows)
    return float(np.abs(again - some["score"].to_numpy()).max()), len(some)


if __name__ == "__main__":
    child.serve(main)
