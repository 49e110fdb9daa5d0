"""Flow `labels`: rank the labels of train and validation by how little their images bear them out."""

from prefect import flow

from cxr.results.label_review.records import LabelReview
from flows import names
from tasks import labels as label_tasks


@flow(name="labels", flow_run_name=names.of_data, description=__doc__, validate_parameters=True)
def labels(out: str, films: int | None = None) -> LabelReview:
    """Write the table that a reader fills in, and the page with the films, below OUT/labels.

    Args:
        out: A work folder with a run, a path or s3://bucket/prefix.
        films: How many films the page shows; a tenth of the images, at most 500, if not given.
    """
    return label_tasks.review_labels(out, films)
