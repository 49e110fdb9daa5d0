"""The training histories of the architectures: histories.png."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from cxr.results.plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMN_WIDTH = 3.6  # inches
_NARROWEST = 5.2  # inches


class History(NamedTuple):
    """The history of one training.

    Attributes:
        table: One row per epoch, with epoch, phase, loss and val_auroc; at epoch 0 one row per fit
            of the head, each with another regularisation.
        kept_epoch: The epoch whose weights were kept.
    """

    table: pd.DataFrame
    kept_epoch: int


def draw_histories(histories: Mapping[str, History]) -> "Figure":
    """Return validation AUROC and training loss by epoch, one column per training.

    The columns share their scales; a circle marks the epoch that was kept.
    """
    width = max(_COLUMN_WIDTH * len(histories), _NARROWEST)
    figure = style.new_figure(width, 5.8, "Training histories, one column per architecture")
    plots = figure.subplots(2, len(histories), squeeze=False, sharey="row")
    for column, (name, history) in enumerate(histories.items()):
        kept = _kept_row(history.table, history.kept_epoch)
        colour, _ = style.architecture_style(name)
        for row, metric in enumerate(("val_auroc", "loss")):
            axes = plots[row, column]
            style.clean_frame(axes)
            _draw_line(axes, history.table, metric, colour)
            axes.plot(kept["epoch"], kept[metric], **style.point_style("white"))
        title = f"{name}\nkept: {kept['val_auroc']:.3f} at epoch {history.kept_epoch}"
        plots[0, column].set_title(title, fontsize=10)
        plots[1, column].set_xlabel("Epoch (circle: kept)")
    plots[0, 0].set_ylabel("Validation AUROC")
    plots[1, 0].set_ylabel("Training loss")
    return figure


def _kept_row(history: pd.DataFrame, kept_epoch: int) -> "pd.Series[float]":
    """Return the row of the kept epoch; of several fits at epoch 0 the best one was kept."""
    rows = history[history["epoch"] == kept_epoch]
    best = int(rows["val_auroc"].argmax())
    return rows.iloc[best]


def _draw_line(axes: "Axes", history: pd.DataFrame, metric: str, colour: str) -> None:
    """Draw a point for each fit of the head, and a line from the best one through fine-tuning."""
    from matplotlib.ticker import MaxNLocator

    phase = history["phase"]
    fits = history[phase == "frozen"]
    fine_tuning = history[phase == "fine_tune"]
    axes.plot(
        fits["epoch"],
        fits[metric],
        color=colour,
        linestyle="none",
        marker=".",
        markersize=6,
    )
    line = fine_tuning
    if len(fits):
        start = _kept_row(fits, int(fits["epoch"].max()))
        line = pd.concat([start.to_frame().T, fine_tuning])
    axes.plot(
        line["epoch"],
        line[metric],
        color=colour,
        linewidth=2,
        marker=".",
        markersize=6,
    )
    left = float(history["epoch"].min()) - 0.5
    right = float(history["epoch"].max()) + 0.5
    axes.set_xlim(left, right)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    if len(fine_tuning):
        start = fine_tuning["epoch"].min() - 0.5
        _shade_fine_tuning(axes, start, right)


def _shade_fine_tuning(axes: "Axes", start: float, end: float) -> None:
    """Shade the epochs of fine-tuning and say so."""
    axes.axvspan(start, end, color="#eef1f5", zorder=0)
    axes.annotate(
        " fine-tuning",
        (start, 0.02),
        xycoords=("data", "axes fraction"),
        fontsize=8,
        color="#4a5058",
        va="bottom",
    )
