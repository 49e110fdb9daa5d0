"""The precision-recall curve with its operating point: precision_recall_test.png."""

from typing import TYPE_CHECKING

from cxr.results.plots import style
from cxr.results.plots.scored_set import ScoredSet

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_precision_recall(scored: ScoredSet) -> "Figure":
    """Return the precision-recall curve of the test set, with the prevalence for comparison."""
    from sklearn.metrics import (
        PrecisionRecallDisplay,
        average_precision_score,
        precision_recall_curve,
    )

    figure = style.new_figure(
        *style.SINGLE_PLOT,
        f"Precision and recall on test, n = {len(scored.labels)} images",
    )
    axes = figure.subplots()
    style.clean_frame(axes)
    colour, _ = style.architecture_style(scored.name)
    precision, sensitivity, _ = precision_recall_curve(scored.labels, scored.scores)
    area = average_precision_score(scored.labels, scored.scores)
    display = PrecisionRecallDisplay(precision=precision, recall=sensitivity)
    display.plot(ax=axes)
    display.line_.set(color=colour, linewidth=2, label=f"{scored.name}: AUPRC {area:.3f}")
    if scored.predicted_positive.any():  # else there is no PPV
        ppv = float(scored.labels[scored.predicted_positive].mean())
        axes.plot(
            scored.sensitivity,
            ppv,
            label=f"Operating point: PPV {ppv:.3f}",
            **style.point_style(colour),
        )
    prevalence = float(scored.labels.mean())
    axes.axhline(
        prevalence,
        color=style.GRAY,
        linestyle=":",
        linewidth=1.4,
        label=f"Chance: PPV = prevalence, {prevalence:.3f}",
    )
    axes.set(
        xlabel="Sensitivity (recall)",
        ylabel="PPV (precision)",
        xlim=(-0.02, 1.02),
        ylim=(0, 1.03),
        aspect="auto",
    )
    axes.legend(loc="lower left", fontsize=9, framealpha=1)
    return figure
