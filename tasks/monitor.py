"""The tasks of the flow `monitor`: read a monitoring store, show it, say once that something drifted.

Which alarm was said is remembered in a variable of the Prefect server, for the reasons given in
`tasks.watch`.
"""

import hashlib
import logging
import tempfile
from datetime import date
from pathlib import Path

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.variables import Variable

from cxr.serving.monitoring import MonitorReport, read_monitor
from cxr.serving.monitoring.figures import draw_stream
from tasks import events, retries
from tasks.pages import monitoring as monitoring_page

logger = logging.getLogger("cxr.monitoring")


@task(name="read monitor", task_run_name="read {place}", cache_policy=NO_CACHE, **retries.POLICY)
def read(place: str, since: date | None) -> MonitorReport:
    """Read a monitoring store and test each of its streams for drift."""
    return read_monitor(place, since)


@task(name="show monitor", task_run_name="show monitor", cache_policy=NO_CACHE)
def show(report: MonitorReport) -> None:
    """Put the verdict, the time lines and the days where the UI shows them."""
    with tempfile.TemporaryDirectory() as folder:
        pictures = {
            stream.name: draw_stream(stream, Path(folder) / stream.name)
            for stream in report.streams
            if stream.at_work
        }
        text = monitoring_page.page(report, pictures)
    create_markdown_artifact(text, key="monitor", description=report.sentence())
    if report.alarm:
        logger.warning("%s", report.sentence())
    else:
        logger.info("%s", report.sentence())


def say_once(report: MonitorReport) -> bool:
    """Send the event of drift if this alarm was not said before; return whether it was sent."""
    name = f"cxr_monitor_{hashlib.sha256(report.place.encode()).hexdigest()[:12]}"
    value = {"place": report.place, "alarm": report.alarm_id}
    if Variable.get(name) == value:
        return False
    if report.alarm:
        raised = [
            alarm.model_dump(mode="json")
            for stream in report.streams
            if stream.at_work
            for alarm in stream.verdict.alarms
        ]
        events.drift(report.place, report.sentence(), {"alarm": report.alarm_id, "raised": raised})
    # After the event: a run that dies in between says it twice; the other way round, never.
    Variable.set(name, value, overwrite=True)
    return report.alarm
