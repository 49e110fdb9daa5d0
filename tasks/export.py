"""The tasks of the flow `export`: test the chosen model once, write card and report."""

import logging
from pathlib import Path

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from cxr.core.settings import ExportFormat
from cxr.models import runs
from cxr.models.compute.worker import Progress
from cxr.models.runs import Run
from cxr.models.training.records import Training
from cxr.results import exporting
from cxr.results.cards.rendering import without_front_matter
from cxr.results.evaluation import Evaluation, read_stress_test
from cxr.results.exporting import Export
from cxr.stages import export_steps
from tasks import progress
from tasks.pages import pictures

TEST = "test, Grad-CAM, stress"
logger = logging.getLogger("cxr.export")


@task(name="find run", task_run_name="find run", cache_policy=NO_CACHE)
def find_run(work: Path) -> Run:
    """Return the run whose selection was written last."""
    return runs.require_current_data(work, runs.latest_run(work))


@task(name="stage model", task_run_name="stage model", cache_policy=NO_CACHE)
def stage_model(run: Run, work: Path) -> Training:
    """Copy the chosen model, whole and verified, into export/."""
    return export_steps.stage_model(run, work)


@task(
    name="evaluate on test",
    task_run_name="evaluate {training.architecture} on test",
    cache_policy=NO_CACHE,
)
def evaluate(
    training: Training,
    run: Run,
    work: Path,
    cache: Path,
) -> Evaluation:
    """Score the test set once, in a worker process that first proves the exported model to be whole."""

    def on_progress(update: Progress) -> None:
        progress.advance(TEST, to=update.done)

    with progress.tracking(TEST, export_steps.images_to_score(work), "images"):
        return export_steps.evaluate(training, run, work, cache, on_progress)


@task(name="write formats", task_run_name="write formats", cache_policy=NO_CACHE)
def write_formats(
    training: Training,
    run: Run,
    work: Path,
    cache: Path,
    formats: tuple[ExportFormat, ...],
) -> None:
    """Write the model for other runtimes, each file proven in a fresh interpreter of its runtime."""
    export_steps.write_formats(training, run, work, cache, formats)


@task(name="write export", task_run_name="write export", cache_policy=NO_CACHE)
def write_export(
    training: Training,
    evaluation: Evaluation,
    run: Run,
    work: Path,
    pickle: bool,
) -> Export:
    """Write the model card, the report and the checksums; a pickle only if it was asked for."""
    if pickle:
        logger.warning(exporting.PICKLE_WARNING)
    export, figures = export_steps.write_export(training, run, work, pickle)
    card = run.folder(work) / "export" / "MODEL_CARD.md"
    create_markdown_artifact(
        without_front_matter(card.read_text(encoding="utf-8")),
        key="model-card",
        description=f"{training.architecture}, run {run.id}",
    )
    sentence = f"Test set: AUROC {evaluation.test['auroc']:.3f}, n = {evaluation.test['n']}"
    logger.info(sentence)
    blocks = [pictures.to_markdown(figure) for figure in figures]
    stress_test = read_stress_test(run.folder(work))
    if stress_test:
        blocks.insert(0, f"{stress_test.summary()}.")
        if stress_test.warning:
            logger.warning(stress_test.warning)
            blocks.insert(0, f"**{stress_test.warning}.**")
    create_markdown_artifact(
        "\n\n".join(blocks),
        key="evaluation",
        description=sentence,
    )
    return export
