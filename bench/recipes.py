"""Recipes of training, compared under stress on validation, over seeds.

    python -m bench.recipes WORK --weights DIR [--seeds 3] [--only NAME ...] [--fraction 0.25] [--arch MobileNetV2]

WORK was preprocessed (`cxr preprocess DATA --out WORK`). Every recipe trains with the same seeds; features that recipes
share are computed once. A line shows the means over the seeds (largest less smallest): the AUROC on validation as it is,
its mean loss in the worlds of each kind, the worst world, and the lowest sensitivity and specificity in the worlds of
stretch at the operating point. Recipes are augmented with changes of stretch, frame and gray levels, never of detail
(blurred, noisy, coarser, re-encoded), so the loss there says how a recipe does under stress that it was not trained
for. "mean of N" are the averaged logits of the seeds, "of 3 epochs" (--averages) the averaged logits or weights of the last
epochs of each (Izmailov et al., UAI 2018). "of three stretches" (--stretches) is test-time augmentation: each image
is scored as it is and stretched by 0.89 and 1.12, in three times the time. Nothing here looks at test.

What is no setting of the product (mixing, label smoothing, another cut, rates that fall from layer to layer, blurred
augmentations, averaged weights) is changed in the training's own process.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter
from scipy.special import expit, logit

from cxr.core.files import read_table
from cxr.core.parallel import usable_cores
from cxr.core.settings import PRESETS, Augmentation, TrainingSettings
from cxr.core.settings.architectures import ARCHITECTURES
from cxr.data.images import pixel_cache
from cxr.data.images.changes import augmentation
from cxr.data.images.changes.changed_images import ChangedImages
from cxr.data.images.changes.geometry import Window, cut_window
from cxr.data.images.changes.stress_worlds import CLEAN, WORLDS
from cxr.data.images.decoding.rejection import Pixels
from cxr.models import runs, scoring, stress
from cxr.models.networks import model_surgery
from cxr.models.runs import Member, Run
from cxr.models.training import checkpoints
from cxr.models.training.learning import fine_tuning
from cxr.models.training.records import Training
from cxr.models.training.session import Session
from cxr.models.training.trainer import TrainingJob, train
from cxr.stages import data_steps, training_steps
from cxr.stats import metrics, thresholds

Array = np.ndarray[Any, Any]
Batches = Callable[..., Any]
WHOLE_IMAGES = {"augmentation": {"area": 1.0, "stretch": 1.0, "zoom": 0.1, "shift": 0.05}}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A way to train.

    Attributes:
        settings: Fields of TrainingSettings that differ from the standard preset.
        lower_cut: Cut the network further down, so that more of it learns (LOWER_CUTS).
        mixing: Shape of the beta distribution of mixup (Zhang et al., ICLR 2018), 0 for none.
        smoothing: How far labels are moved to the middle (Szegedy et al., CVPR 2016).
        lowest_rate: The learning rate of the lowest layer that learns, as a share of that of the last
            one; those between rise evenly on a logarithmic scale (Howard and Ruder, ACL 2018).
        blur: Augmentation blurs half of the images, too, by a Gaussian of up to this many of 224 pixels.
        rate: What the architecture's learning rate is multiplied with.
    """

    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    lower_cut: bool = False
    mixing: float = 0.0
    smoothing: float = 0.0
    lowest_rate: float = 1.0
    blur: float = 0.0
    rate: float = 1.0


