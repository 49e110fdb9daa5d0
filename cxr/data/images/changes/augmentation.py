"""Random changes of training images, drawn from each image's own digest.

The same image, ranges and augmentation index give the same pixels on every machine and in every
run, so that features of augmented images can be cached by content.
"""

import hashlib
from typing import NamedTuple

import numpy as np

from cxr.core.settings import Augmentation
from cxr.data.images.changes.geometry import Window, cut_window
from cxr.data.images.decoding.rejection import Pixels

VERSION = 2  # raise it when `augment` changes what it returns


class _Draw(NamedTuple):
    """What is drawn for one augmented image: each from -1 to 1, to be scaled by its range."""

    area: float
    stretch: float
    across: float
    down: float
    rotation: float
    zoom: float
    shift_right: float
    shift_down: float
    gamma: float
    contrast: float
    brightness: float


def augment(
    pixels: Pixels,
    key: str,
    index: int,
    ranges: Augmentation,
) -> Pixels:
    """Return one augmented version of an image: a part of it, then its gray levels changed.

    There are no flips: the heart is on one side.

    Args:
        pixels: uint8 (side, side).
        key: The digest of the image.
        index: Of the augmentation: 0 is the image itself, 1, 2, ... are changed ones.
        ranges: How far each change may go.

    Returns:
        uint8 (side, side); black where it shows what lies beyond the image.
    """
    if index == 0:
        return pixels
    seed = hashlib.sha256(f"{key} {index}".encode()).digest()
    rng = np.random.default_rng(list(seed))
    draws = rng.uniform(-1, 1, len(_Draw._fields))
    draw = _Draw(*draws)
    moved = cut_window(pixels, _draw_window(draw, ranges))
    gray_levels = _gray_levels(draw, ranges)
    augmented: Pixels = gray_levels[moved]
    return augmented


def _draw_window(draw: _Draw, ranges: Augmentation) -> Window:
    """Return the part of the image to show.

    Its area is uniform between the smallest allowed and the whole, the logarithm of its ratio of
    width to height is uniform, too, and it lies anywhere in the image (Szegedy et al., "Going
    deeper with convolutions", CVPR 2015, section 6). Resized to a square it is stretched.
    """
    area = ranges.area + (1 - ranges.area) * (draw.area + 1) / 2
    ratio = ranges.stretch**draw.stretch
    width = min(1.0, np.sqrt(area * ratio))
    height = min(1.0, np.sqrt(area / ratio))
    zoom = 1 + ranges.zoom * draw.zoom
    return Window(
        x=0.5 + (1 - width) / 2 * draw.across - ranges.shift * draw.shift_right,
        y=0.5 + (1 - height) / 2 * draw.down - ranges.shift * draw.shift_down,
        width=width / zoom,
        height=height / zoom,
        angle=np.deg2rad(ranges.rotation) * draw.rotation,
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
