"""Parts of the images that are hidden from a network, to see which parts its scores come from.

What is hidden gets the mean gray of what stays visible. The mean of the whole image would tell how
bright the hidden part was, and black is what air looks like: with a black centre a network of
chest films called every image PNEUMONIA, with scores too close to 1 to be ranked.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from cxr.data.images.border import BORDER_FRACTION, border_mask
from cxr.data.images.decoding.rejection import Pixels

VERSION = 1  # raise it when a mask changes
CENTRE_HIDDEN = "centre hidden"
BORDER_EXCHANGED = "border exchanged"
LOW_RESOLUTION_SIDE = 32  # pixels, as of the thumbnails that the shortcut audit looks at

_BORDER_WIDTH = f"{100 * BORDER_FRACTION:g} %"
# A fixed part of the frame that holds both lungs, and the heart between them, in most frontal
# films. Shares of the side.
_LUNGS_LEFT = 0.12
_LUNGS_RIGHT = 0.88
_LUNGS_TOP = 0.15
_LUNGS_BOTTOM = 0.82


@dataclass(frozen=True)
class Mask:
    """One way in which a part of all images is hidden.

    Attributes:
        name: What it is called in tables and files.
        description: What stays visible, for a person to read.
        change: Makes the image, uint8 (side, side), of the image and the digest of its pixels.
    """

    name: str
    description: str
    change: Callable[[Pixels, str], Pixels]


def _hide(choose_hidden: Callable[[int], Pixels]) -> Callable[[Pixels, str], Pixels]:
    """Return a change that hides the same pixels of every image.

    Args:
        choose_hidden: Returns which pixels to hide, bool (side, side), for a side.
    """

    def change(pixels: Pixels, _: str) -> Pixels:
        hidden = choose_hidden(pixels.shape[0])
        masked = pixels.copy()
        masked[hidden] = round(float(pixels[~hidden].mean()))
        return masked

    return change


def _border(side: int) -> Pixels:
    """Select the border."""
    return border_mask(side, side)


def _centre(side: int) -> Pixels:
    """Select all but the border."""
    return ~border_mask(side, side)


def _all_but_lungs(side: int) -> Pixels:
    """Select all but the fixed part of the frame that holds the lungs."""
    rows = slice(round(_LUNGS_TOP * side), round(_LUNGS_BOTTOM * side))
    columns = slice(round(_LUNGS_LEFT * side), round(_LUNGS_RIGHT * side))
    hidden = np.ones((side, side), bool)
    hidden[rows, columns] = False
    return hidden


def _coarsen(pixels: Pixels, _: str) -> Pixels:
    """Take an image through 32x32 pixels, each the mean of its cell, and back."""
    small_size = (LOW_RESOLUTION_SIDE, LOW_RESOLUTION_SIDE)
    small = Image.fromarray(pixels).resize(small_size, Image.Resampling.BOX)
    return np.asarray(small.resize(pixels.shape[::-1], Image.Resampling.BILINEAR))


_MASKS = (
    Mask(
        CENTRE_HIDDEN,
        f"the border alone: the outer {_BORDER_WIDTH} of each side",
        _hide(_centre),
    ),
    Mask(
        "border hidden",
        f"all but the outer {_BORDER_WIDTH} of each side",
        _hide(_border),
    ),
    Mask(
        "lung fields alone",
        "a fixed central rectangle, 76 % of the width and 67 % of the height, which holds both "
        "lungs and the heart in most films; no lung was outlined",
        _hide(_all_but_lungs),
    ),
    Mask(
        "low resolution",
        f"the whole image, through {LOW_RESOLUTION_SIDE}x{LOW_RESOLUTION_SIDE} pixels",
        _coarsen,
    ),
)
MASKS = {mask.name: mask for mask in _MASKS}
"""All masks by name, in the order of tables and figures."""
DESCRIPTIONS = {mask.name: mask.description for mask in _MASKS} | {
    BORDER_EXCHANGED: f"its own centre, with the outer {_BORDER_WIDTH} of an image of the other class"
}
"""What a network sees behind each mask, and with the border exchanged, by name."""


def exchange_border(pixels: Pixels, other: Pixels) -> Pixels:
    """Return an image with the border of another.

    Args:
        pixels: The image, uint8 (side, side).
        other: The image whose border it gets, likewise.
    """
    exchanged = pixels.copy()
    border = border_mask(*pixels.shape)
    exchanged[border] = other[border]
    return exchanged
