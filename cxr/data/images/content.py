"""Whether a decoded image can be a film: not too small, not flat, not the mask of an organ."""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from cxr.core.settings import FileSettings
from cxr.data.images.decoding import decoder
from cxr.data.images.decoding.decoder import Decoded, rejecting_errors
from cxr.data.images.decoding.rejection import Pixels, Rejected
from cxr.data.images.model_input import to_gray

# An image of two gray values is the mask of an organ. JPEG spreads each over a few gray levels.
_MASK_SHARE = 0.9  # of all pixels are near the two values; of no film of 5,339 more than 0.76
_MASK_REACH = 8  # gray levels to each side of a value that count as near it
_MASK_GAP = 48  # gray levels between the values: a film of little contrast is not a mask


class ExaminedImage(NamedTuple):
    """A decoded image that can be a film.

    Attributes:
        image: Mode L or RGB, upright, inverted if that was asked for.
        pixels: Those of `image` if they are at hand in an array, see `Decoded`; else None.
        gray_counts: How many of its pixels have each gray value, int64 (256,).
        decoded: What the file says; its image is as stored, not inverted.
    """

    image: Image.Image
    pixels: Pixels | None
    gray_counts: Pixels
    decoded: Decoded


def examine(
    data: bytes,
    settings: FileSettings,
    invert: bool = False,
) -> ExaminedImage:
    """Decode a file and check that its image can be a film.

    Args:
        data: The file.
        settings: The limits, the bit depth of deeper images, the window and views of DICOM films.
        invert: Take 255 less each pixel: the file is a negative.

    Raises:
        Rejected: For any reason of `decoder.decode` and of `check_content`.
    """
    with rejecting_errors(data):
        decoded = decoder.decode(
            data,
            settings.bit_depth,
            settings.window,
            settings.views,
        )
        image = decoded.image
        pixels = decoded.pixels
        if invert:
            image = ImageOps.invert(image)
            pixels = None
        counts = gray_counts(image)
        check_content(image, counts, settings)
        return ExaminedImage(image, pixels, counts, decoded)


def check_content(
    image: Image.Image,
    counts: Pixels,
    settings: FileSettings,
) -> None:
    """Check that an image can be a film.

    Args:
        image: Of any mode.
        counts: Its `gray_counts`.
        settings: The limits.

    Raises:
        Rejected: It is too_small, of extreme_shape, flat or a mask.
    """
    _check_shape(image, settings)
    _, deviation = mean_and_std(counts)
    if deviation < settings.min_contrast:
        found = f"gray values with a deviation of {deviation:.1f} of 255"
        expected = f"expected {settings.min_contrast:g} or more (--min-contrast)"
        raise Rejected("flat", f"{found}: {expected}")
    mask_values = _mask_values(counts / counts.sum())
    if mask_values is not None:
        low, high = mask_values
        raise Rejected("mask", f"a picture of two values, {low} and {high} of 255: no film")


def _check_shape(image: Image.Image, settings: FileSettings) -> None:
    found = f"{image.width}x{image.height} pixels"
    shorter = min(image.size)
    longer = max(image.size)
    if shorter < settings.min_side:
        expected = f"expected {settings.min_side} or more on each side (--min-side)"
        raise Rejected("too_small", f"{found}: {expected}")
    if longer > settings.max_aspect * shorter:
        expected = f"expected at most {settings.max_aspect:g} to 1 (--max-aspect)"
        raise Rejected("extreme_shape", f"{found}: {expected}")


def _mask_values(shares: Pixels) -> tuple[int, int] | None:
    """Return the two gray values that an image consists of, the lower first, or None.

    Args:
        shares: The share of the pixels that each gray value has, float64 (256,).
    """
    window = np.ones(2 * _MASK_REACH + 1)
    near_shares = np.convolve(shares, window, "same")
    first = int(near_shares.argmax())
    distances = np.abs(np.arange(256) - first)
    far_shares = np.where(distances >= _MASK_GAP, near_shares, -1)
    second = int(far_shares.argmax())
    # No pixel counts twice: the gap is wider than the reach to both sides.
    total = near_shares[first] + near_shares[second]
    if total < _MASK_SHARE or near_shares[second] == 0:
        return None
    first_value = _commonest_near(shares, first)
    second_value = _commonest_near(shares, second)
    return min(first_value, second_value), max(first_value, second_value)


def _commonest_near(shares: Pixels, value: int) -> int:
    """Return the gray value with the largest share within _MASK_REACH of `value`."""
    lowest = max(0, value - _MASK_REACH)
    near_shares = shares[lowest : value + _MASK_REACH + 1]
    return lowest + int(near_shares.argmax())


def gray_counts(image: Image.Image) -> Pixels:
    """Count the pixels of each gray value, int64 (256,)."""
    histogram = to_gray(image).histogram()
    return np.array(histogram, np.int64)


def mean_and_std(counts: Pixels) -> tuple[float, float]:
    """Return mean and standard deviation (0 to 255) of an image's gray values.

    The sums are whole numbers, so that the result does not depend on their order.

    Args:
        counts: Its `gray_counts`.

    >>> mean_and_std(gray_counts(Image.frombytes("L", (2, 1), bytes([0, 255]))))
    (127.5, 127.5)
    """
    levels = np.arange(256)
    pixel_count = int(counts.sum())
    mean = int(counts @ levels) / pixel_count
    mean_square = int(counts @ levels**2) / pixel_count
    variance = max(0.0, mean_square - mean**2)  # rounding can leave it below 0
    std = math.sqrt(variance)
    return round(mean, 3), round(std, 3)
