"""Two models on the same images: is the difference between them more than chance? DeLong, McNemar, Holm.

Left out: models scored on different images, and McNemar's test for patients with several images (it takes images as
independent; `delong` with `patients` does not).
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from cxr.core.errors import DataError
from cxr.core.settings import Strict
from cxr.stats.intervals import check_scores, number_patients
from cxr.stats.metrics import Vector


class Difference(Strict):
    """AUROC of model a minus that of model b, with its 95 % interval and two-sided test; None: not estimable."""

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
    """How often two models are right on the same images, and the exact two-sided test of who is right more often."""

    both_right: int
    only_a: int
    only_b: int
    both_wrong: int
    p: float
    of: Literal["all", "ill", "healthy"]
    images: int


def delong(
    labels: Vector,
    scores_a: Vector,
    scores_b: Vector,
    patients: Sequence[str] | Vector | None = None,
) -> Difference:
    """Return the AUROC of two models on the same images, their difference, its interval, z and p.

    Without `patients`: DeLong, DeLong & Clarke-Pearson (1988) by midranks (Sun & Xu 2014), images independent. With
    them, one text per image ("" is a patient of its own): Obuchowski (1997), the components summed within each
    patient; the same where each has one image. Where nothing varies the standard error is 0 and there is no interval:
    z = 0 and p = 1 for equal AUROCs, None for different ones (a perfect model against a constant one).
    Raises DataError "not estimable (n = ...)" for fewer than two ill or two healthy images (with `patients`: patients
    with such), and for scores that are no numbers or outside 0..1.
    """
    labels, a = check_scores(labels, scores_a)
    _, b = check_scores(labels, scores_b)
    of = np.arange(len(labels)) if patients is None else number_patients(patients)
    ill, healthy = labels == 1, labels == 0
    behind = (
        [len(np.unique(of[each])) for each in (ill, healthy)] if len(of) == len(labels) else [0, 0]
    )
    if min(behind) < 2:
        unit = "images" if patients is None else "patients"
        raise DataError(
            f"not estimable (n = {len(labels)}): expected two ill and two healthy {unit} and one patient per image, "
            f"found {behind[0]} and {behind[1]}, {len(of)} patients of {len(labels)} images"
        )
    parts_a, parts_b = _components(a, ill), _components(b, ill)
    auroc_a, auroc_b = float(parts_a[ill].mean()), float(parts_b[ill].mean())
    error = _standard_error(parts_a - parts_b, ill, of)
    return Difference(
        auroc_a=auroc_a,
        auroc_b=auroc_b,
        difference=auroc_a - auroc_b,
        standard_error=error,
        **_test(auroc_a - auroc_b, error),
        images=len(labels),
        method="DeLong" if patients is None else "DeLong, by patient",
        patients=None if patients is None else len(np.unique(of)),
    )


def _components(scores: Vector, ill: Vector) -> Vector:
    """Return DeLong's structural component of each image, float64 (n,) 0..1: the share of the other class it beats."""
    from scipy.stats import rankdata

    overall, parts = rankdata(scores), np.empty(len(scores))
    parts[ill] = (overall[ill] - rankdata(scores[ill])) / (~ill).sum()
    parts[~ill] = 1 - (overall[~ill] - rankdata(scores[~ill])) / ill.sum()
    return parts


def _standard_error(parts: Vector, ill: Vector, of: Vector) -> float:
    """Return the standard error of the mean component, >= 0 (Obuchowski 1997; DeLong's where `of` are all different).

    Components are a difference of two models', so the covariance of the models is already in them.
    """
    sums = []
    for each in (ill, ~ill):
        found = len(np.unique(of[each]))
        around = np.bincount(
            of[each], parts[each] - parts[each].mean(), minlength=int(of.max()) + 1
        )
        sums.append((around / each.sum(), found / (found - 1)))
    (first, of_ill), (second, of_healthy) = sums
    patients = len(np.unique(of))
    variance = (first**2).sum() * of_ill + (second**2).sum() * of_healthy
    variance += 2 * (first * second).sum() * patients / (patients - 1)
    return float(np.sqrt(max(variance, 0.0)))


def _test(difference: float, error: float) -> dict[str, float | None]:
    from scipy.stats import norm

    if error < 1e-12:  # rounding, not spread
        same = abs(difference) < 1e-12
        return {"low": None, "high": None, "z": 0.0 if same else None, "p": 1.0 if same else None}
    z, half = difference / error, float(norm.ppf(0.975)) * error
    return {
        "low": difference - half,
        "high": difference + half,
        "z": z,
        "p": float(2 * norm.sf(abs(z))),
    }


def mcnemar(
    labels: Vector,
    predictions_a: Vector,
    predictions_b: Vector,
    of: Literal["all", "ill", "healthy"] = "all",
) -> Disagreement:
    """Return McNemar's test (1947) of two models' predictions, 0 or 1 each, by statsmodels: the exact binomial one.

    `of` "ill" compares the sensitivities, "healthy" the specificities. No image on which they differ: p = 1.
    Raises DataError "not estimable (n = 0)" without an image of that kind, and for predictions other than 0 and 1.
    """
    from statsmodels.stats.contingency_tables import mcnemar as test  # type: ignore[import-untyped, unused-ignore]

    labels, a = check_scores(labels, predictions_a)
    _, b = check_scores(labels, predictions_b)
    if not np.isin((a, b), (0, 1)).all():
        raise DataError(f"expected predictions of 0 or 1, found {np.unique((a, b))[:5].tolist()}")
    kept = {"all": np.ones(len(labels), bool), "ill": labels == 1, "healthy": labels == 0}[of]
    if not kept.any():
        raise DataError(
            f"not estimable (n = 0): expected images ({of}) to compare two models on, found none"
        )
    right_a, right_b = (a == labels)[kept], (b == labels)[kept]
    table = [
        [int((right_a & right_b).sum()), int((right_a & ~right_b).sum())],
        [int((~right_a & right_b).sum()), int((~right_a & ~right_b).sum())],
    ]
    return Disagreement(
        both_right=table[0][0],
        only_a=table[0][1],
        only_b=table[1][0],
        both_wrong=table[1][1],
        p=float(test(table, exact=True).pvalue),
        of=of,
        images=int(kept.sum()),
    )


def holm(ps: Sequence[float | None]) -> tuple[float | None, ...]:
    """Return the p values corrected for how many there are (Holm 1979, by statsmodels), in order; None stays None.

    >>> holm([0.01, 0.04, None])
    (0.02, 0.04, None)
    """
    from statsmodels.stats.multitest import multipletests  # type: ignore[import-untyped, unused-ignore]

    known = [p for p in ps if p is not None]
    corrected = iter(multipletests(known, method="holm")[1].tolist() if known else ())
    return tuple(None if p is None else next(corrected) for p in ps)
