"""The stack of `make up` inside a test: a real server and worker, in a separate folder."""

import contextlib
import json
import os
import secrets
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
    """A stack that a test started: what an operator does to it, and what its API answers."""

    extra: dict[str, str]

    def environment(self) -> dict[str, str]:
        """Return the stack's environment variables, this checkout's path and those of the test."""
        return super().environment() | {"PYTHONPATH": str(ROOT)} | self.extra

    def call(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """Send a request to the API; where it does not answer in time, say what the server was doing."""
        try:
            return super().call(path, body, method)
        except TimeoutError as error:
            load = os.getloadavg()
            raise TimeoutError(f"{path}: {error}; load {load}; logs:\n{self.logs()}") from error

    def prefect(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the prefect command against this server, as an operator would in a shell."""
        return subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=self.environment() | environment,
            timeout=200,
            cwd=ROOT,
        )

    def start_run(self, deployment: str, **parameters: Any) -> str:
        """Start a run of a deployment (FLOW/NAME) over the API; return its id.

        A server that does not answer is asked again. The key keeps that from starting two.
        """
        body = {"parameters": parameters, "idempotency_key": secrets.token_hex(8)}
        for _ in range(2):
            with contextlib.suppress(TimeoutError):
                return self._create_run(deployment, body)
        return self._create_run(deployment, body)

    def _create_run(self, deployment: str, body: dict[str, Any]) -> str:
        found = self.call(f"/deployments/name/{deployment}")
        return str(self.call(f"/deployments/{found['id']}/create_flow_run", body)["id"])

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
        """Send SIGKILL to every process of a run and to all that they started."""
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
    """Wait until `done` returns something true; return after how many seconds it did.

    Args:
        done: What is asked; an OSError, such as a failed API call, counts as not yet.
        seconds: How long to wait at most.
        what: What is waited for, for the error.
        why: Gives the logs for the error.

    Raises:
        AssertionError: It did not happen in time.
    """
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
    """Start a stack in `home`, with `extra` environment variables; stop it after the block."""
    stack = Operated(home)
    stack.extra = extra
    try:
        stack.up(free_port(), pool, host)
        yield stack
    finally:
        stack.down()


def newly_read(work: Path) -> int:
    """Return how many images the last preprocessing decoded, because they were new."""
    return int(json.loads((work / "ingest.json").read_text())["newly_read"])


def keep(folder: Path, name: str) -> Path | None:
    """Copy test outputs for people to CXR_TEST_OUTPUTS; return where, or None if it is not set."""
    place = os.environ.get("CXR_TEST_OUTPUTS")
    if not place:
        return None
    target = Path(place) / name
    shutil.copytree(folder, target, dirs_exist_ok=True)
    return target
