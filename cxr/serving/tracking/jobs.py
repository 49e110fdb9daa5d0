"""What the process that talks to the tracking server is asked, and what it answers."""

from pathlib import Path
from typing import Literal

from cxr.core.records import Record


class RunJob(Record):
    """Send what is on disk of a run.

    Attributes:
        kind: What tells it from other jobs.
        work: The work folder.
        run: The run's id.
    """

    kind: Literal["run"] = "run"
    work: Path
    run: str


class SyncJob(Record):
    """Let versions and aliases follow a registry.

    Attributes:
        kind: What tells it from other jobs.
        registry: The address of the registry.
    """

    kind: Literal["sync"] = "sync"
    registry: str


Job = RunJob | SyncJob


class Answer(Record):
    """What became of a job.

    Attributes:
        done: What was done, in sentences.
        problem: Why it could not be done, "" where it was.
    """

    done: tuple[str, ...] = ()
    problem: str = ""
