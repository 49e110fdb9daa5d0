"""Pixels, one training process per architecture, comparison and choice: the tasks of `train_models`."""

import contextlib
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner

from cxr.core.errors import DataError, StorageError, TrainingError
from cxr.core.files import read_table
from cxr.core.formatting import format_metric
from cxr.core.parallel import usable_cores
from cxr.core.settings import TrainingSettings
from cxr.exploration import explore
from cxr.models import architectures, pretrained_weights, runs
from cxr.models.compute import worker
from cxr.models.features.extraction import FeatureJob
from cxr.models.runs import Member, Run
from cxr.models.selection import Selection
from cxr.models.training.records import Failure, Training
from cxr.stages import data_steps, training_steps
from cxr.storage.workspace import workspace
from tasks import pictures, progress, retries, runners

logger = logging.getLogger("cxr.models.training.trainer")
DECODE = "decode pixels"
READIED = 3  # trainings whose processes import Keras ahead: 0.4 GB each until they are wanted
SHARD_ROWS = 1000  # images whose features are one task on Dask: minutes of work beside the seconds of importing Keras


@task(name="check weights", task_run_name="check weights", cache_policy=NO_CACHE)
def check_weights(settings: TrainingSettings) -> None:
    """Fail at once, before hours of work, where weights that were asked for are not there."""
    for name in settings.arch:
        pretrained_weights.find_weights(name, settings.weights)


@contextlib.contextmanager
def readied(work: Path, settings: TrainingSettings, runner: str) -> Iterator[None]:
    """Have the processes that will train and test import Keras while the data are explored; not where that is done."""
    wanted: Counter[int] = Counter()
    try:
        explore.require_exploration(work, runs.read_ingest(work), settings)
    except DataError:
        if not runners.is_dask(runner):
            place = runners.Place(usable_cores(), settings.trainings_at_a_time())
            wanted[_threads(place)] += min(READIED, len(settings.arch) * settings.seeds)
            wanted[usable_cores()] += 1
    with worker.prestarted_workers(wanted):
        yield


