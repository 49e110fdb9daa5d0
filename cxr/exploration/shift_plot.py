"""The picture of distribution shift."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr.core import plotting
from cxr.core.formatting import describe_p_value
from cxr.core.settings import LABEL_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
from cxr.exploration.shift import (
    COMPARED,
    SIGNALS,
    TRIVIAL,
    Difference,
    Shift,
    format_value,
)

_COLOURS = {"test": "#000000", "val": "#999999"}


def draw_shift(found: Shift, path: Path) -> Path:
    """Return `path` with a forest plot of the effects as a PNG: a panel for each class, train against the others."""
    count = sum(each.significant for each in found.differences)
    said = (
        f"{count or 'No'} significant difference{'' if count == 1 else 's'} in {found.tests} tests"
    )
    title = said if found.tests else "No difference could be tested"
    figure = plotting.new_figure(
        f"Train against the other splits, within each class: {title}", 13, 5.8
    )
    for axes, label_name in zip(figure.subplots(1, 2, sharey=True), LABEL_NAMES, strict=True):
        own = [each for each in found.differences if each.label_name == label_name]
        _panel(axes, own)
        many = ", ".join(f"{split} {n:,}" for split, n in _numbers(own).items())
        axes.set_title(
            f"{label_name}, patients: {many}",
            fontsize=11,
            color=plotting.CLASS_COLOURS[label_name],
            pad=18,
        )
    _legend(figure)
    return plotting.save_png(figure, path)


def _numbers(differences: list[Difference]) -> dict[str, int]:
    """Return the number of patients of each split."""
    return {"train": differences[0].n_train} | {
        each.compared: each.n_compared for each in differences
    }


def _panel(axes: "Axes", differences: list[Difference]) -> None:
    names = list(SIGNALS)
    axes.axvspan(0.5 - TRIVIAL, 0.5 + TRIVIAL, color="0.94", zorder=0, linewidth=0)
    axes.axvline(0.5, color="0.7", linewidth=1, zorder=0)
    for each in differences:
        offset = 0.34 * COMPARED.index(each.compared) - 0.17
        _mark(axes, names.index(each.signal) + offset, each)
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.5, -0.5))
    axes.set_yticks(range(len(names)), list(SIGNALS.values()))
    axes.set_xticks(
        [0, 0.25, 0.4, 0.5, 0.6, 0.75, 1], ["0", "0.25", "0.4", "0.5", "0.6", "0.75", "1"]
    )
    axes.set_xlabel("effect: chance that a patient of the other split is higher")
    for at, words, side in (
        (0.01, "lower than in train", "left"),
        (0.99, "higher than in train", "right"),
    ):
        axes.text(at, -0.58, words, ha=side, va="bottom", fontsize=8, color="0.4")
    plotting.despine(axes)
    axes.tick_params(axis="y", length=0, labelsize=10)


def _mark(axes: "Axes", at: float, each: Difference) -> None:
    """Draw one effect and its interval, filled where significant; words where there is none."""
    colour = _COLOURS[each.compared]
    style: dict[str, Any] = {"fontsize": 8, "va": "center", "color": colour, "clip_on": False}
    if each.effect is None or each.p is None:
        axes.text(1.02, at, f"{each.compared}: {each.note.split(':')[0]}", **style)
        return
    if each.interval:
        axes.plot(
            [each.interval.low, each.interval.high], [at, at], color=colour, linewidth=1.8, zorder=1
        )
    face = colour if each.significant else "white"
    axes.plot(
        [each.effect], [at], "o", markersize=6.5, color=colour, markerfacecolor=face, zorder=2
    )
    medians = f"{format_value(each.median_train)} to {format_value(each.median_compared)}"
    axes.text(1.02, at, f"{each.compared}: {medians}, {describe_p_value(each.p_holm)}", **style)


def _legend(figure: "Figure") -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    dot: dict[str, Any] = {"marker": "o", "linewidth": 1.8, "markersize": 6.5}
    keys = [
        Line2D(
            [], [], color=_COLOURS["test"], label="train against test: medians, p after Holm", **dot
        ),
        Line2D([], [], color=_COLOURS["val"], label="train against val", **dot),
        Line2D(
            [],
            [],
            color="black",
            markerfacecolor="white",
            label="hollow: not significant or trivial",
            **dot,
        ),
        Patch(color="0.94", label=f"trivial: within {TRIVIAL} of 0.5"),
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=4, fontsize=9, frameon=False)
