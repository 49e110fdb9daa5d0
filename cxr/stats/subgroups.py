"""Performance of the chosen model in parts of the test set: by cause, image size and series.

A subgroup changes no choice. It shows where a metric of the whole test set may not hold.
"""

import re
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from cxr.core.settings import Strict
from cxr.stats.intervals import Interval, bootstrap_intervals, number_patients

TOO_FEW = 20  # images; a metric of fewer says little
# How file names of the published data set begin, by the series that the image was taken in.
_SERIES = re.compile(r"(NORMAL2-IM|IM|person)", re.IGNORECASE)
_SIZE_NAMES = {2: ("small", "large"), 3: ("small", "medium", "large")}


class Subgroup(Strict):
    """One metric of one part of the test set.

    Attributes:
        by: What the test set is divided by: cause, image size or series.
        group: The part.
        figure: The metric: sensitivity or specificity.
        right: Images of the part that were predicted right.
        n: Images of the part.
        patients: Patients that they show.
        value: right / n.
        interval: The 95 % interval; None where not estimable.
        few: Whether n is below TOO_FEW.
    """

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
    """Return sensitivity and specificity of each part of the test set that has such images.

    Image sizes are divided at the terciles of width x height; where these coincide, into fewer
    parts.

    Args:
        scores: One row per image, with image, patient_id, etiology, width, height, label and
            score.
        threshold: The lowest score that counts as positive.

    Returns:
        In a fixed order; images without a group (no cause, no known series) are in none.
    """
    groupings = {
        "cause": scores["etiology"],
        "image size": _size_groups(scores),
        "series": scores["image"].map(_series),
    }
    subgroups = []
    for by, groups in groupings.items():
        for group in sorted(name for name in groups.unique() if name):
            members = scores[groups == group]
            for label in (1, 0):
                rows = members[members["label"] == label]
                if not rows.empty:
                    subgroups.append(_measure(by, group, rows, label, threshold))
    return tuple(subgroups)


def _measure(
    by: str,
    group: str,
    rows: pd.DataFrame,
    label: int,
    threshold: float,
) -> Subgroup:
    """Return the sensitivity (label 1) or specificity (label 0) of images that share one label."""
    metric = "sensitivity" if label else "specificity"
    scores = rows["score"].to_numpy()
    patients = rows["patient_id"].to_numpy()
    called_positive = scores >= threshold
    right = int((called_positive == bool(label)).sum())
    intervals = bootstrap_intervals(rows["label"].to_numpy(), scores, patients, threshold)
    return Subgroup(
        by=by,
        group=group,
        figure=metric,
        right=right,
        n=len(rows),
        patients=len(np.unique(number_patients(patients))),
        value=right / len(rows),
        interval=intervals[metric],
        few=len(rows) < TOO_FEW,
    )


def _size_groups(scores: pd.DataFrame) -> "pd.Series[str]":
    """Return the size group of each image; the names sort from small to large."""
    area = scores["width"] * scores["height"]
    if area.nunique() == 1:
        size = f"all {scores['width'].iloc[0]}x{scores['height'].iloc[0]}"
        return pd.Series(size, index=scores.index)
    terciles = np.unique(np.quantile(area, [1 / 3, 2 / 3]))
    edges = [edge for edge in terciles if edge < area.max()]
    if not edges:
        # Two thirds of the images have the largest size: divide that from all others.
        edges = [np.unique(area)[-2]]
    bounds = [f"up to {edges[0] / 1e6:.2f} MP"]
    bounds += [f"over {edge / 1e6:.2f} MP" for edge in edges]
    names = []
    for number, bound in enumerate(bounds):
        size = _SIZE_NAMES[len(bounds)][number]
        names.append(f"{number + 1}: {size} ({bound})")
    places = np.searchsorted(edges, area, side="left")
    return pd.Series([names[place] for place in places], index=scores.index)


def _series(image: str) -> str:
    """Return how the file name begins if that is a known series, or an empty text."""
    match = _SERIES.match(PurePosixPath(image).name)
    return match[0] if match else ""