def _threads(place: runners.Place) -> int:
    """Return how many threads a training's worker process gets: twice its share of the cores.

    The last training then has the machine for itself, and each uses what another leaves while it
    reads or compiles: measured, two trainings with two threads each are the fastest on two cores.
    """
    return min(place.cores, -(-2 * place.cores // place.trainings))


@task(name="start run", task_run_name="start run", cache_policy=NO_CACHE)
def start_run(work: Path, settings: TrainingSettings) -> Run:
    """Name the run by its data, settings and weights, and write run.json."""
    return training_steps.start_run(work, settings)


@task(name="cache pixels", task_run_name="cache pixels", cache_policy=NO_CACHE, **retries.POLICY)
def cache_pixels(work: Path, settings: TrainingSettings) -> Path:
    """Check the manifest's contract, then decode every kept image once, for all that looks at pixels."""
    with progress.counting(DECODE, "images") as move:
        return data_steps.cache_pixels(work, settings, lambda _step, done, total: move(done, total))


@task(
    name="features",
    task_run_name="features {member.name} {shard[0]} of {shard[1]}",
    cache_policy=NO_CACHE,
)
def extract_features(
    member: Member, shard: tuple[int, int], run: Run, work: Path, cache: Path
) -> bool:
    """Compute the features of one shard of a training's rows in a process of its own; return whether it came to its end.

    What is missing then, the training computes itself, or fails with the same words.
    """
    index, shards = shard
    sharing = runners.place(run.settings.trainings_at_a_time()).trainings
    training = training_steps.training_job(member, run, work, cache, sharing)
    job = FeatureJob(**dict(training), shard=shard)
    name = f"{index}of{shards}"
    try:
        with _shown(member, run, work, shard) as (threads, on_progress):
            gpus = training_steps.gpus_of(member, run, sharing)
            worker.run_job(job, job.folder / f"features-{name}.log", threads, on_progress, gpus)
    except TrainingError as error:
        logger.warning("features of %s, shard %s: %s", member.name, name, error)
        return False
    return True


def extract_each(
    run: Run, work: Path, cache: Path, pool: TaskRunner[Any]
) -> dict[str, list[PrefectFuture[bool]]]:
    """Submit the features of every training that is not done, and return, by its name, what it waits for.

    Seeds share the features of a pretrained network; a random one has its own for each seed.
    """
    splits = runs.read_ingest(work).splits
    shards = -(-sum(sum(splits[name].values()) for name in ("train", "val")) // SHARD_ROWS)
    found: dict[str, list[PrefectFuture[bool]]] = {}
    shared: dict[str, list[PrefectFuture[bool]]] = {}
    for member in _longest_first(run):
        if training_steps.is_trained(run.folder(work) / member.name):
            continue
        same = member.name if run.weights[member.architecture][0] is None else member.architecture
        if same not in shared:
            common = {"member": member, "run": run, "work": work, "cache": cache}
            each = [(at, shards) for at in range(1, shards + 1)]
            shared[same] = [
                pool.submit(extract_features, common | {"shard": shard}) for shard in each
            ]
        found[member.name] = shared[same]
    return found


@task(name="train", task_run_name="train {member.name}", cache_policy=NO_CACHE)
def train_architecture(member: Member, run: Run, work: Path, cache: Path) -> Training:
    """Train one architecture with one seed in a process of its own; go on where an earlier attempt was killed."""
    sharing = runners.place(run.settings.trainings_at_a_time()).trainings
    with _shown(member, run, work) as (threads, on_progress):
        training = training_steps.train_member(
            member, run, work, cache, threads, sharing, on_progress
        )
    publish(work)
    return training


def train_each(
    run: Run,
    work: Path,
    cache: Path,
    pool: TaskRunner[Any],
    features: dict[str, list[PrefectFuture[bool]]],
) -> list[Training | Failure]:
    """Train every architecture with every seed, the longest first; a failed one does not take the others along."""
    members = _longest_first(run)
    futures = [
        pool.submit(
            train_architecture,
            {"member": member, "run": run, "work": work, "cache": cache},
            features.get(member.name),
        )
        for member in members
    ]
    return [_outcome(member, future, work) for member, future in zip(members, futures, strict=True)]


def _longest_first(run: Run) -> list[Member]:
    return sorted(
        run.members(),
        key=lambda member: -architectures.ARCHITECTURES[member.architecture].relative_cost,
    )


@contextlib.contextmanager
def _shown(
    member: Member, run: Run, work: Path, shard: tuple[int, int] | None = None
) -> Iterator[tuple[int, worker.Emit]]:
    """Show how far a training, or a shard of its features, is while the block runs.

    Gives the number of threads that its worker process may use, and what is told of its progress.
    """
    totals = training_steps.progress_totals(run, work)
    images = totals["features"]
    epochs = totals["epochs"]
    name = member.name
    if shard is not None:
        index, shards = shard
        images //= shards
        epochs = 0
        name = f"{member.name} {index}"
    threads = _threads(runners.place(run.settings.trainings_at_a_time()))
    with (
        progress.tracking(f"features {name}", images, "images"),
        progress.tracking(f"train {name}", epochs, "epochs"),
    ):
        yield threads, lambda told: _show(name, told)


def publish(work: Path) -> None:
    """Publish what is finished, so that another worker need not train it again; a failure here fails no training."""
    try:
        workspace.push(work)
    except StorageError as error:
        logger.warning("not published yet, tried again when the stage ends: %s", error)


def _show(name: str, told: worker.Progress) -> None:
    """Show how far a training is; ends it where the run was cancelled."""
    runners.require_wanted()
    step = "features" if told.step == "features" else "train"
    progress.advance(f"{step} {name}", to=told.done, note=told.note)


def _outcome(member: Member, future: PrefectFuture[Training], work: Path) -> Training | Failure:
    """Wait for a training and return its record, or the failure's."""
    found = runners.result(future)
    publish(work)  # what was trained elsewhere
    if isinstance(found, Training):
        logger.info("%s is trained, val AUROC %.4f", member.name, found.val["auroc"])
        return found
    return Failure(name=member.name, architecture=member.architecture, error=str(found))


@task(name="compare", task_run_name="compare", cache_policy=NO_CACHE)
def compare_models(outcomes: list[Training | Failure], folder: Path) -> Selection:
    """Write comparison.csv and its plots, choose on validation alone, write selection.json."""
    trained = [outcome for outcome in outcomes if isinstance(outcome, Training)]
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    for failure in failed:
        logger.error("%s failed: %s", failure.name, failure.error)
    chosen, figures = training_steps.compare_models(outcomes, folder)
    order = list(read_table(folder / "comparison.csv")["name"])
    trained.sort(key=lambda training: order.index(training.name))
    rows = [_row(training) for training in trained]
    rows += [{"model": f.name, "weights": "failed, not compared: " + f.error} for f in failed]
    words = f"Validation figures, each at its own operating point, n = {trained[0].val['n']}; AUROC with 95 % interval"
    create_table_artifact(rows, key="comparison", description=words)
    page = f"# {chosen.name} was chosen\n\n{chosen.reason}\n\n*Rule:* {chosen.rule}\n\n"
    page += "\n\n".join(map(pictures.markdown, figures))
    create_markdown_artifact(
        page, key="selection", description="Which model, by which rule, on validation alone"
    )
    logger.info(chosen.reason)
    return chosen


def _row(training: Training) -> dict[str, Any]:
    """Return a model's row as a person wants to read it."""
    ends = training.val_intervals["auroc"]
    interval = f" ({format_metric(ends.low)} to {format_metric(ends.high)})" if ends else ""
    return {
        "model": training.name,
        "weights": training.weights,
        "AUROC": format_metric(training.val["auroc"]) + interval,
        **{
            name: format_metric(training.val[name])
            for name in ("sensitivity", "specificity", "accuracy", "precision")
        },
        "threshold": format_metric(training.threshold, 4),
        "minutes": format_metric(training.seconds / 60, 1),
        "ms an image": format_metric(training.milliseconds, 1),
    }
