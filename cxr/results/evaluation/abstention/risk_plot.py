"""The picture of what abstaining gains on test: risk_coverage.png."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cxr.core.files import read_table
from cxr.core.plotting import CLASS_COLOURS
from cxr.results.evaluation.abstention.measurement import Abstention, Policy, read_judgements
from cxr.results.plots import style
from cxr.stats.abstention.answered import RiskCurve, risk_coverage, threshold_distance

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CURVE_COLOURS = {"threshold": "#0072B2", "scope": "#B84A00"}
_LEAST_ANSWERED = 0.4  # where the axis of the share of answered images begins


def draw_risk_coverage(run: Path, abstention: Abstention) -> "Figure":
    """Return the risk-coverage curves, and sensitivity and specificity among the answered.

    Args:
        run: The run's folder, with scores_test.csv and scope_test.csv.
        abstention: Its record.
    """
    scores = read_table(run / "scores_test.csv")
    judgements = read_judgements(run)
    assert judgements is not None  # the record was made of it
    judged = judgements.set_index("image").loc[scores["image"]]
    calibrated = scores["score"].to_numpy()
    is_wrong = (calibrated >= abstention.threshold) != (scores["label"] == 1).to_numpy()
    distance = threshold_distance(calibrated, abstention.threshold)
    title = (
        f"Where the model does not answer every test image, n = {len(scores)} images "
        f"({style.class_counts(scores['label'].to_numpy())})"
    )
    figure = style.new_figure(10.5, 5.2, title)
    left, right = figure.subplots(1, 2)
    style.clean_frame(left)
    of_threshold = risk_coverage(is_wrong, distance)
    of_scope = risk_coverage(is_wrong, judged["scope_p"].to_numpy())
    _draw_curve(left, of_threshold, "closest to the threshold", "threshold")
    _draw_curve(left, of_scope, "least like training", "scope")
    left.axhline(abstention.risk, color=style.GRAY, linestyle=":", linewidth=1.2)
    policies = [policy for policy in abstention.policies if policy.answered]
    _mark_policies(left, policies)
    left.set_xlim(1.005, _LEAST_ANSWERED)
    left.set_ylim(0, _highest_risk(of_threshold, of_scope))
    left.set_xlabel("Share of the images that is answered")
    left.set_ylabel("Share of the answers that is wrong")
    left.legend(title="Referred first (dotted: at random)", fontsize=9, frameon=False)
    _draw_metrics(right, policies)
    return figure


def _draw_curve(
    axes: "Axes",
    curve: RiskCurve,
    title: str,
    colour: str,
) -> None:
    """Draw one risk-coverage curve."""
    axes.plot(
        curve.answered,
        curve.risk,
        color=_CURVE_COLOURS[colour],
        linewidth=1.8,
        label=f"{title}: AURC {curve.area:.4f}",
    )


def _highest_risk(*curves: RiskCurve) -> float:
    """Return where the axis of the risk ends: above all curves in the shares that are shown."""
    highest = max(curve.risk[curve.answered >= _LEAST_ANSWERED].max() for curve in curves)
    return 1.4 * float(highest) or 0.01


def _mark_policies(axes: "Axes", policies: list[Policy]) -> None:
    """Mark each policy that refers images, with a number that the right half explains."""
    for number, policy in enumerate(policies, 1):
        answered = policy.answered
        assert answered is not None  # others are not drawn
        count = answered.images - answered.referred
        if not count:
            continue
        place = (count / answered.images, answered.wrong / count)
        axes.plot(*place, **style.point_style("white"))
        axes.annotate(str(number), place, ha="center", va="center", fontsize=7, zorder=6)


def _draw_metrics(axes: "Axes", policies: list[Policy]) -> None:
    """Draw sensitivity and specificity among the answered of each policy, with intervals."""
    style.clean_frame(axes)
    heights = np.arange(len(policies))
    lowest = 1.0
    for metric, shift in {"sensitivity": -0.14, "specificity": 0.14}.items():
        colour = CLASS_COLOURS["PNEUMONIA" if metric == "sensitivity" else "NORMAL"]
        for height, policy in zip(heights, policies, strict=True):
            value = getattr(policy.answered, metric)
            interval = getattr(policy.answered, f"{metric}_interval")
            if value is None:
                continue
            low = interval.low if interval else value
            high = interval.high if interval else value
            axes.plot([low, high], [height + shift] * 2, color=colour, linewidth=2.2)
            axes.plot(value, height + shift, marker="o", markersize=6.5, color=colour)
            lowest = min(lowest, low)
        axes.plot([], [], color=colour, marker="o", label=metric)
    axes.set_xlim(max(0, int(lowest * 10 - 0.2) / 10), 1.005)
    axes.set_ylim(len(policies) - 0.5, -0.5)
    axes.set_yticks(heights, [_row_title(*row) for row in enumerate(policies, 1)], fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("Among the answered, with 95 % interval")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, frameon=False)


def _row_title(number: int, policy: Policy) -> str:
    """Return the name of a policy with its number and how many images it refers."""
    assert policy.answered is not None  # others are not drawn
    return f"{number}  {policy.name}\n{policy.answered.referred} referred"
