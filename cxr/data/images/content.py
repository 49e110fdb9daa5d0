"""Whether a decoded picture can be a film: not a mask, not flat, not too small."""

import math

import numpy as np
from PIL import Image

from cxr.core.settings import FileSettings
from cxr.data.images.decoding import decoder
from cxr.data.images.decoding.decoder import Decoded, rejecting_errors
from cxr.data.images.decoding.rejection import Pixels, Rejected
from cxr.data.images.model_input import to_gray

# A picture of two values is the mask of an organ. JPEG spreads each over a few gray levels.
_MASK_SHARE = 0.9  # of all pixels; the most of any film of 5,339 is 0.76
_MASK_REACH = 8  # gray levels to each side of the two values
_MASK_GAP = 48  # gray levels between them at least: a film with little contrast is no mask


def examine(data: bytes, settings: FileSettings) -> Decoded:
    """Return the decoded file where its picture can be a film; raises Rejected.

    Beside all that `decode` rejects: too_small, extreme_shape, flat and mask, with the limits of
    `settings`.
    """
    with rejecting_errors(data):
        decoded = decoder.decode_unguarded(data, settings.bit_depth)
        check_content(decoded.image, gray_counts(decoded.image), settings)
        return decoded


def check_content(image: Image.Image, counts: Pixels, settings: FileSettings) -> None:
    """Raise Rejected where it cannot be a film; `counts` are of its gray values, int64 (256,)."""
    shorter = min(image.size)
    longer = max(image.size)
    shape = f"{image.width}x{image.height} pixels"
    if shorter < settings.min_side:
        limit = f"expected {settings.min_side} or more on each side (--min-side)"
        raise Rejected("too_small", f"{shape}: {limit}")
    if longer > settings.max_aspect * shorter:
        limit = f"expected at most {settings.max_aspect:g} to 1 (--max-aspect)"
        raise Rejected("extreme_shape", f"{shape}: {limit}")
    _, spread = mean_and_std(counts)
    if spread < settings.min_contrast:
        limit = f"expected {settings.min_contrast:g} or more (--min-contrast)"
        raise Rejected("flat", f"gray values with a deviation of {spread:.1f} of 255: {limit}")
    values = _two_values(counts / counts.sum())
    if values is not None:
        low, high = values
        raise Rejected("mask", f"a picture of two values, {low} and {high} of 255: no film")


def _two_values(shares: Pixels) -> tuple[int, int] | None:
    """Return the two gray values that a picture consists of, or None; shares are float64 (256,)."""
    near = np.convolve(shares, np.ones(2 * _MASK_REACH + 1), "same")
    first = int(near.argmax())
    apart = np.abs(np.arange(256) - first) >= _MASK_GAP
    second = int(np.where(apart, near, -1).argmax())
    # A gray value can be near to both only where they are closer than they may be.
    if near[first] + near[second] < _MASK_SHARE or near[second] == 0:
        return None
    low, high = sorted(_commonest(shares, value) for value in (first, second))
    return low, high


def _commonest(shares: Pixels, value: int) -> int:
    """Return the gray value with the largest share within _MASK_REACH of `value`."""
    lowest = max(0, value - _MASK_REACH)
    return lowest + int(shares[lowest : value + _MASK_REACH + 1].argmax())


def gray_counts(image: Image.Image) -> Pixels:
    """Return how many pixels each gray value has, int64 (256,)."""
    return np.array(to_gray(image).histogram(), np.int64)


def mean_and_std(counts: Pixels) -> tuple[float, float]:
    """Return mean and standard deviation (0..255) of gray values with these counts, int64 (256,).

    Exact until the last division: the sums are whole numbers.

    >>> mean_and_std(gray_counts(Image.frombytes("L", (2, 1), bytes([0, 255]))))
    (127.5, 127.5)
    """
    levels = np.arange(256)
    pixels = int(counts.sum())
    mean = int(counts @ levels) / pixels
    squares = int(counts @ levels**2) / pixels
    return round(mean, 3), round(math.sqrt(max(0.0, squares - mean**2)), 3)
