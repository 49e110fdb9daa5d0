"""The stack of `make up` inside a test: a real server and a real worker in a folder of their own, on a free port."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from deployments.stack import Stack, marked
from flows.server.process import free_port
from tests.conftest import ROOT

TINY = {
    "arch": ["MobileNetV2"],
    "weights": "none",
    "image_size": 32,
    "epochs": 0,
    "min_sensitivity": 0.9,
}


class Operated(Stack):
    """A stack that a test brought up: what an operator does to it, and what the API says of it."""

    extra: dict[str, str]

    def environment(self) -> dict[str, str]:
        """Return the stack's environment with this checkout first on the path, and what the test adds."""
        return super().environment() | {"PYTHONPATH": str(ROOT)} | self.extra

    def prefect(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the prefect command against this server, as an operator with a shell would."""
        return subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *arguments], capture_output=True, text=True, check=False,
            env=self.environment() | environment, timeout=200, cwd=ROOT,
        )  # fmt: skip

    def start_run(self, deployment: str, **parameters: Any) -> str:
        """Start a run of FLOW/NAME over the API; return its id."""
        found = self.call(f"/deployments/name/{deployment}")
        return str(
            self.call(f"/deployments/{found['id']}/create_flow_run", {"parameters": parameters})[
                "id"
            ]
        )

    def state(self, run: str) -> str:
        """Return a run's state."""
        return str(self.call(f"/flow_runs/{run}")["state"]["type"])

    def ended(self, run: str, seconds: float = 600) -> str:
        """Return a run's state once it has ended."""
        ends = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
        wait(lambda: self.state(run) in ends, seconds, f"run {run} ends", self.logs)
        return self.state(run)

    def slots(self, deployment: str) -> int:
        """Return how many runs of a deployment hold a slot of its concurrency limit."""
        return int(
            self.call(f"/deployments/name/{deployment}")["global_concurrency_limit"]["active_slots"]
        )

    def kill_runs(self) -> None:
        """Send kill -9 to every process of a run, with all that it started."""
        own = {self.pids.get("server"), self.pids.get("worker")}
        for pid in marked(self.token):
            if pid not in own:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def logs(self) -> str:
        """Return the last lines of the server's and the worker's log."""
        return "\n".join(
            f"{p.name}: {p.read_text(errors='replace')[-1500:]}"
            for p in (self.home / "logs").glob("*.log")
        )


def wait(
    done: Callable[[], Any], seconds: float, what: str, why: Callable[[], str] = lambda: ""
) -> float:
    """Return after how many seconds `done` gave something true; a failing API call counts as not yet."""
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        with contextlib.suppress(OSError):
            if done():
                return time.monotonic() - started
        time.sleep(0.2)
    raise AssertionError(f"after {seconds} s not yet: {what}\n{why()}")


@contextlib.contextmanager
def operated(
    home: Path, pool: str = "cxr-cpu", host: str = "127.0.0.1", **extra: str
) -> Iterator[Operated]:
    """Bring a stack up in `home` and take it down at the end; `extra` goes into the environment of its processes."""
    stack = Operated(home)
    stack.extra = extra
    try:
        stack.up(free_port(), pool, host)
        yield stack
    finally:
        stack.down()


def newly_read(work: Path) -> int:
    """Return how many images the last preprocessing read anew."""
    return int(json.loads((work / "ingest.json").read_text())["newly_read"])


def keep(folder: Path, name: str) -> Path | None:
    """Return where test outputs that a person looks at are kept, as CXR_TEST_OUTPUTS says; None where it does not."""
    if not (place := os.environ.get("CXR_TEST_OUTPUTS")):
        return None
    target = Path(place) / name
    shutil.copytree(folder, target, dirs_exist_ok=True)
    return target
