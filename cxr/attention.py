"""Where in an image a score comes from: Grad-CAM maps of any of our networks, their figure and their border share.

Left out: any claim that a map outlines disease. It says which cells of the network's last, coarse grid raise the score,
which is enough to notice a network that reads the side marker. Maps are of PNEUMONIA; those of NORMAL would be the same
sums with the other sign.
"""

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from cxr import drawing, scoring
from cxr.cache import Stored
from cxr.errors import DataError
from cxr.metrics import Vector
from cxr.records import LABEL_NAMES, Record, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GROUPS = {
    "tp": "Pneumonia found",
    "fn": "Pneumonia missed",
    "fp": "False alarms",
    "tn": "Normals left alone",
}
_COLUMNS = 4
_SIDE = 224  # pixels: what maps are stretched to before they are summed or drawn
_RESAMPLES = 2000
_COVER = 0.6  # opacity of the strongest colour: the film stays visible under it
_LARGEST_PNG = 390_000  # bytes: reports carry the figures inside them
_INK, _GRAY = "#1b1f24", "#5b626c"
_COLOURS = (
    "inferno"  # lightness rises with strength, so it reads without colour vision and in gray print
)


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


def maps(
    model: Any,
    pixels: Stored,
    positions: Vector,
    batch_size: int | None = None,
    on_images: Callable[[int], None] = lambda _: None,
) -> tuple[Vector, Vector]:
    """Return Grad-CAM maps, float32 (n, h, w), and model scores, float64 (n,), of `pixels` at `positions`.

    `pixels` is uint8 (m, side, side). A map's largest value is 1; where nothing raises the score it is all 0.
    Grad-CAM (Selvaraju et al., ICCV 2017) is relu(sum_k a_k A_k) over the last feature maps A_k, where a_k is the
    mean over their h x w cells of d logit / d A_k. Here logit = sum_k w_k mean(A_k) + b (average pooling, one dense
    unit), so d logit / d A_k = w_k / (h w) in every cell, and the map is relu(sum_k w_k A_k) up to a factor
    that the scaling to 1 removes: no gradient is taken, whatever the backend. It is the class activation
    map of Zhou et al. (CVPR 2016). The sigmoid is left out, as usual:
    its slope, too, is a positive factor. Raises DataError for a model without such a head, or no positions.
    """
    both, weights = _with_last_features(model)
    found, scores = [], []
    for features, score in scoring.outputs(both, pixels, positions, batch_size, on_images):
        found.append(np.maximum(features.astype(np.float32) @ weights, 0))
        scores.append(score.astype(np.float64).reshape(-1))
    if not found:
        raise DataError(
            "attention: expected at least one image, found none: check the split and its scores"
        )
    raw = np.concatenate(found)
    peaks = raw.max(axis=(1, 2), keepdims=True)
    return raw / np.where(peaks > 0, peaks, 1), np.concatenate(scores)


def _with_last_features(model: Any) -> tuple[Any, Vector]:
    """Return a model that gives the last feature maps beside the score, and the head's weights, float32 (c,)."""
    import keras

    layers: dict[str, Any] = {layer.name: layer for layer in model.layers}
    kinds = {"features": keras.layers.GlobalAveragePooling2D, "score": keras.layers.Dense}
    if (
        not all(isinstance(layers.get(name), kind) for name, kind in kinds.items())
        or layers["score"].units != 1
    ):
        raise DataError(
            "attention: expected a model with average pooling named 'features' and one dense unit named 'score', found "
            f"the last layers {list(layers)[-3:]}: use a model.keras that this pipeline exported"
        )
    both = keras.Model(model.inputs, [layers["features"].input, model.output])
    return both, np.asarray(keras.ops.convert_to_numpy(layers["score"].kernel), np.float32)[:, 0]


def stretched(maps: Vector, side: int = _SIDE) -> Vector:
    """Return maps (n, h, w) stretched to (n, side, side), float64, as Pillow's bilinear enlargement would."""
    down, across = (_bilinear(cells, side) for cells in maps.shape[1:])
    large: Vector = np.einsum(
        "yi,nij,xj->nyx", down, maps.astype(np.float64), across, optimize=True
    )
    return large


def _bilinear(cells: int, side: int) -> Vector:
    """Return the matrix (side, cells) that interpolates between the cells' centres and is flat beyond the outer."""
    centres = (np.arange(side) + 0.5) * cells / side - 0.5
    return np.stack([np.interp(centres, np.arange(cells), unit) for unit in np.eye(cells)], axis=1)


