"""Are new images without labels like those of a reference? A two-sample test for any mix of classes.

A batch of films of pneumonia alone is no other site: its scores are high because of what the
patients have. Nobody knows the labels of a batch, so it is compared with every mix of the two
classes of the reference, from none to all positive, and the mix counts in which the fewest columns
differ. So there is an alarm only if there is one for every mix, the true one among them, whichever
that is. What cannot be explained by any mix of the classes is another difference.

Each column is compared by ranks (Mann and Whitney 1947). Its effect is the probability that a new
image has the higher value; 0.5 is no difference. The variance is that of the null hypothesis, 1/12
for each independent image. In the reference, images of one patient count as copies of one image. The
patients of the new images are not known, so they count as independent; SIGNIFICANCE_LEVEL is low
because of that (docs/results.md). Holm's method corrects for the number of columns.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cxr.core.settings import Strict
from cxr.stats.comparison import holm
from cxr.stats.intervals import number_patients
from cxr.stats.metrics import Vector

SIGNIFICANCE_LEVEL = 0.01
# An effect this close to 0.5 is no difference worth an alarm, however many images there are.
TRIVIAL = 0.1
_MIXES = np.linspace(0, 1, 101)


class ColumnDifference(Strict):
    """How one column of new images differs from the best fitting mix of the reference.

    Attributes:
        name: The column.
        effect: Probability that a new image has the higher value, 0 to 1; 0.5 is no difference.
        p: Two-sided, not corrected.
        p_holm: Corrected for all columns.
        significant: Whether p_holm < 0.01 and the effect is more than 0.1 from 0.5.
    """

    name: str
    effect: float
    p: float
    p_holm: float
    significant: bool


class SampleComparison(NamedTuple):
    """What the comparison of new images with a reference found.

    Attributes:
        positive_share: The share of positives in the mix of the reference that fits best, 0 to 1.
        differences: Of every column, the largest effect first.
    """

    positive_share: float
    differences: tuple[ColumnDifference, ...]


def compare_with_reference(
    new: Vector,
    reference: Vector,
    labels: Vector,
    patients: Sequence[str] | Vector,
    names: Sequence[str],
) -> SampleComparison:
    """Compare the columns of new images with those of labelled images of a reference.

    Args:
        new: A row for each new image, float (n, k), no NaN.
        reference: A row for each image of the reference, float (m, k), no NaN.
        labels: Theirs, 0 or 1, both there, (m,).
        patients: Theirs, text or numbers (m,); an image with "" is a patient of its own.
        names: Of the columns.

    Returns:
        The mix that fits best, and the difference of each column from it.
    """
    effects = np.stack([_effects(new, reference[labels == label]) for label in (0, 1)])
    # (mixes, columns): an effect against a mix is the mix of the effects against its classes.
    mixed = np.outer(1 - _MIXES, effects[0]) + np.outer(_MIXES, effects[1])
    errors = np.sqrt((1 / len(new) + _squared_weights(labels, patients)) / 12)
    p_values = _two_sided(mixed, errors)
    best = _best_mix(mixed, p_values)
    corrected = holm(p_values[best].tolist())
    differences = [
        _describe(name, effect, p, p_holm)
        for name, effect, p, p_holm in zip(
            names, mixed[best].tolist(), p_values[best].tolist(), corrected, strict=True
        )
    ]
    differences.sort(key=lambda difference: -abs(difference.effect - 0.5))
    return SampleComparison(
        positive_share=float(_MIXES[best]),
        differences=tuple(differences),
    )


def _best_mix(mixed: Vector, p_values: Vector) -> int:
    """Return the place of the mix in which the fewest columns differ.

    Of several, the one that fits the others best: beyond TRIVIAL an effect pulls no further.

    Args:
        mixed: The effect of each column against each mix, float (mixes, columns).
        p_values: Theirs, not corrected.
    """
    sizes = abs(mixed - 0.5)
    corrected = p_values * mixed.shape[1]
    differing = ((corrected < SIGNIFICANCE_LEVEL) & (sizes > TRIVIAL)).sum(axis=1)
    fits = np.flatnonzero(differing == differing.min())
    misfit = np.square(np.minimum(sizes[fits], TRIVIAL)).sum(axis=1)
    return int(fits[misfit.argmin()])


def _describe(
    name: str,
    effect: float,
    p: float,
    p_holm: float | None,
) -> ColumnDifference:
    """Return the record of one column."""
    assert p_holm is not None  # no p-value is missing
    relevant = abs(effect - 0.5) > TRIVIAL
    return ColumnDifference(
        name=name,
        effect=effect,
        p=p,
        p_holm=p_holm,
        significant=relevant and p_holm < SIGNIFICANCE_LEVEL,
    )


def _effects(new: Vector, reference: Vector) -> Vector:
    """Return of each column the probability that a new value is higher, ties by half, (k,)."""
    effects = []
    for column in range(new.shape[1]):
        values = np.sort(reference[:, column])
        below = np.searchsorted(values, new[:, column], side="left")
        not_above = np.searchsorted(values, new[:, column], side="right")
        effects.append((below + not_above).mean() / (2 * len(values)))
    return np.array(effects)


def _squared_weights(labels: Vector, patients: Sequence[str] | Vector) -> Vector:
    """Return of each mix the sum of the squared weights of the patients, float (mixes,).

    One over it is how many independent images the reference is worth.
    """
    numbers = number_patients(patients)
    by_class = []
    for label in (0, 1):
        is_member = labels == label
        by_class.append(np.bincount(numbers, is_member / is_member.sum()))
    weights = np.outer(1 - _MIXES, by_class[0]) + np.outer(_MIXES, by_class[1])
    squared: Vector = np.square(weights).sum(axis=1)
    return squared


def _two_sided(effects: Vector, errors: Vector) -> Vector:
    """Return the p-value of each effect of each mix, float (mixes, columns)."""
    from scipy.stats import norm

    p_values: Vector = 2 * norm.sf(abs(effects - 0.5) / errors[:, np.newaxis])
    return p_values
