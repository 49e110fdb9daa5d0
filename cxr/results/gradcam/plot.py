"""The picture of Grad-CAM maps by cell of the confusion matrix: gradcam.png."""

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
from cxr.results.gradcam.border_share import MAP_SIDE, enlarge_maps
from cxr.results.gradcam.confusion_groups import GROUPS, confusion_groups
from cxr.stats.metrics import Vector
from cxr.storage.arrays import Stored

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 4
_LARGEST_PNG = 390_000  # bytes: a report carries its pictures inside it
_INK = "#1b1f24"
_GRAY = "#5b626c"
_RIGHT_COLOUR = "#0072B2"
_WRONG_COLOUR = "#B84A00"
# Its lightness rises with the value, so that it reads without colour vision and in gray print.
_COLOUR_MAP = "inferno"
_OPACITY = 0.6  # of the strongest colour: the image stays visible under it
_LONGEST_NAME = 28  # characters of a file name under an image
_EXPLANATION = (
    "Threshold {threshold:.4g}. Colour marks the cells that raised the score, on a grid of {rows} "
    "x {columns} cells enlarged smoothly over the image; the white line is at half of the "
    "strongest value. Each image is scaled by its own strongest cell, so that weak signs in a "
    "negative image look as bright as strong ones: read the score under it. The colour does not "
    "outline disease."
)
_ON_REFERRED = " Orange names have no prediction: under them is why the image is out of scope."


def draw_gradcam(
    pixels: Stored,
    maps: Vector,
    table: pd.DataFrame,
    threshold: float,
    path: Path,
) -> Path:
    """Draw a row of up to four images under their maps for each cell of the confusion matrix.

    In each row the images run from the most certain prediction to the one closest to the
    threshold, at even steps: nobody picks them.

    Args:
        pixels: uint8, (n, side, side).
        maps: From 0 to 1, (n, h, w).
        table: Their image, label and score, in the same order; and, where it was judged, status
            and reason of the scope.
        threshold: The lowest score that counts as positive.
        path: Where to publish the PNG file, which has less than 400 kB.

    Returns:
        `path`.

    Raises:
        ValueError: The numbers of images, maps and rows differ.
    """
    if not len(pixels) == len(maps) == len(table):
        raise ValueError(
            "expected as many images as maps and rows, "
            f"got {len(pixels)}, {len(maps)}, {len(table)}"
        )
    groups = confusion_groups(table, threshold)
    counts = {name: len(members) for name, members in groups.items()}
    explanation = _EXPLANATION.format(
        threshold=threshold, rows=maps.shape[1], columns=maps.shape[2]
    )
    if "status" in table and (table["status"] == "abstained").any():
        explanation += _ON_REFERRED
    figure = _new_figure(counts, explanation)
    plots = figure.subplots(len(GROUPS), _COLUMNS)
    for row, (name, members) in zip(plots, groups.items(), strict=True):
        _draw_group_title(row[0], name, len(members))
        shown = _even_steps(members, _COLUMNS)
        for axes, position in zip(row, shown, strict=False):
            _draw_overlay(axes, pixels[position], maps[position])
            _draw_caption(axes, table.iloc[position])
        for axes in row[len(shown) :]:
            axes.axis("off")
            axes.set_box_aspect(1)
        if not len(shown):
            _draw_none(row[0])
    plots[0, -1].annotate(
        "from the most certain to the one closest to the threshold",
        (1, 1.07),
        xycoords="axes fraction",
        fontsize=9,
        color=_GRAY,
        ha="right",
    )
    _draw_colour_key(figure)
    return plotting.save_png(figure, path, _LARGEST_PNG)


def _even_steps(rows: Vector, most: int) -> Vector:
    """Return at most `most` of the rows at even steps, the first and the last included."""
    if len(rows) <= most:
        return rows
    steps = np.linspace(0, len(rows) - 1, most)
    kept: Vector = rows[steps.round().astype(int)]
    return kept


