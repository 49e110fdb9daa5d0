"""Scores where pneumonia is more or less common: the prior correction, and the test of what it assumes.

A probability that holds at one prevalence holds at another after its logit is moved by the
difference of the prevalences' logits (Elkan 2001; Saerens, Latinne & Decaestecker 2002). That
assumes that within each class the images, and so the scores, are the same in both places. Where the
films look different, it is wrong, and no correction of the prevalence helps.
"""

import math

import numpy as np

from cxr.core.settings import Strict
from cxr.stats.calibration.maps import logits, sigmoid
from cxr.stats.comparison import holm
from cxr.stats.intervals import number_patients
from cxr.stats.metrics import Vector

LEVEL = 0.05
DRAWS = 1_999


class ClassComparison(Strict):
    """Whether the scores of one class are the same in two places.

    Attributes:
        label: 0 NORMAL, 1 PNEUMONIA.
        distance: Kolmogorov's and Smirnov's: the largest difference of the distributions, 0 to 1.
        images: How many images of the class the two places have.
        patients: How many patients.
        p: That chance alone makes as large a distance, by permutations of patients.
        p_holm: `p`, corrected for two classes (Holm).
    """

    label: int
    distance: float
    images: tuple[int, int]
    patients: tuple[int, int]
    p: float
    p_holm: float


def logit_shift(old: float, new: float) -> float:
    """Return what a change of the prevalence adds to the logit of every probability.

    Args:
        old: The prevalence at which scores are probabilities, between 0 and 1.
        new: The prevalence where they shall be.

    >>> round(logit_shift(0.5, 0.1), 3)
    -2.197
    """
    return math.log(new / (1 - new)) - math.log(old / (1 - old))


def adjust(scores: Vector, shift: float) -> Vector:
    """Return scores whose logits are moved, float64 (n,); the order stays.

    Args:
        scores: 0 to 1, (n,).
        shift: As `logit_shift` returns it; 0 changes nothing.
    """
    if shift == 0:
        return np.asarray(scores, np.float64)
    return sigmoid(logits(scores) + shift)


def compare_classes(
    labels: tuple[Vector, Vector],
    scores: tuple[Vector, Vector],
    patients: tuple[Vector, Vector],
) -> tuple[ClassComparison, ...]:
    """Compare the scores of each class in two places.

    Whole patients are exchanged between the places: images of one patient are alike. The p-values
    are those of Phipson & Smyth (2010), never 0.

    Args:
        labels: 0 or 1, (n,) and (m,).
        scores: 0 to 1, likewise.
        patients: The patient of each image, text, likewise; one with "" is a patient of its own.

    Returns:
        For each label that both places have.
    """
    found = []
    for label in (0, 1):
        members = [np.asarray(place) == label for place in labels]
        if all(mask.any() for mask in members):
            own = [np.asarray(place)[mask] for place, mask in zip(scores, members, strict=True)]
            whose = [
                number_patients(np.asarray(place)[mask])
                for place, mask in zip(patients, members, strict=True)
            ]
            found.append(_compare(label, own, whose))
    corrected = holm([comparison.p for comparison in found])
    return tuple(
        comparison.model_copy(update={"p_holm": p})
        for comparison, p in zip(found, corrected, strict=True)
    )


def _compare(
    label: int,
    scores: list[Vector],
    patients: list[Vector],
) -> ClassComparison:
    """Return the comparison of one class; p is not yet corrected."""
    here = np.unique(patients[0], return_inverse=True)[1]
    there = np.unique(patients[1], return_inverse=True)[1]
    count_here = int(here.max()) + 1
    count_there = int(there.max()) + 1
    units = np.concatenate([here, there + count_here])
    in_order = np.argsort(np.concatenate(scores), kind="stable")
    values = np.concatenate(scores)[in_order]
    units = units[in_order]
    ends = np.flatnonzero(np.append(np.diff(values) > 0, True))  # tied scores are one step
    is_here = np.zeros(count_here + count_there, bool)
    is_here[:count_here] = True
    observed = _distance(is_here[units], ends)
    rng = np.random.default_rng(0)
    as_far = 0
    for _ in range(DRAWS):
        as_far += _distance(rng.permutation(is_here)[units], ends) >= observed - 1e-12
    p = (1 + int(as_far)) / (1 + DRAWS)
    return ClassComparison(
        label=label,
        distance=observed,
        images=(len(scores[0]), len(scores[1])),
        patients=(count_here, count_there),
        p=p,
        p_holm=p,
    )


def _distance(is_here: Vector, ends: Vector) -> float:
    """Return the largest difference of two distributions of sorted values.

    Args:
        is_here: Which of the values are of the first place, bool (n,).
        ends: The last position of each distinct value.
    """
    here = np.cumsum(is_here)[ends]
    there = ends + 1 - here
    return float(np.abs(here / max(here[-1], 1) - there / max(there[-1], 1)).max())
