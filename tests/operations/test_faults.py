"""Workers, servers and disks come and go: what an operator finds afterwards. Real processes, phantom images."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.operated import TINY, newly_read, operated, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
DEMO, FLOW = "pipeline-demo", "pipeline/pipeline-demo"
LONG = TINY | {"epochs": 60, "patience": 60}
LINES = 6  # of a history.csv with its header, three fits of the head and two epochs


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with operated(tmp_path_factory.mktemp("stack")) as found:
        yield found


def stated(what: str, seconds: float) -> None:
    """Print a measured time for docs/results.md (pytest -s shows it); nothing is asserted of it but its bound."""
    print(f"MEASURED {what}: {seconds:.0f} s")


def in_training(work: Path) -> bool:
    return any(
        path.read_text().count("\n") >= LINES
        for path in work.glob("runs/*/MobileNetV2/history.csv")
    )


def test_worker_and_flow_killed_in_mid_training(stack, phantoms, tmp_path):
    """After kill -9 of both: Crashed within 150 s by the heartbeat automation, the slot free; the next run goes on from the last epoch."""
    run = stack.start_run(FLOW, data=str(phantoms), out=str(tmp_path), training=LONG)
    wait(lambda: in_training(tmp_path), 600, "two epochs", stack.logs)
    assert stack.slots(FLOW) == 1
    os.kill(stack.pids["worker"], signal.SIGKILL)
    stack.kill_runs()
    stated(
        "Crashed after kill -9 of worker and flow",
        wait(lambda: stack.state(run) == "CRASHED", 150, "crashed", stack.logs),
    )
    stated(
        "slot freed after that", wait(lambda: stack.slots(FLOW) == 0, 60, "slot free", stack.logs)
    )
    history = next(tmp_path.glob("runs/*/MobileNetV2/history.csv"))
    rows = history.read_text().splitlines()
    looked = (tmp_path / "eda" / "eda.json").stat().st_mtime_ns
    stack.up(stack.port, "cxr-cpu")
    again = stack.start_run(FLOW, data=str(phantoms), out=str(tmp_path), training=LONG)
    wait(
        lambda: len(history.read_text().splitlines()) > len(rows), 600, "one more epoch", stack.logs
    )
    assert history.read_text().splitlines()[: len(rows)] == rows, "the epochs done are kept"
    assert (
        newly_read(tmp_path) == 0 and (tmp_path / "eda" / "eda.json").stat().st_mtime_ns == looked
    )
    stack.kill_runs()
    assert stack.ended(again) == "CRASHED"


def test_flow_process_killed_while_the_worker_lives(stack, phantoms, tmp_path):
    """After kill -9 behind the training: the worker reports Crashed within 60 s, the slot is free; the next run trains nothing again.

    A run started meanwhile waits in AwaitingConcurrencySlot for that one; both end Completed, in their order.
    """
    parameters = {"data": str(phantoms), "out": str(tmp_path), "training": TINY}
    run = stack.start_run(FLOW, **parameters)
    wait(
        lambda: list(tmp_path.glob("runs/*/MobileNetV2/training.json")),
        600,
        "a trained model",
        stack.logs,
    )
    stack.kill_runs()
    stated(
        "Crashed after kill -9 of the flow",
        wait(lambda: stack.state(run) == "CRASHED", 60, "crashed", stack.logs),
    )
    stated(
        "slot freed after that", wait(lambda: stack.slots(FLOW) == 0, 60, "slot free", stack.logs)
    )
    (trained,) = tmp_path.glob("runs/*/MobileNetV2/training.json")
    before = trained.stat().st_mtime_ns
    first = stack.start_run(FLOW, **parameters)
    wait(lambda: stack.state(first) == "RUNNING", 600, "the first runs", stack.logs)
    second = stack.start_run(FLOW, **parameters)
    state = f"/flow_runs/{second}"
    wait(
        lambda: stack.call(state)["state"]["name"] == "AwaitingConcurrencySlot",
        120,
        "it waits",
        stack.logs,
    )
    assert stack.state(first) == "RUNNING"
    assert stack.ended(first) == "COMPLETED" and stack.ended(second) == "COMPLETED"
    assert stack.call(state)["start_time"] >= stack.call(f"/flow_runs/{first}")["end_time"]
    assert trained.stat().st_mtime_ns == before and newly_read(tmp_path) == 0
    assert (trained.parent.parent / "export" / "SHA256SUMS").is_file()


def test_server_killed_and_restarted_in_mid_run(stack, phantoms, tmp_path):
    """After kill -9 of the server while a model trains: the run goes on without it and ends Completed on the new one."""
    run = stack.start_run(
        FLOW, data=str(phantoms), out=str(tmp_path), training=TINY | {"epochs": 12, "patience": 12}
    )
    wait(lambda: in_training(tmp_path), 600, "two epochs", stack.logs)
    os.kill(stack.pids["server"], signal.SIGKILL)
    wait(lambda: not stack.alive("server"), 30, "server gone")
    stated("server back", wait(lambda: stack.up(stack.port, "cxr-cpu") is None, 600, "server back"))
    assert stack.ended(run) == "COMPLETED"
    stated(
        "slot freed after the run",
        wait(lambda: stack.slots(FLOW) == 0, 60, "slot free", stack.logs),
    )
    assert list(tmp_path.glob("runs/*/export/SHA256SUMS"))


def test_disk_full(stack, phantoms, tmp_path):
    """A work folder without room: the run fails and names the cause, its slot is free; with room, the next one goes on."""
    work = tmp_path / "small"
    work.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", work],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here (needs root): {mounted.stderr.strip()}")
    try:
        run = stack.start_run(FLOW, data=str(phantoms), out=str(work), training=TINY)
        assert stack.ended(run) == "FAILED"
        assert "No space left on device" in str(stack.call(f"/flow_runs/{run}")["state"]["message"])
        wait(lambda: stack.slots(FLOW) == 0, 60, "slot free", stack.logs)
        subprocess.run(["mount", "-o", "remount,size=100m", work], check=True)
        assert (
            stack.ended(stack.start_run(FLOW, data=str(phantoms), out=str(work), training=TINY))
            == "COMPLETED"
        )
        assert newly_read(work) == 0
    finally:
        subprocess.run(["umount", "-l", work], check=True)
