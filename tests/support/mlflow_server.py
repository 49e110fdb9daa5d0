"""A tracking server of MLflow on loopback: SQLite, artifacts on an S3 server."""

import contextlib
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
import venv
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from filelock import FileLock

from flows.server.process import free_port
from tests.support.s3_servers import Bucket

START_SECONDS = 400


def installed() -> Path:
    """Return the Python of an environment with the whole of `mlflow`, of our client's version.

    It has what this environment has, and what a server wants besides; it is made once and kept in
    the temporary folder. The test is skipped where pip cannot install it.
    """
    version = metadata.version("mlflow-skinny")
    folder = Path(tempfile.gettempdir()) / f"cxr-mlflow-{version}-{os.geteuid()}"
    python = folder / "bin" / "python"
    with FileLock(f"{folder}.lock"):
        if (folder / "whole").exists():
            return python
        venv.create(folder, with_pip=False, clear=True)
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "client.pth").write_text(sysconfig.get_path("purelib") + "\n")
        done = subprocess.run(
            [sys.executable, "-m", "pip", "--python", python, "install", f"mlflow=={version}"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"no MLflow server here: {done.stderr.strip().splitlines()[-1]}")
        (folder / "whole").touch()
    return python


@contextlib.contextmanager
def running(folder: Path, bucket: Bucket) -> Iterator[str]:
    """Run a server during the block; give its address.

    Args:
        folder: Where its database and its log go.
        bucket: Where its artifacts go.
    """
    port = free_port()
    command = [
        *(str(installed()), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
        *("--artifacts-destination", f"s3://{bucket.name}/mlflow"),
    ]
    server = bucket.server
    own = {name: text for name, text in os.environ.items() if not name.startswith("MLFLOW_")}
    own |= server.environment() | {
        "MLFLOW_S3_ENDPOINT_URL": server.endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # queues and their processes
    }
    with (folder / "server.log").open("w") as log:
        # A group of its own: it starts workers, which have to end with it.
        process = subprocess.Popen(
            command, env=own, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(address, process, folder / "server.log")
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server answers; AssertionError with its log where it does not."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{address}/health", timeout=5) as answer,
        ):
            if answer.read() == b"OK":
                return
        time.sleep(0.3)
    raise AssertionError(f"MLflow's server did not start: {log.read_text()[-2000:]}")
