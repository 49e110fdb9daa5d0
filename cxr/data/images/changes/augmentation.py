"""Random changes of training images, drawn from each image's own digest.

The same image, ranges and augmentation index give the same pixels on every machine and in every
run, so that features of augmented images can be cached by content.
"""

import hashlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from cxr.core.settings import Augmentation
from cxr.data.images.decoding.rejection import Pixels

VERSION = 1  # raise it when `augment` changes what it returns


class _Draw(NamedTuple):
    """What is drawn for one augmented image: each from -1 to 1, to be scaled by its range."""

    rotation: float
    zoom: float
    right: float
    down: float
    gamma: float
    contrast: float
    brightness: float


def augment(
    pixels: Pixels,
    key: str,
    index: int,
    ranges: Augmentation,
) -> Pixels:
    """Return one augmented version of an image: moved, then changed in its gray levels.

    There are no flips: the heart is on one side.

    Args:
        pixels: uint8 (side, side).
        key: The digest of the image.
        index: Of the augmentation: 0 is the image itself, 1, 2, ... are changed ones.
        ranges: How far each change may go.

    Returns:
        uint8 (side, side); black where the image was moved away.
    """
    if index == 0:
        return pixels
    seed = hashlib.sha256(f"{key} {index}".encode()).digest()
    rng = np.random.default_rng(list(seed))
    draws = rng.uniform(-1, 1, len(_Draw._fields))
    draw = _Draw(*draws)
    moved = _move(pixels, draw, ranges)
    gray_levels = _gray_levels(draw, ranges)
    augmented: Pixels = gray_levels[moved]
    return augmented


def _move(
    pixels: Pixels,
    draw: _Draw,
    ranges: Augmentation,
) -> Pixels:
    """Rotate, zoom and shift an image in one step, by bilinear interpolation."""
    side = pixels.shape[0]
    coefficients = _affine_coefficients(
        angle=np.deg2rad(ranges.rotation) * draw.rotation,
        zoom=1 + ranges.zoom * draw.zoom,
        right=ranges.shift * draw.right * side,
        down=ranges.shift * draw.down * side,
        side=side,
    )
    moved = Image.fromarray(pixels).transform(
        (side, side),
        Image.Transform.AFFINE,
        coefficients,
        Image.Resampling.BILINEAR,
    )
    return np.asarray(moved)


def _affine_coefficients(
    angle: float,
    zoom: float,
    right: float,
    down: float,
    side: int,
) -> tuple[float, ...]:
    """Return the six numbers by which Pillow finds, for a pixel of the new image, that of the old.

    Args:
        angle: Of the rotation about the middle, in radians.
        zoom: Above 1 enlarges.
        right: Shift, in pixels.
        down: Shift, in pixels.
        side: Of the image, in pixels.
    """
    middle = (side - 1) / 2
    cos = np.cos(angle) / zoom
    sin = np.sin(angle) / zoom
    new_x = middle + right  # where the middle of the old image goes
    new_y = middle + down
    return (
        cos,
        sin,
        middle - cos * new_x - sin * new_y,
        -sin,
        cos,
        middle + sin * new_x - cos * new_y,
    )


def _gray_levels(draw: _Draw, ranges: Augmentation) -> Pixels:
    """Return what each gray level becomes, uint8 (256,): by gamma, contrast, then brightness."""
    gamma = np.exp(ranges.gamma * draw.gamma)
    contrast = 1 + ranges.contrast * draw.contrast
    brightness = ranges.brightness * draw.brightness
    levels = (np.arange(256) / 255) ** gamma
    levels = (levels - 0.5) * contrast + 0.5 + brightness
    rounded = np.floor(255 * levels + 0.5)
    limited: Pixels = np.clip(rounded, 0, 255)
    return limited.astype(np.uint8)
