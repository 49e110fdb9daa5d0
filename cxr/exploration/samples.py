"""Pictures of sample images and of their augmentation."""

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from cxr.core import plotting
from cxr.core.formatting import printable
from cxr.core.settings import LABEL_NAMES, Augmentation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
from cxr.core.plotting import CLASS_COLOURS
from cxr.exploration.summary import images_by_split_and_class

Pixels = np.ndarray[Any, Any]
_SAMPLE_COLUMNS = 5
_SAMPLE_SIDE = 256  # pixels kept of a sample: what is drawn is smaller


def draw_samples(table: pd.DataFrame, samples: Callable[[str], Pixels], seed: int) -> "Figure":
    """Return a grid of random train images: a row per class, name and size under each."""
    train = table[table["split"] == "train"]
    counts = images_by_split_and_class(table).loc["train"]
    title = ", ".join(f"{counts[name]:,} {name}" for name in LABEL_NAMES)
    figure = plotting.new_figure(f"Random images of train ({title})", 10, 5.2)
    grid = figure.subplots(len(LABEL_NAMES), _SAMPLE_COLUMNS, squeeze=False)
    for row, name in zip(grid, LABEL_NAMES, strict=True):
        rows = train[train["label_name"] == name]
        chosen = rows.sample(min(len(rows), _SAMPLE_COLUMNS), random_state=seed)
        for axes, (_, one) in zip(row, chosen.iterrows(), strict=False):
            _show(axes, samples(one["image"]))
            caption = f"{_short(one['image'])}\n{one['width']} x {one['height']} px"
            axes.set_xlabel(caption, fontsize=7.5, parse_math=False)
        for axes in row[len(chosen) :]:
            axes.set_axis_off()
        row[0].text(
            -0.08,
            0.5,
            name,
            color=CLASS_COLOURS[name],
            weight="bold",
            rotation=90,
            va="center",
            ha="right",
            transform=row[0].transAxes,
        )
    return figure


def _show(axes: "Axes", pixels: Pixels) -> None:
    """Show an image made small enough to draw; 0 is black and 255 white in all of them alike."""
    image = Image.fromarray(pixels)
    image.thumbnail((_SAMPLE_SIDE, _SAMPLE_SIDE))
    axes.imshow(np.asarray(image), cmap="gray", vmin=0, vmax=255)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _short(key: str) -> str:
    """Return a file's name that any font can draw: escaped, the middle left out where it is long.

    >>> _short("train/NORMAL/IM-0115-0001.jpeg")
    'IM-0115-0001.jpeg'
    """
    name = printable(key.rsplit("/", 1)[-1]).encode("ascii", "backslashreplace").decode()
    return name if len(name) <= 30 else f"{name[:16]}...{name[-11:]}"


def draw_augmentation(
    original: Pixels, augmented: Pixels, names: Sequence[str], ranges: Augmentation, folder: Path
) -> Path:
    """Return the path of augmentation.png in `folder`: each original, then its augmented versions.

    `original` is gray uint8 (n, h, w), `augmented` uint8 (n, k, h, w), `names` n texts; raises ValueError
    where these do not fit together.
    """
    count, variants = augmented.shape[:2]
    if original.shape != (count, *augmented.shape[2:]) or len(names) != count:
        raise ValueError(
            "expected (n, h, w), (n, k, h, w) and n names, "
            f"got {original.shape}, {augmented.shape} and {len(names)}: pass images of one size"
        )
    figure = plotting.new_figure("", 1.3 * (variants + 1) + 0.3, 1.34 * count + 0.8)
    title = (
        _in_words(ranges).replace(" ±", "\N{NO-BREAK SPACE}±").replace(" %", "\N{NO-BREAK SPACE}%")
    )
    figure.suptitle("\n".join(textwrap.wrap(title, 11 * (variants + 1) + 20)), fontsize=11)
    for row, name, first, others in zip(
        figure.subplots(count, variants + 1, squeeze=False), names, original, augmented, strict=True
    ):
        for axes, pixels in zip(row, (first, *others), strict=True):
            _show(axes, pixels)
        row[0].set_ylabel(
            _short(name), fontsize=9, color=CLASS_COLOURS.get(name, "black"), parse_math=False
        )
    figure.axes[0].set_title("original", fontsize=10)
    for axes in figure.axes[1 : variants + 1]:
        axes.set_title("augmented", fontsize=10)
    return plotting.save_png(figure, folder / "augmentation.png")


def _in_words(ranges: Augmentation) -> str:
    """Return the ranges as a sentence, e.g. "rotation up to ±10°, zoom ±10 %, ...; no flips"."""
    names = ("zoom", "shift", "contrast", "brightness")
    shares = ", ".join(f"{name} ±{getattr(ranges, name) * 100:g} %" for name in names)
    gamma = f"gamma {np.exp(-ranges.gamma):.2g} to {np.exp(ranges.gamma):.2g}"
    return f"Augmentation of training images: rotation up to ±{ranges.rotation:g}°, {shares}, {gamma}; no flips"
