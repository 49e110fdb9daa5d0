"""The views in which near-duplicates are looked for: mirrored, turned and cropped, and their hashes."""

import itertools
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    pass

Array = np.ndarray[Any, Any]
SIDE, LOW = 64, 16


class View(NamedTuple):
    """A way to look at an image: mirrored left-right, then turned counterclockwise, or with its edges cut off.

    `cut` is left, top, right and bottom, as fractions of the side.
    """

    name: str
    mirrored: bool = False
    quarters: int = 0
    cut: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


def _crops() -> Iterator[View]:
    """Yield even and one-sided crops, in steps so fine that a crop between two of them is within MAX_DISTANCE."""
    for share in (0.0125, 0.025, 0.0375, 0.05):
        yield View("cropped", cut=(share, share, share, share))
    for side, step in itertools.product(range(4), (1, 2, 3)):
        left, top, right, bottom = (step * 0.05 / 3 if side == here else 0.0 for here in range(4))
        yield View("cropped", cut=(left, top, right, bottom))


# No turn by 270 degrees: the pair is found from its other side, where the turn is by 90.
VIEWS = (
    View("same"),
    View("mirrored", mirrored=True),
    View("mirrored up-down", mirrored=True, quarters=2),
    View("rotated 90", quarters=1),
    View("rotated 180", quarters=2),
    View("mirrored, rotated 90", mirrored=True, quarters=1),
    View("mirrored, rotated 270", mirrored=True, quarters=3),
    *_crops(),
)


def hash_view(pixels: Array, view: View) -> Array:
    """Return the 256-bit hashes of thumbnails (k, 64, 64) seen in this view: uint8 (k, 32).

    As `images.perceptual_hashes`, up to ties: the lowest 16x16 DCT terms, above or below their median. Cut,
    stretched and transformed in one matrix product; turned and mirrored by changing places and signs of the terms.
    Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), section 3.2.1.
    """
    left, top, right, bottom = view.cut
    across, down = _transform() @ stretch(left, right), _transform() @ stretch(top, bottom)
    # Image by image: products this small stay in one BLAS thread, where the pool's threads already fill the cores.
    terms = _turned_terms(down @ (pixels.astype(np.float32) @ across.T), view).reshape(
        len(pixels), LOW * LOW
    )
    # To whole numbers, of up to a million: a term that should be 0 is then 0, in whichever chunk it was computed.
    terms = np.rint(terms)
    middle = np.partition(terms, 127, axis=1)[:, 127:128]
    bits: Array = np.packbits(terms > middle, axis=1)
    return bits


@cache
def _transform() -> Array:
    """Return the matrix of the lowest 16 terms of the DCT-II over 64 values: float32 (16, 64)."""
    from scipy.fft import dct

    terms: Array = dct(np.eye(SIDE), axis=0)[:LOW].astype(np.float32)
    return terms


@cache
def stretch(start: float, end: float) -> Array:
    """Return the matrix that cuts these fractions off 64 values and stretches the rest to 64, linearly: (64, 64)."""
    centres = start * SIDE + (np.arange(SIDE) + 0.5) * (1 - start - end) - 0.5
    away = np.abs(np.clip(centres, 0, SIDE - 1)[:, None] - np.arange(SIDE))
    weights: Array = np.maximum(0, 1 - away).astype(np.float32)
    return weights


def _turned_terms(terms: Array, view: View) -> Array:
    """Return the DCT terms (k, 16, 16) of the image after the view: a mirror negates the odd ones."""
    odd = np.where(np.arange(LOW) % 2, -1, 1).astype(np.float32)
    if view.mirrored:
        terms = terms * odd
    for _ in range(view.quarters):
        terms = terms.transpose(0, 2, 1) * odd[:, None]
    return terms
