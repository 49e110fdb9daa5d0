"""The random changes made to training images: drawn from the picture's own digest, so that they can be kept.

View 0 is the image itself; view 1, 2, … are changed ones. The same picture, ranges and view give the same pixels
on every machine and in every run, which is what lets features of views be cached by content.
"""

import hashlib
from typing import Any

import numpy as np
from PIL import Image

from cxr.core.settings import Augmentation

VERSION = 1  # raise it when `augmented` changes what it returns
Pixels = np.ndarray[Any, Any]


def augment(pixels: Pixels, key: str, view: int, ranges: Augmentation) -> Pixels:
    """Return view `view` of gray uint8 pixels (side, side): turned, zoomed, shifted, then gamma, contrast, brightness.

    One affine transform, bilinear, black outside; one table of 256 values. No flips: the heart is on one side.
    """
    if view == 0:
        return pixels
    seed = hashlib.sha256(f"{key} {view}".encode()).digest()
    turn, zoom, right, down, gamma, contrast, light = np.random.default_rng(list(seed)).uniform(
        -1, 1, 7
    )
    moved = Image.fromarray(pixels).transform(
        pixels.shape[::-1],
        Image.Transform.AFFINE,
        _affine(
            np.deg2rad(ranges.rotation) * turn,
            1 + ranges.zoom * zoom,
            ranges.shift * right,
            ranges.shift * down,
            pixels.shape[0],
        ),
        Image.Resampling.BILINEAR,
    )
    levels = (np.arange(256) / 255) ** np.exp(ranges.gamma * gamma)
    levels = (levels - 0.5) * (1 + ranges.contrast * contrast) + 0.5 + ranges.brightness * light
    changed: Pixels = np.take(
        np.clip(255 * levels + 0.5, 0, 255).astype(np.uint8), np.asarray(moved)
    )
    return changed


def _affine(angle: float, zoom: float, right: float, down: float, side: int) -> tuple[float, ...]:
    """Return Pillow's six numbers, which map a place in the new image to one in the old, about the middle."""
    middle, cos, sin = (side - 1) / 2, np.cos(angle) / zoom, np.sin(angle) / zoom
    x, y = middle + right * side, middle + down * side
    return (cos, sin, middle - cos * x - sin * y, -sin, cos, middle + sin * x - cos * y)
