"""Sets of labels that hold the right one as often as was asked for, in each class.

This is class-conditional (Mondrian) split conformal prediction: Vovk, "Conditional validity of
inductive conformal predictors" (2012). The p-value of a label says how many validation images of
that class are at least as untypical of it as the new image. A label is in the set of an image if
its p-value exceeds 1 - coverage. On images that are exchangeable with those of validation, the
right label is in the set with at least that probability, in each class.

Patients are the units: each patient of a class counts once, in equal parts for each of the images,
because images of one patient are not exchangeable with those of another. This is hierarchical
conformal prediction: Lee, Barber and Willett, "Distribution-free inference with hierarchical data"
(2023). What is promised holds for an image of a new patient, each patient as likely as any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cxr.core.errors import DataError
from cxr.core.settings import LABEL_NAMES
from cxr.stats.intervals import number_patients
from cxr.stats.metrics import Vector, check_scores

AMBIGUOUS = "ambiguous"
UNLIKE_BOTH = "unlike both classes"
# Weights are sums of parts of patients: less than this is rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class LabelSets:
    """What validation says of each class, to find the labels that fit a new image.

    Attributes:
        coverage: How often the right label shall be in the set, 0 to 1.
        scores: Of each class the scores of its validation images, rising, float64.
        ranks: Of each class how many patients lie below each place among these scores, float64,
            one longer than the scores.
        patients: Of each class how many patients it has in validation.
    """

    coverage: float
    scores: tuple[Vector, Vector]
    ranks: tuple[Vector, Vector]
    patients: tuple[int, int]

    def p_values(self, scores: Vector) -> Vector:
        """Return how well each label fits each image: its p-values, float64 (n, 2), 0 to 1.

        The smallest possible one is 1 over the patients of the class plus one.

        Args:
            scores: Calibrated scores of new images, 0 to 1, (n,).
        """
        new = np.asarray(scores, np.float64)
        below = np.searchsorted(self.scores[0], new, side="left")
        at_least = self.patients[0] - self.ranks[0][below]
        at_most = self.ranks[1][np.searchsorted(self.scores[1], new, side="right")]
        normal = (1 + at_least) / (self.patients[0] + 1)
        pneumonia = (1 + at_most) / (self.patients[1] + 1)
        return np.stack([normal, pneumonia], axis=1)

    def contains(self, scores: Vector) -> Vector:
        """Return which labels are in the set of each image, bool (n, 2)."""
        is_in: Vector = self.p_values(scores) > 1 - self.coverage + _ROUNDING
        return is_in

    def reasons(self, scores: Vector, threshold: float) -> list[str]:
        """Return why each image gets no prediction, empty where it gets one.

        A prediction that is given is the label of the threshold and the only one in the set.

        Args:
            scores: Calibrated scores of new images, 0 to 1, (n,).
            threshold: The lowest score that is called PNEUMONIA.
        """
        p_values = self.p_values(scores)
        is_in = self.contains(scores)
        predictions = (np.asarray(scores) >= threshold).astype(int)
        return [
            self._describe(of_image, labels, int(predicted))
            for of_image, labels, predicted in zip(p_values, is_in, predictions, strict=True)
        ]

    def _describe(
        self,
        p_values: Vector,
        is_in: Vector,
        predicted: int,
    ) -> str:
        """Return why one image gets no prediction, or an empty text."""
        fits = ", ".join(
            f"{name} p = {p:.3f}" for name, p in zip(LABEL_NAMES, p_values, strict=True)
        )
        if is_in.all():
            return f"{AMBIGUOUS}: both labels fit at a coverage of {self.coverage:g} ({fits})"
        if not is_in.any():
            return f"{UNLIKE_BOTH}: no label fits at a coverage of {self.coverage:g} ({fits})"
        if is_in[predicted]:
            return ""
        return (
            f"{AMBIGUOUS}: the threshold says {LABEL_NAMES[predicted]}, which does not fit at a "
            f"coverage of {self.coverage:g} ({fits})"
        )


def fit_label_sets(
    labels: Vector,
    scores: Vector,
    patients: Sequence[str] | Vector,
    coverage: float,
) -> LabelSets:
    """Return the sets of labels that validation images give.

    Args:
        labels: 0 or 1, (n,).
        scores: Calibrated scores of validation images, which chose nothing else of the sets, 0 to 1,
            (n,).
        patients: The patient of each image, text or numbers (n,); an image with "" is a patient of
            its own.
        coverage: How often the right label shall be in the set, above 0 and below 1.

    Raises:
        DataError: A class has too few patients for this coverage: its label would be in every set.
    """
    labels, scores = check_scores(labels, scores)
    numbers = number_patients(patients)
    sorted_scores = []
    ranks = []
    counts = []
    for label, name in enumerate(LABEL_NAMES):
        is_member = labels == label
        own_scores = scores[is_member]
        _, places, images = np.unique(numbers[is_member], return_inverse=True, return_counts=True)
        _require_patients(name, len(images), coverage)
        order = np.argsort(own_scores, kind="stable")
        parts = 1 / images[places[order]]
        sorted_scores.append(own_scores[order])
        ranks.append(np.append(0.0, np.cumsum(parts)))
        counts.append(len(images))
    return LabelSets(
        coverage=coverage,
        scores=(sorted_scores[0], sorted_scores[1]),
        ranks=(ranks[0], ranks[1]),
        patients=(counts[0], counts[1]),
    )


def _require_patients(
    name: str,
    patients: int,
    coverage: float,
) -> None:
    """Raise DataError where even the least typical image would have the label in its set."""
    if 1 / (patients + 1) <= 1 - coverage + _ROUNDING:
        return
    raise DataError(
        f"--coverage {coverage:g}: expected enough validation patients of each class, found "
        f"{patients} with {name}, which allow at most {1 - 1 / (patients + 1):.3f}: give a lower one"
    )
