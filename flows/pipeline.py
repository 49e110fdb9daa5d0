"""Flow `pipeline`: preprocess, explore, train, export; from a place with images to a tested model."""

from prefect import flow

from cxr.core.settings import (
    ExportFormat,
    ReadingSettings,
    Runner,
    SplitSettings,
    TrainingSettings,
)
from cxr.results.exporting import Export
from cxr.serving.formats import conversion
from cxr.storage.workspace import workspace
from flows import names
from flows.explore import explore
from flows.export import export
from flows.preprocess import preprocess
from flows.train import train
from tasks import summary as summary_tasks
from tasks import train as train_tasks


@flow(name="pipeline", flow_run_name=names.of_training, description=__doc__)
def pipeline(  # noqa: PLR0913, PLR0917 - each is a field of the form in the UI
    data: str,
    out: str,
    reading: ReadingSettings | None = None,
    splits: SplitSettings | None = None,
    training: TrainingSettings | None = None,
    pickle: bool = False,
    runner: Runner = "threads",
    key_map: str | None = None,
    formats: tuple[ExportFormat, ...] = (),
) -> Export:
    """Run the whole pipeline; started again with the same parameters, it resumes.

    Args:
        data: Folder or s3://bucket/prefix with the images: train/NORMAL, train/PNEUMONIA and so on,
            or a folder above it.
        out: The work folder, a path or s3://bucket/prefix; all outputs are in it.
        reading: Which folder is which split and class, which files are left out, and what counts
            as a film.
        splits: Who a patient is, how validation is carved, what is done about data leakage.
        training: How each architecture is trained.
        pickle: Also write model.pkl. Whoever loads a pickle runs the code in it: load none from a
            source that you do not trust.
        runner: Where tasks run side by side: threads, processes, or a Dask scheduler's address.
        key_map: A file on the worker, outside the work folder, that gets the real names behind
            those of DICOM files (columns image and key); none is written if not given.
        formats: Also write the model for other runtimes: onnx, litert, savedmodel. Each file has to
            decide as the model does on all test images, or the run fails after the export.
    """
    conversion.require_converters(formats)
    settings = training or TrainingSettings()
    train_tasks.check_weights(settings)
    with workspace.open_workspace(out) as work:
        preprocess(data, out, reading, splits, runner, settings.pixels(), key_map)
        with train_tasks.prestarted_workers(work, settings, runner):
            explore(out, settings)
            train(out, settings, runner)
            exported = export(out, pickle, formats)
        summary_tasks.show_summary(work)
        return exported
