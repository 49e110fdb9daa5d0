"""Images as a few cells of their mean brightness, and how two of them correlate."""

import math

import numpy as np
from PIL import Image

from cxr.data.images.decoding.rejection import Pixels
from cxr.data.images.model_input import THUMBNAIL_SIDE

SIDE = 16  # cells on each side of an image
_OUTER_CELLS = 2  # on each side of the centre
_FRAME_CONTRAST = 8  # gray levels: a row or column that varies no more may be of a plain frame
_WIDEST_FRAME = 24  # rows or columns of a thumbnail
_TINY = 1e-9  # instead of the length 0 of an image of one gray


def mean_cells(thumbnails: Pixels) -> Pixels:
    """Return the mean gray of 16 x 16 cells of each image, without its plain frame.

    A white margin does not make a negative, and a black one does not make a film.

    Args:
        thumbnails: uint8 (n, 64, 64).

    Returns:
        float64 (n, 16, 16).
    """
    boxes = _boxes_inside_frames(thumbnails)
    cells = np.empty((len(thumbnails), SIDE, SIDE))
    for index, thumbnail in enumerate(thumbnails):
        left, top, right, bottom = boxes[index].tolist()
        shrunk = Image.fromarray(thumbnail).resize(
            (SIDE, SIDE),
            Image.Resampling.BOX,
            box=(left, top, right, bottom),
        )
        cells[index] = np.asarray(shrunk)
    return cells


def _boxes_inside_frames(thumbnails: Pixels) -> Pixels:
    """Return left, top, right and bottom of each image inside its plain frame, int (n, 4)."""
    plain_rows = np.ptp(thumbnails, axis=2) <= _FRAME_CONTRAST
    plain_columns = np.ptp(thumbnails, axis=1) <= _FRAME_CONTRAST
    left = _frame_widths(plain_columns)
    top = _frame_widths(plain_rows)
    right = THUMBNAIL_SIDE - _frame_widths(plain_columns[:, ::-1])
    bottom = THUMBNAIL_SIDE - _frame_widths(plain_rows[:, ::-1])
    boxes = [left, top, right, bottom]
    return np.stack(boxes, axis=1)


def _frame_widths(plain: Pixels) -> Pixels:
    """Return how many lines of each image are plain before the first that is not, int (n,).

    Args:
        plain: Whether each line, from the edge inwards, is plain: bool (n, 64).
    """
    # A last line that is not plain: an image that is plain throughout has an end, too.
    ended = np.pad(plain, ((0, 0), (0, 1)))
    first_not_plain = np.argmin(ended, axis=1)
    widths: Pixels = np.minimum(first_not_plain, _WIDEST_FRAME)
    return widths


def standardise(cells: Pixels) -> Pixels:
    """Return each image as a vector of mean 0 and length 1, or of zeros if it is of one gray.

    Args:
        cells: float64 (n, rows, columns).

    Returns:
        float64 (n, rows * columns).
    """
    cell_count = math.prod(cells.shape[1:])
    vectors = cells.reshape(len(cells), cell_count)
    vectors = vectors - vectors.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    standardised: Pixels = vectors / np.maximum(lengths, _TINY)
    return standardised


def correlate(cells: Pixels, template: Pixels) -> Pixels:
    """Return the correlation of each image with a template.

    Args:
        cells: float64 (n, rows, columns).
        template: float64 (1, rows, columns).

    Returns:
        float64 (n,), from -1 to 1.
    """
    correlations: Pixels = standardise(cells) @ standardise(template)[0]
    return correlations


def centres(cells: Pixels) -> Pixels:
    """Return the cells without the outermost two on each side."""
    inner = slice(_OUTER_CELLS, -_OUTER_CELLS)
    return cells[:, inner, inner]
