"""Properties of an image that need no network, read from the pixels that the model takes.

They say in words what is strange about an image that lies far from training.
"""

import numpy as np
import pandas as pd
from PIL import Image

from cxr.data.images import model_input
from cxr.data.images.border import border_mask
from cxr.data.inverted_films import cells
from cxr.stats.metrics import Vector

PROPERTIES = (
    "border",
    "aspect",
    "sharpness",
    "darkness",
    "contrast",
    "upright",
    "sideways",
    "upside_down",
)
"""In the order of the columns.

border: The mean gray of the border less that of the rest, as a share of the range.
aspect: The logarithm of the mean horizontal over the mean vertical gradient.
sharpness: The logarithm of the mean difference of a pixel from its neighbours, over the contrast.
darkness: One less the mean gray, as a share of the range.
contrast: The standard deviation of the gray values, as a share of the range.
upright: The correlation with the typical film of train; below 0 for a negative.
sideways: The same after the better of the quarter turns.
upside_down: The same after a half turn.
"""
_OFFSET = 0.01  # gray levels, so that a flat image has a logarithm


def measure_properties(pixels: Vector, film: Vector) -> pd.DataFrame:
    """Measure the properties of images.

    Args:
        pixels: uint8 (n, side, side).
        film: The typical film, float (16, 16), see `typical_film`.

    Returns:
        A row for each image, with the columns PROPERTIES, float64.
    """
    rows = [_measure_grays(image) for image in pixels]
    table = pd.DataFrame(rows, columns=PROPERTIES[:5])
    shrunk = film_cells(pixels)
    template = film[np.newaxis]
    turned = [cells.correlate(np.rot90(shrunk, turns, (1, 2)), template) for turns in range(4)]
    table["upright"] = turned[0]
    table["sideways"] = np.maximum(turned[1], turned[3])
    table["upside_down"] = turned[2]
    return table


def typical_film(shrunk: Vector) -> Vector:
    """Return what the films of train look like on average, float64 (16, 16) around 0.

    Args:
        shrunk: Their `film_cells`, float64 (n, 16, 16).
    """
    standardised = cells.standardise(shrunk)
    film: Vector = standardised.mean(axis=0).reshape(cells.SIDE, cells.SIDE)
    return film


def film_cells(pixels: Vector) -> Vector:
    """Return the mean gray of 16 x 16 cells of each image, float64 (n, 16, 16)."""
    side = model_input.THUMBNAIL_SIDE
    thumbnails = [model_input.resize(Image.fromarray(image), side) for image in pixels]
    return cells.mean_cells(np.stack(thumbnails))


def _measure_grays(image: Vector) -> tuple[float, ...]:
    """Return border, aspect, sharpness, darkness and contrast of one image, uint8 (side, side)."""
    gray = image.astype(np.float32)
    is_border = border_mask(*gray.shape)
    contrast = float(gray.std())
    across = np.abs(np.diff(gray, axis=1)).mean() + _OFFSET
    down = np.abs(np.diff(gray, axis=0)).mean() + _OFFSET
    middle = gray[1:-1, 1:-1]
    neighbours = gray[:-2, 1:-1] + gray[2:, 1:-1] + gray[1:-1, :-2] + gray[1:-1, 2:]
    detail = np.abs(middle - neighbours / 4).mean() + _OFFSET
    return (
        float(gray[is_border].mean() - gray[~is_border].mean()) / 255,
        float(np.log(across / down)),
        float(np.log(detail / (contrast + _OFFSET))),
        1 - float(gray.mean()) / 255,
        contrast / 255,
    )
