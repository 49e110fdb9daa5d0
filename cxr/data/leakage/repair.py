"""Repair data leakage: remove near-duplicates, exclude images of patients who are in another split.

Test is never made smaller: of a picture that test and train share, train loses its copy.
"""

from typing import Any

import numpy as np
import pandas as pd

from cxr.core.settings import EXCLUDED
from cxr.data.leakage.exact_duplicates import SPLIT_PRIORITY, join_names
from cxr.data.manifest.columns import REJECT_COLUMNS

_ALONE = -1  # the group of an image that has no near-duplicate


def remove_near_duplicates(
    rows: pd.DataFrame, pairs: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Keep of each group of near-duplicates all images in test, or else one image.

    Without an image in test the one in val is kept before the one in train, then the one with the
    smallest name. Near-duplicates under both labels are all removed, except out of test: which
    label is right cannot be known.

    Args:
        rows: One row for each image: image, source_split and label are read.
        pairs: The near-duplicates among them: image_a, image_b, variant, correlation.

    Returns:
        The rows kept, in their order, and the rejects: image, reason, detail.
    """
    if pairs.empty:
        return rows, pd.DataFrame(columns=REJECT_COLUMNS)
    priority = rows["source_split"].map(SPLIT_PRIORITY)
    ordered = rows.assign(
        _group=_group_images(rows, pairs),
        _priority=priority,
    )
    ordered = ordered[ordered["_group"] != _ALONE].sort_values(["_priority", "image"])
    groups = ordered.groupby("_group")
    removable = ordered["source_split"] != "test"
    in_conflict = removable & (groups["label"].transform("nunique") > 1)
    is_copy = removable & (groups.cumcount() > 0) & ~in_conflict

    copies = ordered[is_copy]
    kept_images = groups["image"].transform("first")[is_copy]
    likeness = _describe_pairs(pairs)
    duplicates = pd.DataFrame(
        {
            "image": copies["image"],
            "reason": "near_duplicate",
        }
    )
    duplicates["detail"] = [
        likeness.get((image, kept), f"in one group of near-duplicates with {kept}")
        for image, kept in zip(copies["image"], kept_images, strict=True)
    ]
    names = groups["image"].transform(join_names)[in_conflict]
    conflicts = pd.DataFrame(
        {
            "image": ordered["image"][in_conflict],
            "reason": "label_conflict",
        }
    )
    conflicts["detail"] = "near-duplicates under both labels: " + names

    rejects = pd.concat([duplicates, conflicts])[REJECT_COLUMNS]
    kept_rows = rows[~rows["image"].isin(rejects["image"])].reset_index(drop=True)
    return kept_rows, rejects


def _group_images(rows: pd.DataFrame, pairs: pd.DataFrame) -> "np.ndarray[Any, Any]":
    """Return the group of near-duplicates that each row belongs to, int (n,), _ALONE for none."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    positions = pd.Series(
        np.arange(len(rows)),
        index=rows["image"],
    )
    a = positions.loc[pairs["image_a"]].to_numpy()
    b = positions.loc[pairs["image_b"]].to_numpy()
    edges = coo_array(
        (np.ones(len(pairs)), (a, b)),
        shape=(len(rows), len(rows)),
    )
    _, groups = connected_components(edges, directed=False)
    sizes = np.bincount(groups)
    return np.where(
        sizes[groups] == 1,
        _ALONE,
        groups,
    )


def _describe_pairs(pairs: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Return how an image is like another, in words, by (image, other image)."""
    descriptions = {}
    columns = (pairs["image_a"], pairs["image_b"], pairs["variant"], pairs["correlation"])
    for a, b, variant, correlation in zip(*columns, strict=True):
        likeness = f"({variant}, correlation {correlation:.3f})"
        descriptions[a, b] = f"near-duplicate of {b} {likeness}"
        descriptions[b, a] = f"near-duplicate of {a} {likeness}"
    return descriptions


def exclude_shared_patients(rows: pd.DataFrame) -> pd.DataFrame:
    """Set the split to `excluded` where the patient is also in a split that matters more.

    Images of patients in test leave val and train; images of patients in val leave train. An image
    without a known patient is never excluded.

    Args:
        rows: The manifest: split and patient_id are read.

    Returns:
        The rows with their new split.
    """
    split = rows["split"]
    for kept, others in (("test", ["train", "val"]), ("val", ["train"])):
        has_patient = (split == kept) & (rows["patient_id"] != "")
        patients = rows.loc[has_patient, "patient_id"].unique()
        shared = split.isin(others) & rows["patient_id"].isin(patients)
        split = split.mask(shared, EXCLUDED)
    return rows.assign(split=split)
