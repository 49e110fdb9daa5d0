"""The server on PostgreSQL: lost for 30 s in mid-run; two servers on one database, with Redis between them."""

import time

import pytest
import yaml

from deployments.stack import LOOPBACK, Stack
from flows.server.process import free_port
from tests.conftest import ROOT
from tests.support import redis_server
from tests.support.operated import TINY, newly_read, operated, wait
from tests.support.postgres import database, missing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(missing()), reason=missing() or "there"),
]
FLOW = "pipeline/pipeline-demo"


def test_database_gone_for_30_seconds(phantoms, tmp_path):
    """Ended without a checkpoint while a model trains: the run ends within 240 s, its slot is free; the next run trains nothing again; a backup restores."""
    parameters = {
        "data": str(phantoms),
        "out": str(tmp_path / "work"),
        "training": TINY | {"epochs": 12, "patience": 12},
    }
    with (
        database() as postgres,
        operated(tmp_path / "home", PREFECT_API_DATABASE_CONNECTION_URL=postgres.url) as stack,
    ):
        run = stack.start_run(FLOW, **parameters)
        wait(
            lambda: list(tmp_path.glob("work/runs/*/MobileNetV2/history.csv")),
            600,
            "an epoch",
            stack.logs,
        )
        postgres.stop()
        time.sleep(30)
        postgres.start()
        back = time.monotonic()
        state = stack.ended(run)
        print(f"MEASURED run {state} {time.monotonic() - back:.0f} s after the database was back")
        wait(lambda: stack.slots(FLOW) == 0, 300, "slot free", stack.logs)
        print(f"MEASURED slot free {time.monotonic() - back:.0f} s after the database was back")
        trained = list(tmp_path.glob("work/runs/*/MobileNetV2/training.json"))
        before = [path.stat().st_mtime_ns for path in trained]
        assert stack.alive("server") and stack.alive("worker")
        assert stack.ended(stack.start_run(FLOW, **parameters)) == "COMPLETED"
        assert [path.stat().st_mtime_ns for path in trained] == before and newly_read(
            tmp_path / "work"
        ) == 0
        # docs/operations.md, Back up, restore
        dump = str(tmp_path / "prefect.dump")
        postgres.run("pg_dump", "--format=custom", f"--file={dump}", "prefect")
        stack.down()
        for command in (
            ["dropdb", "prefect"],
            ["createdb", "prefect"],
            ["pg_restore", "--dbname=prefect", dump],
        ):
            postgres.run(*command)
        stack.up(stack.port, "cxr-cpu")
        assert stack.state(run) == state, "the history is back"


def shared_by_redis(port: int) -> dict[str, str]:
    """Return the compose file's settings for several servers, with a Redis on loopback in place of its own."""
    compose = yaml.safe_load((ROOT / "deployments" / "compose.yaml").read_text())["x-prefect"]
    settings = {name: value for name, value in compose.items() if "redis" in str(value)}
    settings["PREFECT_REDIS_MESSAGING_HOST"] = LOOPBACK
    settings["PREFECT_SERVER_DOCKET_URL"] = settings["PREFECT_SERVER_DOCKET_URL"].replace(
        "redis:6379", f"{LOOPBACK}:{port}"
    )
    return settings | {"PREFECT_REDIS_MESSAGING_PORT": str(port)}


@pytest.mark.skipif(
    not redis_server.REDIS, reason="redis-server is not installed: apt-get install redis-server"
)
def test_two_servers_on_one_database(phantoms, tmp_path):
    """A run started on the second server is seen on both; events and the lease of its slot are in Redis, not in one server."""
    with (
        database() as postgres,
        redis_server.running(tmp_path) as redis,
        operated(
            tmp_path / "home",
            PREFECT_API_DATABASE_CONNECTION_URL=postgres.url,
            **shared_by_redis(redis.connection_pool.connection_kwargs["port"]),
        ) as stack,
    ):
        second = Stack(tmp_path / "second")
        second.port = free_port()
        stack.launch(
            "second",
            "server",
            "start",
            "--host",
            LOOPBACK,
            "--port",
            str(second.port),
            "--no-services",
        )
        wait(lambda: second.call("/admin/version"), 120, "the second server answers", stack.logs)
        flow = second.call("/deployments/name/preprocess/preprocess")["id"]
        parameters = {"data": str(phantoms), "out": str(tmp_path / "work")}
        run = second.call(f"/deployments/{flow}/create_flow_run", {"parameters": parameters})["id"]
        leases: set[str] = set()
        wait(
            lambda: leases.update(redis.keys("*lease*")) or stack.state(run) == "COMPLETED",
            200,
            "it ends",
            stack.logs,
        )
        assert second.call(f"/flow_runs/{run}")["state"]["type"] == "COMPLETED"
        assert leases and redis.exists("events"), redis.keys()
        wait(lambda: stack.slots("preprocess/preprocess") == 0, 60, "slot free", stack.logs)
        ended = {"filter": {"event": {"name": ["prefect.flow-run.Completed"]}}}
        wait(
            lambda: second.call("/events/filter", ended)["total"],
            60,
            "what one server heard, the other tells",
            stack.logs,
        )
