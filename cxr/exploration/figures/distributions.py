"""Draw what the data looks like: classes, sizes, storage, intensity."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cxr.core import plotting
from cxr.core.errors import DataError
from cxr.core.plotting import CAUSE_COLOURS, CLASS_COLOURS
from cxr.core.settings import LABEL_NAMES, SPLITS
from cxr.exploration.figures.attributes import draw_attributes
from cxr.exploration.figures.samples import Pixels, draw_samples
from cxr.exploration.summary import (
    causes_by_split,
    images_by_split_and_class,
    patients_by_split_and_class,
    storage_by_class,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BINS = 30  # of the histogram


def draw_all(
    table: pd.DataFrame,
    folder: Path,
    read_pixels: Callable[[str], Pixels],
    seed: int = 0,
) -> list[Path]:
    """Draw the figures of a manifest, as PNG under 300 kB each.

    They are class_distribution.png, image_sizes.png, modes.png, intensity.png, samples.png and,
    where ages, sexes, views or devices are known, attributes.png.

    Args:
        table: The rows of the manifest in train, val and test.
        folder: Where the figures are written.
        read_pixels: Takes a key of the column `image`, returns gray uint8 (h, w). It is called for
            at most ten train images; what it raises is raised.
        seed: Chooses the samples.

    Returns:
        The paths of the figures.

    Raises:
        DataError: The manifest is empty.
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
        "samples.png": draw_samples(table, read_pixels, seed),
    }
    of_attributes = draw_attributes(table)
    if of_attributes is not None:
        figures["attributes.png"] = of_attributes
    return [plotting.save_png(figure, folder / name) for name, figure in figures.items()]


def _class_distribution(table: pd.DataFrame) -> "Figure":
    """Draw images and patients by split and class, and the causes of PNEUMONIA."""
    images = images_by_split_and_class(table)
    prevalence = images["PNEUMONIA"].sum() / images.to_numpy().sum()
    title = f"{len(table):,} images, {prevalence:.0%} of them PNEUMONIA"
    figure = plotting.new_figure(title, 12, 4.2)
    by_images, by_patients, by_cause = figure.subplots(1, 3)
    patients = patients_by_split_and_class(table)
    _draw_counts(by_images, images, CLASS_COLOURS, "images")
    by_images.set_title(f"Images, n = {_total(images):,}", fontsize=11)
    _draw_counts(by_patients, patients, CLASS_COLOURS, "patients")
    by_patients.set_title(f"Patients (with a known id), n = {_total(patients):,}", fontsize=11)
    causes = causes_by_split(table)
    if causes.to_numpy().any():
        causes = causes.loc[:, causes.any()]  # only causes that occur
    _draw_counts(by_cause, causes, CAUSE_COLOURS, "images")
    by_cause.set_title(f"PNEUMONIA by stated cause, n = {_total(causes):,}", fontsize=11)
    return figure


def _total(counts: pd.DataFrame) -> int:
    """Return the sum of a table of counts."""
    return int(counts.to_numpy().sum())


def _draw_counts(
    axes: "Axes",
    counts: pd.DataFrame,
    colours: dict[str, str],
    unit: str,
) -> None:
    """Draw a group of bars for each row of `counts` and a bar for each column, its number above."""
    _draw_bars(axes, counts, colours, x="group", y="count")
    axes.set_xlabel("")
    axes.set_ylabel(unit)
    axes.set_ylim(0, max(1, counts.to_numpy().max()) * 1.12)
    axes.legend(fontsize=8, frameon=False)
    plotting.despine(axes)


def _draw_bars(
    axes: "Axes",
    counts: pd.DataFrame,
    colours: dict[str, str],
    x: str,
    y: str,
) -> None:
    """Draw a bar for each count.

    Of x and y one is "count" and the other "group": the rows of `counts`.
    """
    import seaborn
    from matplotlib.container import BarContainer

    rows = counts.rename_axis("group").reset_index()
    seaborn.barplot(
        rows.melt(id_vars="group", var_name="kind", value_name="count"),
        x=x,
        y=y,
        hue="kind",
        palette={name: colours[name] for name in counts.columns},
        saturation=1,
        gap=0.06,
        ax=axes,
    )
    for bars in axes.containers:
        if isinstance(bars, BarContainer):
            axes.bar_label(bars, fmt="{:,.0f}", fontsize=8, padding=2)


def _image_sizes(table: pd.DataFrame, seed: int) -> "Figure":
    """Draw width and height of every image, and the aspect ratios within each class."""
    smallest = f"{table['width'].min()} x {table['height'].min()}"
    largest = f"{table['width'].max()} x {table['height'].max()}"
    if smallest == largest:
        title = f"All images are {smallest} px"
    else:
        title = f"Sides from {smallest} to {largest} px"
    figure = plotting.new_figure(title, 11, 4.6)
    left, right = figure.subplots(1, 2)
    _draw_sizes(left, table, seed)
    _draw_aspect_ratios(right, table)
    return figure


