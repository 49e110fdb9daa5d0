"""Flow `export`: test the chosen model once on the test set, then export it with card and report."""

from prefect import flow

from cxr.core.settings import ExportFormat
from cxr.results.exporting import Export
from cxr.serving.formats import conversion
from cxr.stages import export_steps
from cxr.storage.workspace import workspace
from flows import names
from tasks import export as export_tasks
from tasks import tracking
from tasks import train as train_tasks


@flow(name="export", flow_run_name=names.of_data, description=__doc__)
def export(
    out: str,
    pickle: bool = False,
    formats: tuple[ExportFormat, ...] = (),
) -> Export:
    """Export the model chosen last in OUT.

    Args:
        out: The work folder, a path or s3://bucket/prefix.
        pickle: Also write model.pkl. Whoever loads a pickle runs the code in it: load none from a
            source that you do not trust.
        formats: Also write the model for other runtimes: onnx, litert, savedmodel. Each file has to
            decide as the model does on all test images, or the run fails after the export.
    """
    conversion.require_converters(formats)
    with workspace.open_workspace(out) as work:
        run = export_tasks.find_run(work)
        training = export_tasks.stage_model(run, work)
        cache = train_tasks.cache_pixels(work, run.settings)
        evaluation = export_tasks.evaluate(training, run, work, cache)
        export_tasks.write_formats(training, run, work, cache, formats)
        exported = export_tasks.write_export(training, evaluation, run, work, pickle)
        tracking.track_run(work, run.id)
        export_steps.require_formats(run, work, formats)
        return exported


# The deployment export-model of version 0.1, kept for one version.
export_model = export.with_options(name="export_model")
