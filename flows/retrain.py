"""Flow `retrain`: new data, a challenger, a comparison with the champion, a promotion or none; made for a schedule."""

from typing import Annotated, Any, Literal

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import Completed
from pydantic import Field

from cxr import exclusive
from cxr.retraining import Retraining
from cxr.settings import SplitSettings, TrainingSettings
from cxr.storage import local_folder
from flows import approval as approvals
from flows.explore import explore
from flows.export_model import export_model
from flows.preprocess import _run_name, preprocess
from flows.train_models import train_models
from tasks import retraining as steps
from tasks.training import check_weights

Approval = Annotated[Literal["none", "required"], Field(description="Whether a person must agree to a promotion.")]
Minutes = Annotated[float, Field(gt=0, description="How long to wait for that person; then the champion stays.")]
Policy = Annotated[Literal["refuse", "wait"], Field(description="What becomes of a second retraining at one registry.")]


@flow(name="retrain", flow_run_name=_run_name, description=__doc__, validate_parameters=True)
def retrain(
    data: str,
    out: str,
    splits: SplitSettings | None = None,
    training: TrainingSettings | None = None,
    registry: str | None = None,
    approval: Approval = "none",
    approval_minutes: Minutes = 24 * 60,
    policy: Policy = "refuse",
) -> Any:
    """Return what was found and done; end as "Unchanged" where data, settings, weights and code are those of last time.

    REGISTRY is OUT/registry where it is not given.
    """
    work, settings, place = local_folder(out).absolute(), training or TrainingSettings(), registry or f"{out}/registry"
    if approval == "required":
        approvals.require_server()
    with exclusive.alone(place, "retrain", policy == "wait") as still_alone:
        check_weights(settings)
        preprocess(data, out, splits)
        run, before = steps.look_for_news(work, settings, place)
        if before:
            return Completed(name="Unchanged", message=steps.show_unchanged(before, place))
        explore(out, settings)
        train_models(out, settings)
        export_model(out)
        who = f"flow run {flow_run.name} ({flow_run.id})"
        found = steps.challenge_champion(steps.register(run, work, place, who), run, work, place)
        still_alone()
        done = steps.decide(found, run, data, place, who, approval == "required")
    # Whoever waits for a person holds nobody up.
    if done.outcome == "awaiting approval":
        done = _asked(done, approval_minutes, place)
    steps.show_retraining(done)
    return done


def _asked(waiting: Retraining, minutes: float, place: str) -> Retraining:
    answer = approvals.ask(steps.page(waiting), minutes)
    return steps.settle(waiting, answer.approve, answer.name, answer.reason, place)
