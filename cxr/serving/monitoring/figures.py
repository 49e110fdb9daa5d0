"""The time lines of a stream: what was scored, the evidence for drift, and what drifted how."""

import textwrap
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cxr.core.plotting import save_png
from cxr.core.settings import LABEL_NAMES
from cxr.results.plots import style
from cxr.serving.monitoring.report import StreamReport
from cxr.serving.monitoring.verdict import REJECTED, describe_measurement
from cxr.stats.drift.binning import Bins
from cxr.stats.metrics import Vector

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CAPTIONS = {
    "volume": "Images and files of each day, by what became of them.",
    "shares": (
        "Of the images of each day: how many were called PNEUMONIA (of those with a class), their "
        "mean score, and how many the model abstained from or were rejected. A change of the class "
        "mix moves the first two, and is no drift."
    ),
    "evidence": (
        "The evidence for drift of each measurement: the logarithm of its weighted e-value, less "
        "its limit. Above 0 it is an alarm; below, nothing speaks for drift, and nothing proves "
        "that there is none. A device has lines of its own for what it raised an alarm by."
    ),
    "bins": (
        "The measurements with the strongest evidence: the share of each day's images in the bins "
        "of the validation images, which stand at the left. Blue are low values, red high ones."
    ),
}
"""What each picture shows, by its file name without suffix."""

_PARTS = {
    LABEL_NAMES[0]: "#0072B2",
    LABEL_NAMES[1]: "#D55E00",
    "abstained": "#E69F00",
    "rejected": "#999999",
}
_WIDE = (10.0, 3.6)  # inches
_NAMED = 5  # measurements with a colour of their own
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00")
_BINNED = 4  # measurements in the picture of bins
_MISSING = "#bbbbbb"


def draw_stream(stream: StreamReport, folder: Path) -> list[Path]:
    """Draw the time lines of a stream.

    Args:
        stream: The stream.
        folder: Where to publish volume.png, shares.png, evidence.png and bins.png; the last only
            of a stream whose measurements are tested.

    Returns:
        Their paths.
    """
    paths = [_draw_volume(stream, folder), _draw_shares(stream, folder)]
    if stream.verdict.evidence:
        paths.append(_draw_evidence(stream, folder))
    if stream.reference.bins and stream.images:
        paths.append(_draw_bins(stream, folder))
    return paths


def strongest(stream: StreamReport) -> list[str]:
    """Return the measurements, that with the strongest evidence of any day first."""
    evidence = stream.verdict.evidence
    return sorted(evidence, key=lambda name: max(evidence[name].values()), reverse=True)


def _draw_volume(stream: StreamReport, folder: Path) -> Path:
    """Draw how many images each day had."""
    figure = style.new_figure(*_WIDE, "Volume")
    axes = figure.subplots()
    style.clean_frame(axes)
    days = list(stream.days)
    totals = list(stream.days.values())
    parts = {
        LABEL_NAMES[0]: [day.images - day.abstained - day.positive for day in totals],
        LABEL_NAMES[1]: [day.positive for day in totals],
        "abstained": [day.abstained for day in totals],
        "rejected": [day.rejected for day in totals],
    }
    bottom = np.zeros(len(days))
    for name, images in parts.items():
        if any(images):
            axes.bar(_places(days), images, 0.8, bottom, color=_PARTS[name], label=name)
            bottom += images
    axes.set_ylabel("Images")
    axes.set_ylim(0)
    axes.locator_params(axis="y", integer=True)
    _finish(axes, days)
    return save_png(figure, folder / "volume.png")


def _draw_shares(stream: StreamReport, folder: Path) -> Path:
    """Draw the shares of what became of the images, and their mean score."""
    figure = style.new_figure(*_WIDE, "Scores and shares")
    axes = figure.subplots()
    style.clean_frame(axes)
    days = list(stream.days)
    totals = list(stream.days.values())
    answered = [day.images - day.abstained for day in totals]
    files = [day.images + day.rejected for day in totals]
    lines = {
        LABEL_NAMES[1]: _divide([day.positive for day in totals], answered),
        "abstained": _divide([day.abstained for day in totals], [day.images for day in totals]),
        "rejected": _divide([day.rejected for day in totals], files),
    }
    for name, shares in lines.items():
        axes.plot(_places(days), shares, color=_PARTS[name], marker="o", markersize=3, label=name)
    scores = [np.nan if day.score is None else day.score for day in totals]
    axes.plot(_places(days), scores, color=style.INK, linestyle=":", label="mean score")
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel("Share of images")
    _finish(axes, days)
    return save_png(figure, folder / "shares.png")


