"""Confirm proposed near-duplicates: the aligned thumbnails of a pair must correlate."""

import itertools
from typing import Any, Protocol

import numpy as np
import pandas as pd

from cxr.data.leakage.views import SIDE, Array, View, orient, resize_matrix

# Measured on 5,190 real images: aligned copies correlate at 0.985 or more. Correlation alone would
# not do: two images of one child reach 0.981.
MIN_CORRELATION = 0.98
PAIR_POSITIONS = ["a", "b", "variant", "distance", "correlation"]
CHUNK = 1024  # pairs at a time: 16 MB as float32
_NUDGE = 0.007  # of the side: half the step between neighbouring crops of VIEWS
_INVERSE = {"rotated 90": "rotated 270"}  # every other view is its own inverse


class Thumbnails(Protocol):
    """Thumbnails that are read by position from several threads, uint8 (n, 64, 64).

    An array, a memory map, or anything that acts like one.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, positions: Any, /) -> Any: ...


def confirm_pairs(
    thumbnails: Thumbnails,
    view: View,
    proposed: pd.DataFrame,
) -> pd.DataFrame:
    """Keep the proposed pairs whose thumbnails correlate once the first is seen in the view.

    Where they do not correlate at first, crops up to 0.7 % of a side off the view are tried: half
    way between two views, the correlation of a true copy can fall to 0.95.

    Args:
        thumbnails: All thumbnails.
        view: The view in which the image at `viewed` looks like the image at `indexed`.
        proposed: Columns viewed and indexed (positions) and distance (bits).

    Returns:
        The confirmed pairs: a, b (positions, a < b), variant, distance, correlation.
    """
    viewed = proposed["viewed"].to_numpy()
    indexed = proposed["indexed"].to_numpy()
    correlations = np.empty(len(proposed))
    for start in range(0, len(proposed), CHUNK):
        chunk = slice(start, start + CHUNK)
        correlations[chunk] = _correlate(
            thumbnails,
            view,
            viewed[chunk],
            indexed[chunk],
        )
    variant_back = _INVERSE.get(view.name, view.name)
    pairs = pd.DataFrame(
        {
            "a": np.minimum(viewed, indexed),
            "b": np.maximum(viewed, indexed),
            "variant": np.where(
                viewed < indexed,
                view.name,
                variant_back,
            ),
            "distance": proposed["distance"].to_numpy(),
            "correlation": correlations,
        }
    )
    return pairs[correlations >= MIN_CORRELATION]


def _correlate(
    thumbnails: Thumbnails,
    view: View,
    viewed: Array,
    indexed: Array,
) -> Array:
    """Return the correlation of each pair of positions, float64 (k,)."""
    oriented = orient(_read_pixels(thumbnails, viewed), view)
    references = _read_pixels(thumbnails, indexed)
    left, top, right, bottom = view.cut
    cropped = resize_matrix(top, bottom) @ oriented @ resize_matrix(left, right).T
    correlations = _pearson(cropped, references)
    for pair in np.flatnonzero(correlations < MIN_CORRELATION):
        correlations[pair] = _best_nudged_correlation(
            oriented[pair],
            references[pair],
            view,
        )
    return correlations


def _read_pixels(thumbnails: Thumbnails, positions: Array) -> Array:
    """Return float32 (k, 64, 64). Each position is read once, in rising order, as files like it."""
    unique, inverse = np.unique(positions, return_inverse=True)
    pixels: Array = np.asarray(thumbnails[unique]).astype(np.float32)[inverse]
    return pixels


def _best_nudged_correlation(
    oriented: Array,
    reference: Array,
    view: View,
) -> float:
    """Return the highest correlation over 81 crops: each edge as it is, further out, further in."""
    left, top, right, bottom = view.cut
    nudges = list(
        itertools.product(
            (-_NUDGE, 0.0, _NUDGE),
            repeat=2,
        )
    )
    down = np.stack([resize_matrix(top + start, bottom + end) for start, end in nudges])
    across = np.stack([resize_matrix(left + start, right + end).T for start, end in nudges])
    crops = (down @ oriented)[:, None] @ across
    correlations = _pearson(crops.reshape(-1, SIDE, SIDE), reference[None])
    return float(correlations.max())


def _pearson(first: Array, second: Array) -> Array:
    """Return Pearson's correlation of each pair, float64 (k,); 0 where an image is constant."""
    x = _centred(first)
    y = _centred(second)
    covariance = (x * y).sum(axis=1)
    scale = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    zeros = np.zeros(len(covariance))
    correlations: Array = np.divide(
        covariance,
        scale,
        out=zeros,
        where=scale > 0,
    )
    return correlations


def _centred(images: Array) -> Array:
    """Return each image as a row, its mean taken away, float64 (k, 4096)."""
    rows = images.reshape(len(images), -1).astype(np.float64)
    centred: Array = rows - rows.mean(axis=1, keepdims=True)
    return centred
