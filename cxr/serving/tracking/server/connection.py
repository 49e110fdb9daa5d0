"""The tracking server: whether it answers, the experiment, and small calls that MLflow lacks."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from cxr.core.errors import TrackingError
from cxr.serving.tracking.run_figures import Point

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXPERIMENT = "cxr-pneumonia"  # where MLFLOW_EXPERIMENT_NAME is not set
ANSWER_SECONDS = 10  # for the first request
REQUEST_SECONDS = 60  # for each of the others, the upload of a file among them
MOST_METRICS = 1000  # in one request, by the server's rule
MOST_PARAMS = 100  # the same
KIND = "cxr.kind"  # the tag that tells the run of a pipeline from that of a training


class Connection(NamedTuple):
    """A server that answers.

    Attributes:
        client: MLflow's.
        experiment: The id of the experiment.
    """

    client: "MlflowClient"
    experiment: str


def connect() -> Connection:
    """Ask the server for the experiment, which is made if it is not there.

    Raises:
        TrackingError: It does not answer, or refuses.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    client = mlflow.MlflowClient()
    _set_patience(ANSWER_SECONDS, retries=0)
    try:
        found = client.get_experiment_by_name(name)
    except MlflowException as error:
        cause = str(error).partition("\n")[0]
        raise TrackingError(
            f"expected an answer in {ANSWER_SECONDS} s, found none ({cause})"
        ) from None
    _set_patience(REQUEST_SECONDS, retries=1)
    experiment = found.experiment_id if found else client.create_experiment(name)
    mlflow.set_experiment(experiment_id=experiment)  # where models of no run go
    return Connection(client, experiment)


def _set_patience(seconds: int, retries: int) -> None:
    """Set how long requests from now on wait for an answer, and how often they are repeated."""
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(seconds)
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = str(retries)


def find_run(connection: Connection, run: str) -> "Run | None":
    """Return MLflow's run of a pipeline run, None where there is none.

    Args:
        connection: The server.
        run: The id of the pipeline run.
    """
    wanted = f"tags.`cxr.run` = '{run}' and tags.`{KIND}` = 'run'"
    found = connection.client.search_runs([connection.experiment], wanted, max_results=1)
    return found[0] if found else None


def find_children(connection: Connection, parent: "Run") -> dict[str, "Run"]:
    """Return MLflow's runs of the trainings of a pipeline run, by the names of the trainings."""
    wanted = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    found = connection.client.search_runs([connection.experiment], wanted)
    return {run.data.tags["cxr.training"]: run for run in found if "cxr.training" in run.data.tags}


def log_params(
    connection: Connection,
    run: "Run",
    params: dict[str, str],
) -> None:
    """Log the parameters that a run has not got; MLflow changes none."""
    from mlflow.entities import Param

    new = [Param(name, value) for name, value in params.items() if name not in run.data.params]
    for start in range(0, len(new), MOST_PARAMS):
        part = new[start : start + MOST_PARAMS]
        connection.client.log_batch(run.info.run_id, params=part)


def log_points(
    connection: Connection,
    run: "Run",
    points: Sequence[Point],
    time: int,
) -> None:
    """Log the values that a run has not got, each once.

    Args:
        connection: The server.
        run: The run, as it was read last.
        points: The values.
        time: When they were measured, ms since 1970.
    """
    from mlflow.entities import Metric

    known = _known_points(connection, run, points)
    new = [point for point in points if point not in known]
    metrics = [Metric(point.name, point.value, time, point.step) for point in new]
    for start in range(0, len(metrics), MOST_METRICS):
        part = metrics[start : start + MOST_METRICS]
        connection.client.log_batch(run.info.run_id, metrics=part)


def _known_points(
    connection: Connection,
    run: "Run",
    points: Sequence[Point],
) -> set[Point]:
    """Return which values of the metrics of `points` a run has."""
    known = {Point(name, value) for name, value in run.data.metrics.items()}
    with_steps = {point.name for point in points if point.step}
    for name in with_steps & set(run.data.metrics):
        for metric in connection.client.get_metric_history(run.info.run_id, name):
            known.add(Point(name, metric.value, metric.step))
    return known
