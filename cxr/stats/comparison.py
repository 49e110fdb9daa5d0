"""Tests of two models on the same images: is their difference more than chance?

DeLong's test compares areas under the ROC curve, McNemar's test compares predictions, and Holm's
method corrects p-values for the number of tests. Models scored on different images cannot be
compared here. McNemar's test counts images as independent, also where patients have several;
`delong` with patients does not.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import field_validator

from cxr.core.errors import DataError
from cxr.core.settings import Strict
from cxr.stats.intervals import number_patients
from cxr.stats.metrics import Vector, check_scores

Subset = Literal["all", "positive", "negative"]
_FORMER_SUBSETS = {"ill": "positive", "healthy": "negative"}  # as version 0.1 wrote them
ROUNDING = 1e-12  # a smaller difference is rounding


class Difference(Strict):
    """The AUROC of model a minus that of model b, with its 95 % interval and two-sided test.

    Attributes:
        auroc_a: AUROC of model a.
        auroc_b: AUROC of model b.
        difference: auroc_a - auroc_b.
        standard_error: Standard error of the difference.
        low: Lower end of the 95 % interval; None where not estimable.
        high: Upper end of the 95 % interval; None where not estimable.
        z: difference / standard_error; None where not estimable.
        p: Two-sided p-value of z; None where not estimable.
        method: The test.
        images: How many images were compared.
        patients: How many patients they show; None for a test that counts images.
    """

    auroc_a: float
    auroc_b: float
    difference: float
    standard_error: float
    low: float | None
    high: float | None
    z: float | None
    p: float | None
    method: Literal["DeLong", "DeLong, by patient"]
    images: int
    patients: int | None = None


class Disagreement(Strict):
    """On how many images two models are right, and the test of which is right more often.

    Attributes:
        both_right: Images that both models predict right.
        only_a: Images that only model a predicts right.
        only_b: Images that only model b predicts right.
        both_wrong: Images that both models predict wrong.
        p: Two-sided p-value of McNemar's exact test.
        of: The images compared: all, or those of one class.
        images: How many they are.
    """

    both_right: int
    only_a: int
    only_b: int
    both_wrong: int
    p: float
    of: Subset
    images: int

    @field_validator("of", mode="before")
    @classmethod
    def _accept_former_name(cls, subset: Any) -> Any:
        """Read the subsets of records of version 0.1."""
        return _FORMER_SUBSETS.get(subset, subset)


def delong(
    labels: Vector,
    scores_a: Vector,
    scores_b: Vector,
    patients: Sequence[str] | Vector | None = None,
) -> Difference:
    """Return the difference of two models' AUROCs on the same images, with interval and test.

    Without patients this is the test of DeLong, DeLong & Clarke-Pearson (1988), computed by
    midranks (Sun & Xu 2014); images count as independent. With patients it is the extension by
    Obuchowski (1997), which sums the components within each patient; where each patient has one
    image the two are the same.

    With several sets of scores of the same images, of each model as many, it is the same test of the
    mean AUROC over the sets: a mean of AUROCs has the mean of their components.

    If nothing varies, the standard error is 0 and there is no interval: z = 0 and p = 1 for equal
    AUROCs, None for different ones (a perfect model against a constant one).

    Args:
        labels: 0 or 1, (n,).
        scores_a: Scores of model a, 0 to 1, (n,), or (n, sets).
        scores_b: Scores of model b, 0 to 1, likewise.
        patients: The patient of each image, text (n,); an image with "" is a patient of its own.

    Raises:
        DataError: Not estimable: fewer than two positive or two negative images (or patients with
            such), or a score that is not a number from 0 to 1.
    """
    labels, sets_a = _check_sets(labels, scores_a)
    _, sets_b = _check_sets(labels, scores_b)
    if patients is None:
        clusters = np.arange(len(labels))
        unit = "images"
    else:
        clusters = number_patients(patients)
        unit = "patients"
    positive = labels == 1
    _require_two_of_each(positive, clusters, unit)

    components_a = _mean_components(sets_a, positive)
    components_b = _mean_components(sets_b, positive)
    auroc_a = float(components_a[positive].mean())
    auroc_b = float(components_b[positive].mean())
    difference = auroc_a - auroc_b
    error = _standard_error(components_a - components_b, positive, clusters)
    test = _normal_test(difference, error)
    return Difference(
        auroc_a=auroc_a,
        auroc_b=auroc_b,
        difference=difference,
        standard_error=error,
        low=test.low,
        high=test.high,
        z=test.z,
        p=test.p,
        method="DeLong" if patients is None else "DeLong, by patient",
        images=len(labels),
        patients=None if patients is None else len(np.unique(clusters)),
    )


def _check_sets(labels: Vector, scores: Vector) -> tuple[Vector, list[Vector]]:
    """Return labels and sets of scores as arrays that can be computed with.

    Args:
        labels: 0 or 1, (n,).
        scores: Scores, (n,), or (n, sets).

    Raises:
        DataError: As `check_scores` does.
    """
    columns = np.asarray(scores, np.float64)
    if columns.ndim == 1:
        columns = columns[:, np.newaxis]
    checked = [check_scores(labels, column) for column in columns.T]
    return checked[0][0], [column for _, column in checked]


def _require_two_of_each(
    positive: Vector,
    clusters: Vector,
    unit: str,
) -> None:
    """Raise DataError unless both classes have two clusters, and each image has a cluster."""
    n = len(positive)
    positives = 0
    negatives = 0
    if len(clusters) == n:
        positives = len(np.unique(clusters[positive]))
        negatives = len(np.unique(clusters[~positive]))
    if min(positives, negatives) < 2:
        raise DataError(
            f"not estimable (n = {n}): expected two positive and two negative {unit} and one "
            f"patient per image, found {positives} and {negatives}, "
            f"{len(clusters)} patients of {n} images"
        )


def _mean_components(sets: Sequence[Vector], positive: Vector) -> Vector:
    """Return each image's structural component, the mean over sets of scores, float64 (n,)."""
    components = np.stack([_structural_components(scores, positive) for scores in sets])
    mean: Vector = components.mean(axis=0)
    return mean


