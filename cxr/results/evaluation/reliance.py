"""What a network uses: how well it ranks images of which a part is hidden, and when to warn.

The rule: with the centre hidden, the lower end of the 95 % interval of the AUROC is above
WARNING_LIMIT. What is left then is the border, which holds hardly any lung. Where the AUROC is 1
there is no interval (every draw of the patients gives 1), and 1 counts as the lower end. With fewer
than FEWEST_PATIENTS of a class nobody is warned: with so few, chance alone comes that far.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from cxr.core.settings import Strict
from cxr.data.images.border import BORDER_FRACTION
from cxr.data.images.changes.changed_images import ChangedImages
from cxr.data.images.changes.masks import CENTRE_HIDDEN, MASKS
from cxr.models.stress import DRAWS
from cxr.stats import intervals, metrics
from cxr.stats.intervals import Interval
from cxr.stats.metrics import Vector
from cxr.storage.arrays import Stored

# As for the baselines of the audit. On real films, a MobileNetV2 with a test AUROC of 0.997 had
# 0.70 with the centre hidden, where a logistic regression fitted on the border alone had 0.94.
WARNING_LIMIT = 0.75
FEWEST_PATIENTS = 10  # of each class

Score = Callable[[ChangedImages], Vector]
"""Returns the raw scores of images, float64 (n,)."""


class MaskMetrics(Strict):
    """How well a network ranks images of which a part is hidden.

    Attributes:
        mask: What is hidden, a name in MASKS.
        description: What stays visible, in words.
        auroc: Area under the ROC curve of the raw scores.
        auroc_interval: Its 95 % interval, None where not estimable.
    """

    mask: str
    description: str
    auroc: float
    auroc_interval: Interval | None


def score_masks(
    score: Score,
    pixels: Stored,
    keys: Sequence[str],
) -> dict[str, Vector]:
    """Return the raw scores of images behind every mask, float64 (n,) each.

    Args:
        score: Scores images: a network, or whatever else is to be looked at.
        pixels: uint8 (n, side, side).
        keys: The digest of the pixels of each.
    """
    return {mask.name: score(ChangedImages(pixels, keys, mask.change)) for mask in MASKS.values()}


def measure_masks(table: pd.DataFrame) -> tuple[MaskMetrics, ...]:
    """Measure how well scores behind each mask rank the images.

    Args:
        table: label, patient_id and a column of raw scores for each mask.

    Raises:
        DataError: A class is missing, or a score is no number.
    """
    labels = table["label"].to_numpy()
    patients = table["patient_id"].to_numpy()
    measured = []
    for mask in MASKS.values():
        raw = table[mask.name].to_numpy(np.float64)
        ranking = metrics.compute_metrics(labels, raw, 0.5)
        bounds = intervals.bootstrap_intervals(labels, raw, patients, 0.5, DRAWS)
        record = MaskMetrics(
            mask=mask.name,
            description=mask.description,
            auroc=float(ranking["auroc"] or 0.0),
            auroc_interval=bounds["auroc"],
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
    hidden = next(masked for masked in masks if masked.mask == CENTRE_HIDDEN)
    interval = hidden.auroc_interval
    lowest = interval.low if interval else hidden.auroc
    if lowest <= WARNING_LIMIT:
        return ""
    ends = f"95 % interval from {interval.low:.3f}" if interval else "the same in every draw"
    width = f"{100 * BORDER_FRACTION:g} %"
    return (
        "The network uses what is no lung: with the centre of the images hidden it still separates "
        f"the classes, AUROC {hidden.auroc:.3f} ({ends}, n = {images:,}), expected an interval "
        f"from {WARNING_LIMIT} or less. It saw the outer {width} of each side alone: side markers, "
        "written labels, the edges of the beam, how the patient was placed. Compare the borders of "
        "both classes, and do not trust any metric of this model before the difference is gone"
    )
