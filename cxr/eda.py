"""Pictures and numbers that say what the data looks like, from the manifest alone and a few sample images.

Left out: anything about models.
"""

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from cxr import drawing
from cxr.errors import DataError
from cxr.records import LABEL_NAMES, SPLITS, as_json, printable
from cxr.settings import Augmentation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Pixels = np.ndarray[Any, Any]
COLOURS = {
    "NORMAL": "#0072B2",
    "PNEUMONIA": "#D55E00",
}  # Okabe and Ito: told apart by colour-blind eyes
_CAUSE_COLOURS = {"bacteria": "#E69F00", "virus": "#009E73", "not stated": "#999999"}
_SAMPLE_COLUMNS = 5
_SAMPLE_SIDE = 256  # pixels kept of a sample: what is drawn is smaller


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """Return the numbers behind the figures, ready for JSON.

    images and patients by split and class (patients without an id are not counted), etiology of PNEUMONIA by
    split, width and height (pixels) and bytes as min, median and max by split, modes and formats by class,
    and mean and std of the gray pixels (0..255) as n, mean and quartiles by split and class.
    """
    splits = {split: table[table["split"] == split] for split in SPLITS}
    return {
        "images": _nested(_images(table)),
        "patients": _nested(_patients(table)),
        "etiology": _nested(_causes(table)),
        "sizes": {
            split: {name: _extent(rows[name]) for name in ("width", "height", "bytes")}
            for split, rows in splits.items()
        },
        "modes": _nested(_stored(table, "mode")),
        "formats": _nested(_stored(table, "format")),
        "intensity": {
            split: {
                label: {
                    name: _quartiles(rows.loc[rows["label_name"] == label, name])
                    for name in ("mean", "std")
                }
                for label in LABEL_NAMES
            }
            for split, rows in splits.items()
        },
    }


def _nested(counts: pd.DataFrame) -> dict[str, Any]:
    return {str(row): as_json(values.to_dict()) for row, values in counts.iterrows()}


def _extent(values: pd.Series) -> dict[str, Any]:
    if values.empty:
        return {"min": None, "median": None, "max": None}
    return {"min": int(values.min()), "median": float(values.median()), "max": int(values.max())}


def _quartiles(values: pd.Series) -> dict[str, Any]:
    if values.empty:
        return {"n": 0} | dict.fromkeys(("mean", "q1", "median", "q3"))
    numbers = {"mean": values.mean()} | dict(
        zip(("q1", "median", "q3"), values.quantile([0.25, 0.5, 0.75]), strict=True)
    )
    return {"n": len(values)} | {name: round(float(number), 3) for name, number in numbers.items()}


def _images(table: pd.DataFrame) -> pd.DataFrame:
    """Return the number of images by split (rows) and label name (columns), zeros included."""
    counts = pd.crosstab(table["split"], table["label_name"])
    return counts.reindex(index=list(SPLITS), columns=list(LABEL_NAMES), fill_value=0)


def _patients(table: pd.DataFrame) -> pd.DataFrame:
    known = table[table["patient_id"] != ""]
    return _images(known.drop_duplicates(["split", "label_name", "patient_id"]))


def _causes(table: pd.DataFrame) -> pd.DataFrame:
    ill = table[table["label_name"] == "PNEUMONIA"]
    counts = pd.crosstab(ill["split"], ill["etiology"].replace("", "not stated"))
    return counts.reindex(index=list(SPLITS), columns=list(_CAUSE_COLOURS), fill_value=0)


