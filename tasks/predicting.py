"""Batch scoring: the task of the flow `predict`."""

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from cxr import prediction
from cxr.records import LABEL_NAMES, Record
from cxr.settings import FileSettings
from tasks import progress, retries

SCORE = "score images"


class Predictions(Record):
    """Where the table is, which model made it, and how many images it scored or rejected."""

    out: str
    model: str
    model_sha256: str
    threshold: float
    images: int
    scored: int
    positive: int
    rejected: int


@task(name="score images", task_run_name="score {images}", cache_policy=NO_CACHE, **retries.POLICY)
def score_images(model: str, images: str, out: str, files: FileSettings) -> Predictions:
    """Score every image, publish the table whole at `out` (a path or in S3), show the counts."""
    with progress.tracking(SCORE, 100, "%"):
        table, card = prediction.predict(
            model,
            [images],
            out,
            lambda done, of: progress.advance(SCORE, to=100 * done / of),
            files,
        )
    counts = table["status"].value_counts().to_dict()
    found = Predictions(
        out=out,
        model=f"{card.architecture}, run {card.run}",
        model_sha256=card.model_sha256,
        threshold=card.threshold,
        images=len(table),
        scored=counts.get("scored", 0),
        rejected=counts.get("rejected", 0),
        positive=int((table["prediction"] == LABEL_NAMES[1]).sum()),
    )
    _show(found, prediction.counts_by_reason(table))
    return found


def _show(found: Predictions, reasons: dict[str, int]) -> None:
    rows = [
        {"what": "scored", "images": found.scored},
        {"what": f"of them {LABEL_NAMES[1]}", "images": found.positive},
        *({"what": f"not scored: {reason}", "images": count} for reason, count in reasons.items()),
    ]
    words = f"{found.model}, threshold {found.threshold:.6f}: {found.out}"
    create_table_artifact(rows, key="predictions", description=words)
