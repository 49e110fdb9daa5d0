"""Sensitivity and specificity in each part of the test set."""

import numpy as np
import pandas as pd

from cxr.core.settings import Strict
from cxr.stats.intervals import Interval, bootstrap_intervals, number_patients
from cxr.stats.subgroups.divisions import divide

TOO_FEW = 20  # images; a metric of fewer says little


class Subgroup(Strict):
    """One metric of one part of the test set.

    Attributes:
        by: What the test set is divided by: a key of `divisions.divide`.
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

    Args:
        scores: One row per image, with patient_id, label, score and what `divisions.divide` reads.
        threshold: The lowest score that counts as positive.

    Returns:
        In a fixed order; images without a group (no cause, no known series) are in none.
    """
    subgroups = []
    for by, division in divide(scores).items():
        for group in division.names:
            members = scores[division.groups == group]
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
