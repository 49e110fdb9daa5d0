"""Text that was burned into the border of a film: names and dates that no tag removes."""

import numpy as np

from cxr.data.images.decoding.rejection import Pixels

_BORDER = 0.15  # of each side
_REACH = 0.03  # of the shorter side: how far around a pixel the background is taken from
_STEP = 60  # gray levels from the background to a letter
_LOWEST_LETTER = 6  # pixels, below which a letter cannot be read
_HIGHEST_LETTER = 0.06  # of the shorter side
_LETTERS = 5  # in a line: side markers have one or two, a name or a date more


def has_text_on_border(pixels: Pixels) -> bool:
    """Return whether there seems to be a line of text near an edge of a film.

    It looks for letters: small areas, all brighter or all darker than what is around them, of one
    height and on one line. Markers of the side, of one or two letters, are not text.

    Args:
        pixels: uint8 (height, width).
    """
    height, width = pixels.shape
    rows = max(_LOWEST_LETTER * 2, round(_BORDER * height))
    columns = max(_LOWEST_LETTER * 2, round(_BORDER * width))
    strips = (
        pixels[:rows],
        pixels[-rows:],
        pixels[rows:-rows, :columns].T,  # text may run along the edge
        pixels[rows:-rows, -columns:].T,
        pixels[rows:-rows, :columns],
        pixels[rows:-rows, -columns:],
    )
    return any(_has_line(strip, min(height, width)) for strip in strips if strip.size)


def _has_line(strip: Pixels, side: int) -> bool:
    """Return whether a strip of a film has a line of letters.

    Args:
        strip: uint8 (height, width).
        side: The shorter side of the film, in pixels.
    """
    from scipy.ndimage import uniform_filter

    values = strip.astype(np.float32)
    reach = 2 * max(_LOWEST_LETTER, round(_REACH * side)) + 1
    difference = values - uniform_filter(values, reach, mode="nearest")
    return any(_has_letters_on_line(sign * difference > _STEP, side) for sign in (1, -1))


def _has_letters_on_line(mask: Pixels, side: int) -> bool:
    """Return whether enough areas of a mask are as high as each other and beside each other."""
    from scipy.ndimage import find_objects, label

    if not mask.any():
        return False
    labelled, _ = label(mask, np.ones((3, 3), int))
    tops = []
    bottoms = []
    lefts = []
    highest = max(2 * _LOWEST_LETTER, _HIGHEST_LETTER * side)
    for rows, columns in find_objects(labelled):
        height = rows.stop - rows.start
        width = columns.stop - columns.start
        if _LOWEST_LETTER <= height <= highest and width <= 1.5 * height:
            tops.append(rows.start)
            bottoms.append(rows.stop)
            lefts.append(columns.start)
    return _count_on_one_line(np.array(tops), np.array(bottoms), np.array(lefts)) >= _LETTERS


def _count_on_one_line(tops: Pixels, bottoms: Pixels, lefts: Pixels) -> int:
    """Return how many areas at most are on one line: at one height, as high, and near each other."""
    most = 0
    for top, bottom in zip(tops, bottoms, strict=True):
        tolerance = max(1.0, 0.2 * (bottom - top))
        is_level = np.abs(bottoms - bottom) <= tolerance
        is_alike = np.abs((bottoms - tops) - (bottom - top)) <= tolerance
        places = np.sort(lefts[is_level & is_alike])
        most = max(most, _longest_run(places, 2.5 * (bottom - top)))
    return most


def _longest_run(places: Pixels, gap: float) -> int:
    """Return the most places in a row none of which is farther than `gap` from the one before."""
    longest = 0
    run = 0
    before = None
    for place in places:
        run = run + 1 if before is not None and place - before <= gap else 1
        longest = max(longest, run)
        before = place
    return longest