LOWER_CUTS = {"MobileNetV2": "block_5_add", "VGG16": "block3_pool", "DenseNet121": "pool3_pool"}
RECIPES = {
    "standard": Recipe(),
    "lower cut": Recipe(lower_cut=True),
    "version 0.2": Recipe(
        {"augmented_copies": 2, "passes": 1, "fine_tune_learning_rate": 5e-5, **WHOLE_IMAGES}
    ),
    "three passes": Recipe({"augmented_copies": 5, "passes": 3}),
    "four versions, six epochs": Recipe({"augmented_copies": 3, "passes": 4, "epochs": 6}),
    "no crops": Recipe(WHOLE_IMAGES),
    "stretch, no crops": Recipe({"augmentation": {"area": 0.9}}),
    "stronger crops": Recipe({"augmentation": {"area": 0.1}}),
    "a quarter of the rate": Recipe(rate=0.25),
    "four times the rate": Recipe(rate=4.0),
    "balanced": Recipe({"balanced": True}),
    "dropout": Recipe({"dropout": 0.3}),
    "mixing": Recipe(mixing=0.2),
    "label smoothing": Recipe(smoothing=0.1),
    "rates by layer": Recipe(lowest_rate=0.1),
    "last layer alone": Recipe({"epochs": 0}),
    "thorough": Recipe(PRESETS["thorough"]),
    "thorough, 12 epochs": Recipe({**PRESETS["thorough"], "epochs": 12, "patience": 12}),
    "thorough, half the rate": Recipe(PRESETS["thorough"], rate=0.5),
    "thorough, stronger crops": Recipe({**PRESETS["thorough"], "augmentation": {"area": 0.1}}),
    "thorough, weaker crops": Recipe({**PRESETS["thorough"], "augmentation": {"area": 0.6}}),
    "thorough, mixing": Recipe(PRESETS["thorough"], mixing=0.2),
    "thorough, label smoothing": Recipe(PRESETS["thorough"], smoothing=0.1),
    "thorough, blur": Recipe(PRESETS["thorough"], blur=1.5),
    "thorough, not balanced": Recipe({**PRESETS["thorough"], "balanced": False}),
    "thorough, rates by layer": Recipe(PRESETS["thorough"], lowest_rate=0.1),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--arch", default="MobileNetV2")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--fraction", type=float, default=1.0, help="of the train patients")
    parser.add_argument("--only", nargs="*", default=list(RECIPES), help="recipes")
    parser.add_argument("--stretches", action="store_true", help="also of three stretches")
    parser.add_argument("--averages", action="store_true", help="also of the last three epochs")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        train_one(json.loads(given.one))
        return
    print(header())
    for name in given.only:
        recipe = RECIPES[name]
        settings = TrainingSettings.model_validate(
            {
                "arch": [given.arch],
                "weights": given.weights,
                "train_fraction": given.fraction,
                "seeds": given.seeds,
                **({"ensemble": "epochs"} if given.averages else {}),  # keeps their checkpoints
                **recipe.settings,
                **changed_rate(recipe, given.arch),
            }
        )
        run = runs.start_run(given.work, settings, None)
        cache = data_steps.cache_pixels(given.work, settings)
        folders = [train_member(member, name, run, given.work, cache) for member in run.members()]
        for text in lines(name, folders):
            print(text, flush=True)
        if given.averages:
            for what in ("logits", "weights"):
                rows = [
                    measure(score_epochs(folder, given.work, cache, what)) for folder in folders
                ]
                print(line_of(f"  {what} of 3 epochs", pd.DataFrame(rows)), flush=True)
        if given.stretches:
            rows = [measure(score_stretches(folder, given.work, cache)) for folder in folders]
            print(line_of("  of three stretches", pd.DataFrame(rows)), flush=True)


def changed_rate(recipe: Recipe, architecture: str) -> dict[str, float]:
    """Return the setting of the learning rate where a recipe has another than the architecture's."""
    if recipe.rate == 1:
        return {}
    entry = ARCHITECTURES[architecture]
    whole = recipe.settings.get("learns") == "whole"
    rate = entry.whole_learning_rate if whole else entry.learning_rate
    return {"fine_tune_learning_rate": rate * recipe.rate}


def train_member(member: Member, name: str, run: Run, work: Path, cache: Path) -> Path:
    """Train in a process of its own, where that is not done; return the training's folder."""
    job = training_steps.training_job(member, run, work, cache, 1)
    folder = run.folder(work) / name.replace(" ", "_") / member.name
    if not (folder / "training.json").is_file():
        order = {
            "recipe": name,
            "job": job.model_copy(update={"folder": folder}).model_dump(mode="json"),
        }
        command = [sys.executable, "-m", "bench.recipes", str(work), "--one", json.dumps(order)]
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "log").open("ab") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log)
    return folder


def train_one(order: dict[str, Any]) -> None:
    """Train with a recipe, in this process."""
    recipe = RECIPES[order["recipe"]]
    job = TrainingJob.model_validate(order["job"])
    if recipe.lower_cut:
        entry = ARCHITECTURES[job.architecture]
        changed = dataclasses.replace(entry, cut=LOWER_CUTS[job.architecture])
        ARCHITECTURES[job.architecture] = changed  # type: ignore[index]  # here it is a dict
    fine_tuning.epoch_batches = changed_batches(fine_tuning.epoch_batches, recipe)
    os.environ["CXR_THREADS"] = str(usable_cores())
    from cxr.models.compute import backend

    backend.configure()
    if recipe.lowest_rate < 1:
        lower_rates(recipe.lowest_rate)
    if recipe.blur:
        blur_augmentations(recipe.blur)
    train(Session(job, lambda _: None))


