"""The five calls behind `import cxr`: preprocess, explore, train, export and predict.

Each opens the work folder (a path or `s3://bucket/prefix`), does its stage in this process and returns a record of
what came out.
"""

from collections.abc import Sequence
from pathlib import Path

from cxr.core.errors import DataError
from cxr.core.parallel import usable_cores
from cxr.core.settings import (
    DicomOutputSettings,
    ExportFormat,
    FileSettings,
    PixelSettings,
    ReadingSettings,
    ScopeSettings,
    SplitSettings,
    TrainingSettings,
)
from cxr.data.labels.corrections.answers import read_answers
from cxr.data.manifest import publish
from cxr.data.manifest.records import Ingest
from cxr.data.patients import test_rule
from cxr.exploration.explore import Exploration
from cxr.models import runs
from cxr.models.compute.worker import Progress
from cxr.models.runs import Member, Run
from cxr.models.training.records import Failure, Training
from cxr.results.exporting import Export
from cxr.serving import prediction
from cxr.serving.formats import conversion
from cxr.serving.prediction import Predictions
from cxr.stages import data_steps, ensemble_steps, export_steps, training_steps
from cxr.stages.data_steps import OnProgress, no_progress
from cxr.storage.workspace import workspace


def preprocess(
    data: str | Path,
    work: str | Path,
    reading: ReadingSettings | None = None,
    splits: SplitSettings | None = None,
    pixels: PixelSettings | None = None,
    on_progress: OnProgress = no_progress,
    key_map: str | Path | None = None,
) -> Ingest:
    """Turn a place with image files into clean_metadata.csv, rejects.csv and ingest.json.

    Args:
        data: A folder or s3://bucket/prefix with train/NORMAL, train/PNEUMONIA and so on.
        work: The work folder, a path or s3://bucket/prefix.
        reading: Which folder is which split and class, and which files are used.
        splits: Who a patient is, and how validation and test are carved.
        pixels: Size and encoding of the pixels kept of each image, as the training wants them.
        on_progress: Told how many new images are inspected.
        key_map: A file outside the work folder that gets the real names behind those of DICOM
            files, columns image and key.

    Returns:
        The counts of files found, kept and rejected by reason, and of images by split and class.

    Raises:
        DataError: There is no data set, or something has to be asked first; the message names the
            setting that answers.
        LeakageError: A patient or a near-duplicate is in two splits and cannot be taken out.
    """
    reading = reading or ReadingSettings()
    splits = splits or SplitSettings()
    # What is wrong with these is better known before images are read.
    test_rule.required_columns(splits.test_by)
    read_answers(splits.label_corrections)
    with workspace.open_workspace(str(work)) as folder:
        scan = data_steps.scan_images(
            str(data),
            folder,
            reading,
            splits.patient_key,
            pixels,
            key_map=str(key_map) if key_map else None,
        )
        data_steps.inspect_all(scan, folder, on_progress)
        comparison = publish.find_near_duplicates(scan, folder, splits)
        return publish.publish_manifest(scan, comparison, folder, splits)


def explore(
    work: str | Path,
    settings: TrainingSettings | None = None,
    on_progress: OnProgress = no_progress,
) -> Exploration:
    """Draw the pictures of the data, audit its shortcuts and test it for distribution shift.

    Args:
        work: A work folder that `preprocess` wrote.
        settings: The settings of the training to come: image size, encoding and seed matter here.
        on_progress: Told which step begins.

    Returns:
        The names of the pictures below eda/, the counts and the class weights.

    Raises:
        DataError: There are no preprocessed data, or they were changed since.
    """
    settings = settings or TrainingSettings()
    with workspace.open_workspace(str(work)) as folder:
        cache = data_steps.cache_pixels(folder, settings, on_progress)
        return data_steps.explore_data(folder, settings, cache, on_progress)


def train(
    work: str | Path,
    architecture: str,
    settings: TrainingSettings | None = None,
    seed: int | None = None,
    on_progress: OnProgress = no_progress,
) -> Training:
    """Train one architecture with one seed, in a worker process; goes on where it was killed.

    Args:
        work: A work folder that `explore` has seen.
        architecture: One of `settings.arch`.
        settings: How it is trained. Trainings with the same settings are of one run, in which they
            are compared: give all architectures of a comparison in `settings.arch`.
        seed: One of the run's seeds; the first where not given.
        on_progress: Told how many features are computed and how many epochs are done.

    Returns:
        The metrics on validation, the operating point and the calibration of the trained model.

    Raises:
        DataError: The architecture or the seed is not of the run, or nothing was explored.
        WeightsError: The pretrained weights could not be loaded.
        TrainingError: The training ended without a model.
    """
    settings = settings or TrainingSettings()
    with workspace.open_workspace(str(work)) as folder:
        run = training_steps.start_run(folder, settings)
        member = _member(run, architecture, settings.seed if seed is None else seed)
        cache = data_steps.cache_pixels(folder, settings, on_progress)
        totals = training_steps.progress_totals(run, folder)

        def on_worker_progress(progress: Progress) -> None:
            total = totals.get(progress.step, progress.done)
            on_progress(f"{member.name}: {progress.step}", progress.done, total)

        return training_steps.train_member(
            member, run, folder, cache, threads=usable_cores(), on_progress=on_worker_progress
        )


