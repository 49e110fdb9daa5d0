"""Fixtures: phantom images, a finished run, S3 servers, and one Prefect server for all tests."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from cxr.core.settings import (
    PixelSettings,
    ReadingSettings,
    SplitSettings,
    TrainingSettings,
    training_settings,
)
from cxr.data.images import pixel_cache
from cxr.data.manifest import publish, scanning, shard_inspection
from cxr.data.manifest.records import Ingest
from cxr.data.patients.hidden_storage import open_data
from cxr.data.phantoms import dataset
from tests.support import finished, s3_servers

# A slow machine must not fail a test: no test here measures time.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")
ROOT = Path(__file__).parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests a longer timeout: they start many processes on a machine that may be busy."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom dataset with duplicates, a label conflict and broken files; read only."""
    folder = tmp_path_factory.mktemp("data") / "phantoms"
    dataset.make_dataset(folder, images=90, size=96, seed=1)
    return folder


def preprocess(
    data: Path | str,
    work: Path,
    settings: SplitSettings | None = None,
    reading: ReadingSettings | None = None,
    kept: PixelSettings | None = None,
) -> Ingest:
    """Preprocess images without Prefect, in this process.

    Args:
        data: The folder or address of the images.
        work: The work folder.
        settings: How images are divided into splits.
        reading: How folders are read.
        kept: The pixels to cache while images are inspected; None caches none.
    """
    reading = reading or ReadingSettings()
    storage = open_data(str(data), reading.follow_links)
    scan = scanning.scan(storage, work, reading, pixels=kept)
    folder = scanning.folder_of(scan, work)
    writer = pixel_cache.Writer(work, kept) if kept else None
    for shard in scan.shards:
        shard_inspection.inspect_shard(storage, folder, shard, reading, writer=writer)
    settings = settings or SplitSettings()
    comparison = publish.find_near_duplicates(scan, work, settings)
    return publish.publish_manifest(scan, comparison, work, settings)


@pytest.fixture
def salt(monkeypatch: pytest.MonkeyPatch) -> str:
    """The salt that this process and those that it starts find in the environment."""
    value = "a salt of the tests, long enough"
    monkeypatch.setenv("CXR_SALT", value)
    return value


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder with a finished synthetic run; read only, see `finished_work`."""
    work = tmp_path_factory.mktemp("finished")
    finished.complete(work)
    return work


@pytest.fixture
def finished_work(finished_once: Path, tmp_path: Path) -> Path:
    """A copy of a work folder with a finished synthetic run, which a test may damage."""
    return Path(shutil.copytree(finished_once, tmp_path / "finished"))


@pytest.fixture
def tiny() -> TrainingSettings:
    """Settings of the smallest training that fits the head and fine-tunes."""
    return training_settings(
        "demo",
        arch=("MobileNetV2",),
        image_size=32,
        epochs=1,
        min_sensitivity=0.9,
    )


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A function that installs a shell script as nvidia-smi; until it is called there is none."""
    tool = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))

    def put(script: str) -> None:
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)

    return put


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API address of a Prefect server that is stopped after the tests."""
    home = tmp_path_factory.mktemp("prefect")
    kept = {name: os.environ.get(name) for name in ("PREFECT_HOME", "PREFECT_API_URL")}
    os.environ["PREFECT_HOME"] = str(home)
    os.environ.pop("PREFECT_API_URL", None)
    from flows.server import embedded

    with embedded.embedded(folder=home) as address:
        yield f"{address}/api"
    for name, value in kept.items():
        os.environ.pop(name, None)
        if value:
            os.environ[name] = value


@pytest.fixture(scope="session")
def moto() -> Iterator[s3_servers.Server]:
    """A mock S3 server, one for all tests."""
    with s3_servers.mock() as server:
        yield server


@pytest.fixture(scope="session")
def ceph() -> Iterator[s3_servers.Server]:
    """A real S3 server, one for all slow tests."""
    with s3_servers.real() as server:
        yield server


def use(
    server: s3_servers.Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> s3_servers.Bucket:
    """Return a fresh bucket on the only server that this and its worker processes know of."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("CXR_CACHE", str(tmp_path / "cxr-cache"))
    return s3_servers.fresh_bucket(server)


@pytest.fixture
def moto_bucket(
    moto: s3_servers.Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> s3_servers.Bucket:
    """A fresh bucket on the mock server."""
    return use(moto, monkeypatch, tmp_path)


@pytest.fixture
def ceph_bucket(
    ceph: s3_servers.Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> s3_servers.Bucket:
    """A fresh bucket on the real server."""
    return use(ceph, monkeypatch, tmp_path)


@pytest.fixture(params=["moto", pytest.param("ceph", marks=pytest.mark.slow)])
def bucket(request: pytest.FixtureRequest) -> s3_servers.Bucket:
    """A fresh bucket on each kind of S3 server."""
    fresh: s3_servers.Bucket = request.getfixturevalue(f"{request.param}_bucket")
    return fresh


# Flags of the smallest run that trains; a test adds --epochs.
SMALLEST = ("--preset", "demo", "--arch", "MobileNetV2", "--image-size", "32")


class Command:
    """The command line, run in a separate process."""

    def __init__(self, environment: dict[str, str]):
        self.environment = environment

    def __call__(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Return the finished process of `cxr ARGUMENTS`, with its output."""
        return subprocess.run(
            [sys.executable, "-m", "flows.command", *map(str, arguments)],
            capture_output=True,
            text=True,
            env=self.environment,
            check=False,
            timeout=800,
            cwd=ROOT,
        )


@pytest.fixture
def cxr(api: str) -> Command:
    """The command line, using the shared Prefect server."""
    return Command(os.environ | {"PREFECT_API_URL": api})
