"""Flow `export_model`: the chosen model tested once on the hold-out set, exported whole, reported."""

from prefect import flow

from cxr.results.exporting import Export
from cxr.storage.workspace import workspace
from flows import names
from tasks import export as export_tasks
from tasks import train as train_tasks


@flow(name="export_model", flow_run_name=names.of_data, description=__doc__)
def export_model(out: str, pickle: bool = False) -> Export:
    """Export the newest run in OUT that has a selection.

    Args:
        out: The work folder, a path or s3://bucket/prefix.
        pickle: Write model.pkl too, which nobody should load who does not trust where it came from.
    """
    with workspace.open_workspace(out) as work:
        run = export_tasks.find_run(work)
        chosen = export_tasks.stage_model(run, work)
        cache = train_tasks.cache_pixels(work, run.settings)
        evaluated = export_tasks.evaluate(chosen, run, work, cache)
        return export_tasks.write_export(chosen, evaluated, run, work, pickle)
