"""The task of the flow `predict`: score images."""

from collections.abc import Sequence

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

import cxr
from cxr.core.errors import DataError
from cxr.core.settings import LABEL_NAMES, DicomOutputSettings, FileSettings, ScopeSettings
from cxr.serving.prediction import Predictions
from tasks import progress, retries


@task(name="score images", task_run_name="score images", cache_policy=NO_CACHE, **retries.POLICY)
def score_images(
    model: str,
    images: Sequence[str],
    out: str,
    files: FileSettings,
    key_map: str | None,
    dicom: DicomOutputSettings,
    scope: ScopeSettings,
) -> Predictions:
    """Score every image, publish the table at `out` (a path or in S3), show verdict and counts.

    Raises:
        DataError: The images are not like the training data, and `scope.strict` is set. The table
            is there.
    """
    with progress.following("images") as on_progress:
        predictions = cxr.predict(model, images, out, files, on_progress, key_map, dicom, scope)
    _show_counts(predictions)
    if scope.strict and predictions.is_unlike:
        raise DataError(f"{predictions.verdict_sentence}; {out} has the scores")
    return predictions


def _show_counts(predictions: Predictions) -> None:
    """Show the verdict on the images, how many were scored and positive, and why others were not."""
    rows: list[dict[str, str | int]] = [
        {"what": "scored", "images": predictions.scored},
        {"what": f"of them {LABEL_NAMES[1]}", "images": predictions.positive},
    ]
    for reason, count in predictions.abstained_reasons.items():
        rows.append({"what": f"abstained: {reason}", "images": count})
    for reason, count in predictions.reasons.items():
        rows.append({"what": f"not scored: {reason}", "images": count})
    if predictions.report_folder:
        rows.append({"what": "structured reports", "images": predictions.reports})
    description = f"{predictions.model}, threshold {predictions.threshold:.6f}: {predictions.out}"
    if predictions.verdict:
        emphasis = "**" if predictions.is_unlike else ""
        description = f"{emphasis}{predictions.verdict_sentence}.{emphasis}\n\n{description}"
    create_table_artifact(rows, key="predictions", description=description)
