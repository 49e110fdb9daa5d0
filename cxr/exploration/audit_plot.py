"""The picture of the shortcut audit."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr.core import plotting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
from cxr.exploration.audit import CONTAINER_LIMIT, THUMBNAIL_SIDE, Audit, Baseline, Separation

_COLOURS = {"train": "#777777", "test": "#000000"}  # not the classes' colours


def draw_audit(found: Audit, path: Path) -> Path:
    """Return `path` with the floors drawn as a PNG: AUROC and interval of each signal on train and test."""
    floors = (found.floors[0], found.container_after, *found.floors[1:])
    figure = plotting.new_figure(_title(found), 10.5, 1.7 + 0.85 * len(floors))
    axes = figure.subplots()
    limited = 1.5  # the limit is the container's: it ends below its two rows
    axes.axvline(0.5, color="0.75", linewidth=1, zorder=0)
    axes.plot(
        [CONTAINER_LIMIT] * 2,
        [-0.5, limited],
        color="#B00020",
        linewidth=1.2,
        linestyle="--",
        zorder=0,
    )
    axes.text(0.5, -0.56, "chance", ha="center", va="bottom", fontsize=8, color="0.4")
    words = f"limit for the container, {CONTAINER_LIMIT}"
    axes.text(CONTAINER_LIMIT, -0.56, words, ha="center", va="bottom", fontsize=8, color="#B00020")
    for number, floor in enumerate(floors):
        _draw_floor(axes, number - 0.16, floor.train, "train")
        _draw_floor(axes, number + 0.16, floor.test, "test")
    axes.set_yticks(range(len(floors)), [_label(floor) for floor in floors], fontsize=10)
    ends = [
        part.interval.low for floor in floors for part in (floor.train, floor.test) if part.interval
    ]
    axes.set(
        xlim=(min([0.4, *ends]), 1.01),
        ylim=(len(floors) - 0.5, -0.5),
        xlabel="AUROC with 95 % interval (patients drawn anew)",
    )
    plotting.despine(axes)
    axes.tick_params(axis="y", length=0, labelsize=10)
    return plotting.save_png(figure, path)


def _title(found: Audit) -> str:
    """Return the figure's finding: what the best of the two floors from pixels reaches, on test where there is one."""
    parts = [
        (floor.train if floor.test.auroc is None else floor.test, floor.signal)
        for floor in found.floors[1:]
    ]
    reached = [(part.auroc, signal) for part, signal in parts if part.auroc is not None]
    if not reached:
        return "Floors of signals that are not clinical: not estimable"
    best, signal = max(reached)
    return f"Floors without radiology: the {signal} alone reaches AUROC {best:.2f}"


def _label(floor: Baseline) -> str:
    names = {
        "container": "container of the files\n(bytes per pixel, size, mode, ICC ...)",
        "container after uniform encoding": "container after\nuniform encoding",
        "border ring": "border ring only",
        f"{THUMBNAIL_SIDE}x{THUMBNAIL_SIDE} thumbnail": f"{THUMBNAIL_SIDE}x{THUMBNAIL_SIDE} thumbnail",
    }
    return names.get(floor.signal, floor.signal)


def _draw_floor(axes: "Axes", at: float, found: Separation, split: str) -> None:
    """Draw one interval and its point, the number and n to the right of the axes; words where there is none."""
    style: dict[str, Any] = {
        "color": _COLOURS[split],
        "va": "center",
        "fontsize": 9,
        "clip_on": False,
    }
    if found.auroc is None:
        axes.text(1.02, at, f"{split}: not estimable, n = {found.n:,}", **style)
        return
    axes.plot([found.auroc], [at], marker="o", markersize=7, color=_COLOURS[split])
    spread = ""
    if found.interval:
        ends = found.interval.low, found.interval.high
        axes.plot(ends, [at, at], color=_COLOURS[split], linewidth=2.2, solid_capstyle="butt")
        spread = f" ({ends[0]:.2f} to {ends[1]:.2f})"
    axes.text(1.02, at, f"{split} {found.auroc:.2f}{spread}, n = {found.n:,}", **style)
