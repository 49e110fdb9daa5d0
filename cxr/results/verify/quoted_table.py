"""Whether the rows of a Markdown table quote the metrics of a run."""

import re
from collections.abc import Iterator, Mapping

from cxr.results.metric_table import METRIC_NAMES, metric_rows
from cxr.stats.intervals import Interval
from cxr.stats.metrics import Metrics

_EXAMPLE = f"| {METRIC_NAMES['sensitivity']} | 0.969 | 0.947 to 0.982 |"


def misquotes(
    text: str,
    test: Metrics,
    intervals: Mapping[str, Interval | None],
) -> Iterator[str]:
    """Yield a sentence for each row that does not quote its metric and interval.

    Rows are written such as "| Sensitivity (recall) | 0.969 | 0.947 to 0.982 |". Metrics that the
    text does not quote are ignored; no such row at all is a problem, too.

    Args:
        text: Markdown.
        test: The metrics of the test set.
        intervals: Their 95 % intervals.
    """
    quoted = 0
    for row in metric_rows(test, intervals):
        pattern = rf"^\|\s*{re.escape(row.name)}\s*\|([^|]*)\|([^|]*)\|"
        for match in re.finditer(pattern, text, re.MULTILINE):
            quoted += 1
            value = match[1].strip()
            interval = match[2].strip()
            if value != row.value or interval != row.interval:
                yield (
                    f"{row.name}: {value} ({interval}), "
                    f"the scores give {row.value} ({row.interval})"
                )
    if not quoted:
        yield f"expected rows such as '{_EXAMPLE}', found none"
