"""Flow `predict`: images scored by an exported model, or by a registry's champion; a CSV file comes out."""

from prefect import flow

from flows.preprocess import _run_name
from tasks import predicting


@flow(name="predict", flow_run_name=_run_name, description=__doc__, validate_parameters=True)
def predict(model: str, images: str, out: str) -> predicting.Predictions:
    """Score IMAGES and write the table to OUT. MODEL: an export folder, its model.keras, or a registry (its champion)."""
    return predicting.score_images(model, images, out)
