"""The tasks of the flow `train`: pixels, one worker process per training, comparison and choice."""

import contextlib
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner

from cxr.core.errors import DataError, StorageError, TrainingError
from cxr.core.parallel import usable_cores
from cxr.core.settings import TrainingSettings
from cxr.exploration import explore
from cxr.models import runs
from cxr.models.compute import worker
from cxr.models.networks import architectures, pretrained_weights
from cxr.models.runs import Member, Run
from cxr.models.selection import Selection
from cxr.models.training.feature_extraction import FeatureJob
from cxr.models.training.records import Failure, Training
from cxr.stages import data_steps, ensemble_steps, training_steps
from cxr.storage.workspace import workspace
from tasks import progress, retries, runners
from tasks.pages import comparison as comparison_page

logger = logging.getLogger("cxr.training")
# Trainings whose worker processes import Keras in advance: each needs 0.4 GB until it is used.
MOST_PRESTARTED = 3
# Images whose features are one task on Dask: minutes of work beside the seconds of importing Keras.
SHARD_ROWS = 1000


@task(name="check weights", task_run_name="check weights", cache_policy=NO_CACHE)
def check_weights(settings: TrainingSettings) -> None:
    """Fail at once, before hours of work, if weights that were asked for are not there."""
    for name in settings.arch:
        pretrained_weights.find_weights(name, settings.weights)


@contextlib.contextmanager
def prestarted_workers(
    work: Path,
    settings: TrainingSettings,
    runner: str,
) -> Iterator[None]:
    """Have worker processes import Keras while the data are explored; none if that is done already."""
    wanted: Counter[int] = Counter()
    try:
        explore.require_exploration(work, runs.read_ingest(work), settings)
    except DataError:
        if not runners.is_dask(runner):
            place = runners.Place(usable_cores(), settings.trainings_at_a_time())
            trainings = len(settings.arch) * settings.seeds
            wanted[_threads(place)] += min(MOST_PRESTARTED, trainings)
            wanted[usable_cores()] += 1  # for the test
    with worker.prestarted_workers(wanted):
        yield