def _divide(some: list[int], all_images: list[int]) -> Vector:
    """Return shares, NaN where there is no image."""
    totals = np.array(all_images, float)
    totals[totals == 0] = np.nan
    return np.asarray(some / totals)


def _draw_evidence(stream: StreamReport, folder: Path) -> Path:
    """Draw the evidence for drift of each measurement."""
    figure = style.new_figure(10.0, 4.4, "Evidence for drift")
    axes = figure.subplots()
    style.clean_frame(axes)
    verdict = stream.verdict
    lines = {describe_measurement(name): days for name, days in verdict.evidence.items()}
    lines |= verdict.of_devices
    names = sorted(lines, key=lambda name: max(lines[name].values()), reverse=True)
    for rank, name in enumerate(names):
        days = list(lines[name])
        is_named = rank < _NAMED
        axes.plot(
            _places(days),
            list(lines[name].values()),
            color=_COLOURS[rank] if is_named else "#c9ced6",
            linewidth=1.6 if is_named else 0.8,
            marker="o",
            markersize=3 if is_named else 1.5,
            zorder=3 if is_named else 2,
            # A dollar sign in a device's name would begin a formula.
            label=textwrap.fill(name, 28).replace("$", r"\$") if is_named else None,
        )
    axes.axhline(0, color=style.INK, linewidth=1, linestyle="--", label="alarm")
    axes.set_ylabel("log10 e-value, less its limit")
    _finish(axes, list(stream.days))
    return save_png(figure, folder / "evidence.png")


def _draw_bins(stream: StreamReport, folder: Path) -> Path:
    """Draw how the strongest measurements are spread, on validation and each day."""
    by_name = {bins.name: bins for bins in stream.reference.bins}
    names = [name for name in strongest(stream) if name != REJECTED][:_BINNED]
    figure = style.new_figure(10.0, 1.9 * len(names) + 0.6, "What changed")
    plots = figure.subplots(len(names), 1, sharex=True, squeeze=False)
    days = [day for day, total in stream.days.items() if total.images]
    for axes, name in zip(plots[:, 0], names, strict=True):
        rows = [stream.days[day].counts[name] for day in days]
        _stack_bins(axes, by_name[name], days, np.array(rows))
    figure.supylabel("Share of images", fontsize=9)
    return save_png(figure, folder / "bins.png")


def _stack_bins(axes: "Axes", bins: Bins, days: list[date], counts: Vector) -> None:
    """Draw the share of images in each bin as stacked bars, of validation at the left."""
    import matplotlib as mpl

    axes.spines[["top", "right"]].set_visible(False)
    reference = np.add(bins.negatives, bins.positives)
    rows = np.vstack([reference, counts])
    shares = rows / rows.sum(axis=1, keepdims=True)
    places = _places(days)
    widths = np.full(len(days) + 1, 0.8)
    widths[0] = max(0.8, 0.04 * np.ptp(places))  # seen beside the days of a year, too
    everywhere = np.append(places[0] - 2.5 * widths[0] - 1, places)
    numbers = shares.shape[1]
    colours = [*mpl.colormaps["RdBu_r"](np.linspace(0.05, 0.95, numbers - 1)), _MISSING]
    bottom = np.zeros(len(everywhere))
    for number, colour in enumerate(colours):
        axes.bar(everywhere, shares[:, number], widths, bottom, color=colour)
        bottom += shares[:, number]
    axes.set_ylim(0, 1)
    axes.set_title(describe_measurement(bins.name), fontsize=10, loc="left", color=style.INK)
    _label_days(axes, days, {float(everywhere[0]): "validation"})


def _places(days: list[date]) -> Vector:
    """Return where each day stands on the axis: its ordinal number, float64 (n,)."""
    return np.array([day.toordinal() for day in days], float)


def _label_days(axes: "Axes", days: list[date], more: dict[float, str]) -> None:
    """Label at most eight days of the axis, and what else stands there."""
    chosen = days[:: max(1, -(-len(days) // 8))]
    labels = {float(day.toordinal()): f"{day:%Y-%m-%d}" for day in chosen} | more
    axes.set_xticks(list(labels), list(labels.values()), fontsize=8)


def _finish(axes: "Axes", days: list[date]) -> None:
    """Label the days and put the legend beside the plot."""
    _label_days(axes, days, {})
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9, frameon=False)
