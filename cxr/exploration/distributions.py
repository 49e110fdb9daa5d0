"""Pictures of the data: classes, sizes, modes, intensity."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cxr.core import plotting
from cxr.core.errors import DataError
from cxr.core.settings import LABEL_NAMES, SPLITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
from cxr.core.plotting import CAUSE_COLOURS, CLASS_COLOURS
from cxr.exploration.samples import Pixels, draw_samples
from cxr.exploration.summary import (
    causes_by_split,
    images_by_split_and_class,
    patients_by_split_and_class,
    storage_by_class,
)


def draw_all(
    table: pd.DataFrame, folder: Path, samples: Callable[[str], Pixels], seed: int = 0
) -> list[Path]:
    """Return the paths of the five figures written into `folder`, PNG, under 300 kB each.

    class_distribution.png, image_sizes.png, modes.png, intensity.png and samples.png; the last reads at most
    ten train images through `samples`, which takes a key of `image` and returns gray uint8 (h, w).
    Raises DataError for an empty table, and whatever `samples` raises.
    """
    if table.empty:
        raise DataError(
            "expected at least one image in the manifest, found none: check rejects.csv"
        )
    figures = {
        "class_distribution.png": _class_distribution(table),
        "image_sizes.png": _image_sizes(table, seed),
        "modes.png": _modes(table),
        "intensity.png": _intensity(table),
        "samples.png": draw_samples(table, samples, seed),
    }
    return [plotting.save_png(figure, folder / name) for name, figure in figures.items()]


def _class_distribution(table: pd.DataFrame) -> "Figure":
    """Return bars of images and patients by split and class, and of the causes of PNEUMONIA."""
    images = images_by_split_and_class(table)
    ill = images["PNEUMONIA"].sum() / images.to_numpy().sum()
    title = f"{len(table):,} images, {ill:.0%} of them PNEUMONIA"
    figure = plotting.new_figure(title, 12, 4.2)
    panels = (
        ("Images", images, CLASS_COLOURS),
        ("Patients (with a known id)", patients_by_split_and_class(table), CLASS_COLOURS),
        ("PNEUMONIA by stated cause", causes_by_split(table), CAUSE_COLOURS),
    )
    for axes, (name, counts, colours) in zip(figure.subplots(1, 3), panels, strict=True):
        _bars(axes, counts, colours)
        axes.set_title(f"{name}, n = {counts.to_numpy().sum():,}", fontsize=11)
        axes.set_ylabel("patients" if name.startswith("Patients") else "images")
    return figure


def _bars(axes: "Axes", counts: pd.DataFrame, colours: dict[str, str]) -> None:
    """Draw one group of bars per row of `counts` and one bar per column, each with its number above."""
    used = [name for name in counts.columns if name in LABEL_NAMES or counts[name].any()] or list(
        counts.columns
    )
    width = 0.8 / len(used)
    for number, name in enumerate(used):
        at = np.arange(len(counts)) + (number - (len(used) - 1) / 2) * width
        bars = axes.bar(at, counts[name].to_numpy(), width * 0.94, color=colours[name], label=name)
        axes.bar_label(bars, fmt="{:,.0f}", fontsize=8, padding=1)
    axes.set_xticks(np.arange(len(counts)), [str(row) for row in counts.index])
    axes.set_ylim(0, max(1, counts.to_numpy().max()) * 1.12)
    axes.legend(fontsize=8, frameon=False)
    plotting.despine(axes)


def _image_sizes(table: pd.DataFrame, seed: int) -> "Figure":
    """Return width over height of every image, and how aspect ratios are spread within each class."""
    smallest, largest = (
        f"{table['width'].agg(f)} x {table['height'].agg(f)}" for f in ("min", "max")
    )
    many = f"Sides from {smallest} to {largest} px"
    figure = plotting.new_figure(
        f"All images are {smallest} px" if smallest == largest else many, 11, 4.6
    )
    left, right = figure.subplots(1, 2)
    mixed = table.sample(frac=1, random_state=seed)  # so that no class is drawn over the other
    colours = [CLASS_COLOURS[name] for name in mixed["label_name"]]
    left.scatter(mixed["width"], mixed["height"], s=14, c=colours, alpha=0.45, linewidths=0)
    reach = max(table["width"].max(), table["height"].max()) * 1.06
    left.plot([0, reach], [0, reach], color="0.7", linewidth=1, zorder=0)
    left.text(
        reach * 0.3, reach * 0.31, "square", ha="right", fontsize=8, color="0.45", rotation=45
    )
    left.set(
        xlim=(0, reach),
        ylim=(0, reach),
        xlabel="width (pixels)",
        ylabel="height (pixels)",
        aspect="equal",
    )
    left.set_title(f"Every image, n = {len(table):,}", fontsize=11)
    plotting.despine(left)
    _shares(right, table, table["width"] / table["height"])
    right.set(xlabel="aspect ratio (width / height)", ylabel="share of the class")
    right.set_title("Aspect ratio by class", fontsize=11)
    return figure


def _shares(axes: "Axes", table: pd.DataFrame, values: pd.Series) -> None:
    """Draw one outlined histogram per class, each summing to 1 whatever the size of the class."""
    low, high = float(values.min()), float(values.max())
    edges = np.linspace(low, high, 31) if high > low else np.linspace(low - 0.25, low + 0.25, 32)
    bins: list[float] = edges.tolist()
    for name in LABEL_NAMES:
        own = values[table["label_name"] == name].to_numpy()
        style: dict[str, Any] = {"color": CLASS_COLOURS[name], "label": f"{name}, n = {len(own):,}"}
        weights = np.full(len(own), 1 / max(1, len(own)))
        axes.hist(
            own,
            bins=bins,
            weights=weights,
            histtype="stepfilled",
            alpha=0.25,
            color=CLASS_COLOURS[name],
        )
        axes.hist(own, bins=bins, weights=weights, histtype="step", linewidth=1.6, **style)
    axes.legend(fontsize=8, frameon=False)
    plotting.despine(axes)


def _modes(table: pd.DataFrame) -> "Figure":
    """Return bars of how pixels are stored (mode and file format) by class."""
    counts = storage_by_class(table, "mode", "format")
    figure = plotting.new_figure(
        f"How pixels are stored, n = {len(table):,} images", 7.5, 1.8 + 0.75 * len(counts)
    )
    axes = figure.subplots()
    for number, name in enumerate(LABEL_NAMES):
        at = np.arange(len(counts)) + (number - 0.5) * 0.4
        bars = axes.barh(at, counts[name].to_numpy(), 0.37, color=CLASS_COLOURS[name], label=name)
        axes.bar_label(bars, fmt="{:,.0f}", fontsize=9, padding=3)
    axes.set_yticks(np.arange(len(counts)), [str(kind) for kind in counts.index])
    axes.invert_yaxis()
    axes.set(xlabel="images", ylabel="mode and format", xlim=(0, counts.to_numpy().max() * 1.12))
    axes.legend(fontsize=9, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    plotting.despine(axes)
    return figure


def _intensity(table: pd.DataFrame) -> "Figure":
    """Return violins of brightness and contrast by split and class: where they differ, a model can cheat."""
    from matplotlib.patches import Patch

    figure = plotting.new_figure("Brightness and contrast by split and class", 11, 4.8)
    keys = [Patch(color=CLASS_COLOURS[name], label=name) for name in LABEL_NAMES]
    figure.legend(handles=keys, loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    panels = (
        ("mean", "Brightness: mean of the pixels"),
        ("std", "Contrast: standard deviation of the pixels"),
    )
    for axes, (column, title) in zip(figure.subplots(1, 2), panels, strict=True):
        _violins(axes, table, column)
        axes.set_title(title, fontsize=11)
        axes.set_ylabel(f"{column} of gray values (0 black to 255 white)")
    return figure


def _violins(axes: "Axes", table: pd.DataFrame, column: str) -> None:
    import seaborn

    # boxplot would say more, but seaborn 0.13 calls matplotlib 3.11's with an argument that it deprecates.
    seaborn.violinplot(
        table,
        x="split",
        y=column,
        hue="label_name",
        order=SPLITS,
        hue_order=LABEL_NAMES,
        palette=CLASS_COLOURS,
        saturation=1,
        cut=0,
        inner="quart",
        linewidth=1,
        density_norm="width",
        legend=False,
        ax=axes,
    )
    counts = images_by_split_and_class(table)
    ticks = [f"{split}\nn = {counts.loc[split].sum():,}" for split in SPLITS]
    axes.set_xticks(range(len(SPLITS)), ticks)
    axes.set_xlabel("")
    plotting.despine(axes)
