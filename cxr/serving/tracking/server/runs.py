"""A run in MLflow: a parent for the pipeline run, a child for each training.

Everything is read from the run's folder, whenever a stage ended. What the server has already is not sent
again, so a run that goes on after a kill goes on in the same run of MLflow. A run is found by its tag
`cxr.run`.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cxr.core.files import file_sha256
from cxr.models import runs
from cxr.models.runs import Run
from cxr.models.selection import Selection
from cxr.models.training.records import Failure, Training
from cxr.results.cards.model_card import read_card
from cxr.results.evaluation import Evaluation, read_stress_test
from cxr.serving.tracking import run_figures
from cxr.serving.tracking.server.connection import (
    KIND,
    Connection,
    find_children,
    find_run,
    log_params,
    log_points,
)
from cxr.serving.tracking.server.models import log_export

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

LOGGED = "cxr.logged"  # the tag with the digest of what was sent last


class _Stage(NamedTuple):
    """A pipeline run that is being sent.

    Attributes:
        server: Where to.
        run: The pipeline run.
        work: Its work folder.
        folder: Its own.
        parent: Its run in MLflow.
    """

    server: Connection
    run: Run
    work: Path
    folder: Path
    parent: "MlflowRun"


def log_run(
    server: Connection,
    work: Path,
    run_id: str,
) -> tuple[str, ...]:
    """Send what is on disk of a run and is not sent yet.

    Args:
        server: Where to.
        work: The work folder.
        run_id: The run's id.

    Returns:
        What was sent, in sentences.
    """
    folder = work / "runs" / run_id
    run = Run.read(folder / "run.json")
    stage = _Stage(server, run, work, folder, _parent(server, run, folder))
    _log_settings(stage)
    children = find_children(server, stage.parent)
    trainings = sorted(folder.glob("*/training.json")) + sorted(folder.glob("*/failure.json"))
    for path in trainings:
        _log_training(stage, path, children.get(path.parent.name))
    sentences = [f"MLflow has run {run_id}, trainings: {len(trainings)}"]
    if (folder / "selection.json").is_file():
        _log_choice(stage)
    if (folder / "export.json").is_file():
        sentences += _log_test(stage)
    end = _time(max(folder.glob("*.json"), key=lambda path: path.stat().st_mtime))
    server.client.set_terminated(stage.parent.info.run_id, "FINISHED", end)
    return tuple(sentences)


def _parent(server: Connection, run: Run, folder: Path) -> "MlflowRun":
    """Return MLflow's run of a pipeline run, which is made if it is not there."""
    found = find_run(server, run.id)
    if found:
        return found
    tags = {
        "cxr.run": run.id,
        KIND: "run",
        "cxr.version": run.version,
        "cxr.manifest_sha256": run.manifest_sha256,
        "mlflow.source.name": "cxr",
        "mlflow.source.type": "LOCAL",
    }
    start = _time(folder / "run.json")
    return server.client.create_run(server.experiment, start, tags, f"run {run.id}")


def _log_settings(stage: _Stage) -> None:
    """Log the settings of the run, and what the data were."""
    params = run_figures.settings_params(stage.run.settings.model_dump(mode="json"))
    ingest = runs.read_ingest(stage.work)
    if ingest.manifest_sha256 == stage.run.manifest_sha256:
        params |= run_figures.settings_params(ingest.reading.model_dump(mode="json"), "reading.")
        counts = {split: sum(by_class.values()) for split, by_class in ingest.splits.items()}
        params |= run_figures.settings_params(counts, "images.")
        _tag(
            stage,
            {
                "cxr.data": ingest.data,
                "cxr.splits": ingest.split_policy,
                "cxr.gate": run_figures.gate_verdict(ingest.leakage),
            },
        )
        points = run_figures.gate_points(ingest.leakage)
        log_points(stage.server, stage.parent, points, _time(stage.work / "ingest.json"))
    log_params(stage.server, stage.parent, params)


