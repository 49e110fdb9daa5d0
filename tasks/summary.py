"""The first page of a whole run: which model was chosen, how good it is, where everything is."""

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

from cxr.models import runs
from cxr.models.selection import Selection
from cxr.results.evaluation import Evaluation
from cxr.results.exporting import Export
from cxr.results.metric_table import metric_rows

METRICS = ("sensitivity", "specificity", "auroc")


@task(name="show summary", task_run_name="show summary", cache_policy=NO_CACHE)
def show_summary(work: Path) -> None:
    """Show the choice, the test metrics, links to the stages' pages and the addresses of the files."""
    folder = runs.latest_run(work).folder(work)
    export = Export.read(folder / "export.json")
    selection = Selection.read(folder / "selection.json")
    evaluation = Evaluation.read(folder / "evaluation.json")
    counts = _describe_counts(evaluation)
    lines = [
        f"# {selection.name}: {counts}",
        "",
        "**Not a medical device.** Metrics on one test set, at a threshold chosen on validation.",
        "",
        *_metrics_table(evaluation),
        "",
        selection.reason,
        "",
        "## Pages of this run",
        "",
        *_links(),
        "",
        "## Files",
        "",
        f"- report: `{export.report}`",
        f"- card: `{export.card}`",
        f"- model: `{export.model}`",
    ]
    create_markdown_artifact(
        "\n".join(lines),
        key="summary",
        description=f"{selection.name}: {counts}; run {export.run}",
    )


def _describe_counts(evaluation: Evaluation) -> str:
    """Return how many test images were called right and wrong, in words."""
    positives = _count(evaluation, "positives")
    negatives = _count(evaluation, "n") - positives
    true_positives = positives - _count(evaluation, "fn")
    false_positives = _count(evaluation, "fp")
    return (
        f"{true_positives} of {positives} pneumonia images found, "
        f"{false_positives} false positives among {negatives} normal images"
    )


def _count(evaluation: Evaluation, name: str) -> int:
    """Return a count of the test set; unlike a rate, a count can always be estimated."""
    count = evaluation.test[name]
    assert isinstance(count, int), f"{name} is {count!r}"
    return count


def _metrics_table(evaluation: Evaluation) -> list[str]:
    """Return the lines of a table of the test metrics with their intervals."""
    rows = metric_rows(evaluation.test, evaluation.intervals, METRICS)
    return [
        f"| n = {evaluation.test['n']} | test | 95 % interval |",
        "|---|---|---|",
        *(f"| {row.name} | {row.value} | {row.interval} |" for row in rows),
    ]


def _links() -> list[str]:
    """Return a line for each artifact of this run's stages, in the order they were created."""
    stages = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[flow_run.id]))
    no_progress = ArtifactFilter(type=ArtifactFilterType(not_any_=["progress"]))
    with get_client(sync_client=True) as client:
        artifacts = client.read_artifacts(artifact_filter=no_progress, flow_run_filter=stages)
    artifacts.sort(key=_creation_time)
    # Relative addresses: the UI of this server opens them.
    return [
        f"- [{artifact.key}](/artifacts/artifact/{artifact.id}): {artifact.description}"
        for artifact in artifacts
    ]


def _creation_time(artifact: Artifact) -> datetime:
    assert artifact.created, "the server dates what it stores"
    return artifact.created
