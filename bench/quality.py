"""How good the trained models are: seeds, figures at the operating point chosen on validation, and what each part adds.

    python -m bench.quality WORK [--weights DIR] [--seeds 3]      MobileNetV2, test figures of every seed
    python -m bench.quality WORK [--weights DIR] --ablate          validation figures of variants, two seeds each

WORK was preprocessed (`cxr preprocess DATA --out WORK`). Besides the images as they are, each model scores them darker
and lighter (gamma 1.6 and 0.6) and with less contrast (0.6): what a hospital with other devices might send. Variants are
compared on validation, never on test.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr import metrics, pixels, runs, scoring
from cxr.records import Training, read_table
from cxr.runs import Run

ROOT = Path(__file__).parent.parent
WORLDS = {"as they are": (1.0, 1.0), "darker": (1.6, 1.0), "lighter": (0.6, 1.0), "less contrast": (1.0, 0.6)}
VARIANTS: dict[str, list[str]] = {
    "standard": [],
    "no views": ["--views", "0"],
    "1 view": ["--views", "1"],
    "4 views": ["--views", "4"],
    "mild views": ["--augmentation.gamma", "0", "--augmentation.contrast", "0.2", "--augmentation.brightness", "0.1"],
    "no mixup": ["--mixup", "0"],
    "label smoothing 0.1": ["--label-smoothing", "0.1"],
    "no weight decay": ["--weight-decay", "0"],
    "last layer alone": ["--fine-tune-epochs", "0"],
    "12 epochs of fine-tuning": ["--fine-tune-epochs", "12"],
}


def changed(images: Any, gamma: float, contrast: float) -> Any:
    """Return uint8 images with another gamma and contrast."""
    levels = (np.arange(256) / 255) ** gamma
    table = np.clip(255 * ((levels - 0.5) * contrast + 0.5) + 0.5, 0, 255).astype(np.uint8)
    return table[images]


def trained(work: Path, weights: str, flags: list[str], seeds: int) -> Run:
    """Run `cxr eda` and `cxr train` and return the run."""
    given = ["--out", str(work), "--weights", weights, "--arch", "MobileNetV2", "--seeds", str(seeds), *flags]
    environment = os.environ | {"PREFECT_HOME": str(work / "prefect"), "PYTHONPATH": str(ROOT)}
    for stage in ("eda", "train"):
        subprocess.run(
            [sys.executable, "-m", "flows.command", stage, *given], check=True, capture_output=True, env=environment
        )
    return runs.latest(work)


def figures(work: Path, run: Run, split: str) -> pd.DataFrame:
    """Return a row for each seed and world: AUROC, and sensitivity and specificity at the model's operating point."""
    import keras

    table = runs.manifest(work)
    rows = np.flatnonzero(table["split"] == split)
    made = {"side": run.settings.image_size, "jpeg": 90 if run.settings.harmonise else None}
    found = [c for c in (work / "cache").glob("pixels-*") if made.items() <= pixels.Cache.open(c).recipe.made.items()]
    images, labels = pixels.load(found[0], table)[rows], table["label"].to_numpy()[rows]
    each = []
    for member in run.members():
        folder = run.folder(work) / member.name
        training, model = Training.read(folder / "training.json"), keras.models.load_model(folder / "model.keras")
        for world, how in WORLDS.items():
            raw = scoring.score(model, changed(images, *how), np.arange(len(rows)))
            seen = metrics.figures(labels, training.calibration.apply(raw), training.threshold)
            each.append({"seed": member.seed, "world": world, "auroc": metrics.figures(labels, raw, 0.5)["auroc"],
                         "sensitivity": seen["sensitivity"], "specificity": seen["specificity"],
                         "minutes": training.seconds / 60, "epochs": len(read_table(folder / "history.csv"))})  # fmt: skip
    return pd.DataFrame(each)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ablate", action="store_true")
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), help="variants")
    parser.add_argument("--flags", default="", help="more flags of `cxr train`, for all")
    given = parser.parse_args()
    flags = given.flags.split()
    if given.ablate:
        print(f"{'validation, 2 seeds':28}" + "".join(f"{world:>24}" for world in WORLDS) + f"{'minutes':>9}")
        for name in given.only:
            run = trained(given.work, given.weights, [*VARIANTS[name], *flags], 2)
            seen = figures(given.work, run, "val")
            cells = [seen.loc[seen["world"] == world, "auroc"].to_numpy(float) for world in WORLDS]
            shown = "".join(f"{cell.mean():>13.4f} ({np.ptp(cell):.4f})" + " " * 2 for cell in cells)
            print(f"{name:28}{shown}{seen['minutes'].mean():>9.1f}", flush=True)
        return
    seen = figures(given.work, trained(given.work, given.weights, flags, given.seeds), "test")
    print(seen.round(4).to_string(index=False))
    figures_of = seen.groupby("world", sort=False)[["auroc", "sensitivity", "specificity"]]
    print(figures_of.agg(["mean", "min", "max"]).round(4).to_string())


if __name__ == "__main__":
    main()
