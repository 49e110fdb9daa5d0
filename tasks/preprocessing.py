"""Scan, inspect, publish: the tasks of the flow `preprocess`."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import TaskRunner

from cxr import ingest, manifest, timing
from cxr.records import Ingest, Scan, Shard, read_table
from cxr.settings import SplitSettings
from cxr.storage import open_storage
from tasks import pictures, progress, retries, runners

INSPECT, COMPARE = "inspect images", "find near-duplicates"
logger = logging.getLogger("cxr.preprocessing")


@task(name="scan images", task_run_name="scan {data}", cache_policy=NO_CACHE, **retries.POLICY)
def scan_images(data: str, work: Path) -> Scan:
    """List DATA, find the one data set in it, lay out shards of the images not seen before."""
    return manifest.scan(open_storage(data), work)


@contextlib.contextmanager
def inspecting(scan: Scan, work: Path) -> Iterator[None]:
    """Show and time the inspection of all shards, beside the barest loop over some of their images."""
    limit = None
    if scan.new:
        listed = read_table(manifest.inspection_folder(work, scan.data) / "listed.csv")
        limit = timing.barest(open_storage(scan.data), list(listed["image"]))
    with (
        progress.tracking(INSPECT, scan.new, "images"),
        timing.timed(work / timing.FOLDER, "inspect", scan.new, limit),
    ):
        yield


@task(name="inspect images", task_run_name="inspect shard {shard}", cache_policy=NO_CACHE, **retries.POLICY)
def inspect_images(shard: str, data: str, work: Path) -> Shard:
    """Read, decode, hash and measure each image of one shard, once."""
    folder = manifest.inspection_folder(work, data)
    return manifest.inspect_shard(open_storage(data), folder, shard, lambda: progress.advance(INSPECT, 1))


def inspect_each(scan: Scan, work: Path, pool: TaskRunner[Any]) -> list[Shard]:
    """Return the records of all shards, inspected side by side; what other processes did shows when a shard is done."""
    parameters = {"shard": list(scan.shards), "data": scan.data, "work": work}
    futures = pool.map(inspect_images, parameters)  # type: ignore[arg-type]  # its type asks for tasks that may be async
    shards: list[Shard] = []
    for future in futures:
        found = runners.result(future)
        if isinstance(found, Exception):
            raise found
        shards.append(found)
        progress.advance(INSPECT, to=sum(shard.images + shard.rejected for shard in shards))
    return shards


@task(name="find near-duplicates", task_run_name="find near-duplicates", cache_policy=NO_CACHE, **retries.POLICY)
def find_near_copies(scan: Scan, shards: list[Shard], work: Path, settings: SplitSettings) -> int:
    """Find near copies among all images, by perceptual hash and correlation; return the number of pairs."""
    with progress.tracking(COMPARE, scan.images, "images"):
        return ingest.find_near_copies(scan, work, settings, lambda n: progress.advance(COMPARE, n))


@task(name="publish manifest", task_run_name="publish manifest", cache_policy=NO_CACHE, **retries.POLICY)
def publish_manifest(scan: Scan, near_copies: int, work: Path, settings: SplitSettings) -> Ingest:
    """Take copies out, split by patient, pass the leakage gate, write clean_metadata.csv, rejects.csv, ingest.json."""
    try:
        record = ingest.publish(scan, work, settings)
    finally:  # the contact sheet is what a failed gate is about; publishing removes an older one first
        _show_pairs(work / "leakage" / "pairs.png")
    books = [{"what": "found", "files": record.found}, {"what": "kept", "files": record.kept}]
    books += [{"what": f"rejected: {reason}", "files": count} for reason, count in record.rejected.items()]
    _show_leakage(record)
    create_table_artifact(books, key="ingest", description=f"Files in {record.data}: found = kept + rejected")
    splits = ", ".join(f"{split} {sum(counts.values())}" for split, counts in record.splits.items())
    logger.info("%s: %s files found, %s images kept: %s", record.data, record.found, record.kept, splits)
    return record


def _show_leakage(record: Ingest) -> None:
    found = record.leakage
    rows = [{"reading of the patient key": name, **shared} for name, shared in found.readings.items()]
    words = (
        f"Patients in two splits, by reading; the key is {found.patient_key}. Near copies: {found.near_pairs} pairs found, "
        f"{found.removed} images removed, {found.pairs_left} pairs left across splits"
    )
    create_table_artifact(rows, key="leakage", description=words)
    if not found.clean:
        logger.warning(
            "leakage was allowed: %s pairs, %s patients in two splits", found.pairs_left, found.patients_left
        )
    if not record.patient_wise:
        logger.warning("the split is not patient-wise: %s images have no patient by this key", found.without_patient)
    for words in record.differences:
        logger.warning(words)
    if record.differences:
        page = "# Not the counts that were expected\n\n" + "\n".join(f"- {words}" for words in record.differences)
        create_markdown_artifact(page, key="contract", description="Differences from the known data set")


def _show_pairs(sheet: Path) -> None:
    if sheet.is_file():
        create_markdown_artifact(pictures.markdown(sheet), key="near-copies", description="Near copies found")
