"""Draw sample images, and what augmentation makes of them."""

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from cxr.core import plotting
from cxr.core.formatting import printable
from cxr.core.plotting import CLASS_COLOURS
from cxr.core.settings import LABEL_NAMES, Augmentation
from cxr.exploration.summary import images_by_split_and_class

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Pixels = np.ndarray[Any, Any]

_SAMPLES = 5  # of each class
_LARGEST_SIDE = 256  # pixels kept of an image: what is drawn is smaller
_LONGEST_NAME = 30  # characters of a file name


def draw_samples(
    table: pd.DataFrame,
    read_pixels: Callable[[str], Pixels],
    seed: int,
) -> "Figure":
    """Draw random train images: a row for each class, name and size under each.

    Args:
        table: The manifest.
        read_pixels: Takes a key of the column `image`, returns gray uint8 (h, w).
        seed: Chooses the images.
    """
    train = table[table["split"] == "train"]
    counts = images_by_split_and_class(table).loc["train"]
    sizes = ", ".join(f"{counts[name]:,} {name}" for name in LABEL_NAMES)
    figure = plotting.new_figure(f"Random images of train ({sizes})", 10, 5.2)
    grid = figure.subplots(
        len(LABEL_NAMES),
        _SAMPLES,
        squeeze=False,
    )
    for panels, name in zip(grid, LABEL_NAMES, strict=True):
        members = train[train["label_name"] == name]
        chosen = members.sample(min(len(members), _SAMPLES), random_state=seed)
        _draw_class(panels, name, chosen, read_pixels)
    return figure


def _draw_class(
    panels: "Sequence[Axes]",
    name: str,
    rows: pd.DataFrame,
    read_pixels: Callable[[str], Pixels],
) -> None:
    """Draw the samples of one class, its name before them; panels without an image stay empty."""
    for axes in panels[len(rows) :]:
        axes.set_axis_off()
    columns = zip(rows["image"], rows["width"], rows["height"], strict=True)
    for axes, (image, width, height) in zip(panels, columns, strict=False):
        _draw_image(axes, read_pixels(image))
        caption = f"{_short_name(image)}\n{width} x {height} px"
        axes.set_xlabel(
            caption,
            fontsize=7.5,
            parse_math=False,
        )
    panels[0].text(
        -0.08,
        0.5,
        name,
        color=CLASS_COLOURS[name],
        weight="bold",
        rotation=90,
        va="center",
        ha="right",
        transform=panels[0].transAxes,
    )


def _draw_image(axes: "Axes", pixels: Pixels) -> None:
    """Draw an image made small enough; 0 is black and 255 white in all of them alike."""
    image = Image.fromarray(pixels)
    image.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
    axes.imshow(
        np.asarray(image),
        cmap="gray",
        vmin=0,
        vmax=255,
    )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _short_name(key: str) -> str:
    """Return a file's name that any font can draw: escaped, the middle left out where it is long.

    >>> _short_name("train/NORMAL/IM-0115-0001.jpeg")
    'IM-0115-0001.jpeg'
    """
    escaped = printable(key.rsplit("/", 1)[-1])
    name = escaped.encode("ascii", "backslashreplace").decode()
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:16]}...{name[-11:]}"


def draw_augmentation(
    original: Pixels,
    augmented: Pixels,
    names: Sequence[str],
    ranges: Augmentation,
    folder: Path,
) -> Path:
    """Draw images and what augmentation makes of them: a row for each, the original first.

    Args:
        original: Gray uint8 (n, h, w).
        augmented: Gray uint8 (n, k, h, w).
        names: n texts, written before the rows.
        ranges: How far the augmentation goes, said in the title.
        folder: Where augmentation.png is written.

    Returns:
        The path of the figure.

    Raises:
        ValueError: The shapes do not fit together.
    """
    count, variants = augmented.shape[:2]
    if original.shape != (count, *augmented.shape[2:]) or len(names) != count:
        raise ValueError(
            "expected (n, h, w), (n, k, h, w) and n names, "
            f"got {original.shape}, {augmented.shape} and {len(names)}: pass images of one size"
        )
    figure = plotting.new_figure("", 1.3 * (variants + 1) + 0.3, 1.34 * count + 0.8)
    title = textwrap.wrap(_describe_ranges(ranges), 11 * (variants + 1) + 20)
    figure.suptitle("\n".join(title), fontsize=11)
    grid = figure.subplots(count, variants + 1, squeeze=False)
    for panels, name, first, others in zip(grid, names, original, augmented, strict=True):
        for axes, pixels in zip(panels, (first, *others), strict=True):
            _draw_image(axes, pixels)
        panels[0].set_ylabel(
            _short_name(name),
            fontsize=9,
            color=CLASS_COLOURS.get(name, "black"),
            parse_math=False,
        )
    grid[0, 0].set_title("original", fontsize=10)
    for axes in grid[0, 1:]:
        axes.set_title("augmented", fontsize=10)
    return plotting.save_png(figure, folder / "augmentation.png")


def _describe_ranges(ranges: Augmentation) -> str:
    """Return the ranges in words, e.g. "parts of at least 30 % of the area, ...; no flips".

    What has no range is left out. Spaces within "zoom ±10 %" do not break a line.
    """
    parts = []
    if ranges.area < 1:
        parts.append(f"parts of at least {ranges.area:.0%} of the area")
    if ranges.stretch > 1:
        parts.append(f"stretched by up to {ranges.stretch:.2f} either way")
    parts.append(f"rotation up to ±{ranges.rotation:g}°")
    for name in ("zoom", "shift", "contrast", "brightness"):
        percent = getattr(ranges, name) * 100
        if percent:
            parts.append(f"{name}\N{NO-BREAK SPACE}±{percent:g}\N{NO-BREAK SPACE}%")
    parts.append(f"gamma {np.exp(-ranges.gamma):.2g} to {np.exp(ranges.gamma):.2g}")
    return f"Augmentation of training images: {', '.join(parts)}; no flips"