def _stored(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Return the number of images by how they are stored (rows, commonest first) and label name (columns)."""
    kinds = table[list(columns)].agg(" ".join, axis=1)
    counts = pd.crosstab(kinds, table["label_name"]).reindex(
        columns=list(LABEL_NAMES), fill_value=0
    )
    return counts.loc[counts.sum(axis=1).sort_values(ascending=False, kind="stable").index]


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
        "samples.png": _samples(table, samples, seed),
    }
    return [drawing.publish(figure, folder / name) for name, figure in figures.items()]


def _class_distribution(table: pd.DataFrame) -> "Figure":
    """Return bars of images and patients by split and class, and of the causes of PNEUMONIA."""
    images = _images(table)
    ill = images["PNEUMONIA"].sum() / images.to_numpy().sum()
    title = f"{len(table):,} images, {ill:.0%} of them PNEUMONIA"
    figure = drawing.framed(title, 12, 4.2)
    panels = (
        ("Images", images, COLOURS),
        ("Patients (with a known id)", _patients(table), COLOURS),
        ("PNEUMONIA by stated cause", _causes(table), _CAUSE_COLOURS),
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
    drawing.plain(axes)


def _image_sizes(table: pd.DataFrame, seed: int) -> "Figure":
    """Return width over height of every image, and how aspect ratios are spread within each class."""
    smallest, largest = (
        f"{table['width'].agg(f)} x {table['height'].agg(f)}" for f in ("min", "max")
    )
    many = f"Sides from {smallest} to {largest} px"
    figure = drawing.framed(
        f"All images are {smallest} px" if smallest == largest else many, 11, 4.6
    )
    left, right = figure.subplots(1, 2)
    mixed = table.sample(frac=1, random_state=seed)  # so that no class is drawn over the other
    colours = [COLOURS[name] for name in mixed["label_name"]]
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
    drawing.plain(left)
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
        style: dict[str, Any] = {"color": COLOURS[name], "label": f"{name}, n = {len(own):,}"}
        weights = np.full(len(own), 1 / max(1, len(own)))
        axes.hist(
            own, bins=bins, weights=weights, histtype="stepfilled", alpha=0.25, color=COLOURS[name]
        )
        axes.hist(own, bins=bins, weights=weights, histtype="step", linewidth=1.6, **style)
    axes.legend(fontsize=8, frameon=False)
    drawing.plain(axes)


def _modes(table: pd.DataFrame) -> "Figure":
    """Return bars of how pixels are stored (mode and file format) by class."""
    counts = _stored(table, "mode", "format")
    figure = drawing.framed(
        f"How pixels are stored, n = {len(table):,} images", 7.5, 1.8 + 0.75 * len(counts)
    )
    axes = figure.subplots()
    for number, name in enumerate(LABEL_NAMES):
        at = np.arange(len(counts)) + (number - 0.5) * 0.4
        bars = axes.barh(at, counts[name].to_numpy(), 0.37, color=COLOURS[name], label=name)
        axes.bar_label(bars, fmt="{:,.0f}", fontsize=9, padding=3)
    axes.set_yticks(np.arange(len(counts)), [str(kind) for kind in counts.index])
    axes.invert_yaxis()
    axes.set(xlabel="images", ylabel="mode and format", xlim=(0, counts.to_numpy().max() * 1.12))
    axes.legend(fontsize=9, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    drawing.plain(axes)
    return figure


def _intensity(table: pd.DataFrame) -> "Figure":
    """Return violins of brightness and contrast by split and class: where they differ, a model can cheat."""
    from matplotlib.patches import Patch

    figure = drawing.framed("Brightness and contrast by split and class", 11, 4.8)
    keys = [Patch(color=COLOURS[name], label=name) for name in LABEL_NAMES]
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
        palette=COLOURS,
        saturation=1,
        cut=0,
        inner="quart",
        linewidth=1,
        density_norm="width",
        legend=False,
        ax=axes,
    )
    counts = _images(table)
    ticks = [f"{split}\nn = {counts.loc[split].sum():,}" for split in SPLITS]
    axes.set_xticks(range(len(SPLITS)), ticks)
    axes.set_xlabel("")
    drawing.plain(axes)


def _samples(table: pd.DataFrame, samples: Callable[[str], Pixels], seed: int) -> "Figure":
    """Return a grid of random train images: a row per class, name and size under each."""
    train = table[table["split"] == "train"]
    counts = _images(table).loc["train"]
    title = ", ".join(f"{counts[name]:,} {name}" for name in LABEL_NAMES)
    figure = drawing.framed(f"Random images of train ({title})", 10, 5.2)
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
            color=COLOURS[name],
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
    figure = drawing.framed("", 1.3 * (variants + 1) + 0.3, 1.34 * count + 0.8)
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
            _short(name), fontsize=9, color=COLOURS.get(name, "black"), parse_math=False
        )
    figure.axes[0].set_title("original", fontsize=10)
    for axes in figure.axes[1 : variants + 1]:
        axes.set_title("augmented", fontsize=10)
    return drawing.publish(figure, folder / "augmentation.png")


def _in_words(ranges: Augmentation) -> str:
    """Return the ranges as a sentence, e.g. "rotation up to ±10°, zoom ±10 %, ...; no flips"."""
    names = ("zoom", "shift", "contrast", "brightness")
    shares = ", ".join(f"{name} ±{getattr(ranges, name) * 100:g} %" for name in names)
    gamma = f"gamma {np.exp(-ranges.gamma):.2g} to {np.exp(ranges.gamma):.2g}"
    return f"Augmentation of training images: rotation up to ±{ranges.rotation:g}°, {shares}, {gamma}; no flips"
