"""Test once, export, report: the tasks of the flow `export_model`."""

import logging
from pathlib import Path

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from cxr.core.parallel import usable_cores
from cxr.models import runs
from cxr.models.compute import worker
from cxr.models.runs import Run
from cxr.models.selection import Selection
from cxr.models.training.records import Training
from cxr.results import evaluation, exporting, plots, report
from cxr.results.evaluation import Evaluation, EvaluationJob
from cxr.results.exporting import Export
from cxr.results.gradcam.summary import Attention
from cxr.storage.workspace import workspace
from tasks import pictures, progress

TEST = "test and Grad-CAM"
logger = logging.getLogger("cxr.results.exporting")


@task(name="find run", task_run_name="find run", cache_policy=NO_CACHE)
def find_run(work: Path) -> Run:
    """Return the run whose selection was written last."""
    return runs.require_current_data(work, runs.latest_run(work))


@task(name="stage model", task_run_name="stage model", cache_policy=NO_CACHE)
def stage_model(run: Run, work: Path) -> Training:
    """Copy the chosen model, whole and verified, into export/."""
    folder = run.folder(work)
    training = Training.read(
        folder / Selection.read(folder / "selection.json").name / "training.json"
    )
    exporting.stage_model(folder, training)
    return training


@task(
    name="evaluate on test",
    task_run_name="evaluate {training.architecture} on test",
    cache_policy=NO_CACHE,
)
def evaluate(training: Training, run: Run, work: Path, cache: Path) -> Evaluation:
    """Score the test set once, in a fresh process that first proves the export equal to what was trained; Grad-CAM."""
    folder = run.folder(work)
    # A rerun that trains what failed before may choose another architecture: its test figures are its own.
    if not (evaluation.is_evaluated(folder, training) and evaluation.has_gradcam(folder, training)):
        images = sum(runs.read_ingest(work).splits["test"].values())
        job = EvaluationJob(
            run=folder,
            training=training,
            manifest=work / "clean_metadata.csv",
            pixels=cache,
        )
        log = folder / "evaluation.log"
        with progress.tracking(TEST, images, "images"):
            worker.run_job(
                job, log, usable_cores(), lambda told: progress.advance(TEST, to=told.done)
            )
    return Evaluation.read(folder / "evaluation.json")


@task(name="write export", task_run_name="write export", cache_policy=NO_CACHE)
def write_export(
    training: Training, evaluated: Evaluation, run: Run, work: Path, pickle: bool
) -> Export:
    """Write the model card, the report and the checksums; a pickle only where it was asked for."""
    folder = run.folder(work)
    exporting.copy_data_files(work, folder)
    exporting.write_card(folder, run.settings, training, Selection.read(folder / "selection.json"))
    figures = [
        *plots.draw_evaluation(folder),
        folder / Attention.read(folder / "attention.json").figure,
    ]
    if pickle:
        logger.warning(exporting.PICKLE_WARNING)
        worker.run_job(
            exporting.PickleJob(export=folder / "export"), folder / "pickle.log", threads=1
        )
    page = report.write_report(folder)
    digest = exporting.write_checksums(folder / "export")
    card = (folder / "export" / "MODEL_CARD.md").read_text()
    create_markdown_artifact(
        card, key="model-card", description=f"{training.architecture}, run {run.id}"
    )
    words = f"Test set: AUROC {evaluated.test['auroc']:.3f}, n = {evaluated.test['n']}"
    logger.info(words)
    create_markdown_artifact(
        "\n\n".join(map(pictures.markdown, figures)), key="evaluation", description=words
    )
    return Export(
        run=run.id,
        model=workspace.published_address(folder / "export" / "model.keras"),
        card=workspace.published_address(folder / "export" / "MODEL_CARD.md"),
        report=workspace.published_address(page),
        sha256=digest,
    ).write(folder / "export.json")
