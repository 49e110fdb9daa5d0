"""The steps of the test and the export of the chosen model, in an open work folder."""

from collections.abc import Callable
from pathlib import Path

from cxr.core.parallel import usable_cores
from cxr.core.settings import SPLITS, ExportFormat
from cxr.models import runs
from cxr.models.compute import worker
from cxr.models.compute.worker import Progress
from cxr.models.runs import Run
from cxr.models.selection import Selection
from cxr.models.training.records import Training
from cxr.results import evaluation, exporting
from cxr.results.evaluation import Evaluation, EvaluationJob
from cxr.results.evaluation.abstention.measurement import write_abstention
from cxr.results.evaluation.abstention.referred_plot import PICTURE as REFERRED_PICTURE
from cxr.results.evaluation.formats.records import FormatTest
from cxr.results.evaluation.worlds_plot import STRESS_PICTURES
from cxr.results.exporting import Export
from cxr.results.gradcam.summary import Attention
from cxr.results.plots.pictures import draw_evaluation
from cxr.results.report.page import write_report
from cxr.serving.formats import conversion, publishing
from cxr.storage.workspace import workspace


def stage_model(run: Run, work: Path) -> Training:
    """Copy the chosen model, whole and verified, into export/; return its training."""
    folder = run.folder(work)
    name = Selection.read(folder / "selection.json").name
    training = Training.read(folder / name / "training.json")
    exporting.stage_model(folder, training)
    return training


def images_to_score(work: Path) -> int:
    """Return how many images are scored in all, an image once for each world and mask."""
    splits = runs.read_ingest(work).splits
    return evaluation.images_to_score({name: sum(splits[name].values()) for name in SPLITS})


def evaluate(
    training: Training,
    run: Run,
    work: Path,
    cache: Path,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Evaluation:
    """Score the test set once, in a worker process that first proves the exported model to be whole.

    Some of its images are then scored in the stress worlds and with parts of them hidden. Returns at once where this very model was evaluated before. A run in which another architecture
    is chosen later evaluates that one, too.

    Args:
        training: The chosen model's.
        run: Its run.
        work: The folder of an open work folder.
        cache: The folder of the pixel cache.
        on_progress: Told how many images are scored.
    """
    folder = run.folder(work)
    if not evaluation.is_complete(folder, training):
        job = EvaluationJob(
            run=folder, training=training, manifest=work / "clean_metadata.csv", pixels=cache
        )
        worker.run_job(job, folder / "evaluation.log", usable_cores(), on_progress)
    return Evaluation.read(folder / "evaluation.json")


def write_formats(
    training: Training,
    run: Run,
    work: Path,
    cache: Path,
    formats: tuple[ExportFormat, ...],
) -> FormatTest | None:
    """Write the model in other formats, each proven on all test images before it is published.

    Args:
        training: The chosen model's, which was evaluated.
        run: Its run.
        work: The folder of an open work folder.
        cache: The folder of the pixel cache.
        formats: What is asked for; formats that are there already stay.

    Returns:
        Each file with its proof, None where no other format was ever asked for.
    """
    conversion.require_converters(formats)
    return publishing.write_formats(run, training, work, cache, formats)


def write_export(
    training: Training,
    run: Run,
    work: Path,
    pickle: bool = False,
) -> tuple[Export, list[Path]]:
    """Write the model card, the report, the checksums and export.json.

    Args:
        training: The chosen model's.
        run: Its run.
        work: The folder of an open work folder.
        pickle: Write model.pkl, too.

    Returns:
        Where the outputs are, and the paths of the pictures of the evaluation.
    """
    folder = run.folder(work)
    exporting.copy_data_files(work, folder)
    chosen = Selection.read(folder / "selection.json")
    write_abstention(folder, training)
    exporting.write_card(folder, run.settings, training, chosen)
    attention = Attention.read(folder / "attention.json")
    pictures = [*draw_evaluation(folder), folder / attention.figure]
    drawn = (*STRESS_PICTURES, REFERRED_PICTURE)
    pictures += [folder / name for name in drawn if (folder / name).is_file()]
    if pickle:
        job = exporting.PickleJob(export=folder / "export")
        worker.run_job(job, folder / "pickle.log", threads=1)
    page = write_report(folder)
    digest = exporting.write_checksums(folder / "export")
    written = Export(
        run=run.id,
        model=workspace.published_address(folder / "export" / "model.keras"),
        card=workspace.published_address(folder / "export" / "MODEL_CARD.md"),
        report=workspace.published_address(page),
        sha256=digest,
    )
    return written.write(folder / "export.json"), pictures


def require_formats(run: Run, work: Path, formats: tuple[ExportFormat, ...]) -> None:
    """Raise an error where a format that was asked for is not published; call it when all is written.

    Args:
        run: The run.
        work: The folder of an open work folder.
        formats: What was asked for.

    Raises:
        ModelError: A file does not decide as the model does; the message says by how much.
    """
    publishing.require_published(run.folder(work), formats)