def blur_augmentations(most: float) -> None:
    """Let augmentation blur half of the images, too, by up to `most` of 224 pixels."""
    plain = augmentation.augment

    def augment(pixels: Pixels, key: str, index: int, ranges: Augmentation) -> Pixels:
        changed = plain(pixels, key, index, ranges)
        seed = hashlib.sha256(f"{key} {index} blur".encode()).digest()
        draw = np.random.default_rng(list(seed)).uniform(-1, 1)
        if index == 0 or draw <= 0:
            return changed
        radius = most * draw * pixels.shape[0] / 224
        blurred = Image.fromarray(changed).filter(ImageFilter.GaussianBlur(radius))
        return np.asarray(blurred)

    augmentation.augment = augment


def lower_rates(lowest: float) -> None:
    """Let Adam give each layer a rate of its own, the lower the further from the score."""
    import keras

    @keras.saving.register_keras_serializable(package="bench")
    class LayerwiseAdam(keras.optimizers.Adam):  # type: ignore[misc]  # mypy skips Keras
        def build(self, variables: Any) -> None:
            super().build(variables)
            depths = np.linspace(1, 0, len(variables))
            self.shares = {
                variable.path: float(lowest**depth)
                for variable, depth in zip(variables, depths, strict=True)
            }

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            rate = learning_rate * self.shares[variable.path]
            super().update_step(gradient, variable, rate)

    keras.optimizers.Adam = LayerwiseAdam


def changed_batches(batches: Batches, recipe: Recipe) -> Batches:
    """Return a function like `fine_tuning.epoch_batches`, with mixing and smoothing."""

    def changed(read: Any, session: Session, epoch: int) -> Any:
        rng = np.random.default_rng([session.settings.seed, epoch, 1])
        for inputs, targets, weights in batches(read, session, epoch):
            mixed, labels = inputs, targets
            if recipe.mixing:
                share = rng.beta(recipe.mixing, recipe.mixing)
                order = rng.permutation(len(inputs))
                mixed = (share * inputs + (1 - share) * inputs[order]).astype(np.float32)
                labels = (share * targets + (1 - share) * targets[order]).astype(np.float32)
            labels = labels * (1 - recipe.smoothing) + recipe.smoothing / 2
            yield mixed, labels.astype(np.float32), weights

    return changed


def header() -> str:
    """Return the names of the columns."""
    kinds = list(dict.fromkeys(world.kind for world in WORLDS.values()))
    names = ["clean", *(f"-{kind}" for kind in kinds), "worst"]
    return (
        f"{'validation':24}"
        + "".join(f"{name:>17}" for name in names)
        + f"{'sens':>7}{'spec':>7}{'minutes':>9}"
    )


def lines(name: str, folders: list[Path]) -> list[str]:
    """Return the line of a recipe and, for several seeds, that of their averaged logits."""
    rows = []
    tables = [read_table(folder / stress.VAL_SCORES) for folder in folders]
    for folder, table in zip(folders, tables, strict=True):
        training = Training.read(folder / "training.json")
        rows.append(measure(table) | {"minutes": training.seconds / 60})
    shown = [line_of(name, pd.DataFrame(rows))]
    if len(tables) > 1:
        averaged = tables[0].copy()
        for world in (CLEAN, *WORLDS):
            logits = [logit(raw_scores(table, world)) for table in tables]
            averaged[world] = expit(np.mean(logits, axis=0))
        row = measure(averaged) | {"minutes": float("nan")}
        shown.append(line_of(f"  mean of {len(tables)}", pd.DataFrame([row])))
    return shown


def score_stretches(folder: Path, work: Path, cache: Path) -> pd.DataFrame:
    """Return the validation scores in all worlds, averaged over three stretches of each image."""
    path = folder / "scores_val_stretches.csv"
    if not path.is_file():
        import keras

        model = keras.models.load_model(folder / "model.keras", compile=False)
        rows, pixels = validation_images(work, cache)
        keys = list(rows["pixel_sha256"])
        averaged = {}
        for world in (CLEAN, *WORLDS):
            logits = [
                stretched_logits(model, pixels, keys, world, factor) for factor in (1, 0.89, 1.12)
            ]
            averaged[world] = expit(np.mean(logits, axis=0))
        stress.write_world_scores(rows, averaged, path)
    return read_table(path)


