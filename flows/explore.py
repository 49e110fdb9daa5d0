"""Flow `explore`: what the data looks like, what in it is no disease, what shifts; and the class weights."""

from prefect import flow

from cxr import workspace
from cxr.exploration import Exploration
from cxr.settings import TrainingSettings
from flows import names
from tasks import exploring
from tasks.training import cache_pixels


@flow(name="explore", flow_run_name=names.of_data, description=__doc__)
def explore(out: str, training: TrainingSettings | None = None) -> Exploration:
    """Draw the exploration of the preprocessed data in OUT and show it in the UI.

    Args:
        out: The work folder that `preprocess` wrote, a path or s3://bucket/prefix.
        training: The settings of the training to come: size and encoding of the images.
    """
    settings = training or TrainingSettings()
    with workspace.opened(out) as work:
        cache = cache_pixels(work, settings)
        found = exploring.explore_data(work, settings, cache)
        exploring.show_exploration(found, work)
    return found
