"""Who is in train, val and test: carved by patient, stratified by label, the published test untouched."""

from collections.abc import Mapping

import pandas as pd

from cxr.core.errors import DataError
from cxr.core.settings import EXCLUDED, LABEL_NAMES, SPLITS, SplitSettings


def assign_splits(rows: pd.DataFrame, settings: SplitSettings) -> tuple[pd.DataFrame, str]:
    """Return the rows with a `split` column, and the policy in one sentence.

    Published train and val are pooled and a patient-disjoint, stratified share becomes val, unless
    `keep_published_val`. Where DATA names no test images, a share by patient becomes test.
    Raises DataError where a split would lack a class.
    """
    rows = rows.assign(split=rows["source_split"].where(rows["source_split"] != "", "train"))
    unit = _unit(rows)
    policy = []
    if not (rows["split"] == "test").any():
        rows = _carve(rows, ("train",), "test", settings.test_fraction, settings.split_seed)
        policy.append(
            f"test carved from train ({settings.test_fraction:.0%} of the images, {unit})"
        )
    else:
        policy.append("test as published")
    if settings.keep_published_val and (rows["split"] == "val").any():
        policy.append("val as published")
    else:
        rows = _carve(rows, ("train", "val"), "val", settings.val_fraction, settings.split_seed)
        policy.append(
            f"val carved from train + val ({settings.val_fraction:.0%} of the images, {unit})"
        )
    require_both_classes(rows)
    return rows, "; ".join(policy) + f"; seed {settings.split_seed}"


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


def _unit(rows: pd.DataFrame) -> str:
    """Return what is kept together, in words: patients, as far as they are known."""
    unknown = int((rows["patient_id"] == "").sum())
    if unknown == 0:
        return "by patient"
    if unknown == len(rows):
        return "by image: no patient is known"
    return f"patients kept together where known: {unknown:,} of {len(rows):,} images have none and count alone"


def patient_groups(rows: pd.DataFrame, reading: str = "patient_id") -> "pd.Series[str]":
    """Return the patient of each row by that column; an image without a patient key stands alone."""
    return rows[reading].where(rows[reading] != "", "image:" + rows["image"])


def subset_by_patient(rows: pd.DataFrame, fraction: float, seed: int) -> pd.DataFrame:
    """Return about `fraction` of the rows: whole patients, both labels in proportion."""
    if fraction >= 1:
        return rows
    chosen = _carve(rows.assign(split="out"), ("out",), "in", fraction, seed)
    return rows[(chosen["split"] == "in").to_numpy()]


def _carve(
    rows: pd.DataFrame, pool: tuple[str, ...], into: str, fraction: float, seed: int
) -> pd.DataFrame:
    """Return the rows with about `fraction` of the pool's images, by whole patients, moved to split `into`."""
    from sklearn.model_selection import train_test_split

    pooled = rows["split"].isin(pool)
    patients = patient_groups(
        rows, "patient_group"
    )  # the strictest reading: no reading finds a patient on both sides
    labels = (
        rows[pooled].groupby(patients[pooled])["label"].max()
    )  # a patient with any PNEUMONIA image counts there
    fewest = int(labels.value_counts().reindex([0, 1], fill_value=0).min())
    if fewest < 2:
        known = (rows.loc[pooled, "patient_id"] != "").any()
        unit = "patients" if known else "images"
        remedy = ", or correct --patient-key where it joins too many" if known else ""
        raise DataError(
            f"cannot carve {into}: expected both classes with at least 2 {unit} each, found {len(labels)} {unit}, "
            f"{fewest} in the smaller class: add images of other patients{remedy}"
        )
    count = max(2, round(fraction * len(labels)))
    _, moved = train_test_split(
        labels.index.to_numpy(), test_size=count, stratify=labels, random_state=seed
    )
    split = rows["split"].mask(pooled, "out" if into == "in" else "train")
    return rows.assign(split=split.mask(patients.isin(moved) & pooled, into))


def require_both_classes(rows: pd.DataFrame) -> None:
    """Raise DataError where train, val or test lacks a class."""
    counts = rows.groupby(["split", "label"]).size()
    aside = int((rows["split"] == EXCLUDED).sum())
    for split in SPLITS:
        absent = [LABEL_NAMES[label] for label in (0, 1) if (split, label) not in counts.index]
        if not absent:
            continue
        cause = (
            f" after {aside:,} images of patients who are in another split were set aside"
            if aside
            else ""
        )
        remedy = "add images of the other class"
        if split != "train" and (rows["source_split"] == split).any():
            remedy += f", or leave the {split} folder out with --exclude: another is then carved from train"
        raise DataError(
            f"{split} has no {' and no '.join(absent)} image{cause}: expected both classes in every split; {remedy}"
        )
