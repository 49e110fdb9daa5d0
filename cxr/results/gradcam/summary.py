"""The summary of Grad-CAM maps: how much of the attention lies at the border, by cell of the confusion matrix."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cxr.core.records import Record
from cxr.data.images.border import BORDER_FRACTION
from cxr.stats.metrics import Vector
from cxr.storage.arrays import Stored

if TYPE_CHECKING:
    pass
from cxr.results.gradcam.attribution import (
    border_share,
    confusion_groups,
    mean_interval,
    uniform_share,
)
from cxr.results.gradcam.plot import draw_gradcam


class Group(Record):
    """One cell of the confusion matrix. `border_share` is the mean over `with_map`, None where that is 0."""

    images: int
    examined: int
    with_map: int
    border_share: float | None


class Attention(Record):
    """How much of the attention of one model lies at the border of the images of one split.

    Of `images` in the split `examined` got a map; in `with_map` of these something raised the score, and
    only they count in `border_share`, the mean share 0..1. `interval` is its 95 % percentile bootstrap interval by
    image. `uniform_share` is that of a map equal everywhere. `grid` is (rows, columns) of the maps.
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


def write_gradcam(
    run: Path, pixels: Stored, found: Vector, table: pd.DataFrame, of: dict[str, Any]
) -> Attention:
    """Write gradcam.png and then attention.json into `run`; return the record.

    `pixels` (n, side, side) and `found`, their maps, are in the order of `table`, whose scores make the groups and
    captions; `of` names architecture, model_sha256, threshold and split.
    """
    figure = draw_gradcam(pixels, found, table, of["threshold"], run / "gradcam.png")
    members = confusion_groups(table, of["threshold"])
    return _record(found, members, of | {"figure": figure.name}).write(run / "attention.json")


def _record(found: Vector, members: Mapping[str, Vector], of: dict[str, Any]) -> Attention:
    """Return the record of maps whose rows are in these groups."""
    side_fraction = BORDER_FRACTION
    shares = border_share(found, side_fraction)
    known = shares[~np.isnan(shares)]
    return Attention(
        images=len(shares),
        examined=len(shares),
        with_map=len(known),
        grid=found.shape[1:],
        side_fraction=side_fraction,
        border_share=_mean(known),
        interval=mean_interval(known),
        uniform_share=uniform_share(side_fraction),
        groups={name: _group(shares[rows]) for name, rows in members.items()},
        **of,
    )


def _group(shares: Vector) -> Group:
    known = shares[~np.isnan(shares)]
    return Group(
        images=len(shares), examined=len(shares), with_map=len(known), border_share=_mean(known)
    )


def _mean(known: Vector) -> float | None:
    return float(known.mean()) if len(known) else None
