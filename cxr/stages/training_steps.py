"""The steps of training and of the choice of a model, in an open work folder."""

from collections.abc import Callable, Sequence
from pathlib import Path

from cxr.core.files import file_sha256
from cxr.core.settings import (
    TrainingSettings,
)
from cxr.data.patients import splits as data_splits
from cxr.exploration import explore as exploration
from cxr.models import runs, selection
from cxr.models.compute import hardware, worker
from cxr.models.compute.worker import Progress
from cxr.models.runs import Member, Run
from cxr.models.selection import Selection
from cxr.models.training import feature_extraction
from cxr.models.training.records import Failure, Training
from cxr.models.training.trainer import TrainingJob
from cxr.results import exporting
from cxr.results.plots.pictures import draw_comparison


def start_run(work: Path, settings: TrainingSettings) -> Run:
    """Name the run by its data, settings and weights, and write run.json.

    Raises:
        DataError: Nothing was explored with these settings.
        WeightsError: The pretrained weights could not be loaded.
    """
    exploration.require_exploration(work, runs.read_ingest(work), settings)
    return runs.start_run(work, settings, exporting.find_init(settings))


def is_trained(folder: Path) -> bool:
    """Return whether the training in this folder came to its end and its model is whole."""
    record = folder / "training.json"
    if not record.is_file():
        return False
    return Training.read(record).model_sha256 == file_sha256(folder / "model.keras")


def training_job(
    member: Member,
    run: Run,
    work: Path,
    cache: Path,
    sharing: int,
) -> TrainingJob:
    """Return what the worker process of a training is asked for.

    Args:
        member: The training.
        run: Its run.
        work: The folder of an open work folder.
        cache: The folder of the pixel cache.
        sharing: How many trainings share this machine.
    """
    weights, digest = run.weights[member.architecture]
    starts_from_init = run.init is not None and run.init.architecture == member.architecture
    return TrainingJob(
        name=member.name,
        architecture=member.architecture,
        settings=run.settings.model_copy(update={"seed": member.seed}),
        folder=run.folder(work) / member.name,
        weights=weights,
        weights_sha256=digest,
        manifest=work / "clean_metadata.csv",
        pixels=cache,
        class_weights=label_weights(work),
        init=run.init.model if run.init is not None and starts_from_init else "",
        sharing=sharing,
    )


def label_weights(work: Path) -> dict[str, float]:
    """Return the weight in the loss of each label, "0" and "1"."""
    class_weights = data_splits.class_weights(runs.read_ingest(work).splits["train"])
    return {str(label): weight for label, weight in class_weights.items()}


def gpus_of(
    member: Member,
    run: Run,
    sharing: int,
) -> list[str] | None:
    """Return the ids of the GPUs that a training may use, None where the machine has none."""
    visible = hardware.visible_gpus()
    if not visible:
        return None
    return hardware.assign_gpus(visible, sharing, run.members().index(member))


def progress_totals(run: Run, work: Path) -> dict[str, float]:
    """Return how much there is to do in one training of a run, by the steps of its progress.

    Training may end earlier: the pretrained features of another seed are found, and validation may stop it.
    """
    settings = run.settings
    counts = {
        split: sum(by_class.values()) for split, by_class in runs.read_ingest(work).splits.items()
    }
    train = round(counts["train"] * settings.train_fraction)  # whole patients: about so many
    return {
        "features": feature_extraction.count_images(train, counts["val"], settings),
        "epochs": settings.tuning_epochs(),
    }


def train_member(
    member: Member,
    run: Run,
    work: Path,
    cache: Path,
    threads: int,
    sharing: int = 1,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Training:
    """Train one architecture with one seed in a worker process; returns at once where that is done.

    Args:
        member: The training.
        run: Its run.
        work: The folder of an open work folder.
        cache: The folder of the pixel cache.
        threads: How many threads the worker process computes with.
        sharing: How many trainings share this machine.
        on_progress: Told how far the training is.

    Raises:
        TrainingError: The training ended without a model.
    """
    folder = run.folder(work) / member.name
    record = folder / "training.json"
    failure = folder / "failure.json"
    if not is_trained(folder):
        failure.unlink(missing_ok=True)
        record.unlink(missing_ok=True)  # of an earlier attempt whose model is not whole
        job = training_job(member, run, work, cache, sharing)
        gpus = gpus_of(member, run, sharing)
        worker.run_job(job, folder / "training.log", threads, on_progress, gpus)
    failure.unlink(missing_ok=True)
    return Training.read(record)


def compare_models(
    outcomes: Sequence[Training | Failure], folder: Path
) -> tuple[Selection, list[Path]]:
    """Write comparison.csv, its pictures and selection.json; the choice is made on validation alone.

    Args:
        outcomes: Every training of the run, or why it has no model.
        folder: The run's folder.

    Returns:
        The choice with its reason, and the paths of the pictures.

    Raises:
        TrainingError: No training came to its end.
    """
    trained = [outcome for outcome in outcomes if isinstance(outcome, Training)]
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    for failure in failed:
        failure.write(folder / failure.name / "failure.json")
    chosen = selection.select_model(trained, failed, folder)
    selection.write_comparison(trained, failed, folder)
    pictures = draw_comparison(folder, [training.name for training in trained])
    chosen.write(folder / "selection.json")
    return chosen, pictures
