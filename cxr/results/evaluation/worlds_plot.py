"""The pictures of the stress worlds and of the masks: worlds.png and masks.png."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cxr.core import plotting
from cxr.core.settings import LABEL_NAMES
from cxr.data.images.changes.changed_images import Change
from cxr.data.images.changes.masks import BORDER_EXCHANGED, MASKS, exchange_border
from cxr.data.images.changes.stress_worlds import CLEAN, WORLDS
from cxr.data.images.decoding.rejection import Pixels
from cxr.results.plots import style
from cxr.stats.metrics import Vector
from cxr.storage.arrays import Stored

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STRESS_PICTURES = ("worlds.png", "masks.png")
_COLUMNS = 7  # of worlds.png: two rows of seven for each image
_PANEL = 1.75  # inches
_LARGEST_PNG = 600_000  # bytes: with fewer grays than that takes, noise and blur look alike


def draw_worlds(
    pixels: Stored,
    rows: pd.DataFrame,
    scores: Vector,
    folder: Path,
) -> list[Path]:
    """Draw one NORMAL and one PNEUMONIA image in every world, and behind every mask.

    Of each class it is the image whose score is in the middle of its class: nobody picks it.

    Args:
        pixels: uint8 (n, side, side).
        rows: Their image, label and pixel_sha256.
        scores: The raw score of each image, (n,).
        folder: Where to publish worlds.png and masks.png.

    Returns:
        The paths of the two.
    """
    labels = rows["label"].to_numpy()
    examples = []
    for label, name in enumerate(LABEL_NAMES):
        members = np.flatnonzero(labels == label)
        order = members[np.argsort(scores[members], kind="stable")]
        middle = order[len(order) // 2]
        key = rows["pixel_sha256"].iloc[middle]
        examples.append((name, np.asarray(pixels[middle]), key))
    worlds = {CLEAN: _keep} | {world.name: world.change for world in WORLDS.values()}
    masks = {CLEAN: _keep} | {mask.name: mask.change for mask in MASKS.values()}
    normal, pneumonia = examples
    others = {normal[2]: pneumonia[1], pneumonia[2]: normal[1]}
    masks[BORDER_EXCHANGED] = lambda image, key: exchange_border(image, others[key])
    return [
        _draw_changes(examples, worlds, _COLUMNS, "The stress worlds", folder / STRESS_PICTURES[0]),
        _draw_changes(examples, masks, len(masks), "The masks", folder / STRESS_PICTURES[1]),
    ]


def _keep(pixels: Pixels, _: str) -> Pixels:
    """Return an image as it is."""
    return pixels


def _draw_changes(
    examples: Sequence[tuple[str, Pixels, str]],
    changes: Mapping[str, Change],
    columns: int,
    title: str,
    path: Path,
) -> Path:
    """Draw each example in each change, the examples below each other.

    Args:
        examples: The class, the image and the digest of its pixels.
        changes: By name.
        columns: How many images stand side by side.
        title: Of the picture.
        path: The file.
    """
    rows_each = -(-len(changes) // columns)
    rows = rows_each * len(examples)
    figure = style.new_figure(
        _PANEL * columns,
        (_PANEL + 0.25) * rows + 0.5,
        f"{title}, on a test image of each class",
    )
    plots = figure.subplots(rows, columns, squeeze=False)
    for number, (label, image, key) in enumerate(examples):
        panels = plots[number * rows_each : (number + 1) * rows_each].ravel()
        for axes, (name, change) in zip(panels, changes.items(), strict=True):
            _draw_panel(axes, change(image, key), name)
        panels[0].set_ylabel(label, fontsize=11, fontweight="bold", color=style.INK)
    return plotting.save_png(figure, path, _LARGEST_PNG)


def _draw_panel(axes: "Axes", image: Pixels, name: str) -> None:
    """Show one image with what was done to it above."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    axes.set_title(name, fontsize=9, color=style.INK)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
