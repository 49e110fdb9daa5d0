"""Flow `explore`: pictures of the data, non-clinical baselines, distribution shift, class weights."""

from prefect import flow

from cxr.core.settings import TrainingSettings
from cxr.exploration.explore import Exploration
from cxr.storage.workspace import workspace
from flows import names
from tasks import explore as explore_tasks
from tasks import train as train_tasks


@flow(name="explore", flow_run_name=names.of_data, description=__doc__)
def explore(out: str, training: TrainingSettings | None = None) -> Exploration:
    """Explore the preprocessed data in OUT and show the result in the UI.

    Args:
        out: The work folder that `preprocess` wrote, a path or s3://bucket/prefix.
        training: The settings of the training to come: size and encoding of the images.
    """
    settings = training or TrainingSettings()
    with workspace.open_workspace(out) as work:
        cache = train_tasks.cache_pixels(work, settings)
        exploration = explore_tasks.explore_data(work, settings, cache)
        explore_tasks.show_exploration(exploration, work)
    return exploration