def border_share(maps: Vector, side_fraction: float = 0.1) -> Vector:
    """Return the share 0..1 of each stretched map's sum that lies in the border ring, float64 (n,).

    `maps` is (n, h, w), not negative; the ring is the outer `side_fraction` of each side. NaN for a map
    that is all 0: it has no share. Compare with `uniform_share`; the coarser the maps, the nearer to it they come.
    """
    total, within = _summed(maps, np.ones(_SIDE)), _summed(maps, _inner(side_fraction))
    share: Vector = 1 - np.divide(within, total, out=np.full(len(maps), np.nan), where=total > 0)
    return share.clip(0, 1)


def _summed(maps: Vector, weights: Vector) -> Vector:
    """Return the sum over rows and columns of the stretched maps, each weighted, without stretching them."""
    down, across = (weights @ _bilinear(cells, _SIDE) for cells in maps.shape[1:])
    sums: Vector = np.einsum("i,nij,j->n", down, maps.astype(np.float64), across)
    return sums


def _inner(side_fraction: float) -> Vector:
    """Return how much of each of the _SIDE pixels lies within the ring, 0..1: the ring may cut through a pixel."""
    low, high = side_fraction * _SIDE, (1 - side_fraction) * _SIDE
    left = np.arange(_SIDE)
    inside: Vector = np.minimum(left + 1, high) - np.maximum(left, low)
    return inside.clip(0, 1)


def uniform_share(side_fraction: float = 0.1) -> float:
    """Return the border share of a map that is equal everywhere: the ring's share of the area.

    >>> round(uniform_share(0.1), 6)  # 1 - 0.8 x 0.8
    0.36
    """
    return 1 - (1 - 2 * side_fraction) ** 2


def groups(table: pd.DataFrame, threshold: float) -> dict[str, Vector]:
    """Return the rows of `table` (image, label, score) in each group of GROUPS, the most certain first.

    A prediction is PNEUMONIA where score >= threshold. Equal scores are in the order of their names.
    """
    said, ill = table["score"] >= threshold, table["label"] == 1
    rows = {"tp": said & ill, "fn": ~said & ill, "fp": said & ~ill, "tn": ~said & ~ill}
    order = {
        said: np.lexsort((table["image"], table["score"] * (-1 if said else 1)))
        for said in (True, False)
    }
    return {name: _ordered(order[name in {"tp", "fp"}], rows[name].to_numpy()) for name in GROUPS}


def _ordered(order: Vector, wanted: Vector) -> Vector:
    rows: Vector = order[wanted[order]]
    return rows


def _evenly(rows: Vector, most: int) -> Vector:
    """Return at most `most` of the rows at even steps, the first and the last included."""
    if len(rows) <= most:
        return rows
    kept: Vector = rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]
    return kept


def interval(shares: Vector, seed: int = 0) -> tuple[float, float] | None:
    """Return the 95 % percentile bootstrap interval of the mean (Efron and Tibshirani 1993, chapter 13).

    Images are resampled, 2000 times; None for fewer than two.
    """
    if len(shares) < 2:
        return None
    rng = np.random.default_rng(seed)
    means = [rng.choice(shares, len(shares)).mean() for _ in range(_RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def draw(
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
    members_of = groups(table, threshold)
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
    return drawing.publish(figure, path, _LARGEST_PNG)


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
    gray = Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    strength = np.clip(stretched(map_[np.newaxis])[0], 0, 1)
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


def leave(
    run: Path, pixels: Stored, found: Vector, table: pd.DataFrame, of: dict[str, Any]
) -> Attention:
    """Write gradcam.png and then attention.json into `run`; return the record.

    `pixels` (n, side, side) and `found`, their maps, are in the order of `table`, whose scores make the groups and
    captions; `of` names architecture, model_sha256, threshold and split.
    """
    figure = draw(pixels, found, table, of["threshold"], run / "gradcam.png")
    members = groups(table, of["threshold"])
    return _record(found, members, of | {"figure": figure.name}).write(run / "attention.json")


def _record(found: Vector, members: Mapping[str, Vector], of: dict[str, Any]) -> Attention:
    """Return the record of maps whose rows are in these groups."""
    side_fraction = 0.1
    shares = border_share(found, side_fraction)
    known = shares[~np.isnan(shares)]
    return Attention(
        images=len(shares),
        examined=len(shares),
        with_map=len(known),
        grid=found.shape[1:],
        side_fraction=side_fraction,
        border_share=_mean(known),
        interval=interval(known),
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
