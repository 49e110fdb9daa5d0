"""Flow `predict`: score images with an exported model, or a registry's champion, into a CSV file."""

from typing import Annotated

from prefect import flow
from pydantic import Field

from cxr.core.settings import DicomOutputSettings, FileSettings, ScopeSettings
from cxr.serving.prediction import Predictions
from flows import names
from tasks import predict as predict_tasks


@flow(name="predict", flow_run_name=names.of_data, description=__doc__, validate_parameters=True)
def predict(
    model: str,
    images: str | Annotated[list[str], Field(min_length=1)],
    out: str,
    files: FileSettings | None = None,
    key_map: str | None = None,
    dicom: DicomOutputSettings | None = None,
    scope: ScopeSettings | None = None,
) -> Predictions:
    """Score images and write the table. Fails if none of them could be scored.

    Args:
        model: An export folder, the model.keras in it, or a registry, which means its champion; a
            path or s3://…
        images: Folder or s3://bucket/prefix with the images, or one image; or a list of several.
        out: The CSV file to write; a path or s3://…
        files: Which files are looked at, and what an image must be; best as in training.
        key_map: A file on the worker, outside every work folder, that gets the real names behind
            those of DICOM files (columns image and key); none is written if not given.
        dicom: What is kept and written of DICOM films: their UIDs, structured reports.
        scope: When it abstains, whose threshold is used, and where statistics are left.
    """
    addresses = [images] if isinstance(images, str) else images
    return predict_tasks.score_images(
        model,
        addresses,
        out,
        files or FileSettings(),
        key_map,
        dicom or DicomOutputSettings(),
        scope or ScopeSettings(),
    )
