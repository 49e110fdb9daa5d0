"""Flow `predict`: images scored by an exported model, or by a registry's champion; a CSV file comes out."""

from prefect import flow

from cxr.settings import FileSettings
from flows import names
from tasks import predicting


@flow(name="predict", flow_run_name=names.of_data, description=__doc__, validate_parameters=True)
def predict(
    model: str,
    images: str,
    out: str,
    files: FileSettings | None = None,
) -> predicting.Predictions:
    """Score images and write the table. Fails where none of them could be scored.

    Args:
        model: An export folder, the model.keras in it, or a registry, which means its champion; a path or s3://…
        images: Folder or s3://bucket/prefix with the images, or one image.
        out: The CSV file to write; a path or s3://…
        files: Which files are looked at, and what an image must be; best as in training.
    """
    return predicting.score_images(model, images, out, files or FileSettings())
