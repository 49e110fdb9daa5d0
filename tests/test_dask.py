"""Tasks on several machines: a real Dask scheduler and workers as separate processes on loopback."""

import subprocess
import sys
from pathlib import Path

import pytest

from cxr import phantom
from tests.conftest import ROOT
from tests.dask_cluster import cluster, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
FLAGS = [
    "--preset", "demo", "--arch", "MobileNetV2", "DenseNet121", "--image-size", "32", "--epochs", "2",
    "--fine-tune-epochs", "0", "--min-sensitivity", "0.9",
]  # fmt: skip
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
    phantom.make_dataset(folder, images=420, size=96, seed=2)
    return folder


def started(cxr, *arguments: str | Path) -> subprocess.Popen[str]:
    """Start the command against the shared server."""
    return subprocess.Popen(
        [sys.executable, "-m", "flows.command", *map(str, arguments)], env=cxr.environment, cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def results(work: Path) -> dict[str, bytes]:
    """Return the results of a work folder, history without the seconds that its epochs took."""
    found = {str(path.relative_to(work)): path.read_bytes() for name in RESULTS for path in sorted(work.glob(name))}
    return {
        name: b"\n".join(line.rsplit(b",", 2)[0] for line in text.splitlines()) if "history" in name else text
        for name, text in found.items()
    }


def test_a_worker_killed_in_the_middle_changes_no_result(cxr, data, tmp_path):
    """Shards, features and trainings on two workers; kill -9 of one at work: the other does its part, all is the same."""
    from distributed import Client

    plain = started(cxr, "run", data, "--out", tmp_path / "plain", *FLAGS)
    said = plain.communicate(timeout=400)[0]
    assert plain.returncode == 0, said
    work = tmp_path / "dask"
    with cluster(tmp_path / "cluster") as found:
        for name in ("one", "two"):
            found.join(name)
        process = started(cxr, "run", data, "--out", work, *FLAGS, "--runner", found.address)
        with Client(found.address, timeout=60) as client:
            wait(lambda: list(work.glob("runs/*/*/training.log")), 300, "a training runs", found.logs)
            victim = found.busy(client)[0]
            found.kill(victim)
            said = process.communicate(timeout=600)[0]
            assert process.returncode == 0, said + found.logs()
            left = {worker["name"] for worker in client.scheduler_info()["workers"].values()}
    assert left == {"one", "two"} - {victim}
    assert results(work) == results(tmp_path / "plain") and len(results(work)) == 7
    assert len(list(work.glob("runs/*/*/features-1of1.json"))) == 2
