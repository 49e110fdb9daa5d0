"""Draw the distribution shift between train and the other splits."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr.core import plotting
from cxr.core.formatting import describe_p_value
from cxr.core.settings import LABEL_NAMES
from cxr.exploration.shift import (
    COMPARED,
    SIGNALS,
    TRIVIAL,
    Difference,
    Shift,
    format_value,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"test": "#000000", "val": "#999999"}  # not those of the classes
_TICKS = [0, 0.25, 0.4, 0.5, 0.6, 0.75, 1]


def draw_shift(shift: Shift, path: Path) -> Path:
    """Draw a forest plot of the effects: a panel for each class, train against the other splits.

    Args:
        shift: The differences.
        path: The PNG.

    Returns:
        `path`.
    """
    figure = plotting.new_figure(
        _title(shift), 13, 1.8 + 0.5 * len(_shown_signals(shift.differences))
    )
    panels = figure.subplots(1, len(LABEL_NAMES), sharey=True)
    for axes, label_name in zip(panels, LABEL_NAMES, strict=True):
        members = [
            difference for difference in shift.differences if difference.label_name == label_name
        ]
        _draw_panel(axes, members)
        axes.set_title(
            f"{label_name}, patients: {_describe_sizes(members)}",
            fontsize=11,
            color=plotting.CLASS_COLOURS[label_name],
            pad=18,
        )
    _draw_legend(figure)
    return plotting.save_png(figure, path)


def _title(shift: Shift) -> str:
    """Return how many differences were found in how many tests."""
    prefix = "Distribution shift, train against the other splits, within each class"
    if not shift.tests:
        return f"{prefix}: no difference could be tested"
    count = sum(difference.significant for difference in shift.differences)
    noun = "difference" if count == 1 else "differences"
    return f"{prefix}: {count or 'no'} significant {noun} in {shift.tests} tests"


def _describe_sizes(differences: Sequence[Difference]) -> str:
    """Return the number of patients of each split, e.g. "train 24, test 12, val 6"."""
    sizes = {"train": differences[0].n_train}
    for difference in differences:
        # That of the first signal: others may be known of fewer patients.
        sizes.setdefault(difference.compared, difference.n_compared)
    return ", ".join(f"{split} {size:,}" for split, size in sizes.items())


def _shown_signals(differences: Sequence[Difference]) -> list[str]:
    """Return the signals that were compared, in the order of SIGNALS."""
    measured = {difference.signal for difference in differences}
    return [name for name in SIGNALS if name in measured]


def _draw_panel(axes: "Axes", differences: Sequence[Difference]) -> None:
    """Draw the effects of one class, a row for each signal."""
    names = _shown_signals(differences)
    axes.axvspan(
        0.5 - TRIVIAL,
        0.5 + TRIVIAL,
        color="0.94",
        zorder=0,
        linewidth=0,
    )
    axes.axvline(
        0.5,
        color="0.7",
        linewidth=1,
        zorder=0,
    )
    for difference in differences:
        row = names.index(difference.signal)
        offset = 0.34 * COMPARED.index(difference.compared) - 0.17
        _draw_effect(axes, row + offset, difference)
    axes.set_xlim(0, 1)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), [SIGNALS[name] for name in names])
    axes.set_xticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
    axes.set_xlabel("effect: probability that a patient of the other split is higher")
    style: dict[str, Any] = {"va": "bottom", "fontsize": 8, "color": "0.4"}
    axes.text(
        0.01,
        -0.58,
        "lower than in train",
        ha="left",
        **style,
    )
    axes.text(
        0.99,
        -0.58,
        "higher than in train",
        ha="right",
        **style,
    )
    plotting.despine(axes)
    axes.tick_params(axis="y", length=0, labelsize=10)


def _draw_effect(
    axes: "Axes",
    height: float,
    difference: Difference,
) -> None:
    """Draw an effect, filled where significant, and its interval; write the numbers beside it."""
    colour = _COLOURS[difference.compared]
    style: dict[str, Any] = {"fontsize": 8, "va": "center", "color": colour, "clip_on": False}
    if difference.effect is None or difference.p is None:
        reason = difference.note.split(":")[0]
        axes.text(
            1.02,
            height,
            f"{difference.compared}: {reason}",
            **style,
        )
        return
    interval = difference.interval
    if interval is not None:
        axes.hlines(
            height,
            interval.low,
            interval.high,
            colors=colour,
            linewidth=1.8,
            zorder=1,
        )
    axes.plot(
        difference.effect,
        height,
        marker="o",
        markersize=6.5,
        color=colour,
        markerfacecolor=colour if difference.significant else "white",
        zorder=2,
    )
    train = format_value(difference.median_train)
    other = format_value(difference.median_compared)
    text = f"{difference.compared}: {train} to {other}, {describe_p_value(difference.p_holm)}"
    axes.text(1.02, height, text, **style)


def _draw_legend(figure: "Figure") -> None:
    """Explain colours, hollow points and the gray band."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    style: dict[str, Any] = {"marker": "o", "linewidth": 1.8, "markersize": 6.5}
    test = Line2D([], [], color=_COLOURS["test"], **style)
    val = Line2D([], [], color=_COLOURS["val"], **style)
    hollow = Line2D(
        [],
        [],
        color="black",
        markerfacecolor="white",
        **style,
    )
    trivial = Patch(color="0.94")
    entries = {
        "train against test: medians, p after Holm": test,
        "train against val": val,
        "hollow: not significant or trivial": hollow,
        f"trivial: within {TRIVIAL} of 0.5": trivial,
    }
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside lower center",
        ncols=len(entries),
        fontsize=9,
        frameon=False,
    )
