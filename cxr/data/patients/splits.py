"""Assign images to train, val and test: by patient, stratified by label.

A published test set is never changed.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cxr.core.errors import DataError
from cxr.core.settings import EXCLUDED, LABEL_NAMES, SPLITS, SplitSettings

Array = np.ndarray[Any, Any]


def assign_splits(
    rows: pd.DataFrame,
    settings: SplitSettings,
    given_test: str = "test as published",
) -> tuple[pd.DataFrame, str]:
    """Assign each image to train, val or test.

    Published train and val are pooled and a patient-disjoint, stratified share becomes val, unless
    `keep_published_val`. Where DATA names no test images, a share by patient becomes test.

    Args:
        rows: image, label, source_split, patient_id and patient_group of each image.
        settings: What share is carved, and by which seed.
        given_test: Where test images come from if the source split names some, in words.

    Returns:
        The rows with a `split` column, and the policy in one sentence.

    Raises:
        DataError: A split would lack a class, or there are too few patients to carve one.
    """
    source = rows["source_split"]
    rows = rows.assign(split=source.where(source != "", "train"))
    unit = _describe_unit(rows)
    if (rows["split"] == "test").any():
        test_policy = given_test
    else:
        rows = _carve(
            rows,
            pool=("train",),
            target="test",
            fraction=settings.test_fraction,
            seed=settings.split_seed,
        )
        share = f"{settings.test_fraction:.0%} of the images, {unit}"
        test_policy = f"test carved from train ({share})"
    if settings.keep_published_val and (rows["split"] == "val").any():
        val_policy = "val as published"
    else:
        rows = _carve(
            rows,
            pool=("train", "val"),
            target="val",
            fraction=settings.val_fraction,
            seed=settings.split_seed,
        )
        share = f"{settings.val_fraction:.0%} of the images, {unit}"
        val_policy = f"val carved from train + val ({share})"
    require_both_classes(rows)
    return rows, f"{test_policy}; {val_policy}; seed {settings.split_seed}"


def class_weights(counts: Mapping[str, int]) -> dict[int, float]:
    """Return the weight of each label in the loss: images / (2 x images of the label).

    The same as scikit-learn's `compute_class_weight("balanced", ...)`.

    Args:
        counts: How many images of train have each label name.

    Raises:
        DataError: Train lacks a class.
    """
    total = sum(counts.values())
    weights = {}
    for label, name in enumerate(LABEL_NAMES):
        if not counts.get(name):
            raise DataError(
                f"expected both classes in train, found no {name}: check the split and the folders"
            )
        weights[label] = total / (len(LABEL_NAMES) * counts[name])
    return weights


def _describe_unit(rows: pd.DataFrame) -> str:
    """Return what is kept together, in words: patients, as far as they are known."""
    unknown_count = int((rows["patient_id"] == "").sum())
    if unknown_count == 0:
        return "by patient"
    if unknown_count == len(rows):
        return "by image: no patient is known"
    return (
        f"patients kept together where known: {unknown_count:,} of {len(rows):,} images "
        "have none and count alone"
    )


def patient_groups(
    rows: pd.DataFrame,
    reading: str = "patient_id",
) -> "pd.Series[str]":
    """Return the patient of each row; an image without one stands alone.

    Args:
        rows: image and the column `reading` of each image.
        reading: Column that holds the patients: patient_id or patient_group.
    """
    groups = rows[reading].copy()
    is_unknown = groups == ""
    # Of hundreds of thousands of images few texts are made: most have a patient.
    groups[is_unknown] = "image:" + rows.loc[is_unknown, "image"]
    return groups


def subset_by_patient(
    rows: pd.DataFrame,
    fraction: float,
    seed: int,
) -> pd.DataFrame:
    """Return about `fraction` (0 to 1) of the rows: whole patients, both labels in proportion."""
    if fraction >= 1:
        return rows
    carved = _carve(
        rows.assign(split="rest"),
        pool=("rest",),
        target="subset",
        fraction=fraction,
        seed=seed,
        remainder="rest",
    )
    is_chosen = carved["split"] == "subset"
    return rows[is_chosen.to_numpy()]


def sample_patients(
    table: pd.DataFrame,
    positions: Array,
    most: int,
    seed: int,
) -> Array:
    """Draw whole patients at random until no more of them fit.

    Args:
        table: The manifest.
        positions: Array of the rows to choose from, int (n,).
        most: The largest number of rows to return.
        seed: Equal seeds give equal rows.

    Returns:
        The chosen positions, in their order; all of them where they are few enough.
    """
    if len(positions) <= most:
        return positions
    patients = pd.factorize(patient_groups(table.iloc[positions]))[0]
    sizes = np.bincount(patients)
    candidates = np.flatnonzero(sizes <= most)
    order = np.random.default_rng(seed).permutation(candidates)
    fits = np.cumsum(sizes[order]) <= most
    return positions[np.isin(patients, order[fits])]


def _carve(
    rows: pd.DataFrame,
    pool: tuple[str, ...],
    target: str,
    fraction: float,
    seed: int,
    remainder: str = "train",
) -> pd.DataFrame:
    """Move about `fraction` of the images of some splits to another one, by whole patients.

    Args:
        rows: As in `assign_splits`, with a `split` column.
        pool: The splits that the images are taken from.
        target: The split that they are moved to.
        fraction: Share of the patients that is moved, 0 to 1.
        seed: Of the random choice.
        remainder: The split that the rest of the pool becomes.

    Raises:
        DataError: A class of the pool has fewer than two patients.
    """
    from sklearn.model_selection import train_test_split

    is_pooled = rows["split"].isin(pool)
    # By the strictest reading no other reading finds a patient on both sides.
    patients = patient_groups(rows, "patient_group")
    # A patient with any PNEUMONIA image counts there.
    labels = rows[is_pooled].groupby(patients[is_pooled])["label"].max()
    _require_two_patients_a_class(rows[is_pooled], labels, target)
    _, moved_patients = train_test_split(
        labels.index.to_numpy(),
        test_size=max(2, round(fraction * len(labels))),
        stratify=labels,
        random_state=seed,
    )
    is_moved = patients.isin(moved_patients) & is_pooled
    split = rows["split"].mask(is_pooled, remainder).mask(is_moved, target)
    return rows.assign(split=split)


def _require_two_patients_a_class(
    pooled: pd.DataFrame,
    labels: "pd.Series[int]",
    target: str,
) -> None:
    """Raise DataError where a class has fewer than two patients, which cannot be divided."""
    patients_by_label = labels.value_counts().reindex([0, 1], fill_value=0)
    fewest = int(patients_by_label.min())
    if fewest >= 2:
        return
    unit = "images"
    remedy = "add images of other patients"
    if (pooled["patient_id"] != "").any():
        unit = "patients"
        remedy += ", or correct --patient-key where it joins too many"
    raise DataError(
        f"cannot carve {target}: expected both classes with at least 2 {unit} each, "
        f"found {len(labels)} {unit}, {fewest} in the smaller class: {remedy}"
    )


def require_both_classes(rows: pd.DataFrame) -> None:
    """Raise DataError where train, val or test lacks a class.

    Args:
        rows: split, label and source_split of each image.
    """
    counts = rows.groupby(["split", "label"]).size()
    for split in SPLITS:
        absent = [
            name for label, name in enumerate(LABEL_NAMES) if (split, label) not in counts.index
        ]
        if absent:
            raise DataError(
                f"{split} has no {' and no '.join(absent)} image{_describe_excluded(rows)}: "
                f"expected both classes in every split; {_remedy_for_absent_class(rows, split)}"
            )


def _describe_excluded(rows: pd.DataFrame) -> str:
    """Return how many images were excluded for their patient: that may have emptied a class."""
    excluded_count = int((rows["split"] == EXCLUDED).sum())
    if not excluded_count:
        return ""
    return f" after {excluded_count:,} images of patients who are in another split were set aside"


def _remedy_for_absent_class(
    rows: pd.DataFrame,
    split: str,
) -> str:
    """Return what to do about a split that lacks a class."""
    remedy = "add images of the other class"
    is_published = (rows["source_split"] == split).any()
    if split != "train" and is_published:
        remedy += (
            f", or leave the {split} folder out with --exclude: another is then carved from train"
        )
    return remedy
