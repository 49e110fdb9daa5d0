"""Flow `pipeline`: the four flows in their order, from a place with images to a tested, exported model."""

from prefect import flow

from cxr import workspace
from cxr.records import Export
from cxr.settings import Runner, SplitSettings, TrainingSettings
from flows.explore import explore
from flows.export_model import export_model
from flows.preprocess import _run_name, preprocess
from flows.train_models import train_models
from tasks.training import check_weights


@flow(name="pipeline", flow_run_name=_run_name, description=__doc__)
def pipeline(
    data: str,
    out: str,
    splits: SplitSettings | None = None,
    training: TrainingSettings | None = None,
    pickle: bool = False,
    runner: Runner = "threads",
) -> Export:
    """Run the whole pipeline; started again with the same parameters, it goes on where it was."""
    check_weights(training or TrainingSettings())
    with workspace.opened(out):
        preprocess(data, out, splits, runner)
        explore(out, training)
        train_models(out, training, runner)
        return export_model(out, pickle)
