"""Flow `retrain`: new data, a challenger, a comparison with the champion, a promotion or none; made for a schedule."""

from typing import Annotated, Any, Literal

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import Completed
from pydantic import Field

from cxr.core.settings import ReadingSettings, Runner, SplitSettings, TrainingSettings
from cxr.serving.retrain import Retraining
from cxr.storage.workspace import workspace
from flows import approval as approvals
from flows import names
from flows.explore import explore
from flows.export import export_model
from flows.preprocess import preprocess
from flows.train import train_models
from tasks import retrain as steps
from tasks.train import check_weights, readied


@flow(
    name="retrain", flow_run_name=names.of_training, description=__doc__, validate_parameters=True
)
def retrain(  # noqa: PLR0913, PLR0917 - each is a field of the form in the UI
    data: str,
    out: str,
    reading: ReadingSettings | None = None,
    splits: SplitSettings | None = None,
    training: TrainingSettings | None = None,
    registry: str | None = None,
    approval: Literal["none", "required"] = "none",
    approval_minutes: Annotated[float, Field(gt=0)] = 24 * 60,
    policy: Literal["refuse", "wait"] = "refuse",
    runner: Runner = "threads",
) -> Any:
    """Return what was found and done; end as "Unchanged" where data, settings, weights and code are those of last time.

    Args:
        data: Folder or s3://bucket/prefix with the images.
        out: The work folder, a path or s3://bucket/prefix.
        reading: Which folder is which split and class, which files are left out, and what counts as a film.
        splits: Who a patient is, how validation is carved, what becomes of leakage.
        training: How each architecture is trained.
        registry: Where versions and champion are; OUT/registry where not given.
        approval: Whether a person must agree to a promotion, in a form on this run's page.
        approval_minutes: How long to wait for that person; then the champion stays.
        policy: What becomes of a second run in one work folder.
        runner: Where tasks run: threads, processes, or the address of a Dask scheduler.
    """
    settings, place = training or TrainingSettings(), registry or f"{out.rstrip('/')}/registry"
    opened = workspace.open_workspace_when_free if policy == "wait" else workspace.open_workspace
    if approval == "required":
        approvals.require_server()
    with opened(out) as work:
        check_weights(settings)
        preprocess(data, out, reading, splits, runner, settings.pixels())
        run, before = steps.look_for_news(work, settings, place)
        if before:
            return Completed(name="Unchanged", message=steps.show_unchanged(before, place))
        with readied(work, settings, runner):
            explore(out, settings)
            train_models(out, settings, runner)
            export_model(out)
        who = f"flow run {flow_run.name} ({flow_run.id})"
        found = steps.challenge_champion(steps.register(run, work, place, who), run, work, place)
        workspace.push(
            work
        )  # before the promotion: what the champion comes from is there to be looked at
        done = steps.decide(found, run, data, place, who, approval == "required")
    # Whoever waits for a person holds nobody up.
    if done.outcome == "awaiting approval":
        done = _asked(done, approval_minutes, place)
    steps.show_retraining(done)
    return done


def _asked(waiting: Retraining, minutes: float, place: str) -> Retraining:
    answer = approvals.ask(steps.page(waiting), minutes)
    return steps.settle(waiting, answer.approve, answer.name, answer.reason, place)
