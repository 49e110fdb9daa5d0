"""Flow `preprocess`: a place with files becomes clean_metadata.csv, rejects.csv and ingest.json."""

from prefect import flow

from cxr.core.errors import LeakageError
from cxr.core.parallel import usable_cores
from cxr.core.settings import PixelSettings, ReadingSettings, Runner, SplitSettings
from cxr.data.labels.corrections.answers import read_answers
from cxr.data.manifest.records import Ingest
from cxr.data.patients import test_rule
from cxr.storage.workspace import workspace
from flows import names
from tasks import events, runners
from tasks import preprocess as preprocess_tasks


@flow(name="preprocess", flow_run_name=names.of_data, description=__doc__, validate_parameters=True)
def preprocess(
    data: str,
    out: str,
    reading: ReadingSettings | None = None,
    splits: SplitSettings | None = None,
    runner: Runner = "threads",
    pixels: PixelSettings | None = None,
    key_map: str | None = None,
) -> Ingest:
    """Scan DATA, inspect the new images shard by shard, publish the manifest.

    Args:
        data: Folder or s3://bucket/prefix with the images: train/NORMAL, train/PNEUMONIA and so on,
            or a folder above it.
        out: The work folder, a path or s3://bucket/prefix.
        reading: Which folder is which split and class, which files are left out, and what counts
            as a film.
        splits: Who a patient is, how validation is carved, what is done about data leakage.
        runner: Where tasks run side by side: threads, processes, or a Dask scheduler's address.
        pixels: Size and encoding of the pixels kept of each image, as the training to come wants
            them: another size later costs one more decoding of every image.
        key_map: A file on the worker, outside the work folder, that gets the real names behind
            those of DICOM files (columns image and key); none is written if not given.
    """
    reading = reading or ReadingSettings()
    splits = splits or SplitSettings()
    pixels = pixels or PixelSettings()
    # What is wrong with these is better known before images are read.
    test_rule.required_columns(splits.test_by)
    read_answers(splits.label_corrections)
    with workspace.open_workspace(out) as work:
        scan = preprocess_tasks.scan_images(
            data, work, reading, splits.patient_key, pixels, key_map
        )
        with (
            runners.opened(runner, usable_cores(), work) as pool,
            preprocess_tasks.inspection_shown(scan, work),
        ):
            preprocess_tasks.inspect_all(scan, work, pool)
        comparison = preprocess_tasks.find_near_duplicates(scan, work, splits)
        try:
            return preprocess_tasks.publish_manifest(scan, comparison, work, splits)
        except LeakageError as error:
            events.gate_failed(data, str(error))
            raise