def _log_training(
    stage: _Stage,
    path: Path,
    child: "MlflowRun | None",
) -> None:
    """Log a training, or why it failed; nothing where that very record was sent to its end.

    Args:
        stage: The run.
        path: Its record.
        child: Its run in MLflow, None where there is none.
    """
    digest = file_sha256(path)
    if child and child.data.tags.get(LOGGED) == digest:
        return
    failed = path.name == "failure.json"
    record = Failure.read(path) if failed else Training.read(path)
    client = stage.server.client
    end = _time(path)
    start = end if isinstance(record, Failure) else end - round(1000 * record.seconds)
    if child is None:
        tags = {
            "mlflow.parentRunId": stage.parent.info.run_id,
            "cxr.run": stage.run.id,
            KIND: "training",
            "cxr.training": path.parent.name,
        }
        child = client.create_run(stage.server.experiment, start, tags, path.parent.name)
    child_id = child.info.run_id
    if isinstance(record, Failure):
        params = {"architecture": record.architecture}
        client.set_tag(child_id, "cxr.error", record.error)
    else:
        names = {"architecture", "seed", "weights", "weights_sha256", "image_size", "best_epoch"}
        params = run_figures.settings_params(record.model_dump(mode="json", include=names))
        points = run_figures.training_points(record) + run_figures.history_points(path.parent)
        log_points(stage.server, child, points, end)
        client.set_tag(child_id, "cxr.model_sha256", record.model_sha256)
    log_params(stage.server, child, params)
    client.set_terminated(child_id, "FAILED" if failed else "FINISHED", end)
    client.set_tag(child_id, LOGGED, digest)


def _log_choice(stage: _Stage) -> None:
    """Log which model was chosen, and why."""
    selection = Selection.read(stage.folder / "selection.json")
    _tag(stage, {"cxr.chosen": selection.name, "mlflow.note.content": selection.reason})


def _log_test(stage: _Stage) -> list[str]:
    """Log the test, report, card and pictures, then the export; nothing where these were sent.

    Returns:
        What was sent, in sentences.
    """
    evaluation = Evaluation.read(stage.folder / "evaluation.json")
    export = stage.folder / "export"
    points = run_figures.evaluation_points(evaluation, read_stress_test(stage.folder))
    log_points(stage.server, stage.parent, points, _time(stage.folder / "evaluation.json"))
    files = {path: place for path, place in _artifacts(stage) if path.is_file()}
    digest = _digest([*files, export / "SHA256SUMS"])
    if stage.parent.data.tags.get(LOGGED) == digest:
        return []
    commit = read_card(export).commit
    if commit != "unknown":
        _tag(stage, {"cxr.commit": commit, "mlflow.source.git.commit": commit})
    run_id = stage.parent.info.run_id
    for path, folder in files.items():
        stage.server.client.log_artifact(run_id, str(path), folder)
    log_export(stage.server, export, run_id)
    _tag(stage, {LOGGED: digest})
    return [f"MLflow has the test, {len(files)} files and the model of run {stage.run.id}"]


def _artifacts(stage: _Stage) -> Iterable[tuple[Path, str | None]]:
    """Yield report, cards, comparison and pictures, each with its folder in MLflow."""
    yield stage.folder / "report.html", None
    yield stage.folder / "comparison.csv", None
    for name in ("MODEL_CARD.md", "model_card.json", "reporting_checklist.md", "chai_card.xml"):
        yield stage.folder / "export" / name, None
    for path in sorted(stage.folder.glob("*.png")):
        yield path, "pictures"
    for path in sorted((stage.work / "eda").glob("*.png")):
        yield path, "pictures/data"


def _digest(paths: Iterable[Path]) -> str:
    """Return a digest of files' names and contents."""
    lines = [f"{file_sha256(path)}  {path.name}" for path in paths]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _tag(stage: _Stage, tags: dict[str, str]) -> None:
    """Set the tags of the parent that are not as they are wanted."""
    from mlflow.entities import RunTag

    known = stage.parent.data.tags
    new = [RunTag(name, text) for name, text in tags.items() if known.get(name) != text]
    if new:
        stage.server.client.log_batch(stage.parent.info.run_id, tags=new)


def _time(path: Path) -> int:
    """Return when a file was written, ms since 1970."""
    return round(1000 * path.stat().st_mtime)
