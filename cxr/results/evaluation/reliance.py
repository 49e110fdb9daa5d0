"""What a network uses: how well it ranks images of which a part is hidden, and when to warn.

The rule: a network is named if the border, which holds hardly any lung, is enough for it, or if it
is needed. It is enough if with the centre hidden the lower end of the 95 % interval of the AUROC is
above WARNING_LIMIT. It is needed if the AUROC falls by more than LOSS_LIMIT when each image gets the
border of one of the other class (the lower end of the interval of the difference, DeLong by patient).
Such images look like films, so a network that reads the lungs hardly minds. Where an AUROC or a
difference is the same in every draw there is no interval, and it counts as its own lower end. With
fewer than FEWEST_PATIENTS of a class nobody is warned: with so few, chance alone comes that far.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from cxr.core.settings import Strict
from cxr.data.images.border import BORDER_FRACTION
from cxr.data.images.changes.changed_images import Change, ChangedImages
from cxr.data.images.changes.masks import (
    BORDER_EXCHANGED,
    CENTRE_HIDDEN,
    DESCRIPTIONS,
    MASKS,
    exchange_border,
)
from cxr.data.images.changes.stress_worlds import CLEAN
from cxr.data.images.decoding.rejection import Pixels
from cxr.models.stress import DRAWS
from cxr.stats import intervals, metrics
from cxr.stats.comparison import Difference, delong
from cxr.stats.intervals import Interval
from cxr.stats.metrics import Vector
from cxr.storage.arrays import Stored

# As for the baselines of the audit. On real films, a MobileNetV2 with a test AUROC of 0.997 had
# 0.70 with the centre hidden, where a logistic regression fitted on the border alone had 0.94.
WARNING_LIMIT = 0.75
# That network lost 0.08 (0.05 to 0.11) by the other class's borders. On phantoms, networks fitted
# where a mark or the border gave the label away lost 0.35 and 0.52, one of clean phantoms 0.005.
LOSS_LIMIT = 0.15
FEWEST_PATIENTS = 10  # of each class
_FEWEST_COMPARED = 2  # patients of each class, by DeLong's test

Score = Callable[[ChangedImages], Vector]
"""Returns the raw scores of images, float64 (n,)."""


class MaskMetrics(Strict):
    """How well a network ranks images of which a part is hidden.

    Attributes:
        mask: What is hidden, a name in MASKS.
        description: What stays visible, in words.
        auroc: Area under the ROC curve of the raw scores.
        auroc_interval: Its 95 % interval, None where not estimable.
        loss: The AUROC of clean images minus this one, None where not estimable.
    """

    mask: str
    description: str
    auroc: float
    auroc_interval: Interval | None
    loss: Difference | None


def score_masks(
    score: Score,
    pixels: Stored,
    keys: Sequence[str],
    labels: Vector,
) -> dict[str, Vector]:
    """Return the raw scores of images behind every mask and with other borders, float64 (n,) each.

    Args:
        score: Scores images: a network, or whatever else is to be looked at.
        pixels: uint8 (n, side, side).
        keys: The digest of the pixels of each.
        labels: 0 or 1, (n,).
    """
    changes = {mask.name: mask.change for mask in MASKS.values()}
    changes[BORDER_EXCHANGED] = _exchange_with_other_class(pixels, keys, labels)
    return {name: score(ChangedImages(pixels, keys, change)) for name, change in changes.items()}


def _exchange_with_other_class(
    pixels: Stored,
    keys: Sequence[str],
    labels: Vector,
) -> Change:
    """Return a change that gives each image the border of one of the other class.

    Which one follows from the order of the digests, which has nothing to do with that of patients.
    """
    in_order = sorted(range(len(keys)), key=lambda position: keys[position])
    negatives = [position for position in in_order if labels[position] == 0]
    positives = [position for position in in_order if labels[position] == 1]
    partners: dict[str, int] = {}
    for members, others in ((negatives, positives), (positives, negatives)):
        for number, position in enumerate(members):
            partners[keys[position]] = others[number % len(others)]

    def change(image: Pixels, key: str) -> Pixels:
        return exchange_border(image, np.asarray(pixels[partners[key]]))

    return change


def measure_masks(table: pd.DataFrame) -> tuple[MaskMetrics, ...]:
    """Measure how well scores behind each mask rank the images.

    Args:
        table: label, patient_id and columns of raw scores: of clean images, behind each mask, and
            with the border exchanged.

    Raises:
        DataError: A class is missing, or a score is no number.
    """
    labels = table["label"].to_numpy()
    patients = table["patient_id"].to_numpy()
    clean = table[CLEAN].to_numpy(np.float64)
    can_compare = count_fewest_patients(table) >= _FEWEST_COMPARED
    measured = []
    for name, description in DESCRIPTIONS.items():
        raw = table[name].to_numpy(np.float64)
        ranking = metrics.compute_metrics(labels, raw, 0.5)
        bounds = intervals.bootstrap_intervals(labels, raw, patients, 0.5, DRAWS)
        record = MaskMetrics(
            mask=name,
            description=description,
            auroc=float(ranking["auroc"] or 0.0),
            auroc_interval=bounds["auroc"],
            loss=delong(labels, clean, raw, patients) if can_compare else None,
        )
        measured.append(record)
    return tuple(measured)


def count_fewest_patients(table: pd.DataFrame) -> int:
    """Return how many patients the class has that has fewer.

    Args:
        table: label and patient_id of the scored images.
    """
    patients = pd.Series(intervals.number_patients(table["patient_id"].to_numpy()))
    patients_by_class = patients.groupby(table["label"].to_numpy()).nunique()
    return int(patients_by_class.min())


def warn_of_reliance(masks: Sequence[MaskMetrics], images: int, fewest_patients: int) -> str:
    """Return what to tell a person of a network that uses what is no lung, or "".

    Args:
        masks: What `measure_masks` returned.
        images: How many images were scored behind each mask.
        fewest_patients: How many patients the class has that has fewer.
    """
    if fewest_patients < FEWEST_PATIENTS:
        return ""
    by_name = {masked.mask: masked for masked in masks}
    reasons = (
        _describe_enough(by_name[CENTRE_HIDDEN]),
        _describe_needed(by_name[BORDER_EXCHANGED]),
    )
    found = [reason for reason in reasons if reason]
    if not found:
        return ""
    width = f"{100 * BORDER_FRACTION:g} %"
    return (
        f"The network uses what is no lung: {'; '.join(found)} (n = {images:,}). The border is the "
        f"outer {width} of each side: side markers, written labels, the edges of the beam, how the "
        "patient was placed. Compare the borders of both classes, and do not trust any metric of "
        "this model before the difference is gone"
    )


def _describe_enough(hidden: MaskMetrics) -> str:
    """Return how well the border alone is enough, "" if it is not."""
    interval = hidden.auroc_interval
    lowest = interval.low if interval else hidden.auroc
    if lowest <= WARNING_LIMIT:
        return ""
    return (
        f"with the centre of the images hidden it still has AUROC {hidden.auroc:.3f} (interval "
        f"from {lowest:.3f}, expected from {WARNING_LIMIT} or less)"
    )


def _describe_needed(exchanged: MaskMetrics) -> str:
    """Return how much the border is needed, "" if it is not."""
    loss = exchanged.loss
    if loss is None:
        return ""
    lowest = loss.difference if loss.low is None else loss.low
    if lowest <= LOSS_LIMIT:
        return ""
    return (
        f"with borders of the other class its AUROC falls from {loss.auroc_a:.3f} to "
        f"{loss.auroc_b:.3f} (by {lowest:.3f} or more, expected {LOSS_LIMIT} or less)"
    )
