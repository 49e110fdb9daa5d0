"""The prior correction at a site: what it would change, and whether the sample speaks against it."""

import pandas as pd

from cxr.core.formatting import describe_p_value
from cxr.core.settings import LABEL_NAMES
from cxr.serving.sites.records import PrevalenceOffer
from cxr.stats.calibration import Calibration
from cxr.stats.calibration.prevalence import (
    LEVEL,
    ClassComparison,
    compare_classes,
    logit_shift,
)

_UNTESTED = (
    "The model brings no scores of its validation images, so what the correction for another "
    "prevalence assumes cannot be tested"
)


def offer(
    scores: pd.DataFrame,
    reference: pd.DataFrame | None,
    share: float,
    wanted: float | None,
    calibration: Calibration,
) -> PrevalenceOffer:
    """Return the correction for a prevalence that a person gave, or what it would take.

    It is made only where a person asked for it, and where the scores of each class are like those
    on validation, as far as the sample can tell. Where the site has a calibration of its own, they
    need not be: then the sample is what the correction starts from.

    Args:
        scores: The rows of scores_site.csv.
        reference: label, score and patient of the model's validation images; None if not known.
        share: The prevalence of these images, by the model's card.
        wanted: The prevalence that a person gave; None for none.
        calibration: The site's own.
    """
    comparisons: tuple[ClassComparison, ...] = ()
    if reference is not None:
        comparisons = compare_classes(
            (scores["label"].to_numpy(), reference["label"].to_numpy()),
            (scores["score"].to_numpy(float), reference["score"].to_numpy(float)),
            (scores["patient_id"].to_numpy(), reference["patient"].to_numpy()),
        )
    stands = None
    if len(comparisons) == len(LABEL_NAMES):
        stands = all(comparison.p_holm >= LEVEL for comparison in comparisons)
    found = _describe(comparisons, stands)
    shift = 0.0
    objection = ""
    if calibration.method == "none":
        objection = _find_objection(stands)
    elif not stands:
        found += (
            ". The site has its own calibration: a correction starts from it, and assumes that each "
            "class of the sample is like that in use, which no sample can tell"
        )
    if wanted is None:
        decision = _describe_offer(share, objection)
    elif objection:
        decision = f"Asked for {wanted:g}, and not corrected: {objection}"
    else:
        shift = logit_shift(share, wanted)
        decision = (
            f"Corrected from {share:.3f} to {wanted:g}: {shift:+.3f} on the logit of each score; "
            "the order of images, and so every prediction, stays"
        )
    return PrevalenceOffer(
        reference=share,
        wanted=wanted,
        comparisons=comparisons,
        stands=stands,
        shift=shift,
        words=f"{found}. {decision}.",
    )


def _describe(comparisons: tuple[ClassComparison, ...], stands: bool | None) -> str:
    """Return what the test of the assumption found, without a full stop."""
    if stands is None:
        return _UNTESTED
    parts = [
        f"{LABEL_NAMES[comparison.label]} {comparison.distance:.3f} "
        f"({describe_p_value(comparison.p_holm)})"
        for comparison in comparisons
    ]
    verdict = "does not speak against" if stands else "speaks against"
    return (
        f"The sample {verdict} what the correction for another prevalence assumes, scores within "
        f"each class like those on validation (Kolmogorov's distance {', '.join(parts)}, patients "
        "permuted, after Holm)"
    )


def _find_objection(stands: bool | None) -> str:
    """Return why the model's own scores are not corrected, or an empty text."""
    if stands is None:
        return "its assumption cannot be tested"
    if not stands:
        return "the scores within a class are others here, which no prevalence explains"
    return ""


def _describe_offer(share: float, objection: str) -> str:
    """Return what a person could ask for, without a full stop."""
    if objection:
        return f"No correction is offered: {objection}"
    return (
        f"Scores are probabilities at a prevalence of {share:.3f}, that of validation. "
        "`--prevalence P` corrects them for another; without it nothing is corrected"
    )
