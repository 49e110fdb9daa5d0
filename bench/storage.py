"""Reading many small objects from a real S3 server: the pipeline against a plain loop of boto3.

    python -m bench.storage [OBJECTS]

2,000 objects of 60 kB from a RADOS gateway on loopback (`tests/support/servers/s3_server.sh`, which
needs root once), with 16 connections each, the two in turn, five times. The pipeline lists, asks
for the listed version, checks it and fills its local cache.
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
from typing import Any

import boto3
from botocore.config import Config

from cxr.storage.addresses import open_storage

SCRIPT = Path(__file__).parent.parent / "tests" / "support" / "servers" / "s3_server.sh"
BUCKET = "bench"
OBJECTS = 2000
OBJECT_BYTES = 60_000
CONNECTIONS = 16
REPEATS = 5


def read_plainly() -> int:
    """Read every object once with threads that share one client; return the bytes read."""
    client = make_client()
    paginator = client.get_paginator("list_objects_v2")
    keys: list[str] = []
    for page in paginator.paginate(Bucket=BUCKET):
        keys.extend(item["Key"] for item in page["Contents"])

    def get(key: str) -> int:
        answer = client.get_object(Bucket=BUCKET, Key=key)
        return len(answer["Body"].read())

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return sum(pool.map(get, keys))


def read_as_pipeline() -> int:
    """List every object and read it by version, as the pipeline does; return the bytes read."""
    storage = open_storage(f"s3://{BUCKET}")
    wanted = [(entry.key, entry.version) for entry in storage.list()]
    total = 0
    for _, content in storage.read_many(wanted):
        if isinstance(content, Exception):
            raise content
        total += len(content)
    return total


def make_client() -> Any:
    """Return a client of boto3 for the server of this benchmark."""
    config = Config(
        max_pool_connections=CONNECTIONS,
        s3={"addressing_style": "path"},
    )
    return boto3.client("s3", config=config)


def measure(name: str, read: Callable[[], int], objects: int) -> float:
    """Print how fast `read` is and return its objects per second.

    Args:
        name: What is read, for the printed line.
        read: What reads all objects and returns their bytes.
        objects: How many there are.

    Raises:
        RuntimeError: Not all bytes were read.
    """
    wall_began = time.perf_counter()
    cpu_began = time.process_time()
    total = read()
    wall = time.perf_counter() - wall_began
    cpu = time.process_time() - cpu_began
    if total != objects * OBJECT_BYTES:
        raise RuntimeError(f"expected {objects * OBJECT_BYTES} bytes, found {total}")
    rate = objects / wall
    megabytes = total / wall / 1e6
    cpu_ms = cpu / objects * 1000
    print(
        f"{name:<34}{rate:>7.0f} objects/s {megabytes:>6.0f} MB/s "
        f"{cpu_ms:>6.2f} ms of a core an object"
    )
    return rate


def fill_bucket(objects: int) -> None:
    """Make the bucket with so many objects of random bytes."""
    client = make_client()
    client.create_bucket(Bucket=BUCKET)

    def put(number: int) -> None:
        data = os.urandom(OBJECT_BYTES)
        client.put_object(Bucket=BUCKET, Key=f"{number:06d}.jpeg", Body=data)

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(put, range(objects)))


def compare(objects: int, scratch: Path) -> None:
    """Measure both ways in turn and print the median of their ratio.

    Args:
        objects: How many objects are read.
        scratch: A folder for the caches.
    """
    plain_rates = []
    pipeline_rates = []
    fill_bucket(objects)
    for repeat in range(REPEATS):
        os.environ["CXR_CACHE"] = str(scratch / f"cache{repeat}")
        plain_rates.append(measure("bare boto3 loop", read_plainly, objects))
        pipeline_rates.append(measure("pipeline, empty cache", read_as_pipeline, objects))
    cached = measure("pipeline, unchanged objects", read_as_pipeline, objects)
    # A limit of 0 keeps nothing more, but what is in the folder already would still be read.
    os.environ["CXR_CACHE"] = str(scratch / "no-cache")
    os.environ["CXR_CACHE_GB"] = "0"
    uncached = measure("pipeline, no cache", read_as_pipeline, objects)
    plain = statistics.median(plain_rates)
    pipeline = statistics.median(pipeline_rates)
    pairs = zip(plain_rates, pipeline_rates, strict=True)
    ratios = [pipeline_rate / plain_rate for plain_rate, pipeline_rate in pairs]
    print(
        f"median of {REPEATS}: boto3 {plain:.0f}, pipeline {pipeline:.0f} objects/s; "
        f"ratio {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}), wanted: at least 1; "
        f"without the cache {uncached / plain:.2f}, from it {cached / plain:.2f}"
    )


def start_server(folder: str) -> None:
    """Start the server and set the AWS variables for it."""
    subprocess.run(
        [SCRIPT, "install"],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    started = subprocess.run(
        [SCRIPT, "start", folder],
        check=True,
        capture_output=True,
        text=True,
    )
    for line in started.stdout.split():
        name, value = line.split("=", 1)
        variable = "AWS_ENDPOINT_URL" if name == "S3_ENDPOINT" else name
        os.environ[variable] = value
    os.environ["AWS_REGION"] = "us-east-1"
    os.environ["AWS_DEFAULT_REGION"] = "us-east-1"
    os.environ["CXR_S3_CONNECTIONS"] = str(CONNECTIONS)


def main(objects: int) -> None:
    """Start a server, compare, and stop it."""
    with tempfile.TemporaryDirectory() as name:
        server_folder = f"{name}/server"
        start_server(server_folder)
        try:
            compare(objects, Path(name))
        finally:
            subprocess.run([SCRIPT, "stop", server_folder], check=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else OBJECTS)
