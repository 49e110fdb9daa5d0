"""Reading many small objects from a real S3 server: the pipeline's way against the barest parallel boto3 loop.

    python -m bench.storage [OBJECTS]

2,000 objects of 60 kB from a RADOS gateway on loopback (`tests/support/servers/s3_server.sh`, needs root once), 16 connections
each; the two in turn, five times. The pipeline lists, asks for the listed version, checks, and fills its local cache.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
from botocore.config import Config

from cxr.storage.addresses import open_storage

SCRIPT = Path(__file__).parent.parent / "tests" / "support" / "servers" / "s3_server.sh"
BUCKET, SIZE, CONNECTIONS, REPEATS = "bench", 60_000, 16, 5


def plain() -> int:
    """Every object once, by sixteen threads that share one client; returns the bytes read."""
    client = _client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    keys = [item["Key"] for page in pages for item in page["Contents"]]

    def get(key: str) -> int:
        return len(client.get_object(Bucket=BUCKET, Key=key)["Body"].read())

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return sum(pool.map(get, keys))


def pipeline() -> int:
    """The same as the pipeline does it: listed, then read by version; returns the bytes read."""
    storage = open_storage(f"s3://{BUCKET}")
    wanted = [(entry.key, entry.version) for entry in storage.list()]
    total = 0
    for _, answer in storage.read_many(wanted):
        if isinstance(answer, Exception):
            raise answer
        total += len(answer)
    return total


def _client() -> "boto3.client":
    return boto3.client(
        "s3", config=Config(max_pool_connections=CONNECTIONS, s3={"addressing_style": "path"})
    )


def timed(name: str, read: Callable[[], int], objects: int) -> float:
    began = time.perf_counter()
    cpu_began = time.process_time()
    total = read()
    wall = time.perf_counter() - began
    cpu = time.process_time() - cpu_began
    if total != objects * SIZE:
        raise RuntimeError(f"expected {objects * SIZE} bytes, found {total}")
    speed = f"{objects / wall:>7.0f} objects/s {total / wall / 1e6:>6.0f} MB/s"
    print(f"{name:<34}{speed} {cpu / objects * 1000:>6.2f} ms of a core an object")
    return objects / wall


def fill(objects: int) -> None:
    client = _client()
    client.create_bucket(Bucket=BUCKET)
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        put = lambda i: client.put_object(Bucket=BUCKET, Key=f"{i:06d}.jpeg", Body=os.urandom(SIZE))  # noqa: E731
        list(pool.map(put, range(objects)))


def compare(objects: int, scratch: Path) -> None:
    found: dict[str, list[float]] = {"boto3": [], "pipeline": []}
    fill(objects)
    for i in range(REPEATS):
        os.environ["CXR_CACHE"] = str(scratch / f"cache{i}")
        found["boto3"].append(timed("bare boto3 loop", plain, objects))
        found["pipeline"].append(timed("pipeline, empty cache", pipeline, objects))
    cached = timed("pipeline, unchanged objects", pipeline, objects)
    os.environ["CXR_CACHE_GB"] = "0"
    uncached = timed("pipeline, no cache", pipeline, objects)
    bare, ours = (statistics.median(found[name]) for name in ("boto3", "pipeline"))
    ratios = [b / a for a, b in zip(found["boto3"], found["pipeline"], strict=True)]
    print(
        f"median of {REPEATS}: boto3 {bare:.0f}, pipeline {ours:.0f} objects/s; ratio {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}), wanted: at least 1; without the cache {uncached / bare:.2f}, from it "
        f"{cached / bare:.2f}"
    )


def main(objects: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        subprocess.run(
            [SCRIPT, "install"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        started = subprocess.run(
            [SCRIPT, "start", f"{name}/server"], check=True, capture_output=True, text=True
        )
        server = dict(line.split("=", 1) for line in started.stdout.split())
        os.environ |= {
            "AWS_ENDPOINT_URL": server.pop("S3_ENDPOINT"),
            "AWS_REGION": "us-east-1",
            **server,
        }
        os.environ |= {"AWS_DEFAULT_REGION": "us-east-1", "CXR_S3_CONNECTIONS": str(CONNECTIONS)}
        try:
            compare(objects, Path(name))
        finally:
            subprocess.run([SCRIPT, "stop", f"{name}/server"], check=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
