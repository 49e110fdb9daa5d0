"""The numbers behind the pictures of the data."""

from typing import TYPE_CHECKING, Any

import pandas as pd

from cxr.core.files import as_json
from cxr.core.settings import LABEL_NAMES, SPLITS

if TYPE_CHECKING:
    pass
from cxr.core.plotting import CAUSE_COLOURS


def summarise(table: pd.DataFrame) -> dict[str, Any]:
    """Return the numbers behind the figures, ready for JSON.

    images and patients by split and class (patients without an id are not counted), etiology of PNEUMONIA by
    split, width and height (pixels) and bytes as min, median and max by split, modes and formats by class,
    and mean and std of the gray pixels (0..255) as n, mean and quartiles by split and class.
    """
    splits = {split: table[table["split"] == split] for split in SPLITS}
    return {
        "images": _nested(images_by_split_and_class(table)),
        "patients": _nested(patients_by_split_and_class(table)),
        "etiology": _nested(causes_by_split(table)),
        "sizes": {
            split: {name: _extent(rows[name]) for name in ("width", "height", "bytes")}
            for split, rows in splits.items()
        },
        "modes": _nested(storage_by_class(table, "mode")),
        "formats": _nested(storage_by_class(table, "format")),
        "intensity": {
            split: {
                label: {
                    name: _quartiles(rows.loc[rows["label_name"] == label, name])
                    for name in ("mean", "std")
                }
                for label in LABEL_NAMES
            }
            for split, rows in splits.items()
        },
    }


def _nested(counts: pd.DataFrame) -> dict[str, Any]:
    return {str(row): as_json(values.to_dict()) for row, values in counts.iterrows()}


def _extent(values: pd.Series) -> dict[str, Any]:
    if values.empty:
        return {"min": None, "median": None, "max": None}
    return {"min": int(values.min()), "median": float(values.median()), "max": int(values.max())}


def _quartiles(values: pd.Series) -> dict[str, Any]:
    if values.empty:
        return {"n": 0} | dict.fromkeys(("mean", "q1", "median", "q3"))
    numbers = {"mean": values.mean()} | dict(
        zip(("q1", "median", "q3"), values.quantile([0.25, 0.5, 0.75]), strict=True)
    )
    return {"n": len(values)} | {name: round(float(number), 3) for name, number in numbers.items()}


def images_by_split_and_class(table: pd.DataFrame) -> pd.DataFrame:
    """Return the number of images by split (rows) and label name (columns), zeros included."""
    counts = pd.crosstab(table["split"], table["label_name"])
    return counts.reindex(index=list(SPLITS), columns=list(LABEL_NAMES), fill_value=0)


def patients_by_split_and_class(table: pd.DataFrame) -> pd.DataFrame:
    """Count the known patients by split (rows) and class (columns)."""
    known = table[table["patient_id"] != ""]
    return images_by_split_and_class(known.drop_duplicates(["split", "label_name", "patient_id"]))


def causes_by_split(table: pd.DataFrame) -> pd.DataFrame:
    """Count the causes of pneumonia (columns) by split (rows)."""
    ill = table[table["label_name"] == "PNEUMONIA"]
    counts = pd.crosstab(ill["split"], ill["etiology"].replace("", "not stated"))
    return counts.reindex(index=list(SPLITS), columns=list(CAUSE_COLOURS), fill_value=0)


def storage_by_class(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Return the number of images by how they are stored (rows, commonest first) and label name (columns)."""
    kinds = table[list(columns)].agg(" ".join, axis=1)
    counts = pd.crosstab(kinds, table["label_name"]).reindex(
        columns=list(LABEL_NAMES), fill_value=0
    )
    return counts.loc[counts.sum(axis=1).sort_values(ascending=False, kind="stable").index]
