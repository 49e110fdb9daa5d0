"""Flow `export_model`: the chosen model tested once on the hold-out set, exported whole, reported."""

from prefect import flow

from cxr import workspace
from cxr.records import Export
from flows import names
from tasks import exporting, training


@flow(name="export_model", flow_run_name=names.of_data, description=__doc__)
def export_model(out: str, pickle: bool = False) -> Export:
    """Export the newest run in OUT that has a selection.

    Args:
        out: The work folder, a path or s3://bucket/prefix.
        pickle: Write model.pkl too, which nobody should load who does not trust where it came from.
    """
    with workspace.opened(out) as work:
        run = exporting.find_run(work)
        chosen = exporting.stage_model(run, work)
        cache = training.cache_pixels(work, run.settings)
        evaluated = exporting.evaluate(chosen, run, work, cache)
        return exporting.write_export(chosen, evaluated, run, work, pickle)
