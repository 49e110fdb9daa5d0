"""`make up` and `make down` as an operator meets them: a real server and worker, basic auth on, in a folder of their own."""

import contextlib
import secrets
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import datetime, timedelta

import pytest

from deployments.stack import Stack, StackError, marked
from tests.conftest import ROOT
from tests.support.operated import TINY, Operated, operated, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
PASSWORD = secrets.token_hex(12)
SECRETS = {
    "PREFECT_SERVER_API_AUTH_STRING": f"operator:{PASSWORD}",
    "PREFECT_API_AUTH_STRING": f"operator:{PASSWORD}",
    "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    started = time.monotonic()
    with operated(tmp_path_factory.mktemp("stack"), **SECRETS) as found:
        print(f"MEASURED up on a fresh folder: {time.monotonic() - started:.0f} s")
        yield found


def test_a_fresh_server_has_pools_automation_and_every_deployment(stack):
    """`prefect --no-prompt deploy --all` worked: strict, limited, nothing but the flow's dotted name to find it by."""
    pools = {pool["name"]: pool["type"] for pool in stack.call("/work_pools/filter", {})}
    assert pools == {"cxr-cpu": "process", "cxr-gpu": "process"}
    # Those that tell a person need a webhook, see test_automations.py.
    automations = {each["name"] for each in stack.call("/automations/filter", {})}
    assert automations == {"crash-silent-runs", "retrain-on-change-or-drift"}
    there = {each["name"]: each for each in stack.call("/deployments/filter", {})}
    pipelines = {"pipeline", "pipeline-quick", "pipeline-thorough", "pipeline-demo", "pipeline-gpu"}
    stages = {"preprocess", "explore", "train", "export", "predict", "labels", "site"}
    scheduled = {"retrain", "watch", "monitor"}
    former = {"train-models", "export-model"}
    assert set(there) == pipelines | stages | scheduled | former
    for each in there.values():
        assert each["enforce_parameter_schema"] and each["global_concurrency_limit"]["limit"] >= 1
        assert (
            not each["pull_steps"] and not each["path"] and each["entrypoint"].startswith("flows.")
        )
    (weekly,) = there["retrain"]["schedules"]
    assert (
        weekly["schedule"]["cron"] == "0 3 * * 0"
        and weekly["schedule"]["timezone"] == "UTC"
        and not weekly["active"]
    )


def test_misspelt_parameters_are_refused_before_a_run_exists(stack):
    """By name, at the deployment; nothing is scheduled."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        stack.start_run("pipeline/pipeline-demo", data="d", out="o", training={"epoch_count": 3})
    assert refused.value.code == 409
    assert stack.call("/flow_runs/filter", {}) == []


def test_up_again_changes_nothing_and_keeps_what_the_operator_did(stack):
    """Same processes; a resumed schedule stays resumed when its variables are set, and is paused when they are not."""
    pids = dict(stack.pids)
    retrain = stack.call("/deployments/name/retrain/retrain")
    place = f"/deployments/{retrain['id']}/schedules/{retrain['schedules'][0]['id']}"

    def resume():
        stack.call(place, {"active": True}, method="PATCH")

    def active():
        return stack.call("/deployments/name/retrain/retrain")["schedules"][0]["active"]

    resume()
    stack.up(stack.port, "cxr-cpu")
    assert not active(), "without cxr_data and cxr_work every run of it would fail"
    for name in ("cxr_data", "cxr_work"):
        stack.call("/variables/", {"name": name, "value": f"s3://bucket/{name}"})
    stack.up(stack.port, "cxr-cpu")
    assert not active()
    resume()
    stack.up(stack.port, "cxr-cpu")
    kept = stack.call("/deployments/name/retrain/retrain")
    # The server itself lays out the runs to come; with SQLAlchemy 2.1 it fails at that, every minute, in its log alone.
    body = {"deployments": {"id": {"any_": [retrain["id"]]}}, "sort": "EXPECTED_START_TIME_ASC"}
    wait(lambda: stack.call("/flow_runs/filter", body), 180, "a run is scheduled", stack.logs)
    first = datetime.fromisoformat(stack.call("/flow_runs/filter", body)[0]["expected_start_time"])
    assert (first.isoweekday(), first.hour, first.utcoffset()) == (7, 3, timedelta(0))
    assert active() and kept["parameters"]["data"] == "s3://bucket/cxr_data" and stack.pids == pids


def credentials():
    import base64

    return "Basic " + base64.b64encode(SECRETS["PREFECT_API_AUTH_STRING"].encode()).decode()


def test_without_the_password_nobody_gets_in(stack):
    """The API answers 401, a command says so, and a worker ends at once and says why; with another password too."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{stack.address}/api/flow_runs/count", timeout=10)
    assert refused.value.code in {401, 405}
    refused.value.close()
    for wrong in ("", "operator:guess"):
        environment = stack.environment() | {
            "PREFECT_API_AUTH_STRING": wrong,
            "PREFECT_SERVER_API_AUTH_STRING": "",
        }
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "worker", "start", "--pool", "cxr-cpu", "--type", "process", "--name", "thief"],
            capture_output=True, text=True, env=environment, check=False, timeout=120, cwd=ROOT,
        )  # fmt: skip
        assert done.returncode and "401" in done.stdout + done.stderr, done.stdout + done.stderr
    names = {worker["name"] for worker in stack.call("/work_pools/cxr-cpu/workers/filter", {})}
    assert "thief" not in names and len(names) == 1


