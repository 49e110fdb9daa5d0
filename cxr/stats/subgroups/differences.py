"""Whether a metric differs between the groups of one division of the test set."""

from typing import Any

import numpy as np
import pandas as pd

from cxr.core.formatting import describe_p_value, format_metric
from cxr.core.settings import Strict
from cxr.stats.comparison import holm
from cxr.stats.intervals import number_patients
from cxr.stats.metrics import Vector
from cxr.stats.subgroups.divisions import UNKNOWN, Division, divide
from cxr.stats.subgroups.measurement import TOO_FEW

SIGNIFICANCE_LEVEL = 0.05
DRAWS = 9_999
_ROUNDING = 1e-12  # statistics that differ by less are equal


class SubgroupTest(Strict):
    """The test of one metric between the groups of one division.

    Attributes:
        by: What the test set is divided by.
        figure: The metric: sensitivity or specificity.
        compared: The groups with TOO_FEW images or more.
        left_out: The groups with fewer.
        lowest: The group in which the metric is lowest, "" where nothing was compared.
        lowest_value: The metric there.
        highest: The group in which it is highest.
        highest_value: The metric there.
        p: Of the permutation test; None where fewer than two groups have enough images.
        p_holm: `p` corrected for all tests of the test set.
        significant: Whether p_holm is below SIGNIFICANCE_LEVEL.
    """

    by: str
    figure: str
    compared: tuple[str, ...]
    left_out: tuple[str, ...]
    lowest: str = ""
    lowest_value: float | None = None
    highest: str = ""
    highest_value: float | None = None
    p: float | None = None
    p_holm: float | None = None
    significant: bool = False

    def sentence(self) -> str:
        """Return what was found, in words."""
        return (
            f"{self.figure.capitalize()} differs by {self.by}: {format_metric(self.lowest_value)} in "
            f"{self.lowest}, {format_metric(self.highest_value)} in {self.highest} "
            f"({describe_p_value(self.p_holm)} after Holm)"
        )


def compare_subgroups(scores: pd.DataFrame, threshold: float) -> tuple[SubgroupTest, ...]:
    """Test for each division whether sensitivity, and specificity, is the same in its groups.

    Holm's method corrects for all of these tests. Images whose group is not known take no part,
    nor do groups of fewer than TOO_FEW images.

    Args:
        scores: As `measure_subgroups` takes them.
        threshold: The lowest score that counts as positive.

    Returns:
        In the order of the divisions, those with fewer than two groups of a class left out.
    """
    tests = []
    for by, division in divide(scores).items():
        for label in (1, 0):
            is_member = (scores["label"] == label) & ~division.groups.isin(["", UNKNOWN])
            rows = scores[is_member]
            right = (rows["score"].to_numpy() >= threshold) == bool(label)
            groups = division.groups[is_member]
            if groups.nunique() > 1:
                metric = "sensitivity" if label else "specificity"
                tests.append(_test(by, metric, division, rows["patient_id"], groups, right))
    corrected = holm([test.p for test in tests])
    return tuple(
        test.model_copy(
            update={
                "p_holm": p_holm,
                "significant": p_holm is not None and p_holm < SIGNIFICANCE_LEVEL,
            }
        )
        for test, p_holm in zip(tests, corrected, strict=True)
    )


def _test(
    by: str,
    metric: str,
    division: Division,
    patients: "pd.Series[str]",
    groups: "pd.Series[str]",
    right: Vector,
) -> SubgroupTest:
    """Return the test of the images of one label; p is not yet corrected."""
    counts = groups.value_counts()
    names = [name for name in division.names if name in counts]
    compared = tuple(name for name in names if counts[name] >= TOO_FEW)
    test = SubgroupTest(
        by=by,
        figure=metric,
        compared=compared,
        left_out=tuple(name for name in names if name not in compared),
    )
    if len(compared) < 2:
        return test
    is_compared = groups.isin(compared).to_numpy()
    values = {name: float(right[(groups == name).to_numpy()].mean()) for name in compared}
    lowest = min(compared, key=lambda name: values[name])
    highest = max(compared, key=lambda name: values[name])
    results: dict[str, Any] = {
        "lowest": lowest,
        "lowest_value": values[lowest],
        "highest": highest,
        "highest_value": values[highest],
        "p": permutation_p_value(
            pd.factorize(groups[is_compared])[0],
            number_patients(patients[is_compared].to_numpy()),
            right[is_compared],
        ),
    }
    return test.model_copy(update=results)


def permutation_p_value(
    groups: Vector,
    patients: Vector,
    right: Vector,
    draws: int = DRAWS,
    seed: int = 0,
) -> float:
    """Return the p-value of the hypothesis that a proportion is the same in all groups.

    Groups are exchanged between patients, never between single images of a patient. A patient with
    images in several groups counts once in each, which makes the test cautious: images of one
    patient are alike. The statistic is the sum over the groups of n (p - mean p)^2; with one image
    a patient it is Pearson's chi-square but for a constant factor.

    How often a patient is right in how many images is a kind of patient. Of each kind only its
    number in each group matters, so tables of kinds by groups with the same margins are drawn
    (Patefield 1981, by SciPy), which is the same as to permute and much faster.

    Args:
        groups: Number of the group of each image, int (n,).
        patients: Number of the patient of each image, int (n,).
        right: Whether the image was predicted right, bool (n,).
        draws: How many tables are drawn.
        seed: Of the draws.

    Returns:
        (1 + the draws that are as extreme) / (1 + draws), Phipson and Smyth (2010).
    """
    from scipy.stats import random_table

    images = pd.DataFrame({"patient": patients, "group": groups, "right": right})
    units = images.groupby(["patient", "group"])["right"].agg(["sum", "size"]).reset_index()
    kinds, kind_numbers = np.unique(units[["sum", "size"]], axis=0, return_inverse=True)
    if len(kinds) == 1:
        return 1.0  # all patients are alike; SciPy's tables of one row are wrong
    table = np.zeros((len(kinds), int(groups.max()) + 1), np.int64)
    np.add.at(table, (kind_numbers.ravel(), units["group"].to_numpy()), 1)
    drawn = random_table(
        table.sum(axis=1),
        table.sum(axis=0),
        seed=np.random.default_rng(seed),
    ).rvs(draws)
    observed = _spread(table[np.newaxis], kinds)[0]
    as_extreme = int((_spread(drawn, kinds) >= observed - _ROUNDING).sum())
    return (1 + as_extreme) / (1 + draws)


def _spread(tables: Vector, kinds: Vector) -> Vector:
    """Return the statistic of tables of kinds by groups.

    Args:
        tables: Patients by kind and group, int (draws, kinds, groups).
        kinds: Images that were right and all images of each kind, int (kinds, 2).

    Returns:
        float64 (draws,).
    """
    right = np.einsum("dkg,k->dg", tables, kinds[:, 0]).astype(float)
    images = np.einsum("dkg,k->dg", tables, kinds[:, 1]).astype(float)
    mean = kinds[:, 0] @ tables[0].sum(axis=1) / images[0].sum()
    spread: Vector = (images * (right / images - mean) ** 2).sum(axis=1)
    return spread
