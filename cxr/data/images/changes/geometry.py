"""Crop, stretch and turn an image in one interpolation."""

from typing import NamedTuple

import numpy as np
from PIL import Image

from cxr.data.images.decoding.rejection import Pixels


class Window(NamedTuple):
    """The part of an image that fills the whole frame after a change.

    It may reach beyond the image; what lies there is black. Lengths are shares of the image's side.

    Attributes:
        x: Where its middle lies from the left, 0..1.
        y: Where its middle lies from the top, 0..1.
        width: Its width; below 1 enlarges.
        height: Its height.
        angle: By how much the image is turned, in radians.
    """

    x: float
    y: float
    width: float
    height: float
    angle: float = 0.0


def cut_window(pixels: Pixels, window: Window) -> Pixels:
    """Return a window of an image, resized to the image's size by bilinear interpolation.

    Args:
        pixels: uint8 (side, side).
        window: Which part.

    Returns:
        uint8 (side, side); black where the window reaches beyond the image.
    """
    side = pixels.shape[0]
    moved = Image.fromarray(pixels).transform(
        (side, side),
        Image.Transform.AFFINE,
        _affine_coefficients(window, side),
        Image.Resampling.BILINEAR,
    )
    return np.asarray(moved)


def _affine_coefficients(window: Window, side: int) -> tuple[float, ...]:
    """Return the six numbers by which Pillow finds, for a pixel of the new image, that of the old.

    Args:
        window: Which part of the old image.
        side: Of both images, in pixels.
    """
    middle = (side - 1) / 2
    old_x = window.x * side - 0.5  # where the middle of the new image comes from
    old_y = window.y * side - 0.5
    cos = np.cos(window.angle)
    sin = np.sin(window.angle)
    across = (window.width * cos, window.width * sin)
    down = (-window.height * sin, window.height * cos)
    return (
        across[0],
        across[1],
        old_x - middle * (across[0] + across[1]),
        down[0],
        down[1],
        old_y - middle * (down[0] + down[1]),
    )
