"""attention.json: how much of a model's Grad-CAM maps lies at the border of the images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr.core.records import Record
from cxr.data.images.border import BORDER_FRACTION
from cxr.models.training.records import Training
from cxr.results.gradcam import border_share, plot
from cxr.results.gradcam.confusion_groups import confusion_groups
from cxr.stats.metrics import Vector
from cxr.storage.arrays import Stored


class Group(Record):
    """One cell of the confusion matrix.

    Attributes:
        images: Its images.
        examined: Those of them that got a map.
        with_map: Those of them in which something raised the score.
        border_share: The mean share of their maps at the border, 0 to 1; None where there is none.
    """

    images: int
    examined: int
    with_map: int
    border_share: float | None


class Attention(Record):
    """How much of a model's Grad-CAM maps of one split lies at the border of the images.

    Attributes:
        architecture: Of the model.
        model_sha256: Of the model.
        threshold: Which divides the images into groups.
        split: Where the images are from.
        images: The images of the split.
        examined: Those of them that got a map.
        with_map: Those of them in which something raised the score; they alone count below.
        grid: Rows and columns of a map.
        side_fraction: The width of the border as a share of each side.
        border_share: The mean share of the maps at the border, 0 to 1; None without maps.
        interval: Its 95 % percentile bootstrap interval, by image.
        uniform_share: The border share of a map that is equal everywhere.
        groups: By cell of the confusion matrix: tp, fn, fp, tn.
        figure: The file name of the picture.
    """

    architecture: str
    model_sha256: str
    threshold: float
    split: str
    images: int
    examined: int
    with_map: int
    grid: tuple[int, int]
    side_fraction: float
    border_share: float | None
    interval: tuple[float, float] | None
    uniform_share: float
    groups: dict[str, Group]
    figure: str

    def is_of(self, training: Training) -> bool:
        """Return whether this is a record of that very model at its operating point."""
        same_model = self.model_sha256 == training.model_sha256
        return same_model and self.threshold == training.threshold


def write_gradcam(
    run: Path,
    pixels: Stored,
    maps: Vector,
    table: pd.DataFrame,
    source: dict[str, Any],
) -> Attention:
    """Write gradcam.png and then attention.json into a run's folder; return the record.

    Args:
        run: The folder.
        pixels: The images, uint8 (n, side, side).
        maps: Their Grad-CAM maps, (n, h, w) from 0 to 1.
        table: Their image, label and score, in the same order, and what `draw_gradcam` may use.
        source: The record's architecture, model_sha256, threshold and split.
    """
    threshold = source["threshold"]
    figure = plot.draw_gradcam(pixels, maps, table, threshold, run / "gradcam.png")
    groups = confusion_groups(table, threshold)
    record = summarise_maps(maps, groups, source | {"figure": figure.name})
    return record.write(run / "attention.json")


def summarise_maps(
    maps: Vector,
    groups: Mapping[str, Vector],
    source: dict[str, Any],
) -> Attention:
    """Return the record of maps.

    Args:
        maps: (n, h, w), from 0 to 1.
        groups: Positions in `maps` by name of the group.
        source: The fields of the record that maps don't tell.
    """
    shares = border_share.border_share(maps, BORDER_FRACTION)
    known = shares[~np.isnan(shares)]
    group_records = {}
    for name, rows in groups.items():
        group_records[name] = _summarise_group(shares[rows])
    return Attention(
        images=len(shares),
        examined=len(shares),
        with_map=len(known),
        grid=maps.shape[1:],
        side_fraction=BORDER_FRACTION,
        border_share=_mean(known),
        interval=border_share.mean_interval(known),
        uniform_share=border_share.uniform_share(BORDER_FRACTION),
        groups=group_records,
        **source,
    )


def _summarise_group(shares: Vector) -> Group:
    """Return the record of one group; a share is NaN where nothing raised the score."""
    known = shares[~np.isnan(shares)]
    return Group(
        images=len(shares),
        examined=len(shares),
        with_map=len(known),
        border_share=_mean(known),
    )


def _mean(shares: Vector) -> float | None:
    """Return the mean; None of no shares."""
    if not len(shares):
        return None
    return float(shares.mean())
