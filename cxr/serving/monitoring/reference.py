"""What the images at work are compared with: the validation images of the model's export."""

from datetime import datetime

import numpy as np
import pandas as pd

from cxr.core.settings import LABEL_NAMES
from cxr.results.cards.model_card import Card
from cxr.serving.monitoring.records import Reference
from cxr.serving.sites.records import Site
from cxr.stats.calibration import reliability
from cxr.stats.drift.binning import Bins, fit_bins

NOT_MEASURED = ["label", "patient"]  # columns of the validation table that say nothing of an image
NO_SCOPE = (
    "the model was exported without reference statistics, by a version of cxr before 0.6: export "
    "it again to have drift tested"
)
SITE_SCORES = (
    "they are calibrated on the labelled images of the site, and only `cxr site` can test that"
)


def make_reference(
    card: Card,
    validation: pd.DataFrame | None,
    threshold: float,
    site: Site | None,
    now: datetime,
) -> Reference:
    """Return what the predictions of a model are compared with.

    Args:
        card: The model's card.
        validation: The validation images with columns score, label, patient and one for each
            measurement; None for an export that has none.
        threshold: The score from which on an image is called positive.
        site: The site whose threshold and calibration are applied; None for the card's own.
        now: The time.
    """
    bins: tuple[Bins, ...] = ()
    images = 0
    patients = 0
    untested = NO_SCOPE
    miscalibrated = NO_SCOPE
    if validation is not None:
        images = len(validation)
        patients = int(validation["patient"].nunique())
        untested = ""
        miscalibrated = find_miscalibration(card, validation)
        if site:
            scores = site.apply(validation["score"].to_numpy(np.float64))
            validation = validation.assign(score=scores)
            miscalibrated = SITE_SCORES
        bins = fit_all(validation)
    return Reference(
        architecture=card.architecture,
        run=card.run,
        model_sha256=card.model_sha256,
        version=card.version,
        site=site.name if site else "",
        threshold=threshold,
        made=now,
        images=images,
        patients=patients,
        bins=bins,
        untested=untested,
        miscalibrated=miscalibrated,
    )


def fit_all(validation: pd.DataFrame) -> tuple[Bins, ...]:
    """Return the bins of every measurement that is a number of any validation image.

    Args:
        validation: See `make_reference`.
    """
    labels = validation["label"].to_numpy(np.int64)
    patients = validation["patient"].to_numpy()
    bins = []
    for name in validation.columns.difference(NOT_MEASURED, sort=False):
        values = validation[name].to_numpy(np.float64)
        if np.isfinite(values).any():
            bins.append(fit_bins(name, values, labels, patients))
    return tuple(bins)


def find_miscalibration(card: Card, validation: pd.DataFrame) -> str:
    """Return what speaks against taking the scores for probabilities, or an empty text.

    The calibration error of validation, and of the test set on the card, is compared with what
    perfectly calibrated scores stay below in 95 % of the sets.
    """
    scores = validation["score"].to_numpy(np.float64)
    labels = validation["label"].to_numpy(np.int64)
    if len(np.unique(labels)) < len(LABEL_NAMES):
        return "validation has images of one class only"
    quality = card.evaluation.calibration_quality
    errors = {
        "validation": (reliability.ece(labels, scores), reliability.ece_by_chance(scores)),
        "test": (quality.ece_after, quality.ece_chance),
    }
    for split, (error, by_chance) in errors.items():
        if error > by_chance:
            return (
                f"the calibration error on {split} is {error:.3f}, above the {by_chance:.3f} "
                "that perfectly calibrated scores would have by chance"
            )
    return ""
