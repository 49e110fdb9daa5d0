"""A Redis server for one test, on loopback and in memory."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import redis

from flows.server.process import free_port

REDIS = shutil.which("redis-server")


@contextlib.contextmanager
def running(folder: Path) -> Iterator[redis.Redis]:
    """Start a server and give a client of it; stop the server after the block."""
    port = free_port()
    command = [
        str(REDIS),
        "--bind",
        "127.0.0.1",
        "--port",
        str(port),
        "--save",
        "",
        "--dir",
        str(folder),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    retry = redis.retry.Retry(redis.backoff.ConstantBackoff(0.1), 100)
    client = redis.Redis(port=port, retry=retry, decode_responses=True)
    try:
        client.ping()
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait(timeout=20)
