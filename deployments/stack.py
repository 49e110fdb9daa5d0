"""A Prefect server and one process worker on this machine: `up`, `down`, `status`. What `make up` and `make down` run.

    python -m deployments.stack up [--home work/prefect] [--host 127.0.0.1] [--port 4200] [--pool cxr-cpu]

The UI and the API listen on loopback, or with a password on another address, for workers elsewhere. Everything lies in the home folder: the database (SQLite, or PostgreSQL where
PREFECT_API_DATABASE_CONNECTION_URL names one), logs/, stack.json. Every process started here, and every process those
start, carries a token in its environment: that is how they are told from others, a reused process id after a reboot
included. PREFECT_SERVER_API_AUTH_STRING (user:password) turns on basic auth; it is passed on, never written.
Linux only (/proc). Left out: restarting what died by itself; `up` again does that.
"""

import argparse
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from flows.server import prefect_api

ROOT = Path(__file__).parent.parent
MARK, LOOPBACK = "CXR_STACK", "127.0.0.1"
READY_SECONDS, GRACE_SECONDS, NOTING_SECONDS = 300, 15, 5
AT_A_TIME = 2  # runs on one worker: a training, and something short beside it


class StackError(Exception):
    """What is wrong with the stack and what to do, for one line on the terminal."""


