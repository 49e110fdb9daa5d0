"""Flow `train_models`: every architecture trained in its own process, compared and one chosen on validation."""

from pathlib import Path

from prefect import flow, unmapped
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.utilities.annotations import quote

from cxr import workspace
from cxr.architectures import ARCHITECTURES
from cxr.records import Failure, Selection, Training
from cxr.runs import Run
from cxr.settings import TrainingSettings
from flows.preprocess import _run_name
from tasks import training as steps


@flow(name="train_each", flow_run_name="train each architecture")
def train_each(run: Run, work: Path, cache: Path) -> list[Training | Failure]:
    """Train every architecture with every seed, the longest first; a failed one does not take the others along."""
    members = sorted(run.members(), key=lambda member: -ARCHITECTURES[member.architecture].relative_cost)
    futures = steps.train_architecture.map(members, run=unmapped(run), work=unmapped(work), cache=unmapped(cache))
    return [steps.outcome(member, future) for member, future in zip(members, futures, strict=True)]


@flow(name="train_models", flow_run_name=_run_name, description=__doc__)
def train_models(out: str, training: TrainingSettings | None = None) -> Selection:
    """Train on what `preprocess` and `explore` left in OUT, compare, choose.

    Args:
        out: The work folder, a path or s3://bucket/prefix.
        training: How each architecture is trained.
    """
    settings = training or TrainingSettings()
    at_a_time = ThreadPoolTaskRunner(max_workers=settings.trainings_at_a_time())
    with workspace.opened(out) as work:
        run = steps.start_run(work, settings)
        cache = steps.cache_pixels(work, settings)
        outcomes = train_each.with_options(task_runner=at_a_time)(run, work, cache)
        # Quoted: the UI shows an empty page for a task that it knows to have taken a flow's result.
        return steps.compare_models(quote(outcomes), run.folder(work))
