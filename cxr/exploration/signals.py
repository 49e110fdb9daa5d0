"""Non-clinical signals: what can be said of an image without looking at the lungs."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from cxr.core.parallel import usable_cores
from cxr.data.images.border import border_mask
from cxr.data.images.model_input import UNIFORM_QUALITY, encode_uniformly
from cxr.exploration import give_aways
from cxr.storage.arrays import Stored

Array = np.ndarray[Any, Any]

THUMBNAIL_SIDE = 32  # cells in each direction
_CATEGORIES = ("mode", "format", "icc", "exif", "quantisation")
# A category that is seen less often, or beyond the most common ones, counts as "other".
_FEWEST_IMAGES = 5
_MOST_VALUES = 20
_UNKNOWN_NUMBER = -1.0  # none of the numbers is negative


class Signal(NamedTuple):
    """A non-clinical signal of some images.

    Attributes:
        name: What the signal is called in the audit.
        description: What it reads, in words.
        features: float32 (n, k), one row for each image.
        make_classifier: Makes an unfitted scikit-learn classifier that suits the features.
    """

    name: str
    description: str
    features: Array
    make_classifier: Callable[[], Any]


def read_container(rows: pd.DataFrame, seed: int) -> Signal:
    """Read what the files say without a look at a pixel: size, mode, format, DICOM tags.

    Args:
        rows: Rows of the manifest.
        seed: Of the classifier.
    """
    numbers = {
        "bytes per pixel": rows["bytes"] / (rows["width"] * rows["height"]),
        "width": rows["width"],
        "height": rows["height"],
        "aspect": rows["width"] / rows["height"],
    }
    categories = {name: rows[name] for name in _CATEGORIES}
    # What DICOM tags say beside the pixels, where the data have them.
    for column, name in give_aways.NUMBERS.items():
        if column in rows:
            known = pd.to_numeric(rows[column], errors="coerce")
            numbers[name] = known.fillna(_UNKNOWN_NUMBER)
    for column, name in give_aways.TEXTS.items():
        if column in rows:
            categories[name] = rows[column].fillna("")
    columns = [values.to_numpy(dtype=np.float32) for values in numbers.values()]
    for values in categories.values():
        columns += _indicators(values.astype(str))
    return Signal(
        name="container",
        description=_describe_container(numbers | categories),
        features=np.stack(columns, axis=1),
        make_classifier=lambda: _make_boosted_trees(seed),
    )


def _describe_container(columns: "dict[str, pd.Series[Any]]") -> str:
    """Name the properties that differ between files, and those that are the same in all."""
    varied = [name for name, values in columns.items() if values.nunique() > 1]
    constant = [name for name in columns if name not in varied]
    description = ", ".join(varied) or "nothing"
    if constant:
        description += f" (the same in all files: {', '.join(constant)})"
    return description


def _indicators(values: "pd.Series[str]") -> list[Array]:
    """Return a 0/1 column for each common value; the rare ones are 0 in all of them."""
    counts = values.value_counts().head(_MOST_VALUES)
    common = sorted(str(value) for value in counts[counts >= _FEWEST_IMAGES].index)
    return [(values == value).to_numpy(dtype=np.float32) for value in common]


def read_uniform_container(
    pixels: Stored,
    positions: Array,
    seed: int,
) -> Signal:
    """Encode the pixels of all images alike: bytes per pixel are then all that is left.

    Args:
        pixels: The cached pixels, uint8 (n, side, side).
        positions: Which of them, int (k,).
        seed: Of the classifier.
    """

    def bytes_per_pixel(position: int) -> float:
        image = np.asarray(pixels[position])
        return len(encode_uniformly(image)) / image.size

    with ThreadPoolExecutor(usable_cores()) as pool:
        values = list(pool.map(bytes_per_pixel, positions))
    side = pixels.shape[1]
    return Signal(
        name="container after uniform encoding",
        description=(
            f"bytes per pixel of {side}x{side} gray as JPEG quality {UNIFORM_QUALITY}; "
            "all else about the file is the same"
        ),
        features=np.array(values, np.float32)[:, None],
        make_classifier=lambda: _make_boosted_trees(seed),
    )


def read_border_and_thumbnail(pixels: Stored, positions: Array) -> tuple[Signal, Signal]:
    """Read the border of 32x32 thumbnails alone, and all their cells.

    Args:
        pixels: The cached pixels, uint8 (n, side, side).
        positions: Which of them, int (k,).
    """
    size = f"{THUMBNAIL_SIDE}x{THUMBNAIL_SIDE}"
    cells = _read_thumbnails(pixels, positions)
    border = border_mask(THUMBNAIL_SIDE, THUMBNAIL_SIDE).ravel()
    border_signal = Signal(
        name="border ring",
        description=f"gray of the {border.sum()} outermost cells of a {size} thumbnail",
        features=cells[:, border],
        make_classifier=make_logistic_regression,
    )
    thumbnail_signal = Signal(
        name=f"{size} thumbnail",
        description=f"gray of all cells of a {size} thumbnail",
        features=cells,
        make_classifier=make_logistic_regression,
    )
    return border_signal, thumbnail_signal


def _read_thumbnails(pixels: Stored, positions: Array) -> Array:
    """Return the mean of each cell of a 32x32 grid, float32 (k, 1024)."""
    size = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    thumbnails = np.empty((len(positions), *size), np.float32)
    for row, position in enumerate(positions):
        image = Image.fromarray(np.asarray(pixels[position]))
        thumbnails[row] = np.asarray(image.resize(size, Image.Resampling.BOX))
    return thumbnails.reshape(len(positions), THUMBNAIL_SIDE**2)


def _make_boosted_trees(seed: int) -> Any:
    """Return gradient-boosted trees: stored sizes and categories may separate in no order."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=100,
        max_depth=3,
        min_samples_leaf=5,
        early_stopping=False,
        random_state=seed,
    )


def make_logistic_regression(strength: float = 0.01) -> Any:
    """Return a logistic regression of standardised features.

    Args:
        strength: Inverse of the L2 penalty. The default lets a thousand correlated cells converge.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(
        StandardScaler(),
        LogisticRegression(C=strength, max_iter=2_000),
    )
