"""Flow `monitor`: read what predictions left in a monitoring store, test it for drift, show it.

It is made for a daily schedule. The event `cxr.drift`, sent once for each new alarm, starts a
retraining and tells a person (deployments/automations).
"""

from datetime import date
from typing import Any

from prefect import flow
from prefect.states import Completed

from flows import names
from tasks import monitor as monitor_tasks


@flow(name="monitor", flow_run_name=names.of_data, description=__doc__, validate_parameters=True)
def monitor(place: str, since: date | None = None) -> Any:
    """Look once; ends as Drift while there is an alarm, otherwise as Completed.

    Args:
        place: The monitoring store that predictions append to, a path or s3://bucket/prefix.
        since: The first day that counts, as after the cause of an alarm was removed; all days if
            not given.
    """
    report = monitor_tasks.read(place, since)
    monitor_tasks.show(report)
    monitor_tasks.say_once(report)
    return Completed(name="Drift" if report.alarm else None, message=report.sentence())
