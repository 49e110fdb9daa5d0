"""Scan, inspect, publish: the tasks of the flow `preprocess`."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from prefect import task, unmapped
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import TaskRunner

from cxr.core import timing
from cxr.core.errors import QuestionError
from cxr.core.settings import FileSettings, PixelSettings, ReadingSettings, SplitSettings
from cxr.data.images import pixel_cache
from cxr.data.manifest import publish
from cxr.data.manifest.comparison import Comparison
from cxr.data.manifest.records import Ingest, Scan, Shard
from cxr.data.survey import account_table
from cxr.data.survey.account import FolderAccount
from cxr.data.survey.survey import Survey
from cxr.stages import data_steps
from tasks import pictures, progress, retries, runners

INSPECT, COMPARE = "inspect images", "find near-duplicates"
logger = logging.getLogger("cxr.preprocessing")


@task(name="scan images", task_run_name="scan {data}", cache_policy=NO_CACHE, **retries.POLICY)
def scan_images(
    data: str, work: Path, settings: ReadingSettings, patient_key: str, kept: PixelSettings
) -> Scan:
    """List DATA, find the one data set in it, account by folder, lay out shards of the images not seen before.

    A table that names patients is read first: that it cannot be is better known before the images are read.

    Raises:
        DataError: Something has to be asked: the account, which is shown first, says what.
    """
    return data_steps.scan_images(
        data, work, settings, patient_key, kept, lambda found: _show_survey(found, data)
    )


def _show_survey(found: Survey, data: str) -> None:
    """Show the account by folder; in the log, with what fits nothing, where the run stops and asks."""
    _show_folders(found.account.folders, data, bool(found.question))
    if found.question:
        for note in found.notes:
            logger.warning("%s", note)


@contextlib.contextmanager
def _questions_shown(data: str) -> Iterator[None]:
    """Show the account by folder where something has to be asked after the images were read."""
    try:
        yield
    except QuestionError as error:
        _show_folders(error.account.folders, data, True)
        raise


def _show_folders(folders: Sequence[FolderAccount], data: str, log: bool) -> None:
    """Show the account by folder on the page of the run, and in its log where `log` says so."""
    create_table_artifact(
        account_table.table_cells(folders),
        key="folders",
        description=f"{data} by folder: what becomes of its files",
    )
    if log:
        logger.warning("%s by folder:\n%s", data, account_table.format_table(folders))


@contextlib.contextmanager
def inspecting(scan: Scan, work: Path) -> Iterator[None]:
    """Show and time the inspection of all shards; raise StorageError where the disk has no room for their pixels."""
    pixel_cache.cache_of(work, scan.pixels).require_space(scan.new)
    with (
        progress.tracking(INSPECT, scan.new, "images"),
        timing.time_stage(work / timing.FOLDER, "inspect", scan.new),
    ):
        yield


@task(
    name="inspect images",
    task_run_name="inspect shard {shard}",
    cache_policy=NO_CACHE,
    **retries.POLICY,
)
def inspect_images(
    shard: str, data: str, work: Path, settings: FileSettings, kept: PixelSettings
) -> Shard:
    """Read, decode, hash and measure each image of one shard, once, and cache its pixels."""
    return data_steps.inspect_shard(
        shard, data, work, settings, kept, lambda: progress.advance(INSPECT, 1)
    )


def inspect_each(scan: Scan, work: Path, pool: TaskRunner[Any]) -> list[Shard]:
    """Return the records of all shards, inspected side by side; what other processes did shows when a shard is done."""
    files = data_steps.file_settings(scan)
    parameters = {
        "shard": list(scan.shards),
        "data": scan.data,
        "work": work,
        "settings": unmapped(files),
        "kept": unmapped(scan.pixels),
    }
    futures = pool.map(inspect_images, parameters)  # type: ignore[arg-type]  # its type asks for tasks that may be async
    shards: list[Shard] = []
    for future in futures:
        found = runners.result(future)
        if isinstance(found, Exception):
            raise found
        shards.append(found)
        progress.advance(INSPECT, to=sum(shard.images + shard.rejected for shard in shards))
    return shards


@task(
    name="find near-duplicates",
    task_run_name="find near-duplicates",
    cache_policy=NO_CACHE,
    **retries.POLICY,
)
def find_near_duplicates(scan: Scan, work: Path, settings: SplitSettings) -> Comparison:
    """Take exact copies out and find near-duplicates among the rest, by perceptual hash and correlation."""
    with progress.tracking(COMPARE, scan.images, "images"), _questions_shown(scan.data):
        return publish.find_near_duplicates(
            scan, work, settings, lambda n: progress.advance(COMPARE, n)
        )


@task(
    name="publish manifest",
    task_run_name="publish manifest",
    cache_policy=NO_CACHE,
    **retries.POLICY,
)
def publish_manifest(
    scan: Scan, comparison: Comparison, work: Path, settings: SplitSettings
) -> Ingest:
    """Take near-duplicates out, split by patient, pass the leakage gate, write clean_metadata.csv, rejects.csv, ingest.json."""
    try:
        with _questions_shown(scan.data):
            record = publish.publish_manifest(scan, comparison, work, settings)
    finally:  # the contact sheet is what a failed gate is about; publishing removes an older one first
        _show_pairs(work / "leakage" / "pairs.png")
    books = [{"what": "found", "files": record.found}, {"what": "kept", "files": record.kept}]
    books += [
        {"what": f"rejected: {reason}", "files": count} for reason, count in record.rejected.items()
    ]
    _show_leakage(record)
    create_table_artifact(
        books, key="ingest", description=f"Files in {record.data}: found = kept + rejected"
    )
    _show_folders(
        record.folders, record.data, any(row.left_out or row.negatives for row in record.folders)
    )
    for note in record.notes:
        logger.warning("%s", note)
    splits = ", ".join(f"{split} {sum(counts.values())}" for split, counts in record.splits.items())
    counts = f"{record.found:,} files found, {record.kept:,} images kept: {splits}"
    logger.info("%s: %s (%s)", record.data, counts, record.split_policy)
    return record


def _show_leakage(record: Ingest) -> None:
    found = record.leakage
    rows = [
        {"reading of the patient key": name, **shared} for name, shared in found.readings.items()
    ]
    words = (
        f"Patients in two splits, by reading; the key is {found.patient_key}. Near copies: {found.near_pairs} pairs found, "
        f"{found.removed} images removed, {found.pairs_left} pairs left across splits. Images whose patient is not "
        f"known, so that nothing could be looked for: {found.without_patient}"
    )
    create_table_artifact(rows, key="leakage", description=words)
    if not found.clean:
        logger.warning(
            "leakage was allowed: %s pairs, %s patients in two splits",
            found.pairs_left,
            found.patients_left,
        )
    if not record.patient_wise:
        logger.warning(
            "the split is not patient-wise: %s images have no patient by this key",
            found.without_patient,
        )
    for words in record.differences:
        logger.warning(words)
    if record.differences:
        page = "# Not the counts that were expected\n\n" + "\n".join(
            f"- {words}" for words in record.differences
        )
        create_markdown_artifact(
            page, key="contract", description="Differences from the known data set"
        )


def _show_pairs(sheet: Path) -> None:
    if sheet.is_file():
        create_markdown_artifact(
            pictures.markdown(sheet), key="near-copies", description="Near copies found"
        )
