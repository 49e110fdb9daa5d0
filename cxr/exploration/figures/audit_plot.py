"""Draw the non-clinical baselines of the shortcut audit."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr.core import plotting
from cxr.exploration import geometry
from cxr.exploration.audit import Audit
from cxr.exploration.baselines import WARNING_LIMIT, Baseline, Separation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {"train": "#777777", "test": "#000000"}  # not those of the classes
_LIMIT_COLOUR = "#B00020"
_LABELS = {
    "container": "container of the files\n(bytes per pixel, size, mode, ICC ...)",
    "container after uniform encoding": "container after\nuniform encoding",
    geometry.OUTSIDE_RATIO: "gradient ratio outside the lungs\n(neck and abdomen)",
    geometry.WHOLE_RATIO: "gradient ratio of the pixels\n(horizontal over vertical)",
    geometry.LOCAL_RATIO: "gradient ratio by place\n(3x3 cells, three scales)",
    "border ring": "border ring only",
}
# The limit is that of these alone: its line ends below their rows.
_LIMITED = ("container", "container after uniform encoding", *geometry.WARNED_OF)


def draw_audit(audit: Audit, path: Path) -> Path:
    """Draw the AUROC of each non-clinical baseline on train and test, with its interval.

    Args:
        audit: The baselines.
        path: The PNG.

    Returns:
        `path`.
    """
    baselines = audit.baselines()
    figure = plotting.new_figure(_title(audit.floors[1:]), 10.5, 1.7 + 0.75 * len(baselines))
    axes = figure.subplots()
    limited = sum(baseline.signal in _LIMITED for baseline in baselines)
    _draw_references(axes, limited)
    for row, baseline in enumerate(baselines):
        _draw_separation(
            axes,
            row - 0.16,
            baseline.train,
            "train",
        )
        _draw_separation(axes, row + 0.16, baseline.test, "test")
    labels = [_LABELS.get(baseline.signal, baseline.signal) for baseline in baselines]
    axes.set_yticks(range(len(baselines)), labels)
    axes.set_ylim(len(baselines) - 0.5, -0.5)
    axes.set_xlim(_lowest_value(baselines), 1.01)
    axes.set_xlabel("AUROC with 95 % interval (bootstrap of patients)")
    plotting.despine(axes)
    axes.tick_params(axis="y", length=0, labelsize=10)
    return plotting.save_png(figure, path)


def _title(baselines: Sequence[Baseline]) -> str:
    """Return what the best of these baselines reaches, on test where there is one."""
    reached = []
    for baseline in baselines:
        auroc = baseline.test.auroc
        if auroc is None:
            auroc = baseline.train.auroc
        if auroc is not None:
            reached.append((auroc, baseline.signal))
    if not reached:
        return "Non-clinical baselines: not estimable"
    best, signal = max(reached)
    return f"Non-clinical baselines: the {signal} alone reaches AUROC {best:.2f}"


def _draw_references(axes: "Axes", limited: int) -> None:
    """Draw the AUROC of chance, and the limit above which the audit warns of the first rows."""
    axes.axvline(
        0.5,
        color="0.75",
        linewidth=1,
        zorder=0,
    )
    axes.vlines(
        WARNING_LIMIT,
        -0.5,
        limited - 0.5,
        colors=_LIMIT_COLOUR,
        linewidth=1.2,
        linestyles="--",
        zorder=0,
    )
    style: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 8}
    axes.text(
        0.5,
        -0.56,
        "chance",
        color="0.4",
        **style,
    )
    limit = f"limit for container and shape, {WARNING_LIMIT}"
    axes.text(
        WARNING_LIMIT,
        -0.56,
        limit,
        color=_LIMIT_COLOUR,
        **style,
    )


def _draw_separation(
    axes: "Axes",
    height: float,
    separation: Separation,
    split: str,
) -> None:
    """Draw a point and its interval, and write the numbers to the right of the axes."""
    colour = _COLOURS[split]
    if separation.auroc is None:
        text = f"{split}: not estimable, n = {separation.n:,}"
    else:
        axes.plot(
            separation.auroc,
            height,
            marker="o",
            markersize=7,
            color=colour,
        )
        text = f"{split} {separation.auroc:.2f}"
        interval = separation.interval
        if interval is not None:
            axes.hlines(
                height,
                interval.low,
                interval.high,
                colors=colour,
                linewidth=2.2,
            )
            text += f" ({interval.low:.2f} to {interval.high:.2f})"
        text += f", n = {separation.n:,}"
    axes.text(
        1.02,
        height,
        text,
        color=colour,
        va="center",
        fontsize=9,
        clip_on=False,
    )


def _lowest_value(baselines: Sequence[Baseline]) -> float:
    """Return where the axis starts: at 0.4, or where the lowest interval does."""
    lowest = 0.4
    for baseline in baselines:
        for separation in (baseline.train, baseline.test):
            if separation.interval is not None:
                lowest = min(lowest, separation.interval.low)
    return lowest
