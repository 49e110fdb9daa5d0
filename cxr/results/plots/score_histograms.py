"""The histograms of the scores of the test set by label: scores_test.png."""

from typing import TYPE_CHECKING

import numpy as np

from cxr.core.plotting import CLASS_COLOURS
from cxr.core.settings import LABEL_NAMES
from cxr.results.plots import style
from cxr.results.plots.scored_set import ScoredSet
from cxr.stats.metrics import Vector

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BIN_EDGES = list(np.linspace(0, 1, 51))
_ERROR_NAMES = ("false positives", "false negatives")  # by label


def draw_score_histograms(scored: ScoredSet) -> "Figure":
    """Return the scores of each class in a row of its own; errors are drawn in full colour."""
    title = f"Scores on test by label, n = {len(scored.labels)} images"
    figure = style.new_figure(*style.SINGLE_PLOT, title)
    plots = figure.subplots(2, 1, sharex=True)
    for label, axes in enumerate(plots):
        name = LABEL_NAMES[label]
        members = scored.labels == label
        scores = scored.scores[members]
        is_wrong = scored.predicted_positive[members] != bool(label)
        style.clean_frame(axes)
        _draw_histogram(axes, scores, is_wrong, CLASS_COLOURS[name])
        axes.axvline(scored.threshold, color=style.INK, linestyle="--", linewidth=1.4)
        errors = f"{is_wrong.sum()} of {len(scores)} are {_ERROR_NAMES[label]}"
        axes.set_title(
            f"{name}: {errors} (full colour)",
            fontsize=10,
            loc="left",
            color=style.INK,
        )
        axes.set(ylabel="Images", xlim=(-0.01, 1.01))
    _name_threshold(plots[0], scored.threshold)
    plots[1].set_xlabel("Calibrated score (0: like NORMAL, 1: like PNEUMONIA)")
    return figure


def _draw_histogram(
    axes: "Axes",
    scores: Vector,
    is_wrong: Vector,
    colour: str,
) -> None:
    """Draw the wrong ones in full colour and the right ones, pale, on top of them."""
    from matplotlib.colors import to_rgba
    from matplotlib.ticker import MaxNLocator

    parts = [scores[is_wrong], scores[~is_wrong]]
    fills = [to_rgba(colour), to_rgba(colour, 0.3)]
    axes.hist(parts, bins=_BIN_EDGES, stacked=True, color=fills)
    axes.hist(
        scores,
        bins=_BIN_EDGES,
        histtype="step",
        color=colour,
        linewidth=1,
    )
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))


def _name_threshold(axes: "Axes", threshold: float) -> None:
    """Write the threshold beside its line, on the side that has more room."""
    if threshold > 0.5:
        offset = -5
        alignment = "right"
    else:
        offset = 5
        alignment = "left"
    axes.annotate(
        f"threshold {threshold:.4g}",
        (threshold, 0.93),
        xycoords=("data", "axes fraction"),
        xytext=(offset, 0),
        textcoords="offset points",
        fontsize=9,
        color=style.INK,
        va="top",
        ha=alignment,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
    )
