"""95 % confidence intervals of metrics: the bootstrap over patients, and Wilson's for a proportion.

Wilson's comes for independent images, and for images of patients.

Images of one patient resemble each other, so whole patients are resampled, never single images.
A metric for which the data cannot give an interval has None, never a made-up number.

Intervals of the difference between two models are in `comparison`. The calibration error has none:
its resamples are biased upwards (simulated on 600 images, its percentile interval covered the true
value in 0 to 71 % of the sets), so it is compared with `reliability.ece_by_chance` instead.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from cxr.core.errors import DataError
from cxr.core.settings import Strict
from cxr.stats.metrics import PROPORTIONS, Vector, check_scores
from cxr.stats.weighted_metrics import METRICS, weighted_metrics

# A metric without a value in more than this share of the resamples has no interval.
MISSING_RESAMPLES = 0.05
# Weights in memory at a time: 8 MB, and about ten such arrays while a block is worked on.
BLOCK = 1_000_000
# Resampled metrics that differ by less do so by rounding alone.
ROUNDING = 1e-12


class Interval(Strict):
    """A 95 % confidence interval.

    Attributes:
        low: Its lower end.
        high: Its upper end.
        method: How it was computed.
        images: The images behind the metric: its own denominator, for a proportion.
        patients: The patients behind the metric; None where not counted.
    """

    low: float
    high: float
    method: Literal["patient bootstrap", "Wilson", "Wilson by patient"]
    images: int
    patients: int | None = None


def wilson_interval(
    k: int,
    n: int,
    patients: int | None = None,
) -> Interval | None:
    """Return Wilson's score interval (Wilson 1927, by SciPy) of a proportion.

    Images count as independent, so it is a little too narrow where patients have several.

    Args:
        k: How many images have the property, 0 to n.
        n: How many images there are.
        patients: How many patients they show; only recorded.

    Returns:
        The 95 % interval, within 0 to 1; None for n = 0.

    Raises:
        ValueError: k is not within 0 to n.

    >>> wilson_interval(0, 29)
    Interval(low=0.0, high=0.11696979849974073, method='Wilson', images=29, patients=None)
    """
    from scipy.stats import binomtest

    if n == 0:
        return None
    interval = binomtest(k, n).proportion_ci(method="wilson")
    return Interval(
        low=float(interval.low),
        high=float(interval.high),
        method="Wilson",
        images=n,
        patients=patients,
    )


def wilson_by_patient(
    value: float,
    variance: float,
    images: int,
    patients: int,
) -> Interval | None:
    """Return Wilson's interval of a mean from 0 to 1 whose images are not independent.

    The images count as many as would have this variance if they were independent proportions, the
    effective sample size value (1 - value) / variance (Kish 1965; for proportions of clusters Saha,
    Miller & Wang 2016): at most as many as there are, and where nothing varies as many as patients.
    It keeps its coverage near 0 and 1 and for a hundred images (bench/site.py).

    Args:
        value: A proportion, an AUROC or a Brier score.
        variance: Of the value over samples of patients, at least 0.
        images: How many images are behind the value.
        patients: How many patients they show.

    Returns:
        The 95 % interval, within 0 to 1; None with fewer than two patients.
    """
    from scipy.stats import norm

    if patients < 2:
        return None
    effective = float(patients)
    if variance > ROUNDING:
        effective = min(max(value * (1 - value) / variance, 1.0), float(images))
    z2 = float(norm.ppf(0.975)) ** 2
    centre = (value + z2 / (2 * effective)) / (1 + z2 / effective)
    spread = value * (1 - value) / effective + z2 / (4 * effective**2)
    half = math.sqrt(z2 * spread) / (1 + z2 / effective)
    return Interval(
        low=min(max(centre - half, 0.0), value),
        high=max(min(centre + half, 1.0), value),
        method="Wilson by patient",
        images=images,
        patients=patients,
    )


def mean_interval(values: Vector, patients: Sequence[str] | Vector) -> Interval | None:
    """Return the interval of a mean of values from 0 to 1, by `wilson_by_patient`.

    The variance is that of a ratio of sums over patients (Cochran 1977, ch. 6).

    Args:
        values: Of each image, 0 to 1, (n,).
        patients: The patient of each, text (n,); an image with "" is a patient of its own.
    """
    patient_numbers = np.unique(number_patients(patients), return_inverse=True)[1]
    images = len(values)
    if not images:
        return None
    count = int(patient_numbers.max()) + 1
    mean = float(np.mean(values))
    sums = np.bincount(patient_numbers, values - mean)
    variance = float((sums**2).sum()) / images**2 * count / max(count - 1, 1)
    return wilson_by_patient(mean, variance, images, count)


def bootstrap_intervals(
    labels: Vector,
    scores: Vector,
    patients: Sequence[str] | Vector,
    threshold: float,
    draws: int = 2000,
    seed: int = 0,
) -> dict[str, Interval | None]:
    """Return the 95 % interval of each metric by a bootstrap that resamples whole patients.

    This is the percentile bootstrap (Efron & Tibshirani 1993, ch. 13) with patients as clusters
    (Field & Welsh 2007). A proportion of exactly 0 or 1 is the same in every resample; it gets
    Wilson's interval, which counts its images as independent.

    Args:
        labels: 0 or 1, (n,).
        scores: 0 to 1, (n,).
        patients: The patient of each image, text (n,); an image with "" is a patient of its own.
        threshold: The lowest score that counts as positive.
        draws: How many resamples.
        seed: Seed of the resamples.

    Returns:
        An interval for each of METRICS. None where it is not estimable: fewer than two patients
        behind the metric, no value in more than 5 % of the resamples, or the same value in all of
        them (an AUROC of 1, constant scores).

    Raises:
        DataError: The lengths differ, a label is neither 0 nor 1, a score is not within 0 to 1, or
            the threshold is NaN.
    """
    labels, scores = check_scores(labels, scores)
    patient_numbers = number_patients(patients)
    if len(patient_numbers) != len(labels) or np.isnan(threshold):
        raise DataError(
            "expected one patient per image and a threshold, "
            f"found {len(patient_numbers)} of {len(labels)}, {threshold}"
        )
    if not len(labels):
        return dict.fromkeys(METRICS)
    values = weighted_metrics(labels, scores, np.ones((1, len(labels))), threshold)
    blocks = [
        weighted_metrics(labels, scores, weights, threshold)
        for weights in resampled_weights(patient_numbers, draws, seed)
    ]
    denominators = _denominators(labels, scores >= threshold)
    intervals = {}
    for name in METRICS:
        intervals[name] = _percentile_interval(
            name,
            value=float(values[name][0]),
            resampled=np.concatenate([block[name] for block in blocks]),
            patient_numbers=patient_numbers[denominators[name]],
        )
    return intervals


def number_patients(patients: Sequence[str] | Vector) -> Vector:
    """Return the patient of each image as a number from 0 on, int64 (n,).

    Args:
        patients: The patient of each image, text (n,); an image with "" is a patient of its own.

    >>> number_patients(["b", "", "a", "b", ""])
    array([1, 2, 0, 1, 3])
    """
    names = np.asarray(patients, dtype=str)
    missing = names == ""
    known, numbers = np.unique(names[~missing], return_inverse=True)
    patient_numbers = np.empty(len(names), np.int64)
    patient_numbers[~missing] = numbers
    patient_numbers[missing] = len(known) + np.arange(missing.sum())
    return patient_numbers


def resampled_weights(
    patient_numbers: Vector,
    draws: int,
    seed: int,
) -> Iterator[Vector]:
    """Yield blocks (resamples, n) of how often each image's patient was drawn in each resample.

    A resample draws as many patients as there are, with replacement.
    """
    rng = np.random.default_rng(seed)
    patients = int(patient_numbers.max()) + 1
    block_rows = max(1, BLOCK // len(patient_numbers))
    for start in range(0, draws, block_rows):
        rows = min(block_rows, draws - start)
        drawn = rng.integers(0, patients, (rows, patients))
        # Number the patients of each resample apart, so that one bincount counts all resamples.
        drawn += patients * np.arange(rows)[:, np.newaxis]
        counts = np.bincount(drawn.ravel(), minlength=rows * patients)
        by_patient = counts.reshape(rows, patients).astype(np.float64)
        yield by_patient[:, patient_numbers]


def _denominators(labels: Vector, called_positive: Vector) -> dict[str, Vector]:
    """Return for each metric which images it is a metric of, bool (n,)."""
    denominators = dict.fromkeys(METRICS, np.ones(len(labels), bool))
    denominators["sensitivity"] = labels == 1
    denominators["specificity"] = labels == 0
    denominators["precision"] = called_positive
    denominators["npv"] = ~called_positive
    return denominators


def _percentile_interval(
    name: str,
    value: float,
    resampled: Vector,
    patient_numbers: Vector,
) -> Interval | None:
    """Return the interval of one metric from its resampled values, or None if not estimable."""
    images = len(patient_numbers)
    patients = len(np.unique(patient_numbers))
    if np.isnan(value) or patients < 2:
        return None
    if name in PROPORTIONS and value in {0.0, 1.0}:
        return wilson_interval(round(value * images), images, patients)
    known = resampled[~np.isnan(resampled)]
    if len(known) < (1 - MISSING_RESAMPLES) * len(resampled):
        return None
    if np.ptp(known) < ROUNDING:
        return None
    low, high = np.percentile(known, (2.5, 97.5)).tolist()
    return Interval(
        low=low,
        high=high,
        method="patient bootstrap",
        images=images,
        patients=patients,
    )
