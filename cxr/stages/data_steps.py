"""The steps of preprocessing and exploration, in an open work folder.

A Prefect task is one of these steps with its progress shown.
"""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cxr.core import timing
from cxr.core.files import read_parts
from cxr.core.parallel import usable_cores
from cxr.core.settings import (
    FileSettings,
    PixelSettings,
    ReadingSettings,
    TrainingSettings,
)
from cxr.data.images import pixel_cache
from cxr.data.manifest import scanning, shard_inspection
from cxr.data.manifest.records import Scan, Shard
from cxr.data.patients import hidden_names, patients
from cxr.data.patients.hidden_storage import open_data
from cxr.data.survey.survey import Survey
from cxr.exploration import explore as exploration
from cxr.exploration.explore import Exploration
from cxr.models import runs
from cxr.storage.workspace import workspace

OnProgress = Callable[[str, float, float], None]
"""Told how far a stage is: what is being done, how much of it is done, and of how much."""


def no_progress(
    _step: str,
    _done: float,
    _total: float,
) -> None:
    """Show no progress."""


def scan_images(
    data: str,
    work: Path,
    reading: ReadingSettings,
    patient_key: str,
    pixels: PixelSettings | None = None,
    on_survey: Callable[[Survey], None] = lambda _: None,
    key_map: str | None = None,
) -> Scan:
    """List DATA, find the one data set in it, and lay out shards of the images that are new.

    A table that names patients is read first: that it cannot be read is better known before the
    images are.

    Args:
        data: The address of DATA.
        work: The folder of an open work folder.
        reading: How DATA is read.
        patient_key: Who a patient is, see `SplitSettings.patient_key`.
        pixels: Which pixels inspection is to keep; those of the default size where not given.
        on_survey: Called with what was found, before anything is asked.
        key_map: A file outside the work folder for the real names behind those of DICOM files.

    Raises:
        DataError: Something has to be asked first, or the table of patients cannot be read.
    """
    patients.require_readable(patient_key)
    map_path = hidden_names.require_key_map(key_map, work) if key_map else None
    storage = open_data(data, reading.follow_links)
    own = workspace.key_inside(work, storage.plain)

    def on_found(survey: Survey) -> None:
        if map_path:
            rows = ((file.key, survey.names.real_key(file.key)) for file in survey.files())
            hidden_names.write_key_map(map_path, rows)
        on_survey(survey)

    return scanning.scan(storage, work, reading, own, pixels, on_found)


def inspect_shard(
    shard: str,
    data: str,
    work: Path,
    files: FileSettings,
    pixels: PixelSettings,
    on_image: Callable[[], None] = lambda: None,
) -> Shard:
    """Fetch, decode and measure each image of one shard once, and keep its pixels.

    Args:
        shard: One of `Scan.shards`.
        data: The address of DATA, as the scan has it.
        work: The folder of an open work folder.
        files: What a picture must be.
        pixels: Which pixels to keep.
        on_image: Called after each image.
    """
    folder = scanning.inspection_folder(work, data, files)
    storage = open_data(data, files.follow_links)
    writer = pixel_cache.Writer(work, pixels)
    return shard_inspection.inspect_shard(storage, folder, shard, files, on_image, writer)


def file_settings(scan: Scan) -> FileSettings:
    """Return the part of a scan's settings that says what a picture must be."""
    return FileSettings(**scan.settings.model_dump(include=set(FileSettings.model_fields)))


@contextlib.contextmanager
def timed_inspection(scan: Scan, work: Path) -> Iterator[None]:
    """Time the inspection of all shards of a scan.

    Raises:
        StorageError: The disk has no room for their pixels.
    """
    pixel_cache.cache_of(work, scan.pixels).require_space(scan.new)
    with timing.time_stage(work / timing.FOLDER, "inspect", scan.new):
        yield


def inspect_all(
    scan: Scan,
    work: Path,
    on_progress: OnProgress,
) -> None:
    """Inspect the shards of a scan side by side, in threads of this process."""
    files = file_settings(scan)
    done = 0

    def inspect(shard: str) -> Shard:
        return inspect_shard(shard, scan.data, work, files, scan.pixels)

    with (
        timed_inspection(scan, work),
        ThreadPoolExecutor(usable_cores()) as pool,
    ):
        for shard in pool.map(inspect, scan.shards):
            done += shard.images + shard.rejected
            on_progress("inspect images", done, scan.new)


def cache_pixels(
    work: Path,
    settings: TrainingSettings,
    on_progress: OnProgress = no_progress,
) -> Path:
    """Check the manifest, and decode what the pixel cache lacks; return the folder of the cache.

    Raises:
        DataError: The manifest is missing, was changed, or breaks its contract.
    """
    ingest = runs.check_manifest(work)
    done = 0

    def on_images(count: int) -> None:
        nonlocal done
        done += count
        on_progress("decode pixels", done, ingest.kept)

    return pixel_cache.fill_in_parts(
        lambda: read_parts(work / "clean_metadata.csv"),
        open_data(ingest.data, ingest.reading.follow_links),
        settings.pixels(),
        work,
        on_images,
    )


def explore_data(
    work: Path,
    settings: TrainingSettings,
    cache: Path,
    on_progress: OnProgress = no_progress,
) -> Exploration:
    """Write eda/ from the manifest and the cached pixels, unless it is there for this very data."""
    steps = len(exploration.STEPS)

    def on_step(words: str) -> None:
        on_progress(words, exploration.STEPS.index(words), steps)

    explored = exploration.explore(work, runs.read_ingest(work), settings, cache, on_step)
    on_progress("explored", steps, steps)
    return explored
