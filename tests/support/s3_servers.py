"""S3 servers on loopback: moto's (a mock, fast) and Ceph's RADOS gateway (real, slow)."""

import functools
import logging
import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest
from botocore.config import Config
from filelock import FileLock

SCRIPT = Path(__file__).parent / "servers" / "s3_server.sh"


class Server(NamedTuple):
    """An S3 server's address and its credentials."""

    endpoint: str
    key: str
    secret: str

    def environment(self) -> dict[str, str]:
        """Return the environment variables by which a process finds it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @functools.cache  # noqa: B019  # two servers in a session; a client costs half a second
    def client(self) -> Any:
        """Return a plain boto3 client, with which tests look at the server."""
        checks = dict.fromkeys(
            ("request_checksum_calculation", "response_checksum_validation"), "when_required"
        )
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, **checks),
        )


class Bucket(NamedTuple):
    """A fresh bucket on a server."""

    server: Server
    name: str

    @property
    def uri(self) -> str:
        """Return the address of a prefix in it that has unusual characters."""
        return f"s3://{self.name}/a b/ü%41"

    def client(self) -> Any:
        """Return a plain boto3 client."""
        return self.server.client()

    def upload(self, folder: Path, prefix: str) -> None:
        """Upload every file of a folder below a prefix."""
        for path in folder.rglob("*"):
            if path.is_file():
                key = f"{prefix}/{path.relative_to(folder).as_posix()}"
                self.client().put_object(Bucket=self.name, Key=key, Body=path.read_bytes())


def fresh_bucket(server: Server) -> Bucket:
    """Make a bucket with a new name."""
    name = f"cxr-{uuid.uuid4().hex[:12]}"
    server.client().create_bucket(Bucket=name)
    return Bucket(server, name)


@contextmanager
def mock() -> Iterator[Server]:
    """Run moto's server in this process during the block."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield Server(f"http://{host}:{port}", "testing", "testing-secret-of-the-mock")
    finally:
        server.stop()


@contextmanager
def real() -> Iterator[Server]:
    """Run a RADOS gateway during the block; skip the test if it cannot be installed."""
    # Of several test processes only one at a time may install packages.
    lock = Path(tempfile.gettempdir()) / f"cxr-s3-install-{os.geteuid()}.lock"
    with FileLock(lock):
        installed = subprocess.run([SCRIPT, "install"], capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.skip(f"no real S3 server here: {installed.stderr.strip().splitlines()[-1]}")
    folder = tempfile.mkdtemp(prefix="cxr-s3-")
    environment = os.environ | {"S3_PORT": str(free_port())}
    try:
        started = subprocess.run(
            [SCRIPT, "start", folder], capture_output=True, text=True, env=environment, check=False
        )
        assert started.returncode == 0, started.stderr
        found = dict(line.split("=", 1) for line in started.stdout.split())
        yield Server(
            found["S3_ENDPOINT"], found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"]
        )
    finally:
        subprocess.run([SCRIPT, "stop", folder], capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """Return a port on loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
