"""The page of a monitoring store, in Markdown."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cxr.core.formatting import format_metric, printable
from cxr.serving.monitoring.figures import CAPTIONS
from cxr.serving.monitoring.report import MonitorReport, StreamReport
from tasks.pages.pictures import to_markdown

LAST_DAYS = 14  # in the table


def page(report: MonitorReport, pictures: Mapping[str, Sequence[Path]]) -> str:
    """Return the page of a store: each stream with its verdict, its last days and time lines.

    Args:
        report: What the store says.
        pictures: The time lines of each stream, by its name; streams without any have none.
    """
    lines = [f"# {'Drift' if report.alarm else 'No alarm'}", "", f"`{report.place}`", ""]
    for stream in report.streams:
        lines += _stream_lines(stream)
        for path in pictures.get(stream.name, ()):
            lines += [to_markdown(path, level=3), "", CAPTIONS[path.stem], ""]
    if report.unreadable:
        lines += ["## Not counted", ""]
        lines += [f"- {printable(sentence)}" for sentence in report.unreadable]
    return "\n".join(lines)


def _stream_lines(stream: StreamReport) -> list[str]:
    """Return the section of a stream."""
    lines = [
        f"## {stream.reference.describe()}",
        "",
        stream.sentence(),
        "",
        *_alarm_lines(stream),
        *_expected_lines(stream),
        *(f"- {note}" for note in stream.notes),
        "",
        f"The last {LAST_DAYS} of {len(stream.days)} days with images:",
        "",
        "| day | images | positive | abstained | not scored | mean score |",
        "|---|---|---|---|---|---|",
    ]
    for day, sums in list(stream.days.items())[-LAST_DAYS:]:
        lines.append(
            f"| {day} | {sums.images} | {sums.positive} | {sums.abstained} | {sums.rejected} "
            f"| {format_metric(sums.score)} |"
        )
    return [*lines, ""]


def _alarm_lines(stream: StreamReport) -> list[str]:
    """Return a line for each alarm."""
    return [f"- **{printable(alarm.sentence())}**" for alarm in stream.verdict.alarms]


def _expected_lines(stream: StreamReport) -> list[str]:
    """Return what the scores let expect of the performance, or why nobody can know."""
    expected = stream.verdict.expected
    if expected.reason:
        return [f"- Performance without labels: not known, {expected.reason}"]
    return [
        f"- Expected {name}, from {expected.images} scores alone: {format_metric(estimate.value)} "
        f"({format_metric(estimate.low)} to {format_metric(estimate.high)}, chance alone)"
        for name, estimate in expected.estimates.items()
    ]
