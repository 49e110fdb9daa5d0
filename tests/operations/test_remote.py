"""A worker that shares nothing with the client but the API and S3: its own network, installation and folders.

Two network namespaces joined by one cable (a veth pair without any other route), two virtual environments, and no
folder that both know. Needs root; the S3 is moto's, so this says nothing of signatures (see the tests of storage).
"""

import contextlib
import csv
import hashlib
import io
import json
import os
import secrets
import shutil
import subprocess
import sys
import sysconfig
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from deployments.stack import LOOPBACK, MARK, _end, marked
from flows.server.process import free_port
from tests.conftest import ROOT
from tests.support import planted
from tests.support.operated import TINY, operated, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
NAME = f"cxr{os.getpid() % 100000}"
KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIATEST",
    "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16),
    "AWS_DEFAULT_REGION": "us-east-1",
}


def ip(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)


@dataclass(frozen=True)
class Cable:
    """The two ends of a cable between this network and another one.

    Attributes:
        near: address of the end in this network.
        far: address of the other end.
        enter: words that run a command in the other network.
    """

    near: str
    far: str
    enter: list[str]


def unused_pair() -> tuple[str, str]:
    """Return two joined addresses that no interface has: a test that was killed may have left its cable."""
    used = ip("-o", "-4", "addr").stdout
    block = next(block for block in range(256) if f" 10.213.{block}." not in used)
    return f"10.213.{block}.1", f"10.213.{block}.2"


@pytest.fixture(scope="module")
def cable():
    """A network namespace with one cable to this one."""
    if not shutil.which("ip") or ip("netns", "add", NAME).returncode:
        pytest.skip("no network namespace can be made here (needs root and iproute2)")
    near, far = unused_pair()
    try:
        for words in (
            f"link add {NAME}a type veth peer name {NAME}b netns {NAME}",
            f"addr add {near}/30 dev {NAME}a",
            f"link set {NAME}a up",
            f"-n {NAME} addr add {far}/30 dev {NAME}b",
            f"-n {NAME} link set {NAME}b up",
            f"-n {NAME} link set lo up",
        ):
            done = ip(*words.split())
            if done.returncode:
                pytest.skip(f"no cable between namespaces here: ip {words}: {done.stderr.strip()}")
        yield Cable(near, far, ["ip", "netns", "exec", NAME])
    finally:
        ip("netns", "delete", NAME)


@pytest.fixture(scope="module")
def s3(cable):
    """An S3 server on the cable's near end, with two buckets; yields a client."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", cable.near, "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    endpoint = f"http://{cable.near}:{port}"

    def answers() -> bool:
        with urllib.request.urlopen(endpoint, timeout=5) as answer:
            return answer.status == 200

    try:
        wait(answers, 60, "S3 answers")
        client = boto3.client(
            "s3", endpoint_url=endpoint, aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"], region_name="us-east-1",
        )  # fmt: skip
        for bucket in ("images", "work"):
            client.create_bucket(Bucket=bucket)
        yield client
        client.close()
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.fixture(scope="module")
def installation(tmp_path_factory) -> Path:
    """The Python of a second environment: the project installed into it, other packages read from this one's."""
    place = tmp_path_factory.mktemp("elsewhere")
    source = place / "source"
    for name in ("cxr", "tasks", "flows"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / "venv"], check=True)
    python = place / "venv" / "bin" / "python"
    shown = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    (Path(shown.stdout.strip()) / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    install = [
        "install",
        "-q",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-build-isolation",
        source,
    ]
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, *install], check=True, env=environment
    )
    shutil.rmtree(source)
    return python


