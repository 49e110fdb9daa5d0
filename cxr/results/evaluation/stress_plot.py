"""The picture of sensitivity and specificity in the stress worlds: stress.png."""

from typing import TYPE_CHECKING

from cxr.core.plotting import CLASS_COLOURS
from cxr.models.stress import Robustness, WorldMetrics
from cxr.results.plots import style
from cxr.stats.intervals import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GAP = 0.6  # between the worlds of two kinds, in rows
_KINDS = {
    "": "",
    "stretch": "shape",
    "frame": "frame",
    "gray": "gray levels",
    "detail": "detail",
}


def draw_stress(robustness: Robustness) -> "Figure":
    """Return sensitivity and specificity at the operating point in every world, with intervals.

    Clean images are on top, with a line through all rows; the worlds are grouped by what they
    change.
    """
    title = (
        "Sensitivity and specificity in the stress worlds at the operating point, "
        f"n = {robustness.images} test images"
    )
    figure = style.new_figure(10.5, 6.2, title)
    left, right = figure.subplots(1, 2, sharey=True)
    measured = (robustness.clean, *robustness.worlds)
    heights = _heights(measured)
    lowest = _lowest_limit(measured, ("sensitivity", "specificity"))
    panels = {
        "sensitivity": (left, CLASS_COLOURS["PNEUMONIA"]),
        "specificity": (right, CLASS_COLOURS["NORMAL"]),
    }
    for metric, (axes, colour) in panels.items():
        style.clean_frame(axes)
        axes.axvline(
            getattr(robustness.clean, metric),
            color=style.GRAY,
            linestyle=":",
            linewidth=1.2,
        )
        for height, world in zip(heights, measured, strict=True):
            value = getattr(world, metric)
            interval = getattr(world, f"{metric}_interval")
            _draw_value(axes, height, value, interval, colour)
        axes.set_xlabel(f"{metric.capitalize()} with 95 % interval (dotted: clean)")
        axes.set_xlim(lowest, 1.01)
    left.set_yticks(heights, [world.world for world in measured])
    left.set_ylim(heights[-1] + 0.6, -0.6)
    left.tick_params(axis="y", length=0, labelsize=10)
    _name_kinds(right, measured, heights)
    return figure


def _heights(measured: tuple[WorldMetrics, ...]) -> list[float]:
    """Return where each world is drawn, from the top, with a gap where another kind begins."""
    heights: list[float] = []
    kind = measured[0].kind
    for world in measured:
        step = 1.0 if heights else 0.0
        if world.kind != kind:
            step += _GAP
            kind = world.kind
        heights.append(step + (heights[-1] if heights else 0.0))
    return heights


def _draw_value(
    axes: "Axes",
    height: float,
    value: float,
    interval: Interval | None,
    colour: str,
) -> None:
    """Draw one metric as a point, with its interval as a bar and its value beside it."""
    if interval:
        axes.plot([interval.low, interval.high], [height, height], color=colour, linewidth=2.2)
    axes.plot(
        value,
        height,
        marker="o",
        markersize=6.5,
        color=colour,
        markeredgecolor=style.INK,
    )
    axes.annotate(
        f"{value:.3f}",
        (value, height),
        xytext=(0, 6),
        textcoords="offset points",
        ha="center",
        fontsize=7.5,
        color=style.INK,
    )


def _lowest_limit(measured: tuple[WorldMetrics, ...], metrics: tuple[str, ...]) -> float:
    """Return where the axes of both metrics begin: below every interval, in steps of 0.1."""
    lowest = 0.9
    for world in measured:
        for metric in metrics:
            interval = getattr(world, f"{metric}_interval")
            low = interval.low if interval else getattr(world, metric)
            lowest = min(lowest, low)
    return max(-0.01, int(lowest * 10 - 0.2) / 10)


def _name_kinds(
    axes: "Axes",
    measured: tuple[WorldMetrics, ...],
    heights: list[float],
) -> None:
    """Write at the right of each group what its worlds change."""
    for kind, name in _KINDS.items():
        rows = [
            height for height, world in zip(heights, measured, strict=True) if world.kind == kind
        ]
        axes.annotate(
            name,
            (1.02, sum(rows) / len(rows)),
            xycoords=("axes fraction", "data"),
            rotation=270,
            va="center",
            fontsize=9,
            color=style.GRAY,
        )
