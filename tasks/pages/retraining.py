"""The page of a retraining, in Markdown: for the run in the Prefect UI and for whoever approves."""

from cxr.core.formatting import describe_p_value, format_metric
from cxr.results.metric_table import format_interval
from cxr.serving.retraining.challenge import Challenge
from cxr.serving.retraining.retrain import Retraining
from cxr.stats.comparison import Difference, Disagreement
from cxr.stats.intervals import Interval
from cxr.stats.metrics import Metrics

METRICS = ("auroc", "sensitivity", "specificity", "accuracy", "precision")


def page(retraining: Retraining) -> str:
    """Return the page of a retraining: outcome, reason, comparison and rule."""
    verdict = retraining.challenge
    baselines = ", ".join(f"{name} {format_metric(auroc)}" for name, auroc in verdict.audit.items())
    lines = [
        f"# Retraining: {retraining.outcome}",
        "",
        retraining.why,
        "",
        f"*By* {retraining.who}. *Champion now:* `{retraining.champion or 'none'}`.",
        "",
        *_metrics_table(verdict),
        "",
        *_test_lines(verdict),
        "",
        f"*Non-clinical baselines on test (AUROC):* {baselines}.",
        "",
        f"*Rule:* {verdict.rule}",
    ]
    return "\n".join(lines)


def _metrics_table(verdict: Challenge) -> list[str]:
    """Return a table with a row for the challenger and, where there is one, for the champion."""
    heading = f"| n = {verdict.compared} test images | version | " + " | ".join(METRICS) + " |"
    lines = [
        heading,
        "|---" * (2 + len(METRICS)) + "|",
        _metrics_row(
            "challenger",
            verdict.challenger,
            verdict.challenger_figures,
            verdict.challenger_intervals,
        ),
    ]
    if verdict.champion and verdict.champion_figures and verdict.champion_intervals is not None:
        row = _metrics_row(
            "champion",
            verdict.champion,
            verdict.champion_figures,
            verdict.champion_intervals,
        )
        lines.append(row)
    return lines


def _metrics_row(
    title: str,
    version: str,
    metrics: Metrics,
    intervals: dict[str, Interval | None],
) -> str:
    cells = [title, f"`{version}`"]
    for name in METRICS:
        cell = format_metric(metrics[name])
        interval = intervals.get(name)
        if interval:
            cell += f" ({format_interval(interval)})"
        cells.append(cell)
    return "| " + " | ".join(cells) + " |"


def _test_lines(verdict: Challenge) -> list[str]:
    """Return a line for each test of the difference, and one on images that the champion saw."""
    lines = []
    if verdict.auroc:
        lines.append(_auroc_line(verdict.auroc))
    lines.extend(_decision_line(decision) for decision in verdict.decisions)
    referred = {
        "challenger": verdict.challenger_referred,
        "champion": verdict.champion_referred,
    }
    lines.extend(
        f"- Test images that the {name} refers to a person as out of its scope: {count} of "
        f"{verdict.compared}"
        for name, count in referred.items()
        if count is not None
    )
    if verdict.champion:
        seen = "not known" if verdict.seen is None else f"{verdict.seen} of {verdict.images}"
        lines.append(
            "- Test images whose picture or patient the champion saw in training: "
            f"{seen}; compared: {verdict.compared}"
        )
    return lines


def _auroc_line(difference: Difference) -> str:
    interval = ""
    if difference.low is not None and difference.high is not None:
        interval = f" ({difference.low:+.4f} to {difference.high:+.4f})"
    return (
        f"- AUROC, challenger minus champion: {difference.difference:+.4f}{interval}, "
        f"{describe_p_value(difference.p)} ({difference.method})"
    )


def _decision_line(decision: Disagreement) -> str:
    return (
        f"- Decisions on {decision.of} images ({decision.images}): "
        f"only the challenger right {decision.only_a}, only the champion right {decision.only_b}, "
        f"{describe_p_value(decision.p)} (McNemar, exact)"
    )
