"""The tasks of the flow `preprocess`: scan, inspect, find near-duplicates, publish the manifest."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefect import task, unmapped
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import TaskRunner

from cxr.core.errors import QuestionError
from cxr.core.settings import FileSettings, PixelSettings, ReadingSettings, SplitSettings
from cxr.data.manifest import publish
from cxr.data.manifest.comparison import Comparison
from cxr.data.manifest.records import Ingest, Scan, Shard
from cxr.data.survey.survey import Survey
from cxr.stages import data_steps
from tasks import progress, retries, runners
from tasks.pages import manifest as manifest_page

INSPECT = "inspect images"
COMPARE = "find near-duplicates"


@task(name="scan images", task_run_name="scan {data}", cache_policy=NO_CACHE, **retries.POLICY)
def scan_images(
    data: str,
    work: Path,
    settings: ReadingSettings,
    patient_key: str,
    pixels: PixelSettings,
    key_map: str | None,
) -> Scan:
    """List DATA, find the one data set in it, lay out shards of the new images.

    Raises:
        DataError: Something has to be asked; the account by folder, which is shown first, says
            what.
    """

    def on_survey(survey: Survey) -> None:
        manifest_page.show_survey(survey, data)

    return data_steps.scan_images(data, work, settings, patient_key, pixels, on_survey, key_map)


@contextlib.contextmanager
def _questions_shown(data: str) -> Iterator[None]:
    """Show the account by folder where something has to be asked after the images were read."""
    try:
        yield
    except QuestionError as error:
        manifest_page.show_folders(error.account.folders, data, to_log=True)
        raise


@contextlib.contextmanager
def inspection_shown(scan: Scan, work: Path) -> Iterator[None]:
    """Show and time the inspection of all shards."""
    with (
        data_steps.timed_inspection(scan, work),
        progress.tracking(INSPECT, scan.new, "images"),
    ):
        yield


@task(
    name="inspect images",
    task_run_name="inspect shard {shard}",
    cache_policy=NO_CACHE,
    **retries.POLICY,
)
def inspect_images(
    shard: str,
    data: str,
    work: Path,
    settings: FileSettings,
    pixels: PixelSettings,
) -> Shard:
    """Read, decode, hash and measure each image of one shard once, and cache its pixels."""

    def on_image() -> None:
        progress.advance(INSPECT, 1)

    return data_steps.inspect_shard(shard, data, work, settings, pixels, on_image)


def inspect_all(scan: Scan, work: Path, pool: TaskRunner[Any]) -> list[Shard]:
    """Inspect all shards side by side and return their records.

    What other processes did shows when a shard is done.
    """
    parameters = {
        "shard": list(scan.shards),
        "data": scan.data,
        "work": work,
        "settings": unmapped(data_steps.file_settings(scan)),
        "pixels": unmapped(scan.pixels),
    }
    # The type of `map` asks for tasks that may be async.
    futures = pool.map(inspect_images, parameters)  # type: ignore[arg-type]
    shards: list[Shard] = []
    done = 0
    for future in futures:
        shard = runners.result(future)
        if isinstance(shard, Exception):
            raise shard
        shards.append(shard)
        done += shard.images + shard.rejected
        progress.advance(INSPECT, to=done)
    return shards


@task(
    name="find near-duplicates",
    task_run_name="find near-duplicates",
    cache_policy=NO_CACHE,
    **retries.POLICY,
)
def find_near_duplicates(
    scan: Scan,
    work: Path,
    settings: SplitSettings,
) -> Comparison:
    """Remove exact duplicates and find near-duplicates among the rest, by perceptual hash and correlation."""

    def on_images(count: int) -> None:
        progress.advance(COMPARE, count)

    with progress.tracking(COMPARE, scan.images, "images"), _questions_shown(scan.data):
        return publish.find_near_duplicates(scan, work, settings, on_images)


@task(
    name="publish manifest",
    task_run_name="publish manifest",
    cache_policy=NO_CACHE,
    **retries.POLICY,
)
def publish_manifest(
    scan: Scan,
    comparison: Comparison,
    work: Path,
    settings: SplitSettings,
) -> Ingest:
    """Remove near-duplicates, split by patient, check for data leakage, write the manifest."""
    try:
        with _questions_shown(scan.data):
            ingest = publish.publish_manifest(scan, comparison, work, settings)
    finally:
        # Also where the leakage gate fails the run: the picture shows why. An older picture was
        # removed before.
        manifest_page.show_near_duplicates(work / "leakage" / "pairs.png")
    manifest_page.show_manifest(ingest)
    return ingest
