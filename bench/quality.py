"""How good the trained models are: seeds, figures at the operating point chosen on validation, and what each part adds.

    python -m bench.quality WORK [--weights DIR] [--seeds 3]      MobileNetV2, test figures of every seed
    python -m bench.quality WORK [--weights DIR] --ablate          validation figures of variants, two seeds each

WORK was preprocessed (`cxr preprocess DATA --out WORK`). Besides the images as they are, each model scores them darker
and lighter (gamma 1.6 and 0.6), with less contrast (0.6), coarser (through 96 pixels) and as a careless department might send
them: turned, zoomed, shifted, darker or lighter, each image in its own way (`cxr/data/images/changes/augmentation.py`, at its default ranges, drawn
apart from those of training). Variants are compared on validation, never on test.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from cxr.core.settings import Augmentation
from cxr.data.images import pixel_cache
from cxr.data.images.changes import augmentation
from cxr.models import runs, scoring
from cxr.models.networks import model_surgery
from cxr.models.runs import Run
from cxr.models.training.records import Training
from cxr.stats import metrics
from cxr.storage.arrays import Cache, Rows

Array = np.ndarray[Any, Any]


NAME = "MobileNetV2"
ROOT = Path(__file__).parent.parent
VARIANTS: dict[str, list[str]] = {
    "standard": [],
    "3 epochs": ["--epochs", "3"],
    "no views": ["--views", "0"],
    "5 views": ["--views", "5"],
    "3 passes": ["--passes", "3"],
    "mild views": [
        "--augmentation.gamma",
        "0",
        "--augmentation.contrast",
        "0.2",
        "--augmentation.brightness",
        "0.1",
    ],
    "four times the step": ["--fine-tune-learning-rate", "2e-4"],
    "last layer alone": ["--epochs", "0"],
}


def levels(gamma: float, contrast: float) -> Callable[[Array], Array]:
    """Return what gives uint8 images another gamma and contrast."""
    values = ((np.arange(256) / 255) ** gamma - 0.5) * contrast + 0.5
    table = np.clip(255 * values + 0.5, 0, 255).astype(np.uint8)
    return lambda images: table[images]


def coarser(images: Array) -> Array:
    """Return images through 96 x 96 pixels and back."""
    each = [Image.fromarray(one).resize((96, 96), Image.Resampling.BILINEAR) for one in images]
    return np.stack(
        [np.asarray(one.resize(images.shape[2:0:-1], Image.Resampling.BILINEAR)) for one in each]
    )


def careless(images: Array) -> Array:
    """Return images each changed in its own way."""
    return np.stack(
        [
            augmentation.augment(one, f"world {at}", 1, Augmentation())
            for at, one in enumerate(images)
        ]
    )


WORLDS: dict[str, Callable[[Array], Array]] = {
    "as they are": lambda images: images, "darker": levels(1.6, 1), "lighter": levels(0.6, 1),
    "less contrast": levels(1, 0.6), "coarser": coarser, "careless": careless,
}  # fmt: skip


def trained(work: Path, weights: str, flags: list[str], seeds: int) -> Run:
    """Run `cxr explore` and `cxr train` and return the run."""
    given = [
        "--out",
        str(work),
        "--weights",
        weights,
        "--arch",
        NAME,
        "--seeds",
        str(seeds),
        *flags,
    ]
    environment = os.environ | {"PREFECT_HOME": str(work / "prefect"), "PYTHONPATH": str(ROOT)}
    for stage in ("explore", "train"):
        subprocess.run(
            [sys.executable, "-m", "flows.command", stage, *given],
            check=True,
            capture_output=True,
            env=environment,
        )
    return runs.latest_run(work)


def figures(
    work: Path,
    run: Run,
    split: str,
    below: dict[str, Array],
    trainings: Path,
) -> pd.DataFrame:
    """Return a row for each seed and world: AUROC, and sensitivity and specificity at the threshold.

    Args:
        work: The work folder.
        run: The run.
        split: Which images.
        below: Keeps each world's activations at the cut, which nothing that is learned changes, from
            one call to the next.
        trainings: The folder of the trainings.
    """
    import keras

    table = runs.read_manifest(work)
    rows = np.flatnonzero(table["split"] == split)
    images = _pixels(work, run, table)[rows]
    labels = table["label"].to_numpy()[rows]
    positions = np.arange(len(rows))
    results = []
    for member in run.members():
        folder = trainings / member.name
        training = Training.read(folder / "training.json")
        model = keras.models.load_model(folder / "model.keras")
        lower = model_surgery.submodel(model, NAME, None, "cut")
        top = model_surgery.submodel(model, NAME, "cut", "score")
        for world, change in WORLDS.items():
            if world not in below:
                batches = scoring.model_outputs(lower, change(images), positions)
                below[world] = np.concatenate([cut for (cut,) in batches])
            raw = scoring.score_images(top, below[world], positions)
            scores = training.calibration.apply(raw)
            measured = metrics.compute_metrics(labels, scores, training.threshold)
            results.append(
                {
                    "seed": member.seed,
                    "world": world,
                    "auroc": metrics.compute_metrics(labels, raw, 0.5)["auroc"],
                    "sensitivity": measured["sensitivity"],
                    "specificity": measured["specificity"],
                    "minutes": training.seconds / 60,
                    "epochs": training.epochs,
                }
            )
    return pd.DataFrame(results)


def _pixels(work: Path, run: Run, table: pd.DataFrame) -> Rows:
    """Return the cached pixels of the manifest, of the size and encoding that the run has."""
    made = {"side": run.settings.image_size, "jpeg": 90 if run.settings.harmonise else None}
    for folder in (work / "cache").glob("pixels-*"):
        if made.items() <= Cache.open(folder).recipe.made.items():
            return pixel_cache.load_pixels(folder, table)
    raise FileNotFoundError(f"{work / 'cache'}: expected pixels of {made}, found none")


def shown(name: str, seen: pd.DataFrame) -> str:
    """Return the line of a variant: in each world the mean AUROC (largest less smallest), then minutes."""
    cells = [seen.loc[seen["world"] == world, "auroc"].to_numpy(float) for world in WORLDS]
    return f"{name:28}{''.join(f'{cell.mean():>10.4f} ({np.ptp(cell):.4f})' for cell in cells)}{seen['minutes'].mean():>9.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ablate", action="store_true")
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), help="variants")
    parser.add_argument("--flags", default="", help="more flags of `cxr train`, for all")
    given = parser.parse_args()
    flags = given.flags.split()
    if given.ablate:
        below: dict[str, Array] = {}
        print(
            f"{'validation, 2 seeds':28}"
            + "".join(f"{world:>19}" for world in WORLDS)
            + f"{'minutes':>9}"
        )
        for name in given.only:
            run = trained(given.work, given.weights, [*VARIANTS[name], *flags], 2)
            print(
                shown(name, figures(given.work, run, "val", below, run.folder(given.work))),
                flush=True,
            )
        return
    run = trained(given.work, given.weights, flags, given.seeds)
    seen = figures(given.work, run, "test", {}, run.folder(given.work))
    print(seen.round(4).to_string(index=False))
    figures_of = seen.groupby("world", sort=False)[["auroc", "sensitivity", "specificity"]]
    print(figures_of.agg(["mean", "min", "max"]).round(4).to_string())


if __name__ == "__main__":
    main()
