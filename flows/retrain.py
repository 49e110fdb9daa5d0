"""Flow `retrain`: train a challenger where something changed, compare it, promote it or keep the champion.

It is made for a schedule.
"""

from typing import Annotated, Any, Literal

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import Completed
from pydantic import Field

from cxr.core.settings import (
    ExportFormat,
    ReadingSettings,
    Runner,
    SplitSettings,
    TrainingSettings,
)
from cxr.serving.formats import conversion
from cxr.serving.retraining.retrain import Retraining
from cxr.storage.workspace import workspace
from flows import approval as approvals
from flows import names
from flows.explore import explore
from flows.export import export
from flows.preprocess import preprocess
from flows.train import train
from tasks import events, tracking
from tasks import retrain as retrain_tasks
from tasks import train as train_tasks
from tasks.pages import retraining as retraining_page


@flow(
    name="retrain",
    flow_run_name=names.of_training,
    description=__doc__,
    validate_parameters=True,
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
    key_map: str | None = None,
    formats: tuple[ExportFormat, ...] = (),
) -> Any:
    """Retrain; ends as "Unchanged" if data, settings, weights and code are those of the last time.

    Args:
        data: Folder or s3://bucket/prefix with the images.
        out: The work folder, a path or s3://bucket/prefix.
        reading: Which folder is which split and class, which files are left out, and what counts
            as a film.
        splits: Who a patient is, how validation is carved, what is done about data leakage.
        training: How each architecture is trained.
        registry: Where versions and champion are; OUT/registry where not given.
        approval: Whether a person must agree to a promotion, in a form on this run's page.
        approval_minutes: How long to wait for that person; then the champion stays.
        policy: What a second run in the same work folder does: it is refused, or it waits.
        runner: Where tasks run side by side: threads, processes, or a Dask scheduler's address.
        key_map: A file on the worker, outside the work folder, that gets the real names behind
            those of DICOM files (columns image and key); none is written if not given.
        formats: Also write the challenger for other runtimes: onnx, litert, savedmodel. One that does
            not decide there as the model does is no challenger: the run fails. Where nothing
            changed, nothing is exported.
    """
    conversion.require_converters(formats)
    settings = training or TrainingSettings()
    place = registry or f"{out.rstrip('/')}/registry"
    waits = policy == "wait"
    open_work = workspace.open_workspace_when_free if waits else workspace.open_workspace
    needs_approval = approval == "required"
    if needs_approval:
        approvals.require_server()
    with open_work(out) as work:
        train_tasks.check_weights(settings)
        preprocess(data, out, reading, splits, runner, settings.pixels(), key_map)
        run, last = retrain_tasks.look_for_changes(work, settings, place)
        if last:
            sentence = retrain_tasks.show_unchanged(last, place, formats)
            tracking.track_registry(place)
            return Completed(name="Unchanged", message=sentence)
        with train_tasks.prestarted_workers(work, settings, runner):
            explore(out, settings)
            train(out, settings, runner)
            export(out, formats=formats)
        who = f"flow run {flow_run.name} ({flow_run.id})"
        version = retrain_tasks.register(run, work, place, who)
        verdict = retrain_tasks.challenge_champion(version, run, work, place)
        # Before the promotion, so that what a champion was made from can always be looked at.
        workspace.push(work)
        retraining = retrain_tasks.decide(verdict, run, data, place, who, needs_approval)
        events.challenger_judged(place, retraining)
    # Outside the work folder: other runs may use it while this one waits for a person.
    tracking.track_registry(place)
    if retraining.outcome == "awaiting approval":
        retraining = _ask_for_approval(retraining, approval_minutes, place)
        tracking.track_registry(place)
    retrain_tasks.show_retraining(retraining)
    if retraining.outcome == "promoted":
        events.champion_changed(place, retraining)
    return retraining


def _ask_for_approval(
    waiting: Retraining,
    minutes: float,
    place: str,
) -> Retraining:
    """Pause until a person answers or the time is over, then promote or keep."""
    answer = approvals.ask(retraining_page.page(waiting), minutes)
    return retrain_tasks.record_answer(waiting, answer.approve, answer.name, answer.reason, place)
