"""A sequential test that a share exceeds its limit: e-values of counts of images."""

import numpy as np

from cxr.stats.drift.evidence import Evidence, strongest
from cxr.stats.metrics import Vector

LIMIT = 0.05  # of the images: as in preprocessing, where more negatives stop a run
ALTERNATIVES = (0.1, 0.2, 0.4, 0.8)  # the shares that are betted on, with equal stakes


def collect_excess(hits: Vector, images: Vector, days: Vector) -> Evidence:
    """Return the evidence that more than LIMIT of the images are hits, after each batch.

    The mean of the likelihood ratios of the alternatives to LIMIT is a test supermartingale for
    every share up to LIMIT, because each ratio rises with every hit. Tests start on each day, with
    the weights of `evidence`.

    Args:
        hits: How many images of each batch are hits, (batches,), in the order of time.
        images: How many images each batch has, (batches,).
        days: The number of the day of each batch, rising by 0 or 1 from 0 on, int64 (batches,).
    """
    first_batches = np.searchsorted(days, np.arange(days[-1] + 1))
    all_hits = np.append(0, np.cumsum(hits))
    all_images = np.append(0, np.cumsum(images))
    ends = np.repeat(np.arange(len(days)), days + 1)
    starts = np.concatenate([np.arange(day + 1) for day in days])
    hits_since = all_hits[ends + 1] - all_hits[first_batches[starts]]
    images_since = all_images[ends + 1] - all_images[first_batches[starts]]
    log_e = log_excess(hits_since, images_since)
    return strongest(log_e, ends, starts, first_batches)


def log_excess(hits: Vector, images: Vector) -> Vector:
    """Return the natural logarithm of the e-value of each count, (tests,).

    Args:
        hits: How many images are hits, (tests,).
        images: Of how many, (tests,).
    """
    ratios = []
    for share in ALTERNATIVES:
        of_hits = hits * np.log(share / LIMIT)
        of_others = (images - hits) * np.log((1 - share) / (1 - LIMIT))
        ratios.append(of_hits + of_others)
    return np.asarray(np.logaddexp.reduce(ratios, axis=0) - np.log(len(ALTERNATIVES)))
