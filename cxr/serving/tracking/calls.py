"""Have a child process talk to the tracking server, with a deadline."""

import importlib.util
import logging
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from cxr.core.errors import CxrError, TrackingError, UsageError
from cxr.serving.tracking.jobs import Answer, Job, RunJob, SyncJob

ADDRESS = "MLFLOW_TRACKING_URI"
RUN_SECONDS = 120  # that tracking may cost a stage
SYNC_SECONDS = 600  # that `cxr registry sync` may take, for which a person waits
INSTALL = "pip install 'cxr-pipeline[mlflow]'"
# What the client of MLflow does unless the environment says otherwise. It sends usage statistics to
# its makers unless it is told not to.
CLIENT_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
logger = logging.getLogger("cxr.tracking")


class _Tracking:
    """What this process knows of its server.

    Attributes:
        given_up: The addresses that failed, which are not tried again by a run.
    """

    given_up: set[str] = set()  # noqa: RUF012 - one for the process


def is_wanted() -> bool:
    """Return whether MLFLOW_TRACKING_URI is set, and this process has not given up on it."""
    address = os.environ.get(ADDRESS, "")
    return bool(address) and address not in _Tracking.given_up


def track_run(work: Path, run: str) -> None:
    """Send what is on disk of a run; a failure is a warning, and the process tries no more.

    Args:
        work: The work folder.
        run: The run's id.
    """
    _try(RunJob(work=work.absolute(), run=run))


def track_registry(registry: str) -> None:
    """Let versions and aliases follow a registry; a failure is a warning, as with `track_run`.

    Args:
        registry: The address of the registry.
    """
    _try(SyncJob(registry=registry))


def sync_registry(registry: str) -> tuple[str, ...]:
    """Let versions and aliases follow a registry.

    Args:
        registry: The address of the registry.

    Returns:
        What was done, in sentences.

    Raises:
        UsageError: MLFLOW_TRACKING_URI is not set, or MLflow is not installed.
        TrackingError: The server could not be told.
    """
    if not os.environ.get(ADDRESS):
        raise UsageError(
            f"expected {ADDRESS}, the address of a tracking server, found none: set it"
        )
    if not _is_installed():
        raise UsageError(f"{ADDRESS} is set, and MLflow is not installed: {INSTALL}")
    return run_child(SyncJob(registry=registry), SYNC_SECONDS)


def run_child(job: Job, seconds: float) -> tuple[str, ...]:
    """Do a job in a process of its own.

    Args:
        job: What to tell the server.
        seconds: When the process is ended.

    Returns:
        What was done, in sentences.

    Raises:
        TrackingError: The server could not be told.
    """
    # As in worker processes: what lies in the present folder may stand in for no package of ours.
    imports_from_folder = bool({"", str(Path.cwd())} & set(sys.path))
    options = [] if imports_from_folder else ["-P"]
    command = [sys.executable, *options, "-m", "cxr.serving.tracking.child"]
    try:
        done = subprocess.run(
            [*command, str(seconds)],
            input=job.model_dump_json(),
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=seconds,
            env=CLIENT_SETTINGS | os.environ,
        )
    except subprocess.TimeoutExpired:
        raise TrackingError(
            f"{shown_address()}: expected it to be done in {seconds:g} s, found it still at work"
        ) from None
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise TrackingError(
            f"{shown_address()}: the process that sends ended: {without_secret(said)}"
        )
    answer = Answer.parse(lines[-1].encode(), "the answer of the process that sends")
    if answer.problem:
        raise TrackingError(f"{shown_address()}: {without_secret(answer.problem)}")
    return answer.done


def shown_address() -> str:
    """Return the server's address without the name and the password that may stand in it."""
    address = os.environ.get(ADDRESS, "")
    parts = urlsplit(address)
    if "@" not in parts.netloc:
        return address
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def without_secret(text: str) -> str:
    """Return a text with the server's address as it may be shown."""
    return text.replace(os.environ.get(ADDRESS, "") or "\0", shown_address())


def _is_installed() -> bool:
    return importlib.util.find_spec("mlflow") is not None


def _try(job: Job) -> None:
    """Do a job of a run; a failure is a warning, after which this process tries no more."""
    if not is_wanted():
        return
    try:
        if not _is_installed():
            raise TrackingError(f"{ADDRESS} is set, and MLflow is not installed: {INSTALL}")
        for sentence in run_child(job, RUN_SECONDS):
            logger.info("%s", sentence)
    except (CxrError, OSError) as error:
        _Tracking.given_up.add(os.environ[ADDRESS])
        logger.warning("not tracked: %s. The run goes on without MLflow.", error)
