"""Batch scoring: the task of the flow `predict`."""

from collections.abc import Sequence

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

import cxr
from cxr.core.settings import LABEL_NAMES, FileSettings
from cxr.serving.prediction import Predictions
from tasks import progress, retries


@task(name="score images", task_run_name="score images", cache_policy=NO_CACHE, **retries.POLICY)
def score_images(model: str, images: Sequence[str], out: str, files: FileSettings) -> Predictions:
    """Score every image, publish the table whole at `out` (a path or in S3), show the counts."""
    with progress.counting("score images", "images") as on_images:
        found = cxr.predict(
            model, images, out, files, lambda _step, done, total: on_images(done, total)
        )
    _show(found)
    return found


def _show(found: Predictions) -> None:
    rows = [
        {"what": "scored", "images": found.scored},
        {"what": f"of them {LABEL_NAMES[1]}", "images": found.positive},
    ]
    for reason, count in found.reasons.items():
        rows.append({"what": f"not scored: {reason}", "images": count})
    words = f"{found.model}, threshold {found.threshold:.6f}: {found.out}"
    create_table_artifact(rows, key="predictions", description=words)
