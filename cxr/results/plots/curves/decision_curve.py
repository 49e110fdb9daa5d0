"""The decision curve with its interval: decision_curve_test.png."""

from typing import TYPE_CHECKING

from cxr.results.plots import style
from cxr.stats.calibration.decision_curve import DecisionCurve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOUR = "#0072B2"
_FLOOR = 0.25  # how far below zero is drawn, as a share of the highest net benefit there can be


def draw_decision_curve(curve: DecisionCurve, threshold: float) -> "Figure":
    """Return net benefit over threshold probability: of the model, of every film, of none.

    Args:
        curve: What is drawn.
        threshold: Of the operating point, which is marked.
    """
    figure = style.new_figure(
        *style.SINGLE_PLOT,
        f"Decision curve on test, n = {curve.images} images",
    )
    axes = figure.subplots()
    style.clean_frame(axes)
    thresholds = [point.threshold for point in curve.points]
    lows = [point.model if point.low is None else point.low for point in curve.points]
    highs = [point.model if point.high is None else point.high for point in curve.points]
    axes.fill_between(
        thresholds,
        lows,
        highs,
        color=_COLOUR,
        alpha=0.2,
        linewidth=0,
        label="95 % interval",
    )
    axes.plot(
        thresholds,
        [point.model for point in curve.points],
        color=_COLOUR,
        linewidth=2,
        label="Act on the model's score",
    )
    axes.plot(
        thresholds,
        [point.treat_all for point in curve.points],
        color=style.INK,
        linewidth=1.4,
        linestyle="--",
        label="Call every film positive",
    )
    axes.axhline(
        0,
        color=style.GRAY,
        linewidth=1.4,
        linestyle=":",
        label="Call no film positive",
    )
    axes.axvline(
        threshold,
        color=style.GRAY,
        linewidth=1,
        label=f"Operating point: {threshold:.3f}",
    )
    axes.set(
        xlabel="Threshold probability: act from this score on",
        ylabel="Net benefit, in true positives per film",
        xlim=(0, 1),
        ylim=(-_FLOOR * curve.prevalence, 1.08 * curve.prevalence),
    )
    axes.legend(loc="lower left", fontsize=9, framealpha=1)
    return figure