def export(
    work: str | Path,
    run: str | None = None,
    pickle: bool = False,
    on_progress: OnProgress = no_progress,
    formats: Sequence[ExportFormat] = (),
) -> Export:
    """Choose a model on validation, test it once, and write model, card, report and checksums.

    Where the settings of the run ask for an ensemble, it is made first, of the networks that were
    trained.

    Args:
        work: A work folder in which `train` has trained.
        run: The id of a run, which is the name of its folder; the run trained last where not given.
        pickle: Write model.pkl, too. Whoever loads a pickle runs the code in it.
        on_progress: Told how many validation images an ensemble has scored, and how many test
            images are scored.
        formats: Also write the model for other runtimes: onnx, litert (with float16 and int8, where
            they are shown to be as good) and savedmodel.

    Returns:
        Where the model, its card and the report are.

    Raises:
        DataError: There is no such run, no trained model in it, or the data changed since.
        ModelError: The exported model does not score as the trained one did, a format does not decide
            as the model does, or its converter is not installed.
    """
    conversion.require_converters(tuple(formats))
    with workspace.open_workspace(str(work)) as folder:
        chosen_run = runs.require_current_data(folder, _find_run(folder, run))
        cache = data_steps.cache_pixels(folder, chosen_run.settings, on_progress)
        outcomes = _outcomes(chosen_run, folder)
        outcomes += ensemble_steps.average_models(
            outcomes,
            chosen_run,
            folder,
            cache,
            lambda name, progress: on_progress(
                name, progress.done, ensemble_steps.val_images(folder)
            ),
        )
        training_steps.compare_models(outcomes, chosen_run.folder(folder))
        training = export_steps.stage_model(chosen_run, folder)
        images = export_steps.images_to_score(folder)
        export_steps.evaluate(
            training,
            chosen_run,
            folder,
            cache,
            lambda progress: on_progress("test", progress.done, images),
        )
        export_steps.write_formats(training, chosen_run, folder, cache, tuple(formats))
        written, _ = export_steps.write_export(training, chosen_run, folder, pickle)
        export_steps.require_formats(chosen_run, folder, tuple(formats))
        return written


def predict(
    model: str | Path,
    images: str | Path | Sequence[str | Path],
    out: str | Path,
    files: FileSettings | None = None,
    on_progress: OnProgress = no_progress,
    key_map: str | Path | None = None,
    dicom: DicomOutputSettings | None = None,
    scope: ScopeSettings | None = None,
) -> Predictions:
    """Score images with an exported model, and write predictions.csv.

    Args:
        model: An export folder, the model.keras in it, or a registry, which means its champion.
        images: An image, a folder or an s3:// prefix, or several of them.
        out: Where the table goes, a path or s3://bucket/name.csv.
        files: Which files are looked at, and what a picture must be to be scored.
        on_progress: Told how many images are done.
        key_map: A file outside every work folder that gets the real names behind those of DICOM
            files, columns image and key.
        dicom: What is kept and written of DICOM films: their UIDs, structured reports.
        scope: When it abstains, whose threshold is used, and where statistics are left.

    Returns:
        The counts of the table, which lists every image with its score or why it has none.

    Raises:
        DataError: There is nothing at `images`, or none of it could be scored.
        ModelError: There is no model, or it does not fit its card.
    """
    several = [images] if isinstance(images, str | Path) else images
    return prediction.predict(
        str(model),
        [str(address) for address in several],
        str(out),
        lambda done, total: on_progress("score images", done, total),
        files or FileSettings(),
        str(key_map) if key_map else None,
        dicom,
        scope,
    )


def _member(
    run: Run,
    architecture: str,
    seed: int,
) -> Member:
    """Return the training of a run with this architecture and seed."""
    for member in run.members():
        if (member.architecture, member.seed) == (architecture, seed):
            return member
    names = ", ".join(run.settings.arch)
    last = run.settings.seed + run.settings.seeds - 1
    raise DataError(
        f"expected an architecture of settings.arch ({names}) and a seed from {run.settings.seed} "
        f"to {last}, found {architecture} with seed {seed}: change the settings"
    )


def _find_run(work: Path, run_id: str | None) -> Run:
    """Return the run of this id, or the one in which a training came to its end last."""
    if run_id is not None:
        path = work / "runs" / run_id / "run.json"
        if not path.is_file():
            raise DataError(f"{work}: expected the run {run_id}, found none: look at {work}/runs")
        return Run.read(path)
    trainings = list(work.glob("runs/*/*/training.json"))
    if not trainings:
        raise DataError(f"{work}: expected a trained model, found none: train one first")
    newest = max(trainings, key=lambda path: path.stat().st_mtime_ns)
    return Run.read(newest.parent.parent / "run.json")


def _outcomes(run: Run, work: Path) -> list[Training | Failure]:
    """Return every training of a run, or why it has no model."""
    outcomes: list[Training | Failure] = []
    for member in run.members():
        folder = run.folder(work) / member.name
        if training_steps.is_trained(folder):
            outcomes.append(Training.read(folder / "training.json"))
        elif (folder / "failure.json").is_file():
            outcomes.append(Failure.read(folder / "failure.json"))
        else:
            outcomes.append(
                Failure(name=member.name, architecture=member.architecture, error="not trained")
            )
    return outcomes
