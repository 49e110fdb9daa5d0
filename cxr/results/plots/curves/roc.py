"""ROC curves with their operating points: roc_val.png and roc_test.png."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cxr.results.plots import style
from cxr.results.plots.scored_set import ScoredSet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TWO_PLOTS = (10.5, 5.6)  # inches
_WIDEST_CORNER = 0.5  # an enlarged corner wider than this shows no more than the whole does
_NARROWEST_CORNER = 0.02


def draw_roc(scored_sets: Sequence[ScoredSet], title: str) -> "Figure":
    """Return the ROC curves of trainings on the same images.

    Of several trainings the upper left corner is drawn a second time, enlarged, if it is small and
    holds all operating points.
    """
    corner = _corner_side(scored_sets)
    if len(scored_sets) == 1 or corner > _WIDEST_CORNER:
        figure = style.new_figure(*style.SINGLE_PLOT, title)
        _draw_whole(figure.subplots(), scored_sets)
        return figure
    figure = style.new_figure(*_TWO_PLOTS, title)
    whole, enlarged = figure.subplots(1, 2)
    _draw_whole(whole, scored_sets)
    _draw_corner(enlarged, scored_sets, max(corner, _NARROWEST_CORNER))
    return figure


def _draw_whole(axes: "Axes", scored_sets: Sequence[ScoredSet]) -> None:
    """Draw the curves over the whole range, with a legend."""
    _draw_curves(axes, scored_sets)
    axes.set(
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
    )
    axes.legend(loc="lower right", fontsize=9, framealpha=1)


def _draw_corner(axes: "Axes", scored_sets: Sequence[ScoredSet], side: float) -> None:
    """Draw the curves in the upper left square of this side alone."""
    _draw_curves(axes, scored_sets)
    margin = side / 40
    axes.set(
        xlim=(-margin, side),
        ylim=(1 - side, 1 + margin),
    )
    axes.set_title("Upper left corner, enlarged", fontsize=10, color=style.INK)


def _corner_side(scored_sets: Sequence[ScoredSet]) -> float:
    """Return the side of the upper left square that holds all operating points, with a margin."""
    distances = []
    for scored in scored_sets:
        distances.append(scored.false_positive_rate)
        distances.append(1 - scored.sensitivity)
    return 1.6 * max(distances)


def _draw_curves(axes: "Axes", scored_sets: Sequence[ScoredSet]) -> None:
    """Draw the curves, then the operating points over all of them, then the line of chance."""
    from sklearn.metrics import RocCurveDisplay, auc, roc_curve

    style.clean_frame(axes)
    for scored in scored_sets:
        colour, line_style = style.architecture_style(scored.name)
        false_positive_rate, sensitivity, _ = roc_curve(scored.labels, scored.scores)
        area = auc(false_positive_rate, sensitivity)
        display = RocCurveDisplay(fpr=false_positive_rate, tpr=sensitivity)
        display.plot(ax=axes)
        label = f"{scored.name}: AUROC {area:.3f} (n = {len(scored.labels)})"
        display.line_.set(
            color=colour,
            linestyle=line_style,
            linewidth=2,
            label=label,
        )
    for scored in scored_sets:
        colour, _ = style.architecture_style(scored.name)
        point = style.point_style(colour)
        axes.plot(scored.false_positive_rate, scored.sensitivity, **point)
    axes.plot([], [], label="Operating point", **style.point_style("white"))
    axes.plot(
        [0, 1],
        [0, 1],
        color=style.GRAY,
        linestyle=":",
        linewidth=1.2,
        label="Chance: AUROC 0.5",
    )
    axes.set(
        xlabel="1 - specificity (false positive rate)",
        ylabel="Sensitivity (true positive rate)",
        aspect="equal",
    )
