"""Conformal p-values: how rare a value is among validation images, with patients as units."""

import numpy as np

from cxr.stats.metrics import Vector


def p_values(values: Vector, reference: Vector, patients: Vector) -> Vector:
    """Return the conformal p-value of each value: small where hardly any patient has as high a one.

    p = (1 + sum over patients of the share of the patient's images with at least this value) /
    (patients + 1). It is valid for an image drawn at random from a patient like those of the
    reference: P(p <= a) <= a, whatever the distribution, and however alike the images of one patient
    are (Vovk et al., "Algorithmic Learning in a Random World", 2005; Lee, Barber and Willett,
    "Distribution-free inference with hierarchical data", 2023, for patients as units). So the
    smallest p is 1 / (patients + 1): many images of few patients do not make it smaller.

    Args:
        values: Of the new images, float (n,); higher is stranger.
        reference: Of the validation images, float (m,).
        patients: The number of each one's patient, int (m,).

    Returns:
        Float64 (n,), above 0, up to 1.

    >>> p_values(np.array([3.0, 0.5]), np.array([1.0, 2.0, 2.0]), np.array([0, 1, 1])).round(3)
    array([0.333, 1.   ])
    """
    _, numbers, sizes = np.unique(patients, return_inverse=True, return_counts=True)
    shares = 1 / sizes[numbers]
    order = np.argsort(reference)
    # Entry i is what the i highest and all above them add up to, counted from the top.
    from_top = np.concatenate([[0.0], np.cumsum(shares[order][::-1])])
    higher = len(reference) - np.searchsorted(reference[order], values, side="left")
    found: Vector = (1 + from_top[higher]) / (len(sizes) + 1)
    return np.minimum(found, 1.0)


def smallest_p(patients: int) -> float:
    """Return the smallest p-value that so many patients of the reference allow."""
    return 1 / (patients + 1)
