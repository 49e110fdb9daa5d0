"""One at a time: the lock of a folder, and the lease in storage with its end, its renewal and its loss."""

import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from cxr import exclusive
from cxr.errors import BusyError
from cxr.storage import open_storage
from tests.conftest import ROOT

HOLD = """
import sys, time
from cxr import exclusive
with exclusive.alone(sys.argv[1], "retrain", False):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_is_refused_and_a_dead_one_s_lock_is_free(tmp_path):
    """While a process holds the folder: BusyError. Killed with -9, it holds nothing any more."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(BusyError, match="another retrain is at work"),
            exclusive.alone(str(tmp_path), "retrain", False),
        ):
            pass
        with exclusive.alone(str(tmp_path), "other", False):  # another kind of work
            pass
        process.kill()
        process.wait()
        with exclusive.alone(str(tmp_path), "retrain", False):
            pass


def test_waiting_ends_when_the_holder_dies(tmp_path):
    """With `wait` the second goes on as soon as the first is gone."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout.readline() == "held\n"
        threading.Timer(0.5, process.kill).start()
        with exclusive.alone(str(tmp_path), "retrain", True):
            assert process.wait() != 0


def lease(folder, wait=False, seconds=60.0):
    return exclusive.lease(open_storage(str(folder)), "retrain-lease.json", wait, seconds)


def written(folder):
    return exclusive.Lease.model_validate_json((folder / "retrain-lease.json").read_text())


def test_a_lease_is_held_by_one_and_free_afterwards(tmp_path):
    """The second is told who holds it; given back, it is taken at once."""
    with lease(tmp_path) as check:
        check()
        with pytest.raises(BusyError, match=written(tmp_path).holder), lease(tmp_path):
            pass
    with lease(tmp_path):
        pass


def test_a_dead_holder_s_lease_ends(tmp_path):
    """One that is not over is refused; one that is over is taken; `wait` waits for the end."""
    open_storage(str(tmp_path)).write("retrain-lease.json", exclusive._data("dead", 0.6))
    with pytest.raises(BusyError, match="dead"), lease(tmp_path):
        pass
    with lease(tmp_path, wait=True):
        assert "dead" not in written(tmp_path).holder


def test_a_lease_is_renewed_and_a_lost_one_is_noticed(tmp_path):
    """Held for longer than its term it stays ours; taken by another while we stood still, `check` says so."""
    with lease(tmp_path, seconds=0.6) as check:
        time.sleep(1.5)
        check()
        assert written(tmp_path).until > datetime.now(UTC)
        other = exclusive.Lease(holder="another", until=datetime.now(UTC) + timedelta(seconds=60))
        open_storage(str(tmp_path)).write("retrain-lease.json", other.model_dump_json().encode())
        deadline = time.monotonic() + 10
        with pytest.raises(BusyError, match="went to another"):
            while time.monotonic() < deadline:
                check()
                time.sleep(0.05)
    assert written(tmp_path).holder == "another"  # not given away by us