class Stack:
    """The server and the worker that a home folder tells of."""

    def __init__(self, home: Path):
        self.home = home.absolute()
        self.file = self.home / "stack.json"
        kept: dict[str, Any] = json.loads(self.file.read_text()) if self.file.is_file() else {}
        self.token: str = kept.get("token") or secrets.token_hex(8)
        self.host: str = kept.get("host", LOOPBACK)
        self.port: int = kept.get("port", 0)
        self.pids: dict[str, int] = kept.get("pids", {})
        self.started: list[
            subprocess.Popen[bytes]
        ] = []  # by this object, and to be waited for by it

    @property
    def address(self) -> str:
        """Return the UI's address; the API is below it at /api."""
        return f"http://{self.host}:{self.port}"

    def save(self) -> None:
        """Write stack.json whole."""
        temporary = self.file.with_suffix(".writing")
        temporary.write_text(
            json.dumps(
                {name: getattr(self, name) for name in ("token", "host", "port", "pids")}, indent=2
            )
            + "\n"
        )
        temporary.replace(self.file)

    def alive(self, name: str) -> bool:
        """Return whether the recorded process runs, and is the one that was recorded."""
        pid = self.pids.get(name)
        for (
            process
        ) in self.started:  # just after its start, a process's environment cannot be read yet
            if process.pid == pid:
                return process.poll() is None
        return pid is not None and _has_mark(pid, self.token)

    def environment(self) -> dict[str, str]:
        """Return the environment of everything started here."""
        own = {
            "PREFECT_HOME": str(self.home), MARK: self.token, "PREFECT_API_URL": f"{self.address}/api",
            "PREFECT_UI_API_URL": f"{self.address}/api", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1",
            "PREFECT_WORKER_QUERY_SECONDS": os.environ.get("PREFECT_WORKER_QUERY_SECONDS", "3"),
        }  # fmt: skip
        if (
            password := os.environ.get("PREFECT_SERVER_API_AUTH_STRING")
        ) and "PREFECT_API_AUTH_STRING" not in os.environ:
            own["PREFECT_API_AUTH_STRING"] = password
        return os.environ | own

    def launch(self, name: str, *arguments: str) -> None:
        """Start `prefect ARGUMENTS` in a session of its own, its output appended to logs/NAME.log; record it."""
        with (self.home / "logs" / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "prefect", "--no-prompt", *arguments], stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, env=self.environment(), start_new_session=True, cwd=ROOT,
            )  # fmt: skip
        self.started.append(process)
        self.pids[name] = process.pid
        self.save()

    def up(self, port: int, pool: str, host: str = LOOPBACK) -> None:
        """Bring up what is not running, wait until it answers, register pools, automation and deployments."""
        if host != LOOPBACK and "PREFECT_SERVER_API_AUTH_STRING" not in self.environment():
            raise StackError(
                f"{host} can be reached from elsewhere: set PREFECT_SERVER_API_AUTH_STRING=user:password first"
            )
        (self.home / "logs").mkdir(parents=True, exist_ok=True)
        if self.alive("server"):
            if (host, port) != (self.host, self.port):
                raise StackError(
                    f"{self.home}: already up at {self.address}: run down first, then up elsewhere"
                )
        else:
            self.host, self.port = host, port
            _require_free(host, port)
            self.launch("server", "server", "start", "--host", host, "--port", str(port))
        self.wait_for_server()
        # Registering takes as long as the worker's start, so at the same time; either may be the one to make the pool.
        log = self.home / "logs" / "register.log"
        with log.open("ab") as lines:
            registering = subprocess.Popen(
                [sys.executable, "-m", "deployments.register"], stdin=subprocess.DEVNULL, stdout=lines,
                stderr=subprocess.STDOUT, env=self.environment(), cwd=ROOT,
            )  # fmt: skip
        self.started.append(registering)
        if not self.alive("worker"):
            started = time.time()
            self.launch("worker", "worker", "start", "--pool", pool, "--type", "process", "--limit", str(AT_A_TIME),
                        "--name", f"{pool}-{socket.gethostname()}")  # fmt: skip
            self.wait_for_worker(pool, started)
        if registering.wait():
            raise StackError(f"the deployments could not be registered: {_tail(log)}")

    def wait_for_server(self) -> None:
        """Return when the API answers and lets us in; raises StackError where it does not."""
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            if not self.alive("server"):
                raise StackError(
                    f"the server ended while starting: {_tail(self.home / 'logs' / 'server.log')}"
                )
            with contextlib.suppress(OSError):
                self.call("/admin/version")
                return
            time.sleep(0.2)
        raise StackError(
            f"the server did not answer at {self.address} in {READY_SECONDS} s: see {self.home / 'logs'}"
        )

    def wait_for_worker(self, pool: str, started: float) -> None:
        """Return when a worker that was seen after `started` (s since 1970) is online in the pool."""
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            if not self.alive("worker"):
                raise StackError(
                    f"the worker ended while starting: {_tail(self.home / 'logs' / 'worker.log')}"
                )
            with contextlib.suppress(OSError):
                for worker in self.call(f"/work_pools/{pool}/workers/filter", {}):
                    if (
                        worker["status"] == "ONLINE"
                        and _seconds(worker["last_heartbeat_time"]) >= started
                    ):
                        return
            time.sleep(0.5)
        raise StackError(
            f"the worker did not come online in {READY_SECONDS} s: see {self.home / 'logs' / 'worker.log'}"
        )

    def call(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """Return the API's answer, None for an empty one; raises StackError where it refuses us, OSError where it is away."""
        password = self.environment().get("PREFECT_API_AUTH_STRING", "")
        for delay in (0.5, 1, 2, 4, None):
            try:
                return prefect_api.request(f"{self.address}/api", path, password, body, method)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code in {401, 403}:
                    raise StackError(
                        f"{self.address} asks for another password: set PREFECT_API_AUTH_STRING"
                    ) from None
                if error.code != 503 or delay is None:
                    raise
                time.sleep(
                    delay
                )  # its database is busy, nothing was done: Prefect's own client tries again, too
        return None

    def down(self) -> None:
        """End the runs, the worker, the server, in this order: TERM, and KILL for what has not ended in 15 s."""
        own = {self.pids[name] for name in ("server", "worker") if self.alive(name)}
        runs = {pid: _parent(pid) for pid in marked(self.token) if pid not in own}
        # The runs first, while worker and server are there to note it; of those only the flows' own processes, which
        # end what they have started. Orphans of a killed worker are among them.
        if ended := [pid for pid, parent in runs.items() if parent not in runs]:
            _end(ended)
            time.sleep(NOTING_SECONDS)
        if self.alive("worker"):
            _end([self.pids["worker"]])
        _end(marked(self.token))
        for process in self.started:
            process.wait(timeout=GRACE_SECONDS)
        self.pids = {}
        self.save()


def marked(token: str) -> list[int]:
    """Return every process that carries the token, but for this one."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if pid != os.getpid() and _has_mark(pid, token)]


def _has_mark(pid: int, token: str) -> bool:
    try:
        return f"{MARK}={token}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # gone, or not ours
        return False


def _end(pids: list[int]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)
        end = time.monotonic() + GRACE_SECONDS
        while pids := [pid for pid in pids if _runs(pid)]:
            if time.monotonic() > end:
                break
            time.sleep(0.1)


def _runs(pid: int) -> bool:
    return _stat(pid)[0] not in "Z-"


def _parent(pid: int) -> int:
    return int(_stat(pid)[1])


def _stat(pid: int) -> list[str]:
    """Return state, parent and the rest of /proc/PID/stat; the name before them may hold anything. "-", "0" when gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["-", "0"]


def _require_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            raise StackError(
                f"port {port} is taken by another process: choose one with --port (make up PORT=…)"
            ) from None


def _seconds(stamp: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(stamp).timestamp()


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()[-8:] if log.is_file() else []
    return f"see {log}; its last lines:\n  " + "\n  ".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit status 0 done, 1 it failed, 3 (status) something is not running."""
    parser = argparse.ArgumentParser(
        prog="python -m deployments.stack", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("command", choices=["up", "down", "status"])
    parser.add_argument(
        "--home", type=Path, default=ROOT / "work" / "prefect", help="state, database and logs"
    )
    parser.add_argument(
        "--host",
        default=LOOPBACK,
        help="another address of this machine needs a password to be set",
    )
    parser.add_argument("--port", type=int, default=4200, help="of UI and API")
    parser.add_argument(
        "--pool", default="cxr-cpu", help="the work pool whose runs the worker takes"
    )
    given = parser.parse_args(arguments)
    stack = Stack(given.home)
    try:
        if given.command in {"up", "down"}:
            given.home.mkdir(parents=True, exist_ok=True)
            with FileLock(given.home / ".lock").acquire(timeout=0):
                stack = Stack(given.home)  # as the one before us left it
                if given.command == "down":
                    stack.down()
                    return
                stack.up(given.port, given.pool, given.host)
            print(_first_run(stack))  # noqa: T201
        else:
            for name in ("server", "worker"):
                state = (
                    f"running, process {stack.pids[name]}" if stack.alive(name) else "not running"
                )
                print(f"{name:<8}{state}")  # noqa: T201
            sys.exit(0 if stack.alive("server") and stack.alive("worker") else 3)
    except StackError as error:
        sys.exit(f"stack: {error}")
    except Timeout:
        sys.exit(f"stack: another up or down is at work in {given.home}: wait for it")


def _first_run(stack: Stack) -> str:
    images = ROOT / "work" / "phantoms"
    return f"""Prefect UI   {stack.address}
logs         {stack.home / "logs"}
A first run, on made-up images:
  export PREFECT_API_URL={stack.address}/api
  cxr phantoms {images}
  prefect deployment run pipeline/pipeline-demo --watch -p data={images} -p out={ROOT / "work" / "first"}"""


if __name__ == "__main__":
    main()
