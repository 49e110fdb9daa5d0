"""Sequential tests of drift that may be looked at any time: e-values of binned measurements.

Null hypothesis: the images at work are drawn as the reference images were, except that the share of
positives may be any, because a class mix changes at work without a fault. Under it the counts of the
bins follow a Dirichlet-multinomial distribution whose weights are the reference's own counts: for
one class, independent images and bins between the reference's own values that is exact (Pólya's
urn). The alternative is a Dirichlet-multinomial that forgets the reference quickly. The ratio of the
two likelihoods is a test martingale from whichever day on it starts, so the chance that it ever
exceeds 1/p is at most p, however often it is looked at (Ville 1939; Vovk & Wang 2021, e-values). Of
all shares of positives the most likely one counts, which makes the ratio smaller.

A drift may begin on any day, so a test starts on each day with images. The test of the k-th day has
the weight 1/(k (k + 1)); the weights sum to 1, so all days together keep the chance of p.
"""

from typing import NamedTuple

import numpy as np

from cxr.stats.drift.binning import Bins
from cxr.stats.metrics import Vector

SHARES = np.linspace(0, 1, 21)  # of positives, that the null hypothesis may have
PRIOR = 0.5  # added to each count of the reference: Jeffreys' prior
FORGETFUL = 8.0  # images that the alternative takes the reference for
_BLOCK = 5_000  # tests in memory at a time


class Evidence(NamedTuple):
    """The evidence for drift after each batch.

    Attributes:
        log_e: The largest natural logarithm of e-value times weight over the starts, (batches,).
        start: The batch with which that test starts, int64 (batches,).
    """

    log_e: Vector
    start: Vector


def collect_evidence(
    batches: Vector,
    days: Vector,
    bins: Bins,
    any_mix: bool = True,
) -> Evidence:
    """Return the evidence that a measurement has drifted, after each batch.

    Args:
        batches: The counts of each batch in each bin, (batches, bins), in the order of time.
        days: The number of the day of each batch, rising by 0 or 1 from 0 on, int64 (batches,).
        bins: Of the reference.
        any_mix: Whether any share of positives is no drift; otherwise only the reference's own.
    """
    totals = np.vstack([np.zeros_like(batches[:1]), np.cumsum(batches, axis=0)])
    first_batches = np.searchsorted(days, np.arange(days[-1] + 1))
    ends, starts = _pair_starts(days)
    counts = totals[ends + 1] - totals[first_batches[starts]]
    log_e = log_evidence(counts, bins, any_mix)
    return strongest(log_e, ends, starts, first_batches)


def strongest(
    log_e: Vector,
    ends: Vector,
    starts: Vector,
    first_batches: Vector,
) -> Evidence:
    """Return for each batch the test with the largest weighted e-value.

    Args:
        log_e: Of each test, (tests,).
        ends: The last batch of each test, rising, int64 (tests,).
        starts: The day on which each test starts, int64 (tests,).
        first_batches: The first batch of each day, int64 (days,).
    """
    weighted = log_e - np.log((starts + 1) * (starts + 2))
    order = np.lexsort((weighted, ends))
    is_last = np.append(np.diff(ends[order]) > 0, True)
    best = order[is_last]
    return Evidence(weighted[best], first_batches[starts[best]])


def _pair_starts(days: Vector) -> tuple[Vector, Vector]:
    """Return after which batch, and for which starting day, evidence is computed, int64 (tests,) each.

    A year has too many pairs of days: from each day the tests that started 0, 1, 3, 7, ... days
    before are looked at, and the first. To leave tests out never raises a false alarm.
    """
    ends = []
    starts = []
    for batch, day in enumerate(days.tolist()):
        lags = {day}
        lag = 0
        while lag < day:
            lags.add(lag)
            lag = 2 * lag + 1
        for lag in sorted(lags):
            ends.append(batch)
            starts.append(day - lag)
    return np.array(ends), np.array(starts)


def log_evidence(
    counts: Vector,
    bins: Bins,
    any_mix: bool = True,
) -> Vector:
    """Return the natural logarithm of the e-value of each row of counts, (tests,).

    Args:
        counts: Of images at work in each bin, (tests, bins).
        bins: Of the reference.
        any_mix: Whether any share of positives is no drift; otherwise only the reference's own.
    """
    independent = counts / bins.images_alike
    pooled = np.add(bins.negatives, bins.positives) + PRIOR
    alternative = FORGETFUL * pooled / pooled.sum()
    nulls = pooled[np.newaxis] / bins.images_alike
    if any_mix:
        nulls = _null_weights(bins)
    ratios = [np.empty(0)]
    for start in range(0, len(counts), _BLOCK):
        block = independent[start : start + _BLOCK]
        of_nulls = log_probability(block, nulls[:, np.newaxis])
        ratios.append(log_probability(block, alternative) - of_nulls.max(axis=0))
    return np.concatenate(ratios)


def _null_weights(bins: Bins) -> Vector:
    """Return the Dirichlet weights of the null hypothesis for each share of positives, (shares, bins).

    The mixture of two classes has the mean of their distributions. It counts as many images as
    give a mean with the variance of that mixture.
    """
    negatives = np.array(bins.negatives) / bins.images_alike + PRIOR
    positives = np.array(bins.positives) / bins.images_alike + PRIOR
    if not any(bins.negatives):
        return positives[np.newaxis]
    if not any(bins.positives):
        return negatives[np.newaxis]
    share = SHARES[:, np.newaxis]
    mean = share * positives / positives.sum() + (1 - share) * negatives / negatives.sum()
    variance = share**2 / positives.sum() + (1 - share) ** 2 / negatives.sum()
    return np.asarray(mean / variance)


def log_probability(counts: Vector, weights: Vector) -> Vector:
    """Return the log-probability of a sequence of images with these counts, (..., tests).

    It is the Dirichlet-multinomial distribution without its multinomial coefficient, because the
    order of the images is given.

    Args:
        counts: Of each bin, (tests, bins); they need not be whole.
        weights: Of the Dirichlet distribution, positive, (bins,), or several of them,
            (..., 1, bins).
    """
    from scipy.special import gammaln

    images = counts.sum(axis=1)
    of_bins = gammaln(weights + counts) - gammaln(weights)
    total = weights.sum(axis=-1)
    return np.asarray(of_bins.sum(axis=-1) + gammaln(total) - gammaln(total + images))
