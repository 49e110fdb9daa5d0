"""Tell a tracking server (MLflow) what is on disk; nothing happens where MLFLOW_TRACKING_URI is not set."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from cxr.serving.tracking import calls


def track_run(work: Path, run: str) -> None:
    """Send what is on disk of a run.

    Args:
        work: The folder of an open work folder.
        run: The run's id.
    """
    if calls.is_wanted():
        _track_run(work, run)


def track_registry(registry: str) -> None:
    """Let MLflow's versions and aliases follow a registry.

    Args:
        registry: The address of the registry.
    """
    if calls.is_wanted():
        _track_registry(registry)


@task(name="track run", task_run_name="track run", cache_policy=NO_CACHE)
def _track_run(work: Path, run: str) -> None:
    """Send what is on disk of a run; a failure is a warning."""
    calls.track_run(work, run)


@task(name="track registry", task_run_name="track registry", cache_policy=NO_CACHE)
def _track_registry(registry: str) -> None:
    """Let MLflow follow a registry; a failure is a warning."""
    calls.track_registry(registry)
