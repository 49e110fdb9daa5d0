"""The tasks of the flow `watch`: list a place, remember what was there.

What was seen is remembered in a variable of the Prefect server (page Variables), not in a file: a watch
then needs no right to write anywhere, any worker can look next, and a person can see it, or delete it to
have everything announced anew. If it is lost, the place is announced once more, and a retraining that
finds nothing new ends at once.
"""

import hashlib
import json

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.variables import Variable

from cxr.stages import watch_steps
from cxr.stages.watch_steps import Listing, Watched
from tasks import retries


@task(name="list files", task_run_name="list {data}", cache_policy=NO_CACHE, **retries.POLICY)
def list_files(data: str, out: str | None) -> Listing:
    """Return the listing of DATA; the files of a work folder inside it do not count."""
    return watch_steps.list_files(data, out)


def recall(data: str) -> Watched | None:
    """Return what was remembered of a place, None if nothing was."""
    value = Variable.get(_variable(data))
    if value is None:
        return None
    return Watched.parse(json.dumps(value).encode(), f"the variable {_variable(data)}")


def remember(watched: Watched) -> None:
    """Remember what was seen of a place."""
    Variable.set(_variable(watched.data), watched.model_dump(mode="json"), overwrite=True)


def _variable(data: str) -> str:
    """Return the name of a place's variable: a name may not hold every character of an address."""
    return f"cxr_watch_{hashlib.sha256(data.encode()).hexdigest()[:12]}"