@contextlib.contextmanager
def worker(cable, python, stack, s3, home: Path, **extra: str):
    """A worker on the far side; nothing in its environment but the two addresses, the credentials and `extra`."""
    token = secrets.token_hex(8)
    environment = KEYS | extra | {
        "PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home), "PREFECT_HOME": str(home / "prefect"), MARK: token,
        "PREFECT_API_URL": f"{stack.address}/api", "PREFECT_API_AUTH_STRING": stack.extra["PREFECT_API_AUTH_STRING"],
        "AWS_ENDPOINT_URL": s3.meta.endpoint_url, "PREFECT_WORKER_QUERY_SECONDS": "3",
    }  # fmt: skip
    with (home / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [*cable.enter, python, "-m", "prefect", "worker", "start", "--pool", "cxr-cpu", "--type", "process", "--name", "far away"],
            env=environment, cwd=home, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield
    finally:
        _end(marked(token))
        process.wait(timeout=30)


def in_the_checkout() -> set[Path]:
    """Return what lies in it, but for the hidden folders of pytest and others, which another process may just make."""
    return {path for path in ROOT.iterdir() if not path.name.startswith(".")}


def test_a_run_on_a_worker_that_shares_only_the_api_and_s3(
    cable, s3, installation, phantoms, tmp_path
):
    """Started with `prefect deployment run`: images from S3, everything it made on S3 with its checksums, nothing here."""
    for path in phantoms.rglob("*"):
        if path.is_file():
            s3.upload_file(str(path), "images", f"phantoms/{path.relative_to(phantoms).as_posix()}")
    password = f"operator:{secrets.token_hex(8)}"
    secret = {"PREFECT_SERVER_API_AUTH_STRING": password, "PREFECT_API_AUTH_STRING": password}
    home = tmp_path / "far"
    home.mkdir()
    here = in_the_checkout()
    with (
        operated(tmp_path / "near", "cxr-gpu", cable.near, **secret) as stack,
        worker(cable, installation, stack, s3, home),
    ):
        probe = "import socket, sys; sys.exit(socket.socket().connect_ex((sys.argv[1], int(sys.argv[2]))))"
        reach = {
            host: subprocess.run(
                [*cable.enter, sys.executable, "-c", probe, host, str(stack.port)], check=False
            ).returncode
            for host in (cable.near, LOOPBACK)
        }
        assert reach[cable.near] == 0 and reach[LOOPBACK] != 0, (
            "the far side reaches the API by the cable alone"
        )
        began = time.monotonic()
        started = stack.prefect(
            "deployment", "run", "pipeline/pipeline-demo", "-p", "data=s3://images/phantoms", "-p", "out=s3://work/first",
            "-p", f"training={json.dumps(TINY)}",
        )  # fmt: skip
        assert started.returncode == 0, started.stdout + started.stderr
        (run,) = stack.call("/flow_runs/filter", {"sort": "EXPECTED_START_TIME_DESC", "limit": 1})
        state = stack.ended(run["id"])
        log = (home / "worker.log").read_text()
        assert state == "COMPLETED", log[-4000:]
        print(
            f"MEASURED remote run from the command to Completed: {time.monotonic() - began:.0f} s"
        )
    keys = {
        item["Key"]
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket="work")
        for item in page["Contents"]
    }
    assert {"first/clean_metadata.csv", "first/ingest.json"} <= keys
    (sums,) = (key for key in keys if key.endswith("/export/SHA256SUMS"))
    for line in s3.get_object(Bucket="work", Key=sums)["Body"].read().decode().splitlines():
        digest, name = line.split(maxsplit=1)
        body = s3.get_object(Bucket="work", Key=sums.replace("SHA256SUMS", name.lstrip("*")))[
            "Body"
        ].read()
        assert hashlib.sha256(body).hexdigest() == digest, name
    assert in_the_checkout() == here and not list((tmp_path / "near").rglob("clean_metadata.csv"))
    for text in (log, (tmp_path / "near" / "logs" / "server.log").read_text()):
        assert KEYS["AWS_SECRET_ACCESS_KEY"] not in text and password.partition(":")[2] not in text


def test_dicom_on_s3_is_hidden_with_the_salt_of_the_worker(cable, s3, installation, tmp_path):
    """Only the worker knows the salt: films that name people are preprocessed, and no name and no salt leaves it."""
    films = tmp_path / "films"
    planted.write_films(films, images=24, size=48)
    for path in films.rglob("*"):
        if path.is_file():
            s3.upload_file(str(path), "images", f"films/{path.relative_to(films).as_posix()}")
    salt = secrets.token_hex(16)
    password = f"operator:{secrets.token_hex(8)}"
    secret = {"PREFECT_SERVER_API_AUTH_STRING": password, "PREFECT_API_AUTH_STRING": password}
    home = tmp_path / "far"
    home.mkdir()
    ask = {"data": "s3://images/films", "pixels": {"image_size": 32}}
    with (
        operated(tmp_path / "near", "cxr-gpu", cable.near, **secret) as stack,
        worker(cable, installation, stack, s3, home, CXR_SALT=salt),
    ):
        assert "CXR_SALT" not in stack.environment()
        run = stack.start_run("preprocess/preprocess", out="s3://work/hidden", **ask)
        state = stack.ended(run)
        log = (home / "worker.log").read_text()
        assert state == "COMPLETED", log[-4000:]
    table = s3.get_object(Bucket="work", Key="hidden/clean_metadata.csv")["Body"].read().decode()
    images = [row["image"] for row in csv.DictReader(io.StringIO(table))]
    assert len(images) == 24 and all("film-" in image for image in images)
    everything = tmp_path / "everything"
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket="work", Prefix="hidden/"):
        for item in page["Contents"]:
            path = everything / item["Key"]
            path.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file("work", item["Key"], str(path))
    for folder in (everything, home, tmp_path / "near"):
        assert planted.find_planted(folder, log) == [], folder
        assert not [path for path in folder.rglob("*") if holds(path, salt)], folder


def holds(path: Path, text: str) -> bool:
    """Return whether a file's bytes hold a text."""
    return path.is_file() and text.encode() in path.read_bytes()
