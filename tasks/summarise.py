"""The first page that a person opens of a whole run: what was chosen, how good it is, where everything is."""

from datetime import datetime
from pathlib import Path

from prefect import get_client, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterType,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.objects import Artifact
from prefect.runtime import flow_run

from cxr.core.formatting import format_metric
from cxr.models import runs
from cxr.models.selection import Selection
from cxr.results.evaluation import Evaluation
from cxr.results.exporting import Export

FIGURES = {"sensitivity": "Sensitivity (recall)", "specificity": "Specificity", "auroc": "AUROC"}


@task(name="show summary", task_run_name="show summary", cache_policy=NO_CACHE)
def show_summary(work: Path) -> None:
    """Put the choice, the test figures, links to the stages' pages and the addresses of the files on the run's own page."""
    folder = runs.latest_run(work).folder(work)
    exported = Export.read(folder / "export.json")
    chosen, tested = (
        Selection.read(folder / "selection.json"),
        Evaluation.read(folder / "evaluation.json"),
    )
    lines = [
        f"# {chosen.name}: {_counts(tested)}",
        "",
        "**Not a medical device.** Figures of one test set, at a threshold chosen on validation.",
        "",
        *_figures(tested),
        "",
        chosen.reason,
        "",
        "## Pages of this run",
        "",
        *_links(),
        "",
        "## Files",
        "",
        *(f"- {name}: `{getattr(exported, name)}`" for name in ("report", "card", "model")),
    ]
    words = f"{chosen.name}: {_counts(tested)}; run {exported.run}"
    create_markdown_artifact("\n".join(lines), key="summary", description=words)


def _counts(tested: Evaluation) -> str:
    positives = _count(tested, "positives")
    found = f"{positives - _count(tested, 'fn')} of {positives} pneumonia images found"
    return f"{found}, {_count(tested, 'fp')} false alarms among {_count(tested, 'n') - positives} normals"


def _count(tested: Evaluation, name: str) -> int:
    """Return a count of the test set; unlike a rate, a count can always be estimated."""
    count = tested.test[name]
    assert isinstance(count, int), f"{name} is {count!r}"
    return count


def _figures(tested: Evaluation) -> list[str]:
    rows = [f"| n = {tested.test['n']} | test | 95 % interval |", "|---|---|---|"]
    for name, words in FIGURES.items():
        ends = tested.intervals[name]
        interval = (
            f"{format_metric(ends.low)} to {format_metric(ends.high)}" if ends else "not estimable"
        )
        rows.append(f"| {words} | {format_metric(tested.test[name])} | {interval} |")
    return rows


def _made(artifact: Artifact) -> datetime:
    """Return when the server stored an artifact."""
    assert artifact.created, "the server dates what it stores"
    return artifact.created


def _links() -> list[str]:
    """Return a line for each artifact of this run's stages, the first made first; the UI resolves the addresses."""
    stages = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[flow_run.id]))
    kinds = ArtifactFilter(type=ArtifactFilterType(not_any_=["progress"]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=kinds, flow_run_filter=stages)
    return [
        f"- [{each.key}](/artifacts/artifact/{each.id}): {each.description}"
        for each in sorted(found, key=_made)
    ]
