"""The rule of a site's threshold: a sensitivity that is promised, not hoped for.

The threshold is the highest at which, with a confidence of 95 %, at least the promised share of
patients with pneumonia has every PNEUMONIA image called positive. Patients are the units, because
their images are alike; a patient's score is the lowest of their images'. That costs some
specificity, and errs on the side of finding.

With n such patients, sorted by score, the r-th lowest is the threshold. The share of all patients
below it is a Beta(r, n - r + 1) variable, whatever the scores look like (Wilks 1941; David &
Nagaraja, Order Statistics, 2003, section 7.2). So the promise is kept with the confidence wanted if
P(Bin(n, 1 - promised) >= r) is at least that, and r is the highest number for which it is. Even r = 1
needs 1 - promised^n >= confidence: 59 patients for 0.95.
"""

import math

import numpy as np

from cxr.core.settings import Strict
from cxr.stats.intervals import number_patients
from cxr.stats.metrics import Vector

CONFIDENCE = 0.95
DEFAULT_PROMISE = 0.95  # where neither a person nor the model's card names a sensitivity


class Promise(Strict):
    """A threshold that keeps a sensitivity, or why there is none.

    Attributes:
        sensitivity: The share of patients that is promised.
        confidence: How sure the promise is.
        patients: Patients with PNEUMONIA in the sample.
        images: Their images.
        rank: The threshold is at the patient with this rank, from the lowest score; 0 for none.
        threshold: The lowest score that counts as positive; None for too few patients.
        low: The lower end of the 95 % interval of the threshold at which the sensitivity is exactly
            the promised one; None where so few patients do not bound it.
        high: The upper end.
        attainable: The highest sensitivity that so many patients can promise.
        patients_needed: How many more patients with PNEUMONIA a promise needs; 0 where it is made.
        images_needed: About how many more labelled images that is, with classes and images for each
            patient as in this sample.
    """

    sensitivity: float
    confidence: float
    patients: int
    images: int
    rank: int
    threshold: float | None
    low: float | None
    high: float | None
    attainable: float
    patients_needed: int
    images_needed: int

    def sentence(self) -> str:
        """Return what is promised, or why nothing is, in words."""
        if self.threshold is None:
            return (
                f"Too few: {self.patients} patients with PNEUMONIA cannot promise a sensitivity of "
                f"{self.sensitivity:g} with {100 * self.confidence:g} % confidence, at most "
                f"one of "
                f"{self.attainable:.3f}. It needs {self.patients_needed} more such patients, about "
                f"{self.images_needed} more labelled images of the kind of this sample. Until "
                "then the threshold of the model stays"
            )
        return (
            f"{self.threshold:.6f}: the highest threshold at which, with {100 * self.confidence:g} % "
            f"confidence, at least {self.sensitivity:g} of patients with PNEUMONIA have every image "
            f"called positive (rank {self.rank} of {self.patients} patients)"
        )


def patients_needed(sensitivity: float, confidence: float = CONFIDENCE) -> int:
    """Return how many patients with pneumonia a promise needs at least.

    Args:
        sensitivity: The share that is promised, above 0 and below 1.
        confidence: How sure it has to be.

    >>> patients_needed(0.95)
    59
    """
    return math.ceil(math.log(1 - confidence) / math.log(sensitivity))


def promised_rank(
    patients: int,
    sensitivity: float,
    confidence: float = CONFIDENCE,
) -> int:
    """Return at which patient, from the lowest score, the threshold is; 0 for too few patients.

    Args:
        patients: How many there are.
        sensitivity: The share that is promised.
        confidence: How sure it has to be.

    >>> [promised_rank(patients, 0.95) for patients in (58, 59, 93)]
    [0, 1, 2]
    """
    from scipy.stats import binom

    ranks = np.arange(1, patients + 1)
    is_kept = binom.sf(ranks - 1, patients, 1 - sensitivity) >= confidence
    return int(is_kept.sum())  # it falls with the rank


def promise_threshold(
    labels: Vector,
    scores: Vector,
    patients: Vector,
    sensitivity: float,
) -> Promise:
    """Return the threshold of a sample by the rule at the top of this file.

    It lies half-way between the score at its rank and the next lower one of the sample, so that the
    last bit of a score decides nothing.

    Args:
        labels: 0 or 1, (n,), with at least one of each.
        scores: 0 to 1, (n,).
        patients: The patient of each image, text (n,); an image with "" is a patient of its own.
        sensitivity: The share of patients to promise, above 0 and below 1.
    """
    lowest = np.sort(_lowest_by_patient(labels, scores, patients))
    count = len(lowest)
    images = int((labels == 1).sum())
    rank = promised_rank(count, sensitivity)
    needed = max(0, patients_needed(sensitivity) - count)
    threshold = None
    if rank:
        threshold = _below(scores, float(lowest[rank - 1]))
    first, last = _interval_ranks(count, sensitivity)
    return Promise(
        sensitivity=sensitivity,
        confidence=CONFIDENCE,
        patients=count,
        images=images,
        rank=rank,
        threshold=threshold,
        low=float(lowest[first - 1]) if first else None,
        high=float(lowest[last - 1]) if last <= count else None,
        attainable=(1 - CONFIDENCE) ** (1 / count),
        patients_needed=needed,
        images_needed=math.ceil(needed * len(labels) / count),
    )


def _lowest_by_patient(
    labels: Vector,
    scores: Vector,
    patients: Vector,
) -> Vector:
    """Return the lowest score of each patient's positive images, float64 (patients,)."""
    positive = labels == 1
    whose = np.unique(number_patients(patients[positive]), return_inverse=True)[1]
    lowest = np.full(int(whose.max()) + 1, np.inf)
    np.minimum.at(lowest, whose, scores[positive])
    return lowest


def _below(scores: Vector, score: float) -> float:
    """Return the middle between a score and the next lower one of a sample, or itself."""
    lower = scores[scores < score]
    if not len(lower):
        return score
    middle = (score + float(lower.max())) / 2
    return middle if middle < score else score


def _interval_ranks(count: int, sensitivity: float) -> tuple[int, int]:
    """Return the ranks between which the quantile 1 - sensitivity lies with 95 % confidence.

    The first is 0, the last is count + 1, where so few do not bound it (David & Nagaraja, 7.1).
    """
    from scipy.stats import binom

    missed = 1 - sensitivity
    first = int(binom.ppf(0.025, count, missed))
    last = int(binom.ppf(0.975, count, missed)) + 1
    return first, last
