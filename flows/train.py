"""Flow `train_models`: every architecture trained in its own process, compared and one chosen on validation."""

from prefect import flow
from prefect.utilities.annotations import quote

from cxr.core.settings import Runner, TrainingSettings
from cxr.models.selection import Selection
from cxr.storage.workspace import workspace
from flows import names
from tasks import runners
from tasks import train as steps


@flow(name="train_models", flow_run_name=names.of_training, description=__doc__)
def train_models(
    out: str, training: TrainingSettings | None = None, runner: Runner = "threads"
) -> Selection:
    """Train on what `preprocess` and `explore` left in OUT, compare, choose.

    Args:
        out: The work folder, a path or s3://bucket/prefix.
        training: How each architecture is trained.
        runner: Where tasks run side by side: threads, processes, or a Dask scheduler's address.
    """
    settings = training or TrainingSettings()
    with workspace.open_workspace(out) as work:
        run = steps.start_run(work, settings)
        cache = steps.cache_pixels(work, settings)
        with runners.opened(runner, settings.trainings_at_a_time(), work, trainings=True) as pool:
            features = steps.extract_each(run, work, cache, pool) if runners.is_dask(runner) else {}
            outcomes = steps.train_each(run, work, cache, pool, features)
        # Quoted: the UI shows an empty page for a task that it knows to have taken a flow's result. Prefect takes the
        # quote off before the task sees it, which its types do not tell.
        chosen: Selection = steps.compare_models(quote(outcomes), run.folder(work))  # type: ignore[call-overload]
        return chosen
