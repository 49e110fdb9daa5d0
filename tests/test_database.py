"""The server on PostgreSQL: lost for 30 s in mid-run, backed up, restored."""

import time

import pytest

from tests.operated import TINY, newly_read, operated, wait
from tests.postgres import database, missing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(missing()), reason=missing() or "there"),
]
FLOW = "pipeline/pipeline-demo"


def test_database_gone_for_30_seconds(phantoms, tmp_path):
    """Ended without a checkpoint while a model trains: the run ends within 240 s, its slot is free; the next run trains nothing again."""
    parameters = {
        "data": str(phantoms),
        "out": str(tmp_path / "work"),
        "training": TINY | {"epochs": 12, "patience": 12},
    }
    with database() as postgres, operated(tmp_path / "home", PREFECT_API_DATABASE_CONNECTION_URL=postgres.url) as stack:
        run = stack.start_run(FLOW, **parameters)
        wait(lambda: list(tmp_path.glob("work/runs/*/MobileNetV2/history.csv")), 600, "an epoch", stack.logs)
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
        assert [path.stat().st_mtime_ns for path in trained] == before and newly_read(tmp_path / "work") == 0
        assert b"CREATE TABLE public.flow_run " in postgres.run("pg_dump", "postgres")
