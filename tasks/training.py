"""Pixels, one training process per architecture, comparison and choice: the tasks of `train_models`."""

import json
import logging
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture

from cxr import architectures, child, curves, pixels, runs, selection
from cxr.records import Failure, Ingest, Selection, Training, file_sha256, read_table
from cxr.runs import Run
from cxr.settings import TrainingSettings, cores
from cxr.storage import open_storage
from tasks import pictures, progress, retries

logger = logging.getLogger("cxr.training")
DECODE = "decode pixels"


@task(name="check weights", cache_policy=NO_CACHE)
def check_weights(settings: TrainingSettings) -> None:
    """Fail at once, before hours of work, where weights that were asked for are not there."""
    for name in settings.arch:
        architectures.find_weights(name, settings.weights)


@task(name="start run", cache_policy=NO_CACHE)
def start_run(work: Path, settings: TrainingSettings) -> Run:
    """Name the run by its data, settings and weights, and write run.json."""
    return runs.start(work, settings)


@task(name="cache pixels", cache_policy=NO_CACHE, **retries.POLICY)
def cache_pixels(work: Path, ingest: Ingest, side: int) -> Path:
    """Decode every kept image once, for all trainings and the evaluation."""
    table = read_table(work / "clean_metadata.csv")
    with progress.tracking(DECODE, len(table), "images"):
        return pixels.cache(table, open_storage(ingest.data), side, work, lambda n: progress.advance(DECODE, n))


@task(name="train", task_run_name="train {name}", cache_policy=NO_CACHE)
def train_architecture(name: str, run: Run, work: Path, cache: Path) -> Training:
    """Train one architecture in a process of its own; go on where an earlier attempt was killed."""
    folder = run.folder(work) / name
    done = folder / "training.json"
    if done.is_file() and Training.read(done).model_sha256 == file_sha256(folder / "model.keras"):
        return Training.read(done)
    (folder / "failure.json").unlink(missing_ok=True)
    weights, digest = run.weights[name]
    job = {
        "architecture": name, "settings": run.settings.model_dump(mode="json"), "folder": str(folder),
        "weights": weights, "weights_sha256": digest, "manifest": str(work / "clean_metadata.csv"), "pixels": str(cache),
        "class_weights": json.loads((work / "eda" / "class_weights.json").read_text()),
    }  # fmt: skip
    epochs = run.settings.epochs + run.settings.fine_tune_epochs
    threads = max(1, cores() // run.settings.trainings_at_a_time())
    with progress.tracking(f"train {name}", epochs, "epochs"):
        child.run("cxr.training", job, folder / "training.log", threads, lambda event: _show(name, event))
    return Training.read(done)


def _show(name: str, event: dict[str, Any]) -> None:
    if "done" in event:
        progress.advance(f"train {name}", to=event["done"])
    elif "epoch" in event:
        note = f"{event['phase']}, val AUROC {event['val_auroc']:.4f}"
        progress.advance(f"train {name}", to=event["epoch"], note=note)


def outcome(name: str, future: PrefectFuture[Training]) -> Training | Failure:
    """Wait for a training and return its record, or the failure's."""
    result = future.result(raise_on_failure=False)
    return result if isinstance(result, Training) else Failure(architecture=name, error=str(result))


@task(name="compare", cache_policy=NO_CACHE)
def compare_models(outcomes: list[Training | Failure], folder: Path) -> Selection:
    """Write comparison.csv and its plots, choose on validation alone, write selection.json."""
    trained = [each for each in outcomes if isinstance(each, Training)]
    failed = [each for each in outcomes if isinstance(each, Failure)]
    for each in failed:
        logger.error("%s failed: %s", each.architecture, each.error)
        each.write(folder / each.architecture / "failure.json")
    chosen = selection.select(trained, failed)
    table = selection.compare(trained, failed, folder)
    figures = curves.draw_comparison(folder, [t.architecture for t in trained])
    chosen.write(folder / "selection.json")
    shown = table.astype(object).where(table.notna(), None)
    create_table_artifact(shown.to_dict("records"), key="comparison", description="Validation figures")
    page = f"# {chosen.architecture} was chosen\n\n{chosen.reason}\n\n*Rule:* {chosen.rule}\n\n"
    create_markdown_artifact(page + "\n\n".join(map(pictures.markdown, figures)), key="selection")
    return chosen