def _draw_sizes(
    axes: "Axes",
    table: pd.DataFrame,
    seed: int,
) -> None:
    """Draw a point for every image."""
    import seaborn

    shuffled = table.sample(frac=1, random_state=seed)  # so that no class is drawn over the other
    seaborn.scatterplot(
        shuffled,
        x="width",
        y="height",
        hue="label_name",
        palette=CLASS_COLOURS,
        s=14,
        alpha=0.45,
        linewidth=0,
        legend=False,
        ax=axes,
    )
    limit = max(table["width"].max(), table["height"].max()) * 1.06
    axes.plot(
        [0, limit],
        [0, limit],
        color="0.7",
        linewidth=1,
        zorder=0,
    )
    axes.text(
        limit * 0.3,
        limit * 0.31,
        "square",
        ha="right",
        fontsize=8,
        color="0.45",
        rotation=45,
    )
    axes.set_xlim(0, limit)
    axes.set_ylim(0, limit)
    axes.set_aspect("equal")
    axes.set_xlabel("width (pixels)")
    axes.set_ylabel("height (pixels)")
    axes.set_title(f"Every image, n = {len(table):,}", fontsize=11)
    plotting.despine(axes)


def _draw_aspect_ratios(axes: "Axes", table: pd.DataFrame) -> None:
    """Draw a histogram for each class; each sums to 1, whatever the size of the class."""
    import seaborn

    sizes = table["label_name"].value_counts()
    legend_names = {name: f"{name}, n = {sizes.get(name, 0):,}" for name in LABEL_NAMES}
    aspect_ratios = pd.DataFrame(
        {
            "aspect ratio": table["width"] / table["height"],
            "class": table["label_name"].map(legend_names),
        }
    )
    seaborn.histplot(
        aspect_ratios,
        x="aspect ratio",
        hue="class",
        hue_order=list(legend_names.values()),
        palette=[CLASS_COLOURS[name] for name in LABEL_NAMES],
        bins=_bin_edges(aspect_ratios["aspect ratio"]),
        stat="proportion",
        common_norm=False,
        element="step",
        alpha=0.25,
        ax=axes,
    )
    seaborn.move_legend(
        axes,
        "best",
        title=None,
        fontsize=8,
        frameon=False,
    )
    axes.set_xlabel("aspect ratio (width / height)")
    axes.set_ylabel("share of the class")
    axes.set_title("Aspect ratio by class", fontsize=11)
    plotting.despine(axes)


def _bin_edges(values: "pd.Series[float]") -> list[float]:
    """Return the edges of the bins of a histogram, also where all values are the same."""
    low = float(values.min())
    high = float(values.max())
    if low == high:
        low -= 0.25
        high += 0.25
    edges: list[float] = np.linspace(low, high, _BINS + 1).tolist()
    return edges


def _modes(table: pd.DataFrame) -> "Figure":
    """Draw how pixels are stored (mode and file format) by class."""
    counts = storage_by_class(table, "mode", "format")
    title = f"How pixels are stored, n = {len(table):,} images"
    figure = plotting.new_figure(title, 7.5, 1.8 + 0.75 * len(counts))
    axes = figure.subplots()
    _draw_bars(axes, counts, CLASS_COLOURS, x="count", y="group")
    axes.set_xlim(0, counts.to_numpy().max() * 1.12)
    axes.set_xlabel("images")
    axes.set_ylabel("mode and format")
    axes.legend(
        fontsize=9,
        frameon=False,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=2,
    )
    plotting.despine(axes)
    return figure


def _intensity(table: pd.DataFrame) -> "Figure":
    """Draw brightness and contrast by split and class: where they differ, a model can cheat."""
    from matplotlib.patches import Patch

    figure = plotting.new_figure("Brightness and contrast by split and class", 11, 4.8)
    handles = [Patch(color=CLASS_COLOURS[name], label=name) for name in LABEL_NAMES]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=2,
        fontsize=9,
        frameon=False,
    )
    left, right = figure.subplots(1, 2)
    _draw_violins(
        left,
        table,
        "mean",
        "Brightness: mean of the pixels",
    )
    _draw_violins(
        right,
        table,
        "std",
        "Contrast: standard deviation of the pixels",
    )
    return figure


def _draw_violins(
    axes: "Axes",
    table: pd.DataFrame,
    column: str,
    title: str,
) -> None:
    """Draw the distribution of a column by split and class, with its quartiles."""
    import seaborn

    # A boxplot would say more, but seaborn 0.13 calls that of matplotlib 3.11 with an argument that
    # is deprecated.
    options: dict[str, Any] = {"inner": "quart", "density_norm": "width", "cut": 0}
    seaborn.violinplot(
        table,
        x="split",
        y=column,
        hue="label_name",
        order=SPLITS,
        hue_order=LABEL_NAMES,
        palette=CLASS_COLOURS,
        saturation=1,
        linewidth=1,
        legend=False,
        ax=axes,
        **options,
    )
    sizes = images_by_split_and_class(table).sum(axis=1)
    ticks = [f"{split}\nn = {sizes[split]:,}" for split in SPLITS]
    axes.set_xticks(range(len(SPLITS)), ticks)
    axes.set_xlabel("")
    axes.set_ylabel(f"{column} of gray values (0 black to 255 white)")
    axes.set_title(title, fontsize=11)
    plotting.despine(axes)
