"""The reliability diagrams of raw and calibrated scores: reliability.png."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from cxr.core.files import read_table
from cxr.models.selection import Selection
from cxr.models.training.records import Training
from cxr.results.plots import style
from cxr.stats.calibration import reliability
from cxr.stats.calibration.reliability import Bin

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CALIBRATED_COLOUR = "#0072B2"


def draw_calibration(run: Path) -> "Figure":
    """Return the reliability diagrams of the selected model on validation and on test.

    Each shows the observed share of PNEUMONIA by mean score in ten bins, of the raw and of the
    calibrated scores; only the raw ones where no calibration was fitted.
    """
    name = Selection.read(run / "selection.json").name
    training = Training.read(run / name / "training.json")
    method = training.calibration.method
    figure = style.new_figure(
        10.5,
        6.7,
        f"Calibration of {training.architecture} (method: {method})",
    )
    is_fitted = method != "none"
    tables = {
        "Validation, where it was fitted" if is_fitted else "Validation": (
            run / name / "scores_val.csv"
        ),
        "Test": run / "scores_test.csv",
    }
    plots = figure.subplots(1, 2)
    for axes, (title, path) in zip(plots, tables.items(), strict=True):
        table = read_table(path)
        style.clean_frame(axes)
        if is_fitted:
            draw_curve(axes, table, "raw_score", style.GRAY, "raw")
            draw_curve(axes, table, "score", CALIBRATED_COLOUR, "calibrated")
        else:
            draw_curve(axes, table, "score", CALIBRATED_COLOUR, "raw")
        axes.set(
            xlim=(-0.03, 1.03),
            ylim=(-0.03, 1.03),
            aspect="equal",
            xlabel="Mean score of the bin",
            ylabel="Observed share of PNEUMONIA",
        )
        axes.set_title(f"{title}, n = {len(table)}", fontsize=10, color=style.INK, pad=14)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), fontsize=9, frameon=False)
    return figure


def draw_curve(
    axes: "Axes",
    table: pd.DataFrame,
    column: str,
    colour: str,
    title: str,
) -> None:
    """Draw one reliability curve, with the interval and the number of images of each bin.

    Args:
        axes: Where it is drawn.
        table: Rows with label and scores.
        column: The scores.
        colour: Of the curve.
        title: Its name in the legend.
    """
    from sklearn.calibration import CalibrationDisplay

    labels = table["label"].to_numpy()
    scores = table[column].to_numpy()
    bins = reliability.reliability_bins(labels, scores)
    _draw_intervals(axes, bins, colour)
    ece = reliability.ece(labels, scores)
    brier = reliability.brier(labels, scores)
    display = CalibrationDisplay(
        prob_true=[one_bin.observed for one_bin in bins],
        prob_pred=[one_bin.mean_score for one_bin in bins],
        y_prob=scores,
        estimator_name=f"{title}: ECE {ece:.3f}, Brier {brier:.3f}",
    )
    display.plot(
        ax=axes,
        color=colour,
        marker="o",
        markersize=5,
        linewidth=0.8,
        alpha=0.8,
    )


def _draw_intervals(axes: "Axes", bins: Sequence[Bin], colour: str) -> None:
    """Draw the 95 % interval of each bin, and beside its point the number of its images."""
    for one_bin in bins:
        axes.vlines(
            one_bin.mean_score,
            one_bin.interval.low,
            one_bin.interval.high,
            colors=colour,
            linewidth=1,
            alpha=0.6,
        )
        axes.annotate(
            str(one_bin.images),
            (one_bin.mean_score, one_bin.observed),
            xytext=(4, 3),
            textcoords="offset points",
            fontsize=7.5,
            color=colour,
        )