def test_a_port_that_is_taken_is_told_and_a_second_stack_ends_only_itself(stack, tmp_path):
    """The command's one line and exit status 1; `down` of another home leaves this one alone."""

    def command(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "deployments.stack", *arguments], capture_output=True, text=True, check=False, cwd=ROOT,
            env=stack.environment(), timeout=60,
        )  # fmt: skip

    taken = command("up", "--home", str(tmp_path), "--port", str(stack.port))
    assert taken.returncode == 1 and "taken by another process" in taken.stderr
    assert command("down", "--home", str(tmp_path)).returncode == 0
    assert command("status", "--home", str(tmp_path)).returncode == 3
    status = command("status", "--home", str(stack.home))
    assert status.returncode == 0 and status.stdout.count("running, process") == 2


def test_a_run_on_the_worker_and_no_secret_in_anything_written(stack, phantoms, tmp_path):
    """Preprocessing started as an operator does; afterwards no secret's value is in the state, the logs or the work folder."""
    done = stack.prefect(
        "deployment",
        "run",
        "preprocess/preprocess",
        "-p",
        f"data={phantoms}",
        "-p",
        f"out={tmp_path}",
        "--watch",
    )
    assert done.returncode == 0 and (tmp_path / "ingest.json").is_file(), (
        done.stdout + done.stderr + stack.logs()
    )
    values = {value.rpartition(":")[2].encode() for value in SECRETS.values()} | {
        credentials().split()[1].encode()
    }
    looked = 0
    for folder in (stack.home, tmp_path):
        for path in folder.rglob("*"):
            if path.is_file():
                looked += 1
                text = path.read_bytes()
                assert not any(value in text for value in values), path
    assert looked > 10 and not any(value.decode() in done.stdout + done.stderr for value in values)


def test_a_schedule_fires_and_the_second_retraining_finds_nothing_new(stack, phantoms, tmp_path):
    """Every minute by cron: the server makes the runs, the worker takes them; the first trains, the next ends "Unchanged"."""
    retrain = stack.call("/deployments/name/retrain/retrain")
    place = f"/deployments/{retrain['id']}/schedules"
    parameters = {"data": str(phantoms), "out": str(tmp_path), "training": TINY}
    every_minute = {"cron": "* * * * *", "timezone": "UTC"}
    before = {run["id"] for run in stack.call("/flow_runs/filter", {})}
    started = time.monotonic()
    (made,) = stack.call(
        place, [{"schedule": every_minute, "active": True, "parameters": parameters}]
    )

    def runs():
        ask = {"deployments": {"id": {"any_": [retrain["id"]]}}, "sort": "EXPECTED_START_TIME_ASC"}
        return [
            run
            for run in stack.call("/flow_runs/filter", ask)
            if run["parameters"]["out"] == str(tmp_path)
        ]

    try:
        wait(lambda: len(runs()) > 1, 120, "the server lays out runs", stack.logs)
        wait(
            lambda: runs()[0]["state"]["type"] == "RUNNING",
            200,
            "the first run starts by itself",
            stack.logs,
        )
        print(
            f"MEASURED a schedule's first run started {time.monotonic() - started:.0f} s after it was made"
        )
        first, second = (run["id"] for run in runs()[:2])
        assert stack.ended(first) == "COMPLETED" and stack.ended(second) == "COMPLETED", (
            stack.logs()
        )
    finally:
        stack.call(f"{place}/{made['id']}", method="DELETE")
    found = [stack.call(f"/flow_runs/{run}") for run in (first, second)]
    assert [run["state"]["name"] for run in found] == ["Completed", "Unchanged"]
    assert all(run["auto_scheduled"] and run["id"] not in before for run in found)
    assert (
        len(list(tmp_path.glob("runs/*"))) == 1 == len(list(tmp_path.glob("registry/versions/*")))
    )


def test_down_ends_everything_and_the_state_stays(stack, tmp_path):
    """Down: no process with its token is left; up again, on a backup of its database and with another password, finds the runs of before."""
    run = stack.start_run(
        "preprocess/preprocess", data=str(tmp_path / "nothing"), out=str(tmp_path / "w")
    )
    assert stack.ended(run) == "FAILED"
    with (
        contextlib.closing(sqlite3.connect(stack.home / "prefect.db")) as live,
        contextlib.closing(sqlite3.connect(tmp_path / "backup.db")) as copy,
    ):
        live.backup(copy)  # docs/operations.md, Back up, restore
    port = stack.port
    stack.down()
    assert marked(stack.token) == [] and Stack(stack.home).pids == {}
    for path in stack.home.glob("prefect.db*"):
        path.unlink()
    shutil.copy(tmp_path / "backup.db", stack.home / "prefect.db")
    again = Operated(stack.home)
    again.extra = dict.fromkeys(
        ("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"), "operator:new"
    )
    try:
        started = time.monotonic()
        again.up(port, "cxr-cpu")
        print(f"MEASURED up again: {time.monotonic() - started:.0f} s")
        assert again.state(run) == "FAILED"
        with pytest.raises(StackError, match="another password"):
            stack.call("/admin/version")
        wait(lambda: again.slots("preprocess/preprocess") == 0, 30, "slot free", again.logs)
    finally:
        again.down()
