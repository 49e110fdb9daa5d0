"""Flow `watch`: look at the listing of a place, and say once that it changed, when it has been quiet.

It is made for a schedule of a few minutes. The event `cxr.data.changed` starts a retraining
(deployments/automations).
"""

from typing import Any

from prefect import flow
from prefect.states import Completed

from cxr.stages import watch_steps
from flows import names
from tasks import events
from tasks import watch as watch_tasks


@flow(name="watch", flow_run_name=names.of_data, description=__doc__, validate_parameters=True)
def watch(data: str, out: str | None = None) -> Any:
    """Look once; ends as Changed, Changing, Unchanged or Empty.

    Args:
        data: Folder or s3://bucket/prefix with the images.
        out: The work folder of the retrainings: where it lies inside DATA, its files do not count.
    """
    listing = watch_tasks.list_files(data, out)
    before = watch_tasks.recall(data)
    finding, watched = watch_steps.look(data, listing, before)
    sentence = watch_steps.describe(finding, data, listing, before)
    if finding == "changed":
        events.data_changed(data, sentence, listing.files, listing.sha256)
    # After the event: a watch that dies in between says it twice, which costs a retraining that
    # finds nothing new; the other way round a change would never be said.
    watch_tasks.remember(watched)
    return Completed(name=finding.capitalize(), message=sentence)
