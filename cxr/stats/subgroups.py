"""How the chosen model does in parts of the test set: by cause, by image size, by the series that a name tells.

Left out: any choice. A subgroup changes nothing; it shows where a figure of the whole may not hold.
"""

import re
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from cxr.core.settings import Strict
from cxr.stats import intervals
from cxr.stats.intervals import Interval

TOO_FEW = 20
_SERIES = re.compile(r"(NORMAL2-IM|IM|person)", re.IGNORECASE)


class Subgroup(Strict):
    """One figure of one part of the test set: `right` of `n` images; `few` marks an n below TOO_FEW."""

    by: str
    group: str
    figure: str
    right: int
    n: int
    patients: int
    value: float
    interval: Interval | None
    few: bool


def measure_subgroups(scores: pd.DataFrame, threshold: float) -> tuple[Subgroup, ...]:
    """Return sensitivity and specificity of each part that has such images, in a fixed order.

    `scores` has image, patient_id, etiology, width, height, label and score. Sizes are parted at the terciles of
    width x height; where those coincide, only parts that differ are made.
    """
    parts = {
        "cause": scores["etiology"],
        "image size": _sizes(scores),
        "series": scores["image"].map(_series),
    }
    found = []
    for by, names in parts.items():
        for group in sorted(name for name in names.unique() if name):
            rows = scores[names == group]
            found += [
                _one(by, group, rows[rows["label"] == label], label, threshold) for label in (1, 0)
            ]
    return tuple(each for each in found if each is not None)


def _one(by: str, group: str, rows: pd.DataFrame, label: int, threshold: float) -> Subgroup | None:
    if rows.empty:
        return None
    figure = "sensitivity" if label else "specificity"
    called = rows["score"].to_numpy() >= threshold
    right = int((called == bool(label)).sum())
    patients = rows["patient_id"].to_numpy()
    interval = intervals.bootstrap_intervals(
        rows["label"].to_numpy(), rows["score"].to_numpy(), patients, threshold
    )[figure]
    return Subgroup(
        by=by,
        group=group,
        figure=figure,
        right=right,
        n=len(rows),
        value=right / len(rows),
        patients=int(intervals.number_patients(patients).max()) + 1,
        interval=interval,
        few=len(rows) < TOO_FEW,
    )


def _sizes(scores: pd.DataFrame) -> "pd.Series[str]":
    """Return the size group of each image; the names sort from small to large."""
    area = scores["width"] * scores["height"]
    edges = np.unique(np.quantile(area, [1 / 3, 2 / 3]))
    if area.nunique() == 1:
        return pd.Series(
            f"all {scores['width'].iloc[0]}x{scores['height'].iloc[0]}", index=scores.index
        )
    # Two thirds of one size leave no tercile below the largest: the largest is then parted from the rest.
    inner = [edge for edge in edges if edge < area.max()] or [np.unique(area)[-2]]
    names = ["small", "medium", "large"] if len(inner) == 2 else ["small", "large"]
    bounds = [f"up to {inner[0] / 1e6:.2f} MP", *[f"over {edge / 1e6:.2f} MP" for edge in inner]]
    order = np.searchsorted(inner, area, side="left")
    return pd.Series([f"{at + 1}: {names[at]} ({bounds[at]})" for at in order], index=scores.index)


def _series(image: str) -> str:
    found = _SERIES.match(PurePosixPath(image).name)
    return found[0] if found else ""
