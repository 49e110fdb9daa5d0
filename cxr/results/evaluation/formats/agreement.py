"""How far a format agrees with the model on the test images, and the rule by which it is published."""

import numpy as np
import pandas as pd

from cxr.core.errors import DataError
from cxr.results.evaluation.formats.records import Agreement, Comparison, Precision
from cxr.stats.comparison import delong, mcnemar
from cxr.stats.intervals import Interval, wilson_interval
from cxr.stats.metrics import Vector

LARGEST_DIFFERENCE = 1e-4  # of a calibrated score in float32
AUROC_MARGIN = 0.01
SHARE_MARGIN = 0.03
SIGNIFICANT = 0.05
RULE = (
    "A file in float32 is published when on every test image its score is within "
    f"{LARGEST_DIFFERENCE:g} of the model's, and no decision and no abstention differs. A file of "
    "reduced precision is published when it is shown not to be inferior on the same images: the "
    f"95 % interval of its AUROC minus the model's (DeLong, by patient) lies above -{AUROC_MARGIN:g}; the "
    "upper ends of the 95 % intervals (Wilson) of the shares of PNEUMONIA images that it newly misses, of "
    "NORMAL images that it newly calls positive, and of images of which the abstention changes are at most "
    f"{SHARE_MARGIN:g}; and its decisions are not significantly worse (McNemar, exact, p < {SIGNIFICANT:g})."
)


def measure_agreement(
    scores: pd.DataFrame,
    judgements: pd.DataFrame | None,
    answers: pd.DataFrame,
    threshold: float,
    precision: Precision,
) -> Agreement:
    """Compare what a format says of the test images with what the model says.

    A decision is score >= threshold in float64, each side with its own score: a score that lies at the
    threshold itself has no tolerance.

    Args:
        scores: The rows of scores_test.csv.
        judgements: The rows of scope_test.csv; None where the model does not know its scope.
        answers: The format's rows of scores_test_formats.csv, of the same images in the same order.
        threshold: The lowest score that counts as positive.
        precision: Of the format.
    """
    own = scores["score"].to_numpy(np.float64)
    other = answers["score"].to_numpy(np.float64)
    is_positive = own >= threshold
    is_positive_there = other >= threshold
    abstains = np.zeros(len(scores), bool)
    if judgements is not None:
        judged = judgements.set_index("image").loc[scores["image"]]
        abstains = (judged["status"] == "abstained").to_numpy()
    is_judged_anew = abstains != (answers["status"] == "abstained").to_numpy()
    comparison = None
    if precision != "float32":
        comparison = _compare(scores, other, is_positive, is_positive_there, is_judged_anew)
    return Agreement(
        images=len(scores),
        largest_difference=float(np.abs(own - other).max()),
        decisions_changed=int((is_positive != is_positive_there).sum()),
        abstentions_changed=int(is_judged_anew.sum()),
        nearest_threshold=float(np.abs(own - threshold).min()),
        comparison=comparison,
    )


def _compare(
    scores: pd.DataFrame,
    other: Vector,
    is_positive: Vector,
    is_positive_there: Vector,
    is_judged_anew: Vector,
) -> Comparison:
    """Return tests and intervals of a format of reduced precision against the model."""
    labels = scores["label"].to_numpy()
    is_missed = is_positive & ~is_positive_there
    is_alarm = ~is_positive & is_positive_there
    try:
        own = scores["score"].to_numpy()
        auroc = delong(labels, other, own, scores["patient_id"].to_numpy())
    except DataError:
        auroc = None
    return Comparison(
        auroc=auroc,
        decisions=mcnemar(labels, is_positive_there.astype(int), is_positive.astype(int)),
        newly_missed=_share(is_missed[labels == 1]),
        newly_positive=_share(is_alarm[labels == 0]),
        newly_judged=_share(is_judged_anew),
    )


def _share(marked: Vector) -> Interval:
    """Return the interval of the share of images that are marked, of which there are some."""
    interval = wilson_interval(int(marked.sum()), len(marked))
    assert interval is not None  # test has images of both classes
    return interval


def find_objection(agreement: Agreement) -> str:
    """Return why the rule does not let a format be published, or an empty text."""
    if agreement.comparison is not None:
        return _find_inferiority(agreement.comparison)
    images = agreement.images
    objections = []
    if not agreement.largest_difference <= LARGEST_DIFFERENCE:  # not a number is no agreement
        objections.append(
            f"scores differ by up to {agreement.largest_difference:.2g}, more than "
            f"{LARGEST_DIFFERENCE:g}"
        )
    if agreement.decisions_changed:
        objections.append(f"{agreement.decisions_changed} of {images} decisions differ")
    if agreement.abstentions_changed:
        objections.append(f"{agreement.abstentions_changed} of {images} abstentions differ")
    return "; ".join(objections)


def _find_inferiority(comparison: Comparison) -> str:
    """Return why a format of reduced precision is not shown to be as good as the model, or ""."""
    objections = []
    auroc = comparison.auroc
    low = auroc.low if auroc else None
    if auroc and auroc.p == 1 and low is None:
        low = 0.0  # nothing varies: the scores rank the images alike
    if low is None or low <= -AUROC_MARGIN:
        end = "cannot be estimated" if low is None else f"begins at {low:.4f}"
        objections.append(
            f"the 95 % interval of the AUROC's difference {end}, expected above -{AUROC_MARGIN:g}"
        )
    shares = {
        "PNEUMONIA images newly missed": comparison.newly_missed,
        "NORMAL images newly called positive": comparison.newly_positive,
        "images of which the abstention changes": comparison.newly_judged,
    }
    for name, interval in shares.items():
        if interval.high > SHARE_MARGIN:
            objections.append(
                f"{name}: up to {interval.high:.1%} of {interval.images} (95 % interval), expected at "
                f"most {SHARE_MARGIN:.0%}"
            )
    decisions = comparison.decisions
    if decisions.p < SIGNIFICANT and decisions.only_b > decisions.only_a:
        objections.append(
            f"its decisions are worse on {decisions.only_b} images, better on {decisions.only_a} "
            f"(McNemar, p = {decisions.p:.2g})"
        )
    return "; ".join(objections)
