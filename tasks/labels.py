"""The task of the flow `labels`: rank labels for a reader."""

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from cxr.results.label_review.records import LabelReview
from cxr.stages import label_steps
from tasks import progress, retries


@task(name="review labels", task_run_name="review labels", cache_policy=NO_CACHE, **retries.POLICY)
def review_labels(out: str, films: int | None) -> LabelReview:
    """Score every image of train and validation out of fold, write the table and the page."""
    with progress.following("images") as on_progress:
        review = label_steps.review_labels(out, films, on_progress)
    create_markdown_artifact(
        f"{review.sentence()}. The table and the films are in {out}/{label_steps.FOLDER}.",
        key="labels",
        description="Labels to look at again",
    )
    return review
