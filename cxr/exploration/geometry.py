"""The shape of the films as a signal: of the files, and read back from the square pixels.

Resizing to a square squeezes a wide film, so that horizontal gradients become steeper and vertical
ones do not. The ratio of the two tells the film's shape long after the file has lost it. Where the
shapes of the classes differ, a network may learn the squeeze instead of the disease.

Disease changes gradients as well: an opacity hides ribs and vessels. So a person is warned only of
what lies outside the lung fields. There a squeeze acts as it does everywhere, and pneumonia does
not.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from cxr.exploration.baselines import WARNING_LIMIT, Baseline, Separation
from cxr.exploration.signals import Array, Signal, make_logistic_regression
from cxr.storage.arrays import Stored

FILE_ASPECT = "aspect ratio of the files"
OUTSIDE_RATIO = "gradient ratio outside the lungs"
WHOLE_RATIO = "gradient ratio of the pixels"
LOCAL_RATIO = "gradient ratio by place"
WARNED_OF = (FILE_ASPECT, OUTSIDE_RATIO)
# With five patients a class, one set of 32 is put in a perfect order by chance, and an AUROC of 1
# has no interval that would say so.
FEWEST_WARNED_PATIENTS = 20
# What is added to both mean gradients, in gray values: a flat image has a ratio of 1, not 0 / 0.
_OFFSET = 0.01
_SCALES = (1, 2, 4)  # by which the pixels are made coarser
_CELLS = 3  # in each direction
_STRENGTH = 1.0  # a weak penalty: the features are few


class Gradients(NamedTuple):
    """Absolute differences between neighbouring pixels, in gray values, float32 (side-1, side-1).

    Attributes:
        horizontal: To the pixel on the right.
        vertical: To the pixel below.
    """

    horizontal: Array
    vertical: Array


def read_file_aspect(rows: pd.DataFrame) -> Signal:
    """Read the width of the files over their height.

    Shapes that separate in no order, one class of squares between wide and high films of the other,
    are seen by the container's trees.

    Args:
        rows: Rows of the manifest.
    """
    aspect = (rows["width"] / rows["height"]).to_numpy(dtype=np.float32)
    return _make_signal(
        FILE_ASPECT,
        "width over height of the files",
        np.log(aspect)[:, None],
    )


def read_gradient_ratios(pixels: Stored, positions: Array) -> tuple[Signal, Signal, Signal]:
    """Read the aspect back from square pixels: outside the lungs, everywhere, and by place.

    Args:
        pixels: The cached pixels, uint8 (n, side, side).
        positions: Which of them, int (k,).

    Returns:
        The signals OUTSIDE_RATIO, WHOLE_RATIO and LOCAL_RATIO.
    """
    side = pixels.shape[1]
    is_outside = outside_lungs_mask(side)[:-1, :-1]
    outside = np.empty((len(positions), 1), np.float32)
    whole = np.empty((len(positions), 1), np.float32)
    local = np.empty((len(positions), len(_SCALES) * _CELLS**2), np.float32)
    for row, position in enumerate(positions):  # one image in memory at a time
        image = np.asarray(pixels[position])
        gradients = _measure_gradients(image)
        outside[row] = _log_ratio(_select(gradients, is_outside))
        whole[row] = _log_ratio(gradients)
        local[row] = _measure_local_ratios(image)
    scales = ", ".join(str(scale) for scale in _SCALES)
    return (
        _make_signal(
            OUTSIDE_RATIO,
            "mean horizontal over mean vertical gradient in the middle third of the top and the "
            "bottom sixth: neck and abdomen, whatever the lungs show",
            outside,
        ),
        _make_signal(
            WHOLE_RATIO,
            "mean horizontal over mean vertical gradient of all pixels; an opacity changes it, too",
            whole,
        ),
        _make_signal(
            LOCAL_RATIO,
            f"the same ratio in {_CELLS}x{_CELLS} cells at scales {scales}; "
            "opacities change it, too",
            local,
        ),
    )


def _make_signal(name: str, description: str, features: Array) -> Signal:
    """Return a signal of logarithms of ratios, read by a logistic regression."""
    return Signal(
        name=name,
        description=description,
        features=features,
        make_classifier=lambda: make_logistic_regression(_STRENGTH),
    )


def measure_gradient_ratio(image: Array) -> float:
    """Return the mean absolute horizontal over the mean absolute vertical gradient of an image.

    Args:
        image: uint8 (side, side).

    Returns:
        Above 0; 1 for a flat image. A film squeezed in width has a higher one.
    """
    return float(np.exp(_log_ratio(_measure_gradients(image))))


def outside_lungs_mask(side: int) -> Array:
    """Select neck and abdomen, where a squeeze shows and pneumonia does not.

    It is a fixed place and no segmentation: the middle third of the top and the bottom sixth of
    the rows. On 120 published originals the ratio there has a rank correlation of 0.76 with the
    film's aspect; with the squeeze undone it separates the classes with an AUROC of 0.59 instead
    of 0.93.

    Args:
        side: Of the image, in pixels.

    Returns:
        bool (side, side), true outside the lungs.

    >>> outside_lungs_mask(12).sum(axis=1).tolist()
    [4, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 4]
    """
    rows = round(side / 6)
    left = round(side / 3)
    mask = np.zeros((side, side), bool)
    mask[:rows, left : side - left] = True
    mask[-rows:, left : side - left] = True
    return mask


def _measure_gradients(image: Array) -> Gradients:
    """Return the gradients of a gray image (side, side)."""
    gray = image.astype(np.float32)
    corner = gray[:-1, :-1]
    return Gradients(
        horizontal=np.abs(gray[:-1, 1:] - corner),
        vertical=np.abs(gray[1:, :-1] - corner),
    )


def _select(gradients: Gradients, mask: Array) -> Gradients:
    """Return the gradients where the mask is true, float32 (k,)."""
    return Gradients(gradients.horizontal[mask], gradients.vertical[mask])


def _log_ratio(gradients: Gradients) -> float:
    """Return the logarithm of the mean horizontal over the mean vertical gradient."""
    horizontal = gradients.horizontal.mean() + _OFFSET
    vertical = gradients.vertical.mean() + _OFFSET
    return float(np.log(horizontal / vertical))


def _measure_local_ratios(image: Array) -> Array:
    """Return the logarithms of the ratios by scale and cell, float32 (27,)."""
    gray = Image.fromarray(image.astype(np.float32))
    ratios = []
    for scale in _SCALES:
        size = (gray.width // scale, gray.height // scale)
        coarse = np.asarray(gray.resize(size, Image.Resampling.BOX))
        gradients = _measure_gradients(coarse)
        horizontal = _average_cells(gradients.horizontal) + _OFFSET
        vertical = _average_cells(gradients.vertical) + _OFFSET
        ratios.append(np.log(horizontal / vertical).ravel())
    return np.concatenate(ratios)


def _average_cells(gradient: Array) -> Array:
    """Return the mean of each cell of a coarse grid, float32 (3, 3)."""
    cells = Image.fromarray(gradient).resize((_CELLS, _CELLS), Image.Resampling.BOX)
    return np.asarray(cells)


def warn_of_shape(baselines: tuple[Baseline, ...]) -> str:
    """Return what to tell a person where the films' shape alone separates the classes, or "".

    The whole interval has to lie above WARNING_LIMIT, on train or on test. Several signals on two
    sets are looked at, and on a small set one of them would exceed a limit for the AUROC alone by
    chance.

    Args:
        baselines: Those of this module's signals; others are not looked at.
    """
    is_found = False
    described = []
    for baseline in baselines:
        if baseline.signal not in (*WARNED_OF, WHOLE_RATIO):
            continue
        worst = max(baseline.train, baseline.test, key=_lower_end)
        exceeds = _lower_end(worst) > WARNING_LIMIT
        if exceeds:
            described.append(f"{baseline.signal}, {_describe(worst)}")
        if exceeds and baseline.signal in WARNED_OF:
            is_found = True
    if not is_found:
        return ""
    return (
        "The shape or framing of the films alone separates the classes: "
        f"{'; '.join(described)}. Expected: not clearly above {WARNING_LIMIT}. "
        "Resizing to a square writes the shape into the pixels, and --harmonise leaves it there. A "
        "network may learn it, and its specificity may collapse where films have another shape. "
        "Keep the random stretch of the augmentation, which is on by default, look at the "
        "robustness section of the report, and get films of the same shape in both classes"
    )


def _lower_end(separation: Separation) -> float:
    """Return which AUROC is exceeded with confidence; 0 where there are too few patients."""
    if separation.auroc is None or separation.patients < FEWEST_WARNED_PATIENTS:
        return 0.0
    if separation.interval is None:  # the same AUROC in every draw of the patients
        return separation.auroc
    return separation.interval.low


def _describe(separation: Separation) -> str:
    """Return e.g. "AUROC 0.874 (0.862 to 0.886, n = 4,569)"."""
    interval = separation.interval
    ends = f"{interval.low:.3f} to {interval.high:.3f}, " if interval else ""
    return f"AUROC {separation.auroc:.3f} ({ends}n = {separation.n:,})"