def _new_figure(counts: Mapping[str, int], explanation: str) -> "Figure":
    """Return an empty figure with its title and its explanation."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.2, 11.8), facecolor="white")
    figure.subplots_adjust(
        left=0.03,
        right=0.97,
        top=0.858,
        bottom=0.095,
        wspace=0.06,
        hspace=0.44,
    )
    images = sum(counts.values())
    positives = counts["tp"] + counts["fn"]
    negatives = images - positives
    title = f"Grad-CAM, n = {images} images ({negatives} NORMAL, {positives} PNEUMONIA)"
    figure.text(0.03, 0.972, title, fontsize=13, fontweight="bold", color=_INK)
    figure.text(
        0.03,
        0.962,
        "\n".join(textwrap.wrap(explanation, 112)),
        fontsize=9,
        color=_GRAY,
        va="top",
        linespacing=1.3,
    )
    return figure


def _draw_group_title(axes: "Axes", name: str, count: int) -> None:
    """Write a group's name above its first image, in blue where right and in orange where wrong."""
    is_right = name in {"tp", "tn"}
    axes.annotate(
        f"{GROUPS[name]}, n = {count}",
        (0, 1.06),
        xycoords="axes fraction",
        fontsize=11,
        fontweight="bold",
        color=_RIGHT_COLOUR if is_right else _WRONG_COLOUR,
    )


def _draw_none(axes: "Axes") -> None:
    """Say that a group has no image."""
    axes.text(
        0,
        0.5,
        "none in this set",
        fontsize=11,
        color=_GRAY,
        transform=axes.transAxes,
    )


def _draw_overlay(axes: "Axes", image: Vector, gradcam_map: Vector) -> None:
    """Show a gray image under its map; where nothing raised the score the image stays as it is."""
    size = (MAP_SIDE, MAP_SIDE)
    gray = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    enlarged = enlarge_maps(gradcam_map[np.newaxis])[0]
    strength = np.clip(enlarged, 0, 1)
    axes.imshow(np.asarray(gray), cmap="gray", vmin=0, vmax=255)
    axes.imshow(_colours(strength))
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


def _draw_caption(axes: "Axes", row: "pd.Series[Any]") -> None:
    """Write the file's name, its score and its label under an image, and why it is referred."""
    label = LABEL_NAMES[int(row["label"])]
    lines = [_short_name(row["image"]), f"score {row['score']:.3f}, label {label}"]
    is_referred = row.get("status") == "abstained"
    if is_referred:
        lines.append(str(row["reason"]).partition(":")[0])
    axes.set_xlabel(
        "\n".join(lines),
        fontsize=8,
        color=_WRONG_COLOUR if is_referred else _INK,
        parse_math=False,
    )


def _short_name(key: str) -> str:
    """Return a file's name without folder and suffix, in characters that any font can draw.

    A long name loses its middle.

    >>> _short_name("test/NORMAL/IM-0115-0001.jpeg")
    'IM-0115-0001'
    """
    stem = printable(PurePosixPath(key).stem)
    name = stem.encode("ascii", "backslashreplace").decode()
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:14]}...{name[-11:]}"


def _draw_colour_key(figure: "Figure") -> None:
    """Draw the colours from nothing to the strongest, as they look over mid-gray."""
    axes = figure.add_axes((0.32, 0.03, 0.36, 0.012))
    ramp = np.linspace(0, 1, 256)[np.newaxis]
    axes.imshow(
        np.full(ramp.shape, 0.5),
        cmap="gray",
        vmin=0,
        vmax=1,
        extent=(0, 1, 0, 1),
        aspect="auto",
    )
    axes.imshow(_colours(ramp), extent=(0, 1, 0, 1), aspect="auto")
    axes.axvline(0.5, color="white", linewidth=1.2)
    axes.set_xticks(
        [0, 0.5, 1],
        labels=["nothing", "half (line)", "strongest in this image"],
        fontsize=8,
        color=_INK,
    )
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _colours(strength: Vector) -> Vector:
    """Return the RGBA colours of a map, (h, w, 4): stronger is brighter and less transparent."""
    from matplotlib import colormaps

    colours: Vector = colormaps[_COLOUR_MAP](strength)
    colours[..., 3] = _OPACITY * strength
    return colours
