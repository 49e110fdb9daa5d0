"""The picture of Grad-CAM maps by cell of the confusion matrix."""

import textwrap
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from cxr.core import plotting
from cxr.core.formatting import printable
from cxr.core.settings import LABEL_NAMES
from cxr.stats.metrics import Vector
from cxr.storage.arrays import Stored

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
from cxr.results.gradcam.attribution import GROUPS, MAP_SIDE, confusion_groups, enlarge_maps

_COLUMNS = 4
_COVER = 0.6  # opacity of the strongest colour: the film stays visible under it
_LARGEST_PNG = 390_000  # bytes: reports carry the figures inside them
_INK, _GRAY = "#1b1f24", "#5b626c"
_COLOURS = (
    "inferno"  # lightness rises with strength, so it reads without colour vision and in gray print
)


def _evenly(rows: Vector, most: int) -> Vector:
    """Return at most `most` of the rows at even steps, the first and the last included."""
    if len(rows) <= most:
        return rows
    kept: Vector = rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]
    return kept


def draw_gradcam(
    pixels: Stored,
    maps: Vector,
    table: pd.DataFrame,
    threshold: float,
    path: Path,
) -> Path:
    """Return `path` after drawing there a row of at most 4 images for each group, PNG under 400 kB.

    `pixels` is gray uint8 (n, h, w), `maps` (n, h, w) in 0..1, `table` their image, label and score; raises
    ValueError where their numbers differ. In each row the images run from the most certain to the one
    nearest the threshold, at even steps: nobody picks them.
    """
    if not len(pixels) == len(maps) == len(table):
        raise ValueError(
            f"expected as many images as maps and rows, got {len(pixels)}, {len(maps)}, {len(table)}"
        )
    members_of = confusion_groups(table, threshold)
    counts = {name: len(members) for name, members in members_of.items()}
    figure = _figure(counts, threshold, maps.shape[1:])
    panels = figure.subplots(len(GROUPS), _COLUMNS)
    for row, (name, members) in zip(panels, members_of.items(), strict=True):
        _head(row[0], name, counts[name])
        shown = _evenly(members, _COLUMNS)
        for axes, at in zip(row, shown, strict=False):
            _overlay(axes, pixels[at], maps[at])
            _caption(axes, table.iloc[at])
        for axes in row[len(shown) :]:
            axes.axis("off")
            axes.set_box_aspect(1)
        if not len(shown):
            row[0].text(
                0, 0.5, "none in this set", fontsize=11, color=_GRAY, transform=row[0].transAxes
            )
    panels[0, -1].annotate(
        "from the most certain to the one nearest the threshold",
        (1, 1.07),
        xycoords="axes fraction",
        fontsize=9,
        color=_GRAY,
        ha="right",
    )
    _key(figure)
    return plotting.save_png(figure, path, _LARGEST_PNG)


def _figure(counts: Mapping[str, int], threshold: float, grid: tuple[int, ...]) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.2, 11.2), facecolor="white")
    figure.subplots_adjust(left=0.03, right=0.97, top=0.858, bottom=0.095, wspace=0.06, hspace=0.36)
    images, ill = sum(counts.values()), counts["tp"] + counts["fn"]
    title = f"What raised the score: n = {images} images ({images - ill} NORMAL, {ill} PNEUMONIA)"
    figure.text(0.03, 0.972, title, fontsize=13, fontweight="bold", color=_INK)
    words = (
        f"Threshold {threshold:.4g}. Colour marks where the network found signs of pneumonia, on a grid of "
        f"{grid[0]} x {grid[1]} cells stretched smoothly over the image; the white line is at half of the strongest "
        "value. Each image is scaled by its own strongest spot, so weak signs in a normal image look as bright as "
        "strong ones: read the score beside them. The colour does not outline disease."
    )
    figure.text(
        0.03,
        0.962,
        "\n".join(textwrap.wrap(words, 112)),
        fontsize=9,
        color=_GRAY,
        va="top",
        linespacing=1.3,
    )
    return figure


def _head(axes: "Axes", name: str, count: int) -> None:
    """Write a row's name above its first image, in blue where the model is right and in orange where it is not."""
    colour = "#0072B2" if name in {"tp", "tn"} else "#B84A00"
    axes.annotate(
        f"{GROUPS[name]}, n = {count}",
        (0, 1.06),
        xycoords="axes fraction",
        fontsize=11,
        fontweight="bold",
        color=colour,
    )


def _overlay(axes: "Axes", image: Vector, map_: Vector) -> None:
    """Show a gray image under its map; where nothing raised the score the image stays as it is."""
    gray = Image.fromarray(image).resize((MAP_SIDE, MAP_SIDE), Image.Resampling.BILINEAR)
    strength = np.clip(enlarge_maps(map_[np.newaxis])[0], 0, 1)
    axes.imshow(np.asarray(gray), cmap="gray", vmin=0, vmax=255)
    axes.imshow(_coloured(strength))
    if strength.max() > 0.5 > strength.min():
        axes.contour(strength, levels=[0.5], colors="white", linewidths=1.2)
    if not strength.any():
        axes.text(
            0.5,
            0.03,
            "nothing raised the score",
            fontsize=8,
            color="white",
            ha="center",
            transform=axes.transAxes,
        )
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _caption(axes: "Axes", row: "pd.Series[Any]") -> None:
    """Write the file's name, its score and its label under an image."""
    said = f"score {row['score']:.3f}, label {LABEL_NAMES[int(row['label'])]}"
    axes.set_xlabel(f"{_stem(row['image'])}\n{said}", fontsize=8, color=_INK, parse_math=False)


def _stem(key: str) -> str:
    """Return a file's name without folder and ending, as any font can draw it, the middle left out where long.

    >>> _stem("test/NORMAL/IM-0115-0001.jpeg")
    'IM-0115-0001'
    """
    name = printable(PurePosixPath(key).stem).encode("ascii", "backslashreplace").decode()
    return name if len(name) <= 28 else f"{name[:14]}...{name[-11:]}"


def _key(figure: "Figure") -> None:
    """Draw the colours from nothing to the strongest, as they look over mid-gray."""
    axes = figure.add_axes((0.32, 0.03, 0.36, 0.012))
    ramp = np.linspace(0, 1, 256)[np.newaxis]
    axes.imshow(
        np.full(ramp.shape, 0.5), cmap="gray", vmin=0, vmax=1, extent=(0, 1, 0, 1), aspect="auto"
    )
    axes.imshow(_coloured(ramp), extent=(0, 1, 0, 1), aspect="auto")
    axes.axvline(0.5, color="white", linewidth=1.2)
    axes.set_xticks(
        [0, 0.5, 1],
        labels=["nothing", "half (line)", "strongest in this image"],
        fontsize=8,
        color=_INK,
    )
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _coloured(strength: Vector) -> Vector:
    """Return the colours of a map 0..1 as (h, w, 4): the stronger, the brighter and the less transparent."""
    from matplotlib import colormaps

    colours: Vector = colormaps[_COLOURS](strength)
    colours[..., 3] = _COVER * strength
    return colours
