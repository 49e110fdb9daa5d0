"""Test once, export, report: the tasks of the flow `export_model`."""

import logging
from pathlib import Path

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from cxr import child, curves, evaluation, export, report, runs, workspace
from cxr.attention import Attention
from cxr.evaluation import EvaluationJob
from cxr.records import Evaluation, Export, Selection, Training
from cxr.runs import Run
from cxr.settings import cores
from tasks import pictures, progress

TEST = "test and Grad-CAM"
logger = logging.getLogger("cxr.export")


@task(name="find run", task_run_name="find run", cache_policy=NO_CACHE)
def find_run(work: Path) -> Run:
    """Return the run whose selection was written last."""
    return runs.of_these_data(work, runs.latest(work))


@task(name="stage model", task_run_name="stage model", cache_policy=NO_CACHE)
def stage_model(run: Run, work: Path) -> Training:
    """Copy the chosen model, whole and verified, into export/."""
    folder = run.folder(work)
    training = Training.read(
        folder / Selection.read(folder / "selection.json").name / "training.json"
    )
    export.stage_model(folder, training)
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
    if not (evaluation.evaluated(folder, training) and evaluation.attended(folder, training)):
        images = sum(runs.ingest(work).splits["test"].values())
        job = EvaluationJob(
            run=folder,
            training=training,
            manifest=work / "clean_metadata.csv",
            pixels=cache,
        )
        log = folder / "evaluation.log"
        with progress.tracking(TEST, images, "images"):
            child.run(job, log, cores(), lambda told: progress.advance(TEST, to=told.done))
    return Evaluation.read(folder / "evaluation.json")


@task(name="write export", task_run_name="write export", cache_policy=NO_CACHE)
def write_export(
    training: Training, evaluated: Evaluation, run: Run, work: Path, pickle: bool
) -> Export:
    """Write the model card, the report and the checksums; a pickle only where it was asked for."""
    folder = run.folder(work)
    export.keep_data(work, folder)
    export.write_card(folder, run.settings, training, Selection.read(folder / "selection.json"))
    figures = [
        *curves.draw_evaluation(folder),
        folder / Attention.read(folder / "attention.json").figure,
    ]
    if pickle:
        logger.warning(export.PICKLE_WARNING)
        child.run(export.PickleJob(export=folder / "export"), folder / "pickle.log", threads=1)
    page = report.write(folder)
    digest = export.write_checksums(folder / "export")
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
        model=workspace.address(folder / "export" / "model.keras"),
        card=workspace.address(folder / "export" / "MODEL_CARD.md"),
        report=workspace.address(page),
        sha256=digest,
    ).write(folder / "export.json")
