"""How long an operator waits: from `prefect deployment run` to the first task on a worker; what a task and a flow cost.

    python -m bench.trigger

A stack of its own (SQLite server, one process worker) in a temporary folder; `preprocess` on 30 phantom images.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from cxr.data.phantoms import dataset
from deployments.stack import Stack
from flows.server.process import free_port

REPEATS, TASKS = 5, 200
ENDS = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@task(cache_policy=NO_CACHE)
def nothing(number: int) -> int:
    return number


@flow
def empty() -> None:
    """A flow without a task."""


@flow
def many(count: int) -> None:
    """So many tasks that do nothing."""
    nothing.map(range(count)).wait()


def triggered(stack: Stack, data: Path, out: Path) -> dict[str, float]:
    """Start `preprocess` as an operator does; return the seconds from the command's start to each step."""
    began = time.time()
    command = [
        sys.executable,
        "-m",
        "prefect",
        "--no-prompt",
        "deployment",
        "run",
        "preprocess/preprocess",
    ]
    arguments = ["-p", f"data={data}", "-p", f"out={out}"]
    subprocess.run([*command, *arguments], check=True, capture_output=True, env=stack.environment())
    (run,) = stack.call("/flow_runs/filter", {"sort": "EXPECTED_START_TIME_DESC", "limit": 1})
    while stack.call(f"/flow_runs/{run['id']}")["state"]["type"] not in ENDS:
        time.sleep(0.5)
    time.sleep(2)  # task runs reach the database a little after they ended
    run = stack.call(f"/flow_runs/{run['id']}")
    tasks = stack.call("/task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    first = min(each["start_time"] for each in tasks)
    moments = {
        "run created": run["created"],
        "flow started": run["start_time"],
        "first task": first,
        "done": run["end_time"],
    }
    return {
        name: datetime.fromisoformat(moment).timestamp() - began for name, moment in moments.items()
    }


def seconds(call: object, *arguments: int) -> float:
    started = time.perf_counter()
    call(*arguments)  # type: ignore[operator]
    return time.perf_counter() - started


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        dataset.make_dataset(root / "data", images=30, size=96)
        stack = Stack(root / "home")
        try:
            started = time.perf_counter()
            stack.up(free_port(), "cxr-cpu")
            print(f"stack up on a fresh folder: {time.perf_counter() - started:.0f} s")
            found = [triggered(stack, root / "data", root / f"out{i}") for i in range(REPEATS)]
            for name in found[0]:
                values = [each[name] for each in found]
                print(
                    f"{name:<13}median {statistics.median(values):5.1f} s ({min(values):.1f} to {max(values):.1f}) of {REPEATS}"
                )
            os.environ.update(
                {k: v for k, v in stack.environment().items() if k.startswith("PREFECT_")}
            )
            os.environ["PREFECT_LOGGING_LEVEL"] = "ERROR"
            from prefect.context import refresh_global_settings_context

            refresh_global_settings_context()
            seconds(many, 10)  # connections, imports
            flows = statistics.median(seconds(empty) for _ in range(REPEATS))
            whole = statistics.median(seconds(many, TASKS) for _ in range(REPEATS))
            print(
                f"an empty flow: {flows:.2f} s; a task in it: {(whole - flows) / TASKS * 1000:.0f} ms ({TASKS} mapped in threads)"
            )
        finally:
            stack.down()


if __name__ == "__main__":
    main()
