"""What a training works on: the fields of its job, and its rows of the manifest."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr.core.files import read_table
from cxr.core.settings import TrainingSettings
from cxr.data.images import pixel_cache
from cxr.data.patients import splits
from cxr.models import stress
from cxr.models.compute.worker import Emit, Job

Array = np.ndarray[Any, Any]


class TrainingInputs(Job):
    """The fields that all jobs for a training share.

    Attributes:
        name: The name of the training, and of its folder.
        architecture: Which network.
        settings: How it is trained, with the seed of this training.
        folder: Where the training's files go.
        weights: "imagenet", a weight file, or None for random weights.
        weights_sha256: The SHA-256 of the weight file, or "".
        manifest: clean_metadata.csv.
        pixels: The folder of the pixel cache.
        class_weights: The weight in the loss of each label, "0" and "1".
        init: The model.keras to start from, "" for none.
        sharing: How many trainings share the machine.
    """

    name: str
    architecture: str
    settings: TrainingSettings
    folder: Path
    weights: str | None
    weights_sha256: str
    manifest: Path
    pixels: Path
    class_weights: dict[str, float]
    init: str = ""
    sharing: int = 1

    def fits_head(self) -> bool:
        """Return whether the head is fitted: not if all layers learn, or from a trained model."""
        if not self.settings.tuning_epochs():
            return True
        return self.settings.learns == "top" and not self.init


class Session:
    """A training in its worker process: the job with the rows that it works on.

    Attributes:
        job: What was asked for.
        emit: Tells the parent process how far the training has come.
        caches: The folder of all caches, those of features included.
        feature_time: The file that counts the images and seconds of computing features.
        class_weights: The weight in the loss of each label, float (2,).
        table: The manifest.
        pixels: The pixels of all its rows, uint8 (n, side, side).
        keys: The key of each row's pixels in the cache.
        train: The positions in the manifest of the rows to train on, int (n,).
        val: The positions of the rows to validate on, int (n,).
        stressed: The positions of those of them that are scored in the stress worlds after each
            epoch, int (k,).
    """

    def __init__(self, job: TrainingInputs, emit: Emit):
        self.job = job
        self.emit = emit
        self.name = job.name
        self.architecture = job.architecture
        self.settings = job.settings
        self.folder = job.folder
        self.caches = job.pixels.parent
        self.feature_time = job.folder / "features.json"
        self.class_weights = np.array(
            [
                job.class_weights["0"],
                job.class_weights["1"],
            ]
        )
        self.table = read_table(job.manifest)
        self.pixels = pixel_cache.load_pixels(job.pixels, self.table)
        self.keys = list(self.table["pixel_sha256"])
        self.train = train_positions(self.table, self.settings)
        self.val = np.flatnonzero(self.table["split"] == "val")
        self.stressed = stress.choose_images(self.table, self.val, stress.EPOCH_IMAGES)

    def labels(self, positions: Array) -> Array:
        """Return the labels of the rows at these positions, int (n,)."""
        labels: Array = self.table["label"].to_numpy()[positions]
        return labels


def train_positions(table: pd.DataFrame, settings: TrainingSettings) -> Array:
    """Return the positions in the manifest of the rows to train on, int (n,).

    With `train_fraction` below 1 they are those of a share of the train patients.
    """
    train = table[table["split"] == "train"]
    chosen = splits.subset_by_patient(
        train,
        settings.train_fraction,
        settings.seed,
    )
    return chosen.index.to_numpy()
