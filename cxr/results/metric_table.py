"""The table of metrics: what each is called, and how its value and its interval are written.

The report, the model card, the summaries and the check of a quoted table all take it from here.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cxr.core.formatting import NOT_ESTIMABLE, format_metric
from cxr.stats.intervals import Interval
from cxr.stats.metrics import Metrics, proportion_counts

METRIC_NAMES = {
    "sensitivity": "Sensitivity (recall)",
    "specificity": "Specificity",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "accuracy": "Accuracy",
    "precision": "PPV (precision)",
    "npv": "NPV",
}


class MetricRow(NamedTuple):
    """One metric as it is written for people.

    Attributes:
        key: Its name in records and columns.
        name: Its name for people.
        value: With three decimals, or "not estimable".
        interval: Its 95 % interval, "0.947 to 0.982", or "not estimable".
        counts: "k of n" for a proportion of images, else empty.
    """

    key: str
    name: str
    value: str
    interval: str
    counts: str


def metric_rows(
    metrics: Metrics,
    intervals: Mapping[str, Interval | None],
    keys: Iterable[str] = METRIC_NAMES,
) -> list[MetricRow]:
    """Return the rows of the table of metrics.

    Args:
        metrics: Counts and metrics of one set of images.
        intervals: The 95 % interval of each metric; None where not estimable.
        keys: Which metrics, in this order.
    """
    counts = _count_texts(metrics)
    rows = []
    for key in keys:
        row = MetricRow(
            key=key,
            name=METRIC_NAMES[key],
            value=format_metric(metrics[key]),
            interval=format_interval(intervals.get(key)),
            counts=counts.get(key, ""),
        )
        rows.append(row)
    return rows


def format_interval(interval: Interval | None) -> str:
    """Return an interval with three decimals, or "not estimable".

    >>> format_interval(Interval(low=0.9471, high=0.9818, method="Wilson", images=9, patients=9))
    '0.947 to 0.982'
    """
    if interval is None:
        return NOT_ESTIMABLE
    return f"{format_metric(interval.low)} to {format_metric(interval.high)}"


def _count_texts(metrics: Metrics) -> dict[str, str]:
    """Return "k of n" for each metric that is a proportion of images."""
    counts = proportion_counts(
        tp=int(metrics["tp"] or 0),
        fp=int(metrics["fp"] or 0),
        tn=int(metrics["tn"] or 0),
        fn=int(metrics["fn"] or 0),
    )
    return {key: f"{part} of {whole}" for key, (part, whole) in counts.items()}
