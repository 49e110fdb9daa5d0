"""The command `cxr monitor`: what a monitoring store says of the models at work."""

import sys
from datetime import date
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cxr.core.errors import UsageError

DRIFT = 3  # exit status with --strict


def monitor(
    place: Annotated[
        str,
        Parameter(help="The folder or s3://bucket/prefix that `cxr predict --monitor` wrote to."),
    ],
    /,
    *,
    out: Annotated[Path | None, Parameter(help="A page (HTML) with time lines to write.")] = None,
    since: Annotated[
        date | None,
        Parameter(
            help="The first day that counts (2026-03-01), after the cause of an alarm was removed; "
            "all days if not given."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        Parameter(
            help="A CSV of labels that arrived late: columns image, label and, where known, patient."
        ),
    ] = None,
    predictions: Annotated[
        tuple[Path, ...],
        Parameter(help="The tables that `cxr predict` wrote of these images; needed by --labels."),
    ] = (),
    strict: Annotated[
        bool, Parameter(negative="", help="End with exit status 3 where images have drifted.")
    ] = False,
) -> None:
    """Tell whether the images that a model scores at work have drifted, in one sentence.

    Example: `cxr monitor watched --out monitor.html`
    """
    from cxr.serving.monitoring import compare_labels, read_monitor, write_page

    if (labels is None) != (not predictions):
        raise UsageError(
            "expected --labels FILE and --predictions TABLE together, found one of them: the store "
            "has no image's name, so labels find their predictions in the tables alone"
        )
    report = read_monitor(place, since)
    real = compare_labels(labels, predictions) if labels else None
    print(report.sentence())  # noqa: T201
    for stream in report.streams:
        for note in stream.notes:
            print(f"note   {stream.reference.describe()}: {note}")  # noqa: T201
    for file in report.unreadable:
        print(f"note   not counted: {file}")  # noqa: T201
    if real:
        print(real.sentence())  # noqa: T201
    if out:
        print(write_page(report, out, real))  # noqa: T201
    if strict and report.alarm:
        sys.exit(DRIFT)
