"""Draw the non-clinical baselines of the shortcut audit."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr.core import plotting
from cxr.exploration.audit import CONTAINER_LIMIT, Audit
from cxr.exploration.baselines import Baseline, Separation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {"train": "#777777", "test": "#000000"}  # not those of the classes
_LIMIT_COLOUR = "#B00020"
_LABELS = {
    "container": "container of the files\n(bytes per pixel, size, mode, ICC ...)",
    "container after uniform encoding": "container after\nuniform encoding",
    "border ring": "border ring only",
}
_CONTAINER_ROWS = 2  # the limit is the container's alone: its line ends below these rows


def draw_audit(audit: Audit, path: Path) -> Path:
    """Draw the AUROC of each non-clinical baseline on train and test, with its interval.

    Args:
        audit: The baselines.
        path: The PNG.

    Returns:
        `path`.
    """
    container, *pixel_baselines = audit.floors
    baselines = [container, audit.container_after, *pixel_baselines]
    figure = plotting.new_figure(_title(pixel_baselines), 10.5, 1.7 + 0.85 * len(baselines))
    axes = figure.subplots()
    _draw_references(axes)
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


def _title(pixel_baselines: list[Baseline]) -> str:
    """Return what the best baseline from pixels reaches, on test where there is one."""
    reached = []
    for baseline in pixel_baselines:
        auroc = baseline.test.auroc
        if auroc is None:
            auroc = baseline.train.auroc
        if auroc is not None:
            reached.append((auroc, baseline.signal))
    if not reached:
        return "Non-clinical baselines: not estimable"
    best, signal = max(reached)
    return f"Non-clinical baselines: the {signal} alone reaches AUROC {best:.2f}"


def _draw_references(axes: "Axes") -> None:
    """Draw the AUROC of chance, and the limit above which the container is warned of."""
    axes.axvline(
        0.5,
        color="0.75",
        linewidth=1,
        zorder=0,
    )
    axes.vlines(
        CONTAINER_LIMIT,
        -0.5,
        _CONTAINER_ROWS - 0.5,
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
    limit = f"limit for the container, {CONTAINER_LIMIT}"
    axes.text(
        CONTAINER_LIMIT,
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


def _lowest_value(baselines: list[Baseline]) -> float:
    """Return where the axis starts: at 0.4, or where the lowest interval does."""
    lowest = 0.4
    for baseline in baselines:
        for separation in (baseline.train, baseline.test):
            if separation.interval is not None:
                lowest = min(lowest, separation.interval.low)
    return lowest
