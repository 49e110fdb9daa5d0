"""A Dask scheduler and its workers as separate processes on loopback, for tests and benches."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows.server.process import free_port

ROOT = Path(__file__).parent.parent.parent


class Cluster:
    """A running scheduler, and the workers that joined it, by name."""

    def __init__(self, home: Path):
        self.home = home
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *words: str, **environment: str) -> None:
        """Start the command `dask WORDS`, whose output goes to NAME.log."""
        variables = (
            os.environ
            | {"PYTHONPATH": str(ROOT), "PREFECT_LOGGING_EXTRA_LOGGERS": "cxr"}
            | environment
        )
        with (self.home / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "dask", *words, "--host", "127.0.0.1", "--no-dashboard"],
                env=variables,
                stdout=log,
                stderr=log,
                cwd=self.home,
            )

    def join(self, name: str, *options: str, **environment: str) -> None:
        """Start a worker with one thread and without a nanny, which would restart a killed one."""
        words = ("worker", self.address, "--name", name, "--no-nanny", "--nthreads", "1", *options)
        self.start(name, *words, **environment)

    def busy(self, client: Any) -> list[str]:
        """Return the names of the workers that are working on a task."""
        names = {
            address: worker["name"]
            for address, worker in client.scheduler_info()["workers"].items()
        }
        return [
            names[address]
            for address, keys in client.processing().items()
            if keys and address in names
        ]

    def log(self, name: str) -> str:
        """Return what a process has printed."""
        return (self.home / f"{name}.log").read_text(errors="replace")

    def joined(self, *names: str) -> None:
        """Wait until these workers have joined."""
        wait(
            lambda: all("Registered to:" in self.log(name) for name in names),
            90,
            "they join",
            self.logs,
        )

    def kill(self, name: str) -> None:
        """Send SIGKILL to a process and wait for its end."""
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait(timeout=30)

    def logs(self) -> str:
        """Return the last lines of every process."""
        return "\n".join(
            f"{path.name}: {path.read_text(errors='replace')[-1500:]}"
            for path in self.home.glob("*.log")
        )


@contextlib.contextmanager
def cluster(home: Path) -> Iterator[Cluster]:
    """Start a scheduler; stop it and every worker after the block."""
    home.mkdir(parents=True, exist_ok=True)
    started = Cluster(home)
    try:
        started.start("scheduler", "scheduler", "--port", started.address.rpartition(":")[2])
        yield started
    finally:
        for process in started.processes.values():
            process.terminate()
        for process in started.processes.values():
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait(done: Any, seconds: float, what: str, why: Any = lambda: "") -> Any:
    """Wait until `done` returns something true, and return that."""
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        answer = done()
        if answer:
            return answer
        time.sleep(0.1)
    raise AssertionError(f"after {seconds} s not yet: {what}\n{why()}")
