"""The numbers behind the figures: images, patients, causes, sizes, storage, intensity."""

from typing import Any

import pandas as pd

from cxr.core.files import as_json
from cxr.core.plotting import CAUSE_COLOURS
from cxr.core.settings import LABEL_NAMES, SPLITS


def summarise(table: pd.DataFrame) -> dict[str, Any]:
    """Summarise a manifest.

    Args:
        table: The rows of the manifest in train, val and test.

    Returns:
        Ready for JSON: images and patients by split and class (patients without an id are not
        counted), etiology of PNEUMONIA by split, width and height (pixels) and bytes as min, median
        and max by split, modes and formats by class, and mean and std of the gray values (0 to 255)
        as n, mean and quartiles by split and class.
    """
    return {
        "images": _as_dict(images_by_split_and_class(table)),
        "patients": _as_dict(patients_by_split_and_class(table)),
        "etiology": _as_dict(causes_by_split(table)),
        "sizes": _sizes(table),
        "modes": _as_dict(storage_by_class(table, "mode")),
        "formats": _as_dict(storage_by_class(table, "format")),
        "intensity": _intensity(table),
    }


def _as_dict(counts: pd.DataFrame) -> dict[str, Any]:
    """Return a table of counts as a dict of rows, for JSON."""
    return {str(row): as_json(values.to_dict()) for row, values in counts.iterrows()}


def _sizes(table: pd.DataFrame) -> dict[str, Any]:
    """Return the extent of width, height and bytes by split."""
    sizes = {}
    for split in SPLITS:
        rows = table[table["split"] == split]
        sizes[split] = {
            "width": _extent(rows["width"]),
            "height": _extent(rows["height"]),
            "bytes": _extent(rows["bytes"]),
        }
    return sizes


def _extent(values: pd.Series) -> dict[str, Any]:
    """Return the smallest, middle and largest value, None for no values."""
    if values.empty:
        return {"min": None, "median": None, "max": None}
    return {
        "min": int(values.min()),
        "median": float(values.median()),
        "max": int(values.max()),
    }


def _intensity(table: pd.DataFrame) -> dict[str, Any]:
    """Return the distribution of mean and std of the gray values by split and class."""
    intensity: dict[str, Any] = {}
    for split in SPLITS:
        intensity[split] = {}
        for label in LABEL_NAMES:
            is_member = (table["split"] == split) & (table["label_name"] == label)
            rows = table[is_member]
            intensity[split][label] = {
                "mean": _quartiles(rows["mean"]),
                "std": _quartiles(rows["std"]),
            }
    return intensity


def _quartiles(values: pd.Series) -> dict[str, Any]:
    """Return n, mean and quartiles, None for no values."""
    if values.empty:
        return {
            "n": 0,
            "mean": None,
            "q1": None,
            "median": None,
            "q3": None,
        }
    return {
        "n": len(values),
        "mean": round(float(values.mean()), 3),
        "q1": round(float(values.quantile(0.25)), 3),
        "median": round(float(values.median()), 3),
        "q3": round(float(values.quantile(0.75)), 3),
    }


def images_by_split_and_class(table: pd.DataFrame) -> pd.DataFrame:
    """Count the images by split (rows) and label name (columns), zeros included."""
    counts = pd.crosstab(table["split"], table["label_name"])
    return counts.reindex(
        index=list(SPLITS),
        columns=list(LABEL_NAMES),
        fill_value=0,
    )


def patients_by_split_and_class(table: pd.DataFrame) -> pd.DataFrame:
    """Count the known patients by split (rows) and label name (columns)."""
    known = table[table["patient_id"] != ""]
    patients = known.drop_duplicates(["split", "label_name", "patient_id"])
    return images_by_split_and_class(patients)


def causes_by_split(table: pd.DataFrame) -> pd.DataFrame:
    """Count the stated causes of PNEUMONIA (columns) by split (rows)."""
    positives = table[table["label_name"] == "PNEUMONIA"]
    causes = positives["etiology"].replace("", "not stated")
    counts = pd.crosstab(positives["split"], causes)
    return counts.reindex(
        index=list(SPLITS),
        columns=list(CAUSE_COLOURS),
        fill_value=0,
    )


def storage_by_class(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Count the images by how they are stored (rows, most common first) and label name (columns).

    Args:
        table: The manifest.
        columns: What tells how an image is stored: mode, format, or both.
    """
    kinds = table[list(columns)].agg(" ".join, axis=1)
    counts = pd.crosstab(kinds, table["label_name"])
    counts = counts.reindex(
        columns=list(LABEL_NAMES),
        fill_value=0,
    )
    totals = counts.sum(axis=1).sort_values(
        ascending=False,
        kind="stable",
    )
    return counts.loc[totals.index]