def _structural_components(scores: Vector, positive: Vector) -> Vector:
    """Return DeLong's structural component of each image, float64 (n,) from 0 to 1.

    It is the share of the other class that the image is ranked correctly against, ties as one half
    (DeLong et al. 1988), by midranks (Sun & Xu 2014).
    """
    from scipy.stats import rankdata

    negative = ~positive
    ranks = rankdata(scores)
    components = np.empty(len(scores))
    negatives_below = ranks[positive] - rankdata(scores[positive])
    positives_below = ranks[negative] - rankdata(scores[negative])
    components[positive] = negatives_below / negative.sum()
    components[negative] = 1 - positives_below / positive.sum()
    return components


def _standard_error(
    components: Vector,
    positive: Vector,
    clusters: Vector,
) -> float:
    """Return the standard error of an AUROC from its components (Obuchowski 1997).

    Where each image is a cluster of its own this is DeLong's. For the difference of two AUROCs give
    the difference of their components: the covariance of the two models is then included.
    """
    positive_sums, positive_factor = _cluster_sums(components, positive, clusters)
    negative_sums, negative_factor = _cluster_sums(components, ~positive, clusters)
    cluster_count = len(np.unique(clusters))
    variance = (positive_sums**2).sum() * positive_factor
    variance += (negative_sums**2).sum() * negative_factor
    covariance = (positive_sums * negative_sums).sum() * cluster_count / (cluster_count - 1)
    variance += 2 * covariance
    return float(np.sqrt(max(variance, 0.0)))  # rounding can leave a little less than 0


