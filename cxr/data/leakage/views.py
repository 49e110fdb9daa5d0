"""The views in which near-duplicates are searched, and the perceptual hash of each view."""

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

SIDE = 64  # pixels of a thumbnail, in each direction
LOW = 16  # lowest frequencies of the cosine transform that are hashed, in each direction


class View(NamedTuple):
    """A way to look at an image: mirrored left to right, then rotated, or with its edges cut off.

    Attributes:
        name: What the view is called in pairs.csv.
        mirrored: Whether the image is mirrored left to right.
        quarters: Counterclockwise rotation after mirroring, in quarter turns, 0 to 3.
        cut: What is cut off at the left, top, right and bottom, as fractions of the side.
    """

    name: str
    mirrored: bool = False
    quarters: int = 0
    cut: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


def _crops() -> Iterator[View]:
    """Yield even and one-sided crops.

    The steps are so fine that the hash of a crop between two of them is still within the largest
    distance at which pairs are proposed.
    """
    for fraction in (0.0125, 0.025, 0.0375, 0.05):
        yield View(
            "cropped",
            cut=(fraction, fraction, fraction, fraction),
        )
    for edge in range(4):
        for step in (1, 2, 3):
            cut = [0.0, 0.0, 0.0, 0.0]
            cut[edge] = step * 0.05 / 3
            yield View(
                "cropped",
                cut=(cut[0], cut[1], cut[2], cut[3]),
            )


# There is no rotation by 270 degrees alone: such a pair is found from its other image, as a
# rotation by 90.
VIEWS = (
    View("same"),
    View("mirrored", mirrored=True),
    View(
        "mirrored up-down",
        mirrored=True,
        quarters=2,
    ),
    View("rotated 90", quarters=1),
    View("rotated 180", quarters=2),
    View(
        "mirrored, rotated 90",
        mirrored=True,
        quarters=1,
    ),
    View(
        "mirrored, rotated 270",
        mirrored=True,
        quarters=3,
    ),
    *_crops(),
)


def hash_view(pixels: Array, view: View) -> Array:
    """Compute the perceptual hashes of thumbnails seen in a view.

    Each bit says whether one of the lowest 16x16 terms of the discrete cosine transform is above
    their median, as in `cxr.data.images.hashing`, from which it differs by ties at most. Cropping,
    resizing and transforming are one matrix product. Mirroring and rotating only swap terms and
    change their signs. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions"
    (2010), section 3.2.1.

    Args:
        pixels: Thumbnails, uint8 (k, 64, 64).
        view: The view.

    Returns:
        Hashes of 256 bits, uint8 (k, 32).
    """
    left, top, right, bottom = view.cut
    across = _cosine_matrix() @ resize_matrix(left, right)
    down = _cosine_matrix() @ resize_matrix(top, bottom)
    # Multiplied image by image: products this small stay in one BLAS thread, and the threads of the
    # search already fill the cores.
    terms = down @ (pixels.astype(np.float32) @ across.T)
    terms = _orient_terms(terms, view).reshape(len(pixels), LOW * LOW)
    # Rounded to whole numbers, of up to a million: a term that should be 0 is then 0, in whichever
    # chunk it was computed.
    terms = np.rint(terms)
    median = np.partition(terms, 127, axis=1)[:, 127:128]
    bits: Array = np.packbits(terms > median, axis=1)
    return bits


@cache
def _cosine_matrix() -> Array:
    """Return the matrix of the 16 lowest terms of the DCT-II over 64 values, float32 (16, 64)."""
    from scipy.fft import dct

    terms: Array = dct(np.eye(SIDE), axis=0)[:LOW].astype(np.float32)
    return terms


@cache
def resize_matrix(start: float, end: float) -> Array:
    """Return the matrix that crops a row of 64 values and resizes the rest to 64, linearly.

    Args:
        start: Fraction cut off at the start; negative values repeat the first value.
        end: Fraction cut off at the end.

    Returns:
        float32 (64, 64).
    """
    kept = 1 - start - end
    centres = start * SIDE + (np.arange(SIDE) + 0.5) * kept - 0.5
    centres = np.clip(centres, 0, SIDE - 1)
    distances = np.abs(centres[:, None] - np.arange(SIDE))
    weights: Array = np.maximum(0, 1 - distances).astype(np.float32)
    return weights


def orient(pixels: Array, view: View) -> Array:
    """Mirror and rotate images (..., height, width) as the view says."""
    if view.mirrored:
        pixels = pixels[..., ::-1]
    return np.rot90(
        pixels,
        view.quarters,
        axes=(-2, -1),
    )


def _orient_terms(terms: Array, view: View) -> Array:
    """Return the DCT terms (k, 16, 16) of the oriented images: a mirror negates odd terms."""
    signs = np.where(np.arange(LOW) % 2, -1, 1).astype(np.float32)
    if view.mirrored:
        terms = terms * signs
    for _ in range(view.quarters):
        terms = terms.transpose(0, 2, 1) * signs[:, None]
    return terms
