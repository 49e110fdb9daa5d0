"""Flow `preprocess`: a place with files becomes clean_metadata.csv, rejects.csv and ingest.json."""

from prefect import flow

from cxr import workspace
from cxr.records import Ingest
from cxr.settings import PixelSettings, ReadingSettings, Runner, SplitSettings, cores
from flows import names
from tasks import preprocessing, runners


@flow(name="preprocess", flow_run_name=names.of_data, description=__doc__, validate_parameters=True)
def preprocess(
    data: str,
    out: str,
    reading: ReadingSettings | None = None,
    splits: SplitSettings | None = None,
    runner: Runner = "threads",
    pixels: PixelSettings | None = None,
) -> Ingest:
    """Scan DATA, inspect what is new shard by shard, publish the manifest.

    Args:
        data: Folder or s3://bucket/prefix with the images: train/NORMAL, train/PNEUMONIA and so on, or a folder above it.
        out: The work folder, a path or s3://bucket/prefix.
        reading: Which folder is which split and class, which files are left out, and what counts as a film.
        splits: Who a patient is, how validation is carved, what becomes of leakage.
        runner: Where tasks run side by side: threads, processes, or a Dask scheduler's address.
        pixels: Size and encoding of the pixels kept of each image, as the training to come wants them: another size
            later costs one more decoding of every image.
    """
    settings = splits or SplitSettings()
    with workspace.opened(out) as work:
        scan = preprocessing.scan_images(
            data,
            work,
            reading or ReadingSettings(),
            settings.patient_key,
            pixels or PixelSettings(),
        )
        with runners.opened(runner, cores(), work) as pool, preprocessing.inspecting(scan, work):
            preprocessing.inspect_each(scan, work, pool)
        comparison = preprocessing.find_near_duplicates(scan, work, settings)
        return preprocessing.publish_manifest(scan, comparison, work, settings)
