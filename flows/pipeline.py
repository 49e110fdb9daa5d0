"""Flow `pipeline`: the four flows in their order, from a place with images to a tested, exported model."""

from prefect import flow

from cxr.core.settings import ReadingSettings, Runner, SplitSettings, TrainingSettings
from cxr.results.exporting import Export
from cxr.storage.workspace import workspace
from flows import names
from flows.explore import explore
from flows.export import export_model
from flows.preprocess import preprocess
from flows.train import train_models
from tasks.summarise import show_summary
from tasks.train import check_weights, readied


@flow(name="pipeline", flow_run_name=names.of_training, description=__doc__)
def pipeline(
    data: str,
    out: str,
    reading: ReadingSettings | None = None,
    splits: SplitSettings | None = None,
    training: TrainingSettings | None = None,
    pickle: bool = False,
    runner: Runner = "threads",
) -> Export:
    """Run the whole pipeline; started again with the same parameters, it goes on where it was.

    Args:
        data: Folder or s3://bucket/prefix with the images: train/NORMAL, train/PNEUMONIA and so on, or a folder above it.
        out: The work folder, a path or s3://bucket/prefix; everything that is made lies in it.
        reading: Which folder is which split and class, which files are left out, and what counts as a film.
        splits: Who a patient is, how validation is carved, what becomes of leakage.
        training: How each architecture is trained.
        pickle: Write model.pkl too, which nobody should load who does not trust where it came from.
        runner: Where tasks run side by side: threads, processes, or a Dask scheduler's address.
    """
    settings = training or TrainingSettings()
    check_weights(settings)
    with workspace.open_workspace(out) as work:
        preprocess(data, out, reading, splits, runner, settings.pixels())
        with readied(work, settings, runner):
            explore(out, settings)
            train_models(out, settings, runner)
            exported = export_model(out, pickle)
        show_summary(work)
        return exported
