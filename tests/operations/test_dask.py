"""Tasks on several machines: a real Dask scheduler and workers as separate processes on loopback."""

import contextlib
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from prefect import flow, task

from cxr.core.errors import CxrError
from cxr.data.phantoms import dataset
from cxr.storage.addresses import open_storage
from cxr.storage.workspace import lease
from flows.server import prefect_api
from tasks import runners
from tests.conftest import ROOT
from tests.support.dask_cluster import Cluster, cluster, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
FLAGS = [
    "--preset", "demo", "--image-size", "32", "--min-sensitivity", "0.9",
]  # fmt: skip
ONE = [*FLAGS, "--epochs", "2", "--arch", "MobileNetV2"]
TWO = [*ONE, "VGG16"]
RESULTS = (
    "clean_metadata.csv",
    "rejects.csv",
    "runs/*/*/scores_val.csv",
    "runs/*/*/history.csv",
    "runs/*/scores_test.csv",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """More images than one shard holds."""
    folder = tmp_path_factory.mktemp("data") / "phantoms"
    dataset.make_dataset(folder, images=210, size=96, seed=2)
    return folder


@contextlib.contextmanager
def started(environment: dict[str, str], *arguments: str | Path) -> Iterator[Callable[[], None]]:
    """Start the command against the shared server; give what waits until it has ended well. Ended with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.command", *map(str, arguments)], env=environment, cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip

    def ended() -> None:
        said = process.communicate(timeout=1200)[0]
        assert process.returncode == 0, said

    try:
        yield ended
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def plain(api, data, tmp_path_factory) -> dict[str, bytes]:
    """The results of the thread runner."""
    work = tmp_path_factory.mktemp("plain")
    with started(os.environ | {"PREFECT_API_URL": api}, "run", data, "--out", work, *TWO) as ended:
        ended()
    found = results(work)
    assert len(found) == 7
    return found


def results(work: Path) -> dict[str, bytes]:
    """Return the results of a work folder, by their names without runs/ID.

    Of a history the seconds are left out. Its numbers and the scores are rounded: a worker of one
    thread adds up the gradients of fine-tuning in another order than one of two, which changes the
    seventh digit of a loss.
    """
    contents = {}
    for pattern in RESULTS:
        for path in sorted(work.glob(pattern)):
            parts = path.relative_to(work).parts
            name = "/".join(parts[2:] or parts)
            content = path.read_bytes()
            if "history" in name:
                content = rounded_table(content, last=-1)
            elif "scores" in name:
                content = rounded_table(content)
            contents[name] = content
    return contents


def rounded_table(content: bytes, last: int | None = None) -> bytes:
    """Return a table with its columns up to `last`, numbers with four significant digits."""
    lines = []
    for line in content.decode().splitlines():
        cells = line.split(",")[:last]
        lines.append(",".join(rounded(cell) for cell in cells))
    return "\n".join(lines).encode()


def rounded(cell: str) -> str:
    try:
        return f"{float(cell):.4g}"
    except ValueError:
        return cell


def test_a_worker_killed_in_the_middle_changes_no_result(cxr, data, plain, tmp_path):
    """Shards, features and trainings on two workers; kill -9 of one at work: the other does its part, all is the same."""
    from distributed import Client

    work = tmp_path / "one killed"
    with cluster(tmp_path / "cluster") as found:
        for name in ("one", "two"):
            found.join(name)
        arguments = ("run", data, "--out", work, *TWO, "--runner", found.address)
        with (
            started(cxr.environment, *arguments) as ended,
            Client(found.address, timeout=60) as client,
        ):
            # Between two tasks nobody is at work: both are asked until both are so.
            victim, *_ = wait(
                lambda: list(work.glob("runs/*/*/training.log")) and found.busy(client),
                600,
                "a training runs",
                found.logs,
            )
            found.kill(victim)
            ended()
            left = {worker["name"] for worker in client.scheduler_info()["workers"].values()}
    assert left == {"one", "two"} - {victim}
    assert results(work) == plain
    assert len(list(work.glob("runs/*/*/features-1of1.json"))) == 2, (
        "features were tasks of their own"
    )
    states = {task["name"]: task["state_type"] for task in tasks_of("train", work, cxr.environment)}
    assert {"train VGG16", "features MobileNetV2 1 of 1"} <= states.keys() and set(
        states.values()
    ) == {"COMPLETED"}


def test_a_killed_run_takes_its_trainings_along(cxr, phantoms, tmp_path):
    """After kill -9 of the run: the worker ends a training that would have gone on for minutes, and is free for the next."""
    work, endless = (
        tmp_path / "work",
        ["--arch", "MobileNetV2", "--epochs", "900", "--patience", "900"],
    )
    with cluster(tmp_path / "cluster") as found:
        found.join("one")
        arguments = ("run", phantoms, "--out", work, *FLAGS, *endless, "--runner", found.address)
        with started(cxr.environment, *arguments):
            wait(
                lambda: list(work.glob("runs/*/*/history.csv")),
                600,
                "a training is under way",
                found.logs,
            )
        wait(
            lambda: "the run that asked for this task has gone" in found.log("one"),
            60,
            "it ends",
            found.logs,
        )
        with FileLock(next(work.glob("runs/*/MobileNetV2")) / ".lock", timeout=20):
            pass  # the child process has let go of it
    assert not list(work.glob("runs/*/*/training.json"))


def tasks_of(flow: str, out: Path, environment: dict[str, str]) -> list[dict[str, str]]:
    """Return what the server tells of the tasks of a flow's run with that work folder, which is what the UI shows."""

    def having(what: str, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        return prefect_api.request(environment["PREFECT_API_URL"], f"/{what}/filter", body=wanted)

    runs = having("flow_runs", {"flows": {"name": {"any_": [flow]}}})
    (run,) = (each["id"] for each in runs if each["parameters"]["out"] == str(out))
    return having("task_runs", {"flow_runs": {"id": {"any_": [run]}}})


def test_a_work_folder_on_s3(cxr, data, plain, moto_bucket, tmp_path):
    """Workers that see the folder in which it is worked with do their part; the run alone publishes, under its lease."""
    images, work = (open_storage(f"s3://{moto_bucket.name}/{name}") for name in ("data", "work"))
    for path in (path for path in data.rglob("*") if path.is_file()):
        images.upload(path, path.relative_to(data).as_posix())
    with cluster(tmp_path / "cluster") as found:
        found.join("one")
        environment = cxr.environment | {
            name: os.environ[name] for name in os.environ if name.startswith(("AWS_", "CXR_"))
        }
        arguments = ("run", images.uri, "--out", work.uri, *ONE, "--runner", found.address)
        with started(environment, *arguments) as ended:
            ended()
    for entry in work.list():
        work.download(entry.key, tmp_path / "published" / entry.key)
    found = results(tmp_path / "published")
    alone = {
        "clean_metadata.csv",
        "rejects.csv",
        "MobileNetV2/scores_val.csv",
        "MobileNetV2/history.csv",
    }
    assert alone | {"scores_test.csv"} == found.keys() and all(
        found[name] == plain[name] for name in alone
    )
    assert b'"free"' in work.read(lease.KEY)


@task
def where(number: int, work: Path) -> tuple[str, runners.Place, float, float]:
    """Return which worker does this, what it may use, from when to when."""
    from distributed import get_worker

    began = time.time()
    (work / "at work").touch()
    time.sleep(0.5)
    return get_worker().name, runners.place(7), began, time.time()


@flow
def spread(
    address: str, work: Path, trainings: bool
) -> list[tuple[str, runners.Place, float, float]]:
    """Do six tasks."""
    with runners.opened(address, 1, work, trainings) as pool:
        return [
            runners.result(future)
            for future in pool.map(where, {"number": list(range(6)), "work": work})
        ]


def test_trainings_go_where_the_resource_is(api, tmp_path):
    """One at a time on the one worker that offers a GPU, with all of its threads; other tasks go anywhere."""
    with cluster(tmp_path / "cluster") as found:
        found.join("plain", "--nthreads", "2")
        found.join("gpu", "--nthreads", "2", "--resources", "GPU=1")
        found.joined("plain", "gpu")
        trained = sorted(spread(found.address, tmp_path, True), key=lambda each: each[2])
        assert {name for name, *_ in trained} == {"gpu"} and trained[0][1] == runners.Place(2, 1)
        assert all(
            ended <= began for (_, _, _, ended), (_, _, began, _) in itertools.pairwise(trained)
        )
        anywhere = spread(found.address, tmp_path, False)
        assert {name for name, *_ in anywhere} == {"plain", "gpu"}
        assert {name: place for name, place, *_ in anywhere}["plain"] == runners.Place(2, 2)


def test_a_cluster_that_goes_away_is_said(api, tmp_path):
    """Without a worker, and with a scheduler that is killed: an error that says what to do, not a wait for ever."""
    with cluster(tmp_path / "cluster") as found, pytest.MonkeyPatch.context() as patch:
        patch.setattr(runners, "CONNECT_SECONDS", 5)
        with pytest.raises(CxrError, match=f"found none: dask worker {found.address}"):
            spread(found.address, tmp_path, False)
        found.join("one")
        threading.Thread(target=kill_at_work, args=(found, tmp_path), daemon=True).start()
        (*_, last) = spread(found.address, tmp_path, False)
        assert isinstance(last, CxrError) and "the same command goes on from here" in str(last)


def kill_at_work(found: Cluster, work: Path) -> None:
    """Send kill -9 to the scheduler as soon as a task runs."""
    wait((work / "at work").exists, 60, "a task runs", found.logs)
    found.kill("scheduler")
