"""Pixels, one training process per architecture, comparison and choice: the tasks of `train_models`."""

import json
import logging
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture

from cxr import architectures, child, curves, exploration, hardware, pixels, runs, selection, training, workspace
from cxr.errors import StorageError
from cxr.export import figure
from cxr.records import Failure, Selection, Training, file_sha256
from cxr.runs import Member, Run
from cxr.settings import TrainingSettings, cores
from cxr.storage import open_storage
from tasks import pictures, progress, retries

logger = logging.getLogger("cxr.training")
DECODE = "decode pixels"


@task(name="check weights", task_run_name="check weights", cache_policy=NO_CACHE)
def check_weights(settings: TrainingSettings) -> None:
    """Fail at once, before hours of work, where weights that were asked for are not there."""
    for name in settings.arch:
        architectures.find_weights(name, settings.weights)


@task(name="start run", task_run_name="start run", cache_policy=NO_CACHE)
def start_run(work: Path, settings: TrainingSettings) -> Run:
    """Name the run by its data, settings and weights, and write run.json."""
    exploration.require(work, runs.ingest(work), settings)
    return runs.start(work, settings)


@task(name="cache pixels", task_run_name="cache pixels", cache_policy=NO_CACHE, **retries.POLICY)
def cache_pixels(work: Path, settings: TrainingSettings) -> Path:
    """Check the manifest's contract, then decode every kept image once, for all that looks at pixels."""
    table, ingest = runs.manifest(work), runs.ingest(work)
    with progress.tracking(DECODE, len(table), "images"):
        return pixels.cache(
            table, open_storage(ingest.data), settings.image_size, settings.harmonise, work,
            lambda n: progress.advance(DECODE, n),
        )  # fmt: skip


@task(name="train", task_run_name="train {member.name}", cache_policy=NO_CACHE)
def train_architecture(member: Member, run: Run, work: Path, cache: Path) -> Training:
    """Train one architecture with one seed in a process of its own; go on where an earlier attempt was killed."""
    folder = run.folder(work) / member.name
    done = folder / "training.json"
    if done.is_file() and Training.read(done).model_sha256 == file_sha256(folder / "model.keras"):
        (folder / "failure.json").unlink(missing_ok=True)
        return Training.read(done)
    for name in ("failure.json", "training.json"):  # of an earlier attempt that was not whole
        (folder / name).unlink(missing_ok=True)
    weights, digest = run.weights[member.architecture]
    settings = run.settings.model_copy(update={"seed": member.seed})
    job = {
        "name": member.name, "architecture": member.architecture, "settings": settings.model_dump(mode="json"),
        "folder": str(folder), "weights": weights, "weights_sha256": digest, "manifest": str(work / "clean_metadata.csv"),
        "pixels": str(cache), "class_weights": json.loads((work / "eda" / "class_weights.json").read_text()),
        "init": run.init.model if run.init and run.init.architecture == member.architecture else "",
    }  # fmt: skip
    train, val = training.positions(runs.manifest(work), settings)
    images, epochs = (
        training.passes(len(train), len(val), settings, member.architecture),
        training.most_epochs(settings),
    )
    threads = max(1, cores() // run.settings.trainings_at_a_time())
    with (
        progress.tracking(f"features {member.name}", images, "images"),
        progress.tracking(f"train {member.name}", epochs, "epochs"),
    ):
        child.run(
            "cxr.training", job, folder / "training.log", threads, lambda event: _show(member.name, event), _gpus(member, run)
        )  # fmt: skip
    _publish(work)
    return Training.read(done)


def _gpus(member: Member, run: Run) -> list[str] | None:
    """Return the GPUs of this training, None where the machine has none."""
    found, at = hardware.gpus(), run.members().index(member)
    return hardware.share(found, run.settings.trainings_at_a_time(), at) if found else None


def _publish(work: Path) -> None:
    """Publish what is finished, so that another worker need not train it again; a failure here fails no training."""
    try:
        workspace.push(work)
    except StorageError as error:
        logger.warning("not published yet, tried again when the stage ends: %s", error)


def _show(name: str, event: dict[str, Any]) -> None:
    if "features" in event:
        progress.advance(f"features {name}", to=event["features"])
    elif "done" in event:
        progress.advance(f"train {name}", to=event["done"])
    elif "epoch" in event:
        note = f"{event['phase']}, val AUROC {event['val_auroc']:.4f}"
        progress.advance(f"train {name}", to=event["epoch"], note=note)


def outcome(member: Member, future: PrefectFuture[Training]) -> Training | Failure:
    """Wait for a training and return its record, or the failure's."""
    result = future.result(raise_on_failure=False)
    if isinstance(result, Training):
        return result
    return Failure(name=member.name, architecture=member.architecture, error=str(result))


@task(name="compare", task_run_name="compare", cache_policy=NO_CACHE)
def compare_models(outcomes: list[Training | Failure], folder: Path) -> Selection:
    """Write comparison.csv and its plots, choose on validation alone, write selection.json."""
    trained = [each for each in outcomes if isinstance(each, Training)]
    failed = [each for each in outcomes if isinstance(each, Failure)]
    for each in failed:
        logger.error("%s failed: %s", each.name, each.error)
        each.write(folder / each.name / "failure.json")
    chosen = selection.select(trained, failed, folder)
    table = selection.compare(trained, failed, folder)
    figures = curves.draw_comparison(folder, [t.name for t in trained])
    chosen.write(folder / "selection.json")
    shown = [_shown(t) for t in sorted(trained, key=lambda t: list(table["name"]).index(t.name))]
    shown += [{"model": f.name, "weights": "failed, not compared: " + f.error} for f in failed]
    words = f"Validation figures, each at its own operating point, n = {trained[0].val['n']}; AUROC with 95 % interval"
    create_table_artifact(shown, key="comparison", description=words)
    page = f"# {chosen.name} was chosen\n\n{chosen.reason}\n\n*Rule:* {chosen.rule}\n\n"
    page += "\n\n".join(map(pictures.markdown, figures))
    create_markdown_artifact(page, key="selection", description="Which model, by which rule, on validation alone")
    logger.info(chosen.reason)
    return chosen


def _shown(training: Training) -> dict[str, Any]:
    """Return a model's row as a person wants to read it."""
    ends = training.val_intervals["auroc"]
    interval = f" ({figure(ends.low)} to {figure(ends.high)})" if ends else ""
    return {
        "model": training.name, "weights": training.weights, "AUROC": figure(training.val["auroc"]) + interval,
        **{name: figure(training.val[name]) for name in ("sensitivity", "specificity", "accuracy", "precision")},
        "threshold": figure(training.threshold, 4), "minutes": figure(training.seconds / 60, 1),
        "ms an image": figure(training.milliseconds, 1),
    }  # fmt: skip
