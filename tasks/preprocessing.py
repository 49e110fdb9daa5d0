"""Scan, inspect, publish: the tasks of the flow `preprocess`."""

from pathlib import Path

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from cxr import ingest, manifest
from cxr.records import Ingest, Scan, Shard
from cxr.settings import SplitSettings
from cxr.storage import open_storage
from tasks import progress, retries

INSPECT = "inspect images"


@task(name="scan images", task_run_name="scan {data}", cache_policy=NO_CACHE, **retries.POLICY)
def scan_images(data: str, work: Path) -> Scan:
    """List DATA, find the one data set in it, lay out shards of the images not seen before."""
    return manifest.scan(open_storage(data), work)


@task(name="inspect images", task_run_name="inspect shard {shard}", cache_policy=NO_CACHE, **retries.POLICY)
def inspect_images(shard: str, data: str, work: Path) -> Shard:
    """Read, decode, hash and measure each image of one shard, once."""
    folder = manifest.inspection_folder(work, data)
    return manifest.inspect_shard(open_storage(data), folder, shard, lambda: progress.advance(INSPECT, 1))


@task(name="publish manifest", cache_policy=NO_CACHE, **retries.POLICY)
def publish_manifest(scan: Scan, shards: list[Shard], work: Path, settings: SplitSettings) -> Ingest:
    """Remove duplicates, split by patient, write clean_metadata.csv, rejects.csv and ingest.json."""
    record = ingest.publish(scan, work, settings)
    books = [{"what": "found", "files": record.found}, {"what": "kept", "files": record.kept}]
    books += [{"what": f"rejected: {reason}", "files": count} for reason, count in record.rejected.items()]
    create_table_artifact(books, key="ingest", description=f"Files in {record.data}: found = kept + rejected")
    return record
