"""Flow `train`: train every architecture in a process of its own, compare them, choose one."""

from prefect import flow
from prefect.utilities.annotations import quote

from cxr.core.settings import Runner, TrainingSettings
from cxr.models.selection import Selection
from cxr.storage.workspace import workspace
from flows import names
from tasks import runners, tracking
from tasks import train as train_tasks


@flow(name="train", flow_run_name=names.of_training, description=__doc__)
def train(
    out: str,
    training: TrainingSettings | None = None,
    runner: Runner = "threads",
) -> Selection:
    """Train on what `preprocess` and `explore` left in OUT, compare, choose on validation.

    Args:
        out: The work folder, a path or s3://bucket/prefix.
        training: How each architecture is trained.
        runner: Where tasks run side by side: threads, processes, or a Dask scheduler's address.
    """
    settings = training or TrainingSettings()
    with workspace.open_workspace(out) as work:
        run = train_tasks.start_run(work, settings)
        cache = train_tasks.cache_pixels(work, settings)
        with runners.opened(runner, settings.trainings_at_a_time(), work, trainings=True) as pool:
            features = {}
            if runners.is_dask(runner):
                features = train_tasks.extract_all(run, work, cache, pool)
            outcomes = train_tasks.train_all(run, work, cache, pool, features)
        # Quoted, because the UI shows an empty page for a task that it knows to have taken a flow's
        # result. Prefect removes the quote before the task sees it, which its types do not tell.
        if settings.ensemble != "none":
            outcomes += train_tasks.average_models(
                quote(outcomes),  # type: ignore[call-overload]
                run,
                work,
                cache,
            )
        chosen: Selection = train_tasks.compare_models(
            quote(outcomes),  # type: ignore[call-overload]
            run.folder(work),
        )
        tracking.track_run(work, run.id)
        return chosen


# The deployment train-models of version 0.1, kept for one version.
train_models = train.with_options(name="train_models")
