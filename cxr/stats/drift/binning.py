"""Bins of a measurement: edges from the reference's quantiles, and counts of the reference by class."""

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from cxr.core.errors import DataError
from cxr.core.settings import Strict
from cxr.stats.metrics import Vector

# Finer towards the ends: what drifts leaves the middle, and often at one end.
QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
TINY = 1e-12
# Times as many images of a patient as the reference has are allowed for at work: of one patient in
# ten images, the test set of docs/results.md has enough to raise false alarms without.
MORE_IMAGES = 1.25


class Bins(Strict):
    """One measurement of the reference images, binned.

    There is one bin more than edges, and a last one for values that are missing or no number.

    Attributes:
        name: Of the measurement.
        edges: Between the bins, rising; a value on an edge is in the lower bin.
        negatives: How many reference images labelled 0 each bin holds.
        positives: How many labelled 1.
        images_alike: How many images of a patient tell as much as one; see `design_effect`.
    """

    name: str
    edges: tuple[float, ...]
    negatives: tuple[int, ...]
    positives: tuple[int, ...]
    images_alike: float = Field(1.0, ge=1)

    def count(self, values: Vector) -> Vector:
        """Return how many of the values each bin holds, int64 (bins,).

        Args:
            values: Of the measurement, (n,).
        """
        return count_values(values, self.edges)

    def require(self, counts: Sequence[int]) -> None:
        """Raise DataError if these are not the counts of as many bins."""
        if len(counts) != len(self.negatives):
            raise DataError(
                f"{self.name}: expected counts of {len(self.negatives)} bins, found {len(counts)}: "
                "they were made with another reference"
            )


def fit_bins(
    name: str,
    values: Vector,
    labels: Vector,
    patients: Vector,
) -> Bins:
    """Return the bins of a measurement, at the quantiles of the reference images.

    Args:
        name: Of the measurement.
        values: Of the reference images, (n,).
        labels: Their labels, 0 or 1, (n,).
        patients: Their patients, (n,).

    Raises:
        DataError: No value is a number.
    """
    values = np.asarray(values, np.float64)
    known = values[np.isfinite(values)]
    if not len(known):
        raise DataError(f"{name}: expected numbers of the reference images, found none")
    # Equal values give equal quantiles, between which nothing can lie.
    edges = np.unique(np.quantile(known, QUANTILES)).tolist()
    return Bins(
        name=name,
        edges=tuple(edges),
        negatives=tuple(count_values(values[labels == 0], edges).tolist()),
        positives=tuple(count_values(values[labels == 1], edges).tolist()),
        images_alike=design_effect(values, labels, patients),
    )


def count_values(values: Vector, edges: Sequence[float]) -> Vector:
    """Return how many values lie in each bin, int64 (edges + 2,), the missing ones last.

    >>> count_values(np.array([0.1, 0.5, 0.9, np.nan]), [0.5])
    array([2, 1, 1])
    """
    values = np.asarray(values, np.float64)
    numbers = np.searchsorted(edges, values)
    numbers[~np.isfinite(values)] = len(edges) + 1
    return np.bincount(numbers, minlength=len(edges) + 2)


def design_effect(values: Vector, labels: Vector, patients: Vector) -> float:
    """Return how many images of a patient tell as much as one, from 1 on.

    This is Kish's design effect (1965), 1 + (b - 1) r. b is the number of images of its patient,
    averaged over the images of the class that has more of them, times MORE_IMAGES. r is the
    correlation of two images of a patient in the ranks of their values, with two of its standard
    errors added.

    Args:
        values: Of one measurement, (n,).
        labels: The label of each image, 0 or 1, (n,).
        patients: The patient of each image, (n,).

    >>> design_effect(np.arange(4), np.array([0, 1, 0, 1]), np.array([0, 1, 2, 3]))
    1.0
    """
    from scipy.stats import rankdata

    _, numbers, images = np.unique(patients, return_inverse=True, return_counts=True)
    pairs = (images * (images - 1)).sum() / 2
    if not pairs:
        return 1.0
    ranks = rankdata(values)
    ranks = (ranks - ranks.mean()) / max(ranks.std(), TINY)
    products = np.bincount(numbers, ranks) ** 2 - np.bincount(numbers, ranks**2)
    correlation = products.sum() / (2 * pairs) + 2 / np.sqrt(pairs)
    images_each = max(images[numbers[labels == label]].mean() for label in np.unique(labels))
    return float(1 + (MORE_IMAGES * images_each - 1) * np.clip(correlation, 0, 1))
