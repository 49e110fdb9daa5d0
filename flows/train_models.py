"""Flow `train_models`: every architecture trained in its own process, compared and one chosen on validation."""

from prefect import flow

from cxr import workspace
from cxr.records import Selection
from cxr.settings import Runner, TrainingSettings
from flows.preprocess import _run_name
from tasks import runners
from tasks import training as steps


@flow(name="train_models", flow_run_name=_run_name, description=__doc__)
def train_models(out: str, training: TrainingSettings | None = None, runner: Runner = "threads") -> Selection:
    """Train on what `preprocess` and `explore` left in OUT, compare, choose."""
    settings = training or TrainingSettings()
    with workspace.opened(out) as work:
        run = steps.start_run(work, settings)
        cache = steps.cache_pixels(work, settings)
        with runners.opened(runner, settings.trainings_at_a_time(), work, trainings=True) as pool:
            features = steps.extract_each(run, work, cache, pool) if runners.is_dask(runner) else {}
            outcomes = steps.train_each(run, work, cache, pool, features)
        return steps.compare_models(outcomes, run.folder(work))