def _threads(place: runners.Place) -> int:
    """Return how many threads a training's worker process gets: twice its share of the cores.

    The last training then has the machine for itself, and each uses what another leaves while it
    reads or compiles: measured, two trainings with two threads each are the fastest on two cores.
    """
    twice_the_share = -(-2 * place.cores // place.trainings)
    return min(place.cores, twice_the_share)


@task(name="start run", task_run_name="start run", cache_policy=NO_CACHE)
def start_run(work: Path, settings: TrainingSettings) -> Run:
    """Name the run by its data, settings and weights, and write run.json."""
    return training_steps.start_run(work, settings)


@task(name="cache pixels", task_run_name="cache pixels", cache_policy=NO_CACHE, **retries.POLICY)
def cache_pixels(work: Path, settings: TrainingSettings) -> Path:
    """Check the manifest, then decode what the pixel cache lacks."""
    with progress.following("images") as on_progress:
        return data_steps.cache_pixels(work, settings, on_progress)


class FeatureShard(NamedTuple):
    """A part of a training's images: its number, from 1, and how many parts there are."""

    number: int
    total: int


@task(
    name="features",
    task_run_name="features {member.name} {shard.number} of {shard.total}",
    cache_policy=NO_CACHE,
)
def extract_features(
    member: Member,
    shard: FeatureShard,
    run: Run,
    work: Path,
    cache: Path,
) -> bool:
    """Compute the features of one shard in a worker process; return whether it came to its end.

    The training itself computes what is missing then, or fails with the same message.
    """
    sharing = runners.place(run.settings.trainings_at_a_time()).trainings
    training = training_steps.training_job(member, run, work, cache, sharing)
    job = FeatureJob(**dict(training), shard=(shard.number, shard.total))
    log = job.folder / f"features-{shard.number}of{shard.total}.log"
    gpus = training_steps.gpus_of(member, run, sharing)
    try:
        with _progress_shown(member, run, work, shard) as on_progress:
            worker.run_job(job, log, _threads_of(run), on_progress, gpus)
    except TrainingError as error:
        logger.warning(
            "features of %s, shard %sof%s: %s", member.name, shard.number, shard.total, error
        )
        return False
    return True


def extract_all(
    run: Run,
    work: Path,
    cache: Path,
    pool: TaskRunner[Any],
) -> dict[str, list[PrefectFuture[bool]]]:
    """Submit the features of every training that is not done.

    Seeds share the features of a pretrained network; a random one has its own for each seed. Where
    all layers learn there are none.

    Returns:
        The futures that each training waits for, by its name.
    """
    if run.settings.learns == "whole":
        return {}
    splits = runs.read_ingest(work).splits
    images = sum(splits["train"].values()) + sum(splits["val"].values())
    shards = -(-images // SHARD_ROWS)
    futures_of: dict[str, list[PrefectFuture[bool]]] = {}
    shared: dict[str, list[PrefectFuture[bool]]] = {}
    for member in _longest_first(run):
        if training_steps.is_trained(run.folder(work) / member.name):
            continue
        weights, _ = run.weights[member.architecture]
        key = member.name if weights is None else member.architecture
        if key not in shared:
            parameters = {"member": member, "run": run, "work": work, "cache": cache}
            shared[key] = [
                pool.submit(extract_features, parameters | {"shard": FeatureShard(number, shards)})
                for number in range(1, shards + 1)
            ]
        futures_of[member.name] = shared[key]
    return futures_of


@task(name="train", task_run_name="train {member.name}", cache_policy=NO_CACHE)
def train_member(
    member: Member,
    run: Run,
    work: Path,
    cache: Path,
) -> Training:
    """Train one architecture with one seed in a worker process; resumes where it was killed."""
    sharing = runners.place(run.settings.trainings_at_a_time()).trainings
    with _progress_shown(member, run, work) as on_progress:
        training = training_steps.train_member(
            member,
            run,
            work,
            cache,
            _threads_of(run),
            sharing,
            on_progress,
        )
    publish(work)
    return training


def train_all(
    run: Run,
    work: Path,
    cache: Path,
    pool: TaskRunner[Any],
    features: dict[str, list[PrefectFuture[bool]]],
) -> list[Training | Failure]:
    """Train every architecture with every seed, the longest first; one that fails stops no other.

    Args:
        run: The run.
        work: The folder of an open work folder.
        cache: The folder of the pixel cache.
        pool: Where the trainings run side by side.
        features: The futures that each training waits for, by its name.
    """
    members = _longest_first(run)
    futures = []
    for member in members:
        parameters = {"member": member, "run": run, "work": work, "cache": cache}
        futures.append(pool.submit(train_member, parameters, features.get(member.name)))
    return [_outcome(member, future, work) for member, future in zip(members, futures, strict=True)]


def _longest_first(run: Run) -> list[Member]:
    """Return the trainings of a run: the one that takes longest must not be the last to start."""

    def cost(member: Member) -> float:
        return architectures.ARCHITECTURES[member.architecture].relative_cost

    return sorted(run.members(), key=cost, reverse=True)


def _threads_of(run: Run) -> int:
    """Return how many threads the worker process of one training of this run may use."""
    return _threads(runners.place(run.settings.trainings_at_a_time()))


@contextlib.contextmanager
def _progress_shown(
    member: Member,
    run: Run,
    work: Path,
    shard: FeatureShard | None = None,
) -> Iterator[worker.Emit]:
    """Show the progress of a training, or of a shard of its features, while the block runs."""
    totals = training_steps.progress_totals(run, work)
    images = totals["features"]
    epochs = totals["epochs"]
    name = member.name
    if shard is not None:
        images //= shard.total
        epochs = 0
        name = f"{member.name} {shard.number}"

    def on_progress(update: worker.Progress) -> None:
        runners.require_wanted()  # ends the training if the run was cancelled
        step = "features" if update.step == "features" else "train"
        progress.advance(f"{step} {name}", to=update.done, note=update.note)

    with (
        progress.tracking(f"features {name}", images, "images"),
        progress.tracking(f"train {name}", epochs, "epochs"),
    ):
        yield on_progress


def publish(work: Path) -> None:
    """Publish what is finished, so that no other worker trains it again; a failure fails no training."""
    try:
        workspace.push(work)
    except StorageError as error:
        logger.warning("not published yet, tried again when the stage ends: %s", error)


def _outcome(
    member: Member,
    future: PrefectFuture[Training],
    work: Path,
) -> Training | Failure:
    """Wait for a training and return its record, or that of its failure."""
    result = runners.result(future)
    publish(work)  # on Dask, it may have been trained on another machine
    if isinstance(result, Training):
        logger.info("%s is trained, validation AUROC %.4f", member.name, result.val["auroc"])
        return result
    return Failure(name=member.name, architecture=member.architecture, error=str(result))


@task(name="average", task_run_name="average", cache_policy=NO_CACHE)
def average_models(
    outcomes: list[Training | Failure],
    run: Run,
    work: Path,
    cache: Path,
) -> list[Training | Failure]:
    """Make the ensembles that the run asks for; return them, or why one could not be made."""

    def on_progress(name: str, update: worker.Progress) -> None:
        runners.require_wanted()  # ends it if the run was cancelled
        progress.advance("average", to=update.done, note=name)

    with progress.tracking("average", ensemble_steps.val_images(work), "images"):
        ensembles = ensemble_steps.average_models(outcomes, run, work, cache, on_progress)
    publish(work)
    return ensembles


@task(name="compare", task_run_name="compare", cache_policy=NO_CACHE)
def compare_models(outcomes: list[Training | Failure], folder: Path) -> Selection:
    """Write comparison.csv and its plots, choose on validation alone, write selection.json."""
    for outcome in outcomes:
        if isinstance(outcome, Failure):
            logger.error("%s failed: %s", outcome.name, outcome.error)
    selection, figures = training_steps.compare_models(outcomes, folder)
    comparison_page.show_comparison(outcomes, folder)
    comparison_page.show_selection(selection, figures)
    logger.info(selection.reason)
    return selection
