"""Are the images of a prediction, taken together, like those that the model's figures come from?

What each image is, `cxr.models.scope` says. Many images show more: films of another site may all
look plausible, each by itself, and still be brighter, wider or sharper than those of the training.
The reference are the validation images, which the network was not fitted to.
"""

from typing import Literal

import numpy as np
import pandas as pd

from cxr.core.formatting import format_count
from cxr.core.settings import Strict
from cxr.stats.drift.two_samples import ColumnDifference, compare_with_reference

# Below, only gross differences would be seen (docs/results.md), and silence would be no comfort.
FEWEST_IMAGES = 20
FEWEST_PATIENTS = 20  # of the reference
_LABELS = ("label", "patient")  # columns of the reference that are no measurement
_NAMED = 3  # differences in the sentence
Verdict = Literal["alike", "unlike", "too few", "unknown"]


class BatchVerdict(Strict):
    """Whether the images of one prediction are like the training data, and what differs.

    Attributes:
        verdict: "alike" where no difference was found; "too few" where there are not enough images
            to say; "unknown" where the model was exported without a reference.
        sentence: The verdict in words, without a full stop.
        images: How many images were compared.
        reference_images: With how many validation images.
        reference_patients: Of how many patients.
        positive_share: The share of PNEUMONIA in the mix of validation images that they are most
            like; None where they were not compared. It is no estimate of the prevalence.
        differences: Of each measurement, the largest first; empty where they were not compared.
    """

    verdict: Verdict
    sentence: str
    images: int
    reference_images: int = 0
    reference_patients: int = 0
    positive_share: float | None = None
    differences: tuple[ColumnDifference, ...] = ()


def judge_batch(
    measured: pd.DataFrame,
    validation: pd.DataFrame | None,
    with_scores: bool = True,
) -> BatchVerdict:
    """Compare the measured images with those of validation.

    Args:
        measured: A row for each image that the network scored: score, components of the features
            and signals.
        validation: The same columns of the validation images, with label and patient; None for a
            model that was exported without.
        with_scores: Whether scores are compared: they cannot be where a site calibrates otherwise.
    """
    images = len(measured)
    if validation is None:
        sentence = (
            "whether these images are like the training data is not known: the model was exported "
            "by a version of cxr that kept no reference: export it again"
        )
        return BatchVerdict(verdict="unknown", sentence=sentence, images=images)
    patients = validation["patient"].nunique()
    sizes = {
        "images": images,
        "reference_images": len(validation),
        "reference_patients": patients,
    }
    shortage = _describe_shortage(images, patients)
    if shortage:
        return BatchVerdict(verdict="too few", sentence=shortage, **sizes)
    compared = [str(name) for name in validation if name in measured and name not in _LABELS]
    if not with_scores:
        compared.remove("score")
    found = compare_with_reference(
        measured[compared].to_numpy(np.float64),
        validation[compared].to_numpy(np.float64),
        validation["label"].to_numpy(),
        validation["patient"].to_numpy(),
        compared,
    )
    significant = [difference for difference in found.differences if difference.significant]
    if significant:
        verdict: Verdict = "unlike"
        sentence = _describe_unlike(images, significant)
    else:
        verdict = "alike"
        sentence = (
            f"no difference between these {images:,} images and the training data was found "
            f"({len(compared)} measurements, {len(validation):,} validation images)"
        )
    return BatchVerdict(
        verdict=verdict,
        sentence=sentence,
        positive_share=found.positive_share,
        differences=found.differences,
        **sizes,
    )


def _describe_shortage(images: int, patients: int) -> str:
    """Return why there are too few images to say anything, or an empty text."""
    if images < FEWEST_IMAGES:
        return (
            f"{format_count(images, 'images')}: too few to say whether they are like the training "
            f"data as a whole, which takes {FEWEST_IMAGES}"
        )
    if patients < FEWEST_PATIENTS:
        return (
            f"the model has {format_count(patients, 'validation patients')}: too few to say whether "
            f"these images are like them, which takes {FEWEST_PATIENTS}"
        )
    return ""


def _describe_unlike(images: int, significant: list[ColumnDifference]) -> str:
    """Return the verdict on images that are not like the training data."""
    signals = [difference for difference in significant if not _is_component(difference.name)]
    components = len(significant) - len(signals)
    parts = [_describe_signal(difference) for difference in signals[:_NAMED]]
    others = len(signals) - len(parts)
    if others:
        parts.append(format_count(others, "other measurements"))
    if components:
        parts.append(format_count(components, "components of the features"))
    return (
        f"these {images:,} images are not like the training data ({'; '.join(parts)}): the figures "
        "of the card do not apply here"
    )


def _is_component(name: str) -> bool:
    """Return whether a column is a component of the features: c and a number."""
    return name[0] == "c" and name[1:].isdigit()


def _describe_signal(difference: ColumnDifference) -> str:
    """Return e.g. "sharpness higher than in 93 % of it"."""
    direction = "higher" if difference.effect > 0.5 else "lower"
    share = max(difference.effect, 1 - difference.effect)
    return f"{difference.name.replace('_', ' ')} {direction} than in {100 * share:.0f} % of it"
