"""Flow `site`: measure an exported model on a labelled sample of the place where it shall be used."""

from prefect import flow

from cxr.core.settings import ReadingSettings, SiteSettings
from cxr.serving.sites.records import Site
from flows import names
from tasks import site as site_tasks


@flow(name="site", flow_run_name=names.of_data, description=__doc__, validate_parameters=True)
def site(
    model: str,
    data: str,
    out: str,
    reading: ReadingSettings | None = None,
    settings: SiteSettings | None = None,
    key_map: str | None = None,
) -> Site:
    """Score the labelled images, and write what holds there: threshold, calibration, figures, card.

    Args:
        model: An export folder, the model.keras in it, or a registry, which means its champion; a
            path or s3://…
        data: Folder or s3://bucket/prefix with labelled images: NORMAL and PNEUMONIA, or any folder
            with a table of labels.
        out: The folder to write, which `predict` takes as scope.site; a path or s3://…
        reading: Which folder is which class, where labels are, and what counts as a film.
        settings: What is promised there, how common pneumonia is, who a patient is.
        key_map: A file on the worker, outside `out`, that gets the real names behind those of DICOM
            files (columns image and key); none is written if not given.
    """
    return site_tasks.measure_site(
        model,
        data,
        out,
        reading or ReadingSettings(),
        settings or SiteSettings(),
        key_map,
    )
