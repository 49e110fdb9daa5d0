"""The border of an image: how wide it is wherever a non-clinical signal is looked for there."""

import numpy as np

from cxr.data.images.decoding.rejection import Pixels

# Of each side of the image: where side markers, written labels and the edges of the beam are.
BORDER_FRACTION = 0.1


def border_mask(height: int, width: int) -> Pixels:
    """Select the pixels of the border: the outer BORDER_FRACTION of each side, at least one pixel.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.

    Returns:
        bool (height, width), true on the border.

    >>> int(border_mask(32, 32).sum())  # three pixels on each side: 32 x 32 less 26 x 26
    348
    """
    rows = max(1, round(BORDER_FRACTION * height))
    columns = max(1, round(BORDER_FRACTION * width))
    mask = np.ones((height, width), bool)
    mask[rows:-rows, columns:-columns] = False
    return mask
