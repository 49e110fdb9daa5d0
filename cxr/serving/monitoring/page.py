"""The page of a monitoring store: one self-contained HTML file in the look of the report."""

import tempfile
from pathlib import Path

from cxr.core.files import atomic_write
from cxr.results.cards.rendering import load_templates
from cxr.results.report import embedding
from cxr.serving.monitoring.figures import CAPTIONS, draw_stream
from cxr.serving.monitoring.labels import RealFigures
from cxr.serving.monitoring.report import MonitorReport
from cxr.serving.monitoring.verdict import describe_measurement, promise_sentence


def write_page(
    report: MonitorReport,
    path: Path,
    real: RealFigures | None = None,
) -> Path:
    """Publish the page of a monitoring store, and return its path.

    Args:
        report: What the store says.
        path: The HTML file.
        real: The figures of images whose labels arrived, if they did.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(monitor_page(report, real), encoding="utf-8")
    return path


def monitor_page(report: MonitorReport, real: RealFigures | None = None) -> str:
    """Return the page of a monitoring store as HTML; see `write_page`."""
    pictures: dict[str, list[embedding.Picture]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for number, stream in enumerate(report.streams):
            folder = Path(scratch) / str(number)
            draw_stream(stream, folder)
            pictures |= embedding.embed_sections(folder, {stream.name: CAPTIONS})
    template = load_templates().get_template("monitor.html.j2")
    return template.render(
        report=report,
        pictures=pictures,
        real=real,
        promise=promise_sentence(),
        name_of=describe_measurement,
    )
