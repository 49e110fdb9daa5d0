"""The steps of averaging trained networks, in an open work folder."""

from collections.abc import Callable, Sequence
from pathlib import Path

from cxr.core.errors import TrainingError
from cxr.core.parallel import usable_cores
from cxr.models import runs
from cxr.models.compute import worker
from cxr.models.compute.worker import Progress
from cxr.models.runs import Run
from cxr.models.selection.members import Plan, plan_ensembles
from cxr.models.training.averaging import EnsembleJob
from cxr.models.training.records import Failure, Training
from cxr.stages import training_steps


def val_images(work: Path) -> int:
    """Return how many validation images an ensemble scores."""
    return sum(runs.read_ingest(work).splits["val"].values())


def average_models(
    outcomes: Sequence[Training | Failure],
    run: Run,
    work: Path,
    cache: Path,
    on_progress: Callable[[str, Progress], None] = lambda *_: None,
) -> list[Training | Failure]:
    """Make the ensembles that a run asks for, one after the other; those that are there stay.

    Args:
        outcomes: Every training of the run, or why it has no model.
        run: The run.
        work: The folder of an open work folder.
        cache: The folder of the pixel cache.
        on_progress: Told the name of an ensemble and how many validation images it has scored.

    Returns:
        Each ensemble, or why it could not be made.
    """
    trained = [outcome for outcome in outcomes if isinstance(outcome, Training)]
    made: list[Training | Failure] = []
    for plan in plan_ensembles(run.settings, trained):
        try:
            made.append(_average(plan, run, work, cache, on_progress))
        except TrainingError as error:
            failure = Failure(name=plan.name, architecture=plan.architecture, error=str(error))
            made.append(failure)
    return made


def _average(
    plan: Plan,
    run: Run,
    work: Path,
    cache: Path,
    on_progress: Callable[[str, Progress], None],
) -> Training:
    """Make an ensemble in a worker process, unless it is there, of these very networks.

    Raises:
        TrainingError: It could not be made.
    """
    if len(plan.sources) < 2:
        raise TrainingError(
            f"expected at least 2 networks to average, found {len(plan.sources)} that was trained: "
            "look at why the others failed, and run again"
        )
    folder = run.folder(work) / plan.name
    record = folder / "training.json"
    if not _is_averaged(plan, run.folder(work)):
        record.unlink(missing_ok=True)
        job = EnsembleJob(
            name=plan.name,
            architecture=plan.architecture,
            settings=run.settings.model_copy(update={"seed": plan.seed}),
            folder=folder,
            weights=None,
            weights_sha256="",
            manifest=work / "clean_metadata.csv",
            pixels=cache,
            class_weights=training_steps.label_weights(work),
            sources=plan.sources,
        )
        log = folder / "training.log"
        worker.run_job(job, log, usable_cores(), lambda told: on_progress(plan.name, told))
    (folder / "failure.json").unlink(missing_ok=True)
    return Training.read(record)


def _is_averaged(plan: Plan, run: Path) -> bool:
    """Return whether an ensemble is whole, and of the networks that its sources have now."""
    if not training_steps.is_trained(run / plan.name):
        return False
    members = Training.read(run / plan.name / "training.json").members
    if [(member.training, member.epoch) for member in members] != [
        (source.training, source.epoch) for source in plan.sources
    ]:
        return False
    return all(
        Training.read(run / member.training / "training.json").model_sha256 == member.model_sha256
        for member in members
    )