def _cluster_sums(
    components: Vector,
    members: Vector,
    clusters: Vector,
) -> tuple[Vector, float]:
    """Return each cluster's summed deviation from the mean of one class, and k / (k - 1).

    The sums are divided by the number of images of the class; k is how many clusters have images
    of it.
    """
    own = components[members]
    deviations = own - own.mean()
    sums = np.bincount(clusters[members], deviations, minlength=int(clusters.max()) + 1)
    k = len(np.unique(clusters[members]))
    return sums / members.sum(), k / (k - 1)


class _NormalTest(NamedTuple):
    """A 95 % interval and a two-sided test by the normal distribution; None: not estimable."""

    low: float | None = None
    high: float | None = None
    z: float | None = None
    p: float | None = None


def _normal_test(difference: float, error: float) -> _NormalTest:
    """Return the test of a difference with the given standard error against 0."""
    from scipy.stats import norm

    if error < ROUNDING:
        if abs(difference) < ROUNDING:
            return _NormalTest(z=0.0, p=1.0)
        return _NormalTest()
    z = difference / error
    half = float(norm.ppf(0.975)) * error
    return _NormalTest(
        low=difference - half,
        high=difference + half,
        z=z,
        p=float(2 * norm.sf(abs(z))),
    )


def mcnemar(
    labels: Vector,
    predictions_a: Vector,
    predictions_b: Vector,
    subset: Subset = "all",
) -> Disagreement:
    """Return McNemar's exact test (McNemar 1947, by statsmodels) of two models' predictions.

    Args:
        labels: 0 or 1, (n,).
        predictions_a: Predictions of model a, 0 or 1, (n,).
        predictions_b: Predictions of model b, 0 or 1, (n,).
        subset: The images to compare: "positive" compares sensitivities, "negative" specificities.

    Returns:
        The counts and the p-value, which is 1 where the models disagree on no image.

    Raises:
        DataError: Not estimable, because the subset has no image; or a prediction is neither 0
            nor 1.
    """
    from statsmodels.stats.contingency_tables import mcnemar as mcnemar_test

    labels, predictions_a = check_scores(labels, predictions_a)
    _, predictions_b = check_scores(labels, predictions_b)
    predictions = np.unique((predictions_a, predictions_b))
    if not np.isin(predictions, (0, 1)).all():
        raise DataError(f"expected predictions of 0 or 1, found {predictions[:5].tolist()}")
    members = {
        "all": np.ones(len(labels), bool),
        "positive": labels == 1,
        "negative": labels == 0,
    }[subset]
    if not members.any():
        raise DataError(
            f"not estimable (n = 0): expected images ({subset}) to compare two models on, "
            "found none"
        )
    right_a = (predictions_a == labels)[members]
    right_b = (predictions_b == labels)[members]
    both_right = int((right_a & right_b).sum())
    only_a = int((right_a & ~right_b).sum())
    only_b = int((~right_a & right_b).sum())
    both_wrong = int((~right_a & ~right_b).sum())
    table = [
        [both_right, only_a],
        [only_b, both_wrong],
    ]
    test = mcnemar_test(table, exact=True)
    return Disagreement(
        both_right=both_right,
        only_a=only_a,
        only_b=only_b,
        both_wrong=both_wrong,
        p=float(test.pvalue),
        of=subset,
        images=int(members.sum()),
    )


def holm(ps: Sequence[float | None]) -> tuple[float | None, ...]:
    """Return the p-values corrected for the number of tests (Holm 1979).

    Args:
        ps: P-values; None for a test that was not estimable, which does not count.

    Returns:
        The corrected p-values in the same order; None stays None.

    >>> holm([0.01, 0.04, None])
    (0.02, 0.04, None)
    """
    known = np.array([p for p in ps if p is not None])
    order = np.argsort(known)
    rising = np.maximum.accumulate(known[order] * np.arange(len(known), 0, -1))
    corrected = np.empty(len(known))
    corrected[order] = np.minimum(rising, 1)
    places = iter(corrected.tolist())
    return tuple(None if p is None else next(places) for p in ps)