def score_epochs(folder: Path, work: Path, cache: Path, what: str) -> pd.DataFrame:
    """Return the validation scores in all worlds of the averaged logits or weights of epochs."""
    path = folder / f"scores_val_epochs_{what}.csv"
    if not path.is_file():
        import keras

        rows, pixels = validation_images(work, cache)
        keys = list(rows["pixel_sha256"])
        whole = keras.models.load_model(folder / "model.keras", compile=False)
        models = [
            keras.models.load_model(checkpoint, compile=False)
            for checkpoint in sorted(folder.glob("epoch-*.keras"))[-checkpoints.EPOCHS_AVERAGED :]
        ]
        if what == "weights":
            weights = zip(*(model.get_weights() for model in models), strict=True)
            models[0].set_weights([np.mean(arrays, axis=0) for arrays in weights])
            models = models[:1]
        scored = []
        for model in models:
            model_surgery.copy_weights(whole, model)
            scored.append(stress.score_worlds(whole, pixels, keys))
        averaged = {
            world: expit(np.mean([clipped_logits(scores[world]) for scores in scored], axis=0))
            for world in (CLEAN, *WORLDS)
        }
        stress.write_world_scores(rows, averaged, path)
    return read_table(path)


def validation_images(work: Path, cache: Path) -> tuple[pd.DataFrame, Array]:
    """Return the rows and pixels of the validation images that are scored in the worlds."""
    table = runs.read_manifest(work)
    positions = stress.choose_images(table, np.flatnonzero(table["split"] == "val"))
    return table.iloc[positions], pixel_cache.load_pixels(cache, table)[positions]


def clipped_logits(scores: Array) -> Array:
    """Return the logits of scores, finite also where a score is 0 or 1."""
    logits: Array = logit(np.clip(scores, 1e-7, 1 - 1e-7))
    return logits


def stretched_logits(
    model: Any, pixels: Array, keys: list[str], world: str, factor: float
) -> Array:
    """Return the logits of images that are changed as in a world, then stretched."""
    window = Window(x=0.5, y=0.5, width=1 / np.sqrt(factor), height=np.sqrt(factor))

    def change(image: Array, key: str) -> Array:
        changed = image if world == CLEAN else WORLDS[world].change(image, key)
        return changed if factor == 1 else cut_window(changed, window)

    images = ChangedImages(pixels, keys, change)
    scores = scoring.score_images(model, images, np.arange(len(keys)))
    return clipped_logits(scores)


def raw_scores(table: pd.DataFrame, world: str) -> Array:
    """Return a column of scores, kept away from 0 and 1 so that logits are finite."""
    scores: Array = np.clip(table[world].to_numpy(float), 1e-7, 1 - 1e-7)
    return scores


def measure(table: pd.DataFrame) -> dict[str, float]:
    """Return the figures of one model from its scores in the worlds."""
    labels = table["label"].to_numpy(int)
    aurocs = {}
    for world in (CLEAN, *WORLDS):
        found = metrics.compute_metrics(labels, raw_scores(table, world), 0.5)
        aurocs[world] = float(found["auroc"] or 0)
    row = {"clean": aurocs[CLEAN]}
    for kind in dict.fromkeys(world.kind for world in WORLDS.values()):
        names = [world.name for world in WORLDS.values() if world.kind == kind]
        row[f"-{kind}"] = aurocs[CLEAN] - float(np.mean([aurocs[world] for world in names]))
    row["worst"] = min(aurocs[world] for world in WORLDS)
    in_worlds = np.stack([raw_scores(table, world) for world in (CLEAN, *WORLDS)], axis=1)
    kinds = [CLEAN, *(world.kind for world in WORLDS.values())]
    threshold = thresholds.choose_operating_point(labels, in_worlds, kinds=kinds).threshold
    stretched = [world.name for world in WORLDS.values() if world.kind == "stretch"]
    at_threshold = [
        metrics.compute_metrics(labels, raw_scores(table, world), threshold) for world in stretched
    ]
    for metric in ("sensitivity", "specificity"):
        row[metric] = min(float(found[metric] or 0) for found in at_threshold)
    return row


def line_of(name: str, rows: pd.DataFrame) -> str:
    """Return a line of the table."""
    cells = [
        f"{rows[column].mean():>9.4f} ({np.ptp(rows[column]):.4f})"
        for column in rows
        if column not in ("sensitivity", "specificity", "minutes")
    ]
    lowest = f"{rows['sensitivity'].mean():>7.3f}{rows['specificity'].mean():>7.3f}"
    minutes = f"{rows['minutes'].mean():>9.1f}" if "minutes" in rows else ""
    return f"{name:24}{''.join(cells)}{lowest}{minutes}"


if __name__ == "__main__":
    main()
