"""The out-of-fold scores of all images of train and validation, computed in a worker process."""

from typing import Any

import numpy as np

from cxr.core.files import write_table
from cxr.data.patients import splits
from cxr.models.compute import backend
from cxr.models.compute.worker import Emit
from cxr.models.features import features
from cxr.models.training.feature_extraction import (
    feature_source,
    progress_counter,
    starting_model,
)
from cxr.models.training.session import Session, TrainingInputs
from cxr.results.label_review.scores import disputed, out_of_fold_scores

SCORES = "out_of_fold.csv"
Array = np.ndarray[Any, Any]


class LabelScoresJob(TrainingInputs):
    """Score every image of train and validation by a head that has not seen its patient's label.

    The features are those that a training fits its head on: of the network as it was pretrained, so
    that no label is in them. They are in the cache where the run was trained in this work folder.
    """

    def work(self, emit: Emit) -> None:
        """Write out_of_fold.csv: image, label, score and disputed, in the order of the manifest."""
        session = Session(self, emit)
        with backend.device_scope():
            pooled = pooled_features(session)
        positions = np.flatnonzero(session.table["split"].isin(["train", "val"]))
        rows = session.table.iloc[positions]
        labels = session.labels(positions)
        scores = out_of_fold_scores(
            np.stack([pooled[int(position)] for position in positions]),
            labels,
            splits.patient_groups(rows, "patient_group").to_numpy(),
            self.settings.seed,
        )
        table = rows[["image", "label"]].assign(
            score=scores,
            disputed=np.where(disputed(labels, scores), "yes", ""),
        )
        write_table(table, self.folder / SCORES)


def pooled_features(session: Session) -> dict[int, Array]:
    """Return the pooled features of train and validation images, by their position.

    Train images have the augmentation of the first pass of a training, validation images none:
    these are the rows that the cache of a run holds.

    Args:
        session: The job with its rows of the manifest.

    Returns:
        Pooled features float32 (width,) by position in the manifest.
    """
    source = feature_source(starting_model(session), session)
    on_images = progress_counter(session.emit)
    copies = session.settings.augmented_copies
    train = np.flatnonzero(session.table["split"] == "train")
    first_pass = [
        str(features.augmentation_index(session.keys[position], 0, copies)) for position in train
    ]
    policy = backend.precision_policy(session.architecture)
    parts = (
        (train, first_pass, policy, "float16"),
        (session.val, [features.UNCHANGED] * len(session.val), "float32", "float32"),
    )
    found: dict[int, Array] = {}
    for positions, versions, precision, dtype in parts:
        cut = features.cut_features(source, positions, versions, precision, dtype, on_images)
        keys = features.feature_keys(source, positions, versions)
        pooled = features.pooled_features(source, cut, keys, on_images)
        found |= dict(zip(positions.tolist(), pooled[:], strict=True))
    return found
