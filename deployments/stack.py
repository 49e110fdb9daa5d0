"""A Prefect server and one process worker on this machine: what `make up` and `make down` run.

    python -m deployments.stack up|down|status [--home work/prefect] [--host 127.0.0.1]
                                               [--port 4200] [--pool cxr-cpu]

The UI and the API listen on loopback or, with a password, on another address for workers elsewhere.
Everything is in the home folder: the database (SQLite, or PostgreSQL if
PREFECT_API_DATABASE_CONNECTION_URL names one), logs/, stack.json. Every process started here, and
every process that those start, has a token in its environment: it tells them from others, even from
one that got a reused process id after a reboot. PREFECT_SERVER_API_AUTH_STRING (user:password) turns
on basic authentication; it is passed on, never written. Linux only (/proc). Nothing is restarted
when it dies; `up` does that.
"""

import argparse
import contextlib
import http
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from flows.server import prefect_api

ROOT = Path(__file__).parent.parent
MARK = "CXR_STACK"  # the environment variable with the token
LOOPBACK = "127.0.0.1"
READY_SECONDS = 300  # for the server to answer, and for the worker to come online
GRACE_SECONDS = 15  # between SIGTERM and SIGKILL
RECORD_SECONDS = 5  # for worker and server to record the end of runs
AT_A_TIME = 2  # runs on one worker: a training, and something short beside it
# A server that a whole machine's trainings crowd out answers late. It waits for its database as long as this, too.
ANSWER_SECONDS = 60
BUSY_DELAYS = (0.5, 1.0, 2.0, 4.0)  # seconds before a request is repeated
LAST_LINES = 8  # of a log, in an error


class StackError(Exception):
    """What is wrong with the stack and what to do, in one line for the terminal."""


class Stack:
    """The server and the worker that are recorded in a home folder.

    Attributes:
        home: The folder.
        file: stack.json, the record.
        token: The token of its processes.
        host: Where UI and API listen.
        port: Their port.
        pids: The process ids of "server" and "worker".
        started: The processes that this object started, and has to wait for.
    """

    def __init__(self, home: Path):
        self.home = home.absolute()
        self.file = self.home / "stack.json"
        record: dict[str, Any] = {}
        if self.file.is_file():
            record = json.loads(self.file.read_text())
        self.token: str = record.get("token") or secrets.token_hex(8)
        self.host: str = record.get("host", LOOPBACK)
        self.port: int = record.get("port", 0)
        self.pids: dict[str, int] = record.get("pids", {})
        self.started: list[subprocess.Popen[bytes]] = []

    @property
    def address(self) -> str:
        """Return the UI's address; the API is below it at /api."""
        return f"http://{self.host}:{self.port}"

    def save(self) -> None:
        """Write stack.json whole."""
        record = {"token": self.token, "host": self.host, "port": self.port, "pids": self.pids}
        temporary = self.file.with_suffix(".writing")
        temporary.write_text(json.dumps(record, indent=2) + "\n")
        temporary.replace(self.file)

    def alive(self, name: str) -> bool:
        """Return whether the recorded process runs, and is the one that was recorded."""
        pid = self.pids.get(name)
        for process in self.started:
            # Just after its start, a process's environment cannot be read yet.
            if process.pid == pid:
                return process.poll() is None
        return pid is not None and _has_mark(pid, self.token)

    def environment(self) -> dict[str, str]:
        """Return the environment of everything started here."""
        variables = {
            MARK: self.token,
            "PREFECT_HOME": str(self.home),
            "PREFECT_API_URL": f"{self.address}/api",
            "PREFECT_UI_API_URL": f"{self.address}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_WORKER_QUERY_SECONDS": os.environ.get("PREFECT_WORKER_QUERY_SECONDS", "3"),
        }
        password = os.environ.get("PREFECT_SERVER_API_AUTH_STRING")
        if password and "PREFECT_API_AUTH_STRING" not in os.environ:
            variables["PREFECT_API_AUTH_STRING"] = password
        return os.environ | variables

    def launch(self, name: str, *arguments: str) -> None:
        """Start `prefect ARGUMENTS` in a session of its own and record it.

        Args:
            name: What it is recorded as; its output is appended to logs/NAME.log.
            arguments: The arguments.
        """
        command = ["prefect", "--no-prompt", *arguments]
        process = self._start_module(command, self.log(name), new_session=True)
        self.pids[name] = process.pid
        self.save()

    def log(self, name: str) -> Path:
        """Return the path of a process's log."""
        return self.home / "logs" / f"{name}.log"

    def _start_module(
        self,
        command: list[str],
        log: Path,
        new_session: bool = False,
    ) -> "subprocess.Popen[bytes]":
        """Start a Python module with arguments, its output appended to a log."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment(),
                start_new_session=new_session,
                cwd=ROOT,
            )
        self.started.append(process)
        return process

    def up(self, port: int, pool: str, host: str = LOOPBACK) -> None:
        """Start what is not running, wait until it answers, register pools, automation and deployments.

        Args:
            port: Where UI and API listen.
            pool: The work pool whose runs the worker takes.
            host: The address of this machine that they listen on.

        Raises:
            StackError: Something does not start, is missing, or is up elsewhere.
        """
        if host != LOOPBACK and "PREFECT_SERVER_API_AUTH_STRING" not in self.environment():
            raise StackError(
                f"{host} can be reached from elsewhere: "
                "set PREFECT_SERVER_API_AUTH_STRING=user:password first"
            )
        (self.home / "logs").mkdir(parents=True, exist_ok=True)
        if self.alive("server"):
            if (host, port) != (self.host, self.port):
                raise StackError(
                    f"{self.home}: already up at {self.address}: run down first, then up elsewhere"
                )
        else:
            self.host = host
            self.port = port
            _require_free(host, port)
            self.launch("server", "server", "start", "--host", host, "--port", str(port))
        self.wait_for_server()
        # Registering takes as long as the start of the worker, so both happen at the same time;
        # either may be the one that makes the pool.
        registering = self._start_module(["deployments.register"], self.log("register"))
        if not self.alive("worker"):
            started = time.time()
            worker = f"{pool}-{socket.gethostname()}"
            options = ["--type", "process", "--limit", str(AT_A_TIME), "--name", worker]
            self.launch("worker", "worker", "start", "--pool", pool, *options)
            self.wait_for_worker(pool, started)
        if registering.wait():
            raise StackError(
                f"the deployments could not be registered: {_tail(self.log('register'))}"
            )

    def wait_for_server(self) -> None:
        """Wait until the API answers and lets us in; raises StackError if it does not."""
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            if not self.alive("server"):
                raise StackError(f"the server ended while starting: {_tail(self.log('server'))}")
            with contextlib.suppress(OSError):
                self.call("/admin/version")
                return
            time.sleep(0.2)
        raise StackError(
            f"the server did not answer at {self.address} in {READY_SECONDS} s: "
            f"see {self.home / 'logs'}"
        )

    def wait_for_worker(self, pool: str, started: float) -> None:
        """Wait until the worker is online; raises StackError if it does not come.

        Args:
            pool: Its work pool.
            started: When it was started, in seconds since 1970: an earlier one does not count.
        """
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            if not self.alive("worker"):
                raise StackError(f"the worker ended while starting: {_tail(self.log('worker'))}")
            with contextlib.suppress(OSError):
                for worker in self.call(f"/work_pools/{pool}/workers/filter", {}):
                    last_heartbeat = datetime.fromisoformat(worker["last_heartbeat_time"])
                    is_online = worker["status"] == "ONLINE"
                    if is_online and last_heartbeat.timestamp() >= started:
                        return
            time.sleep(0.5)
        raise StackError(
            f"the worker did not come online in {READY_SECONDS} s: see {self.log('worker')}"
        )

    def call(
        self,
        path: str,
        body: Any = None,
        method: str | None = None,
    ) -> Any:
        """Send a request to the API and return its answer, None for an empty one.

        Args:
            path: The path below the API's address.
            body: What to send, as JSON.
            method: The HTTP method; GET without a body, POST with one, if not given.

        Raises:
            StackError: The API asks for another password.
            OSError: It does not answer, or refuses.
        """
        for delay in BUSY_DELAYS:
            try:
                return self._call_once(path, body, method)
            except urllib.error.HTTPError as error:
                # Its database is busy, and nothing was done: Prefect's own client tries again, too.
                if error.code != http.HTTPStatus.SERVICE_UNAVAILABLE:
                    raise
            time.sleep(delay)
        return self._call_once(path, body, method)

    def _call_once(
        self,
        path: str,
        body: Any,
        method: str | None,
    ) -> Any:
        """Send a request to the API once."""
        password = self.environment().get("PREFECT_API_AUTH_STRING", "")
        try:
            return prefect_api.request(
                f"{self.address}/api", path, password, body, method, ANSWER_SECONDS
            )
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in {http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN}:
                raise StackError(
                    f"{self.address} asks for another password: set PREFECT_API_AUTH_STRING"
                ) from None
            raise

    def down(self) -> None:
        """End the runs, then the worker, then the server, each by SIGTERM and SIGKILL after 15 s.

        The runs end first, while worker and server are there to record it. Only the flows' own
        processes are told, which end what they have started. Runs of a killed worker are among
        them.
        """
        own = {self.pids[name] for name in ("server", "worker") if self.alive(name)}
        parents = {pid: _parent(pid) for pid in marked(self.token) if pid not in own}
        flows = [pid for pid, parent in parents.items() if parent not in parents]
        if flows:
            _end(flows)
            time.sleep(RECORD_SECONDS)
        if self.alive("worker"):
            _end([self.pids["worker"]])
        _end(marked(self.token))
        for process in self.started:
            process.wait(timeout=GRACE_SECONDS)
        self.pids = {}
        self.save()


def marked(token: str) -> list[int]:
    """Return the ids of all processes with this token, except this process."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if pid != os.getpid() and _has_mark(pid, token)]


def _has_mark(pid: int, token: str) -> bool:
    """Return whether a process has this token in its environment."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it is gone, or belongs to somebody else
        return False
    return f"{MARK}={token}".encode() in variables


def _end(pids: list[int]) -> None:
    """End processes by SIGTERM, and by SIGKILL those that do not end in time."""
    running = pids
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + GRACE_SECONDS
        running = list(filter(_is_running, running))
        while running and time.monotonic() <= deadline:
            time.sleep(0.1)
            running = list(filter(_is_running, running))


def _is_running(pid: int) -> bool:
    """Return whether a process runs; one that has ended and was not waited for does not."""
    state = _stat(pid)[0]
    return state not in "Z-"


def _parent(pid: int) -> int:
    """Return the id of a process's parent, 0 if it is gone."""
    return int(_stat(pid)[1])


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on: state, parent, ...; "-", "0" if it is gone.

    The name before them is in parentheses and may hold anything.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["-", "0"]
    return fields


def _require_free(host: str, port: int) -> None:
    """Raise StackError if another process listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            raise StackError(
                f"port {port} is taken by another process: choose one with --port (make up PORT=…)"
            ) from None


def _tail(log: Path) -> str:
    """Return where a log is, and its last lines."""
    lines = []
    if log.is_file():
        lines = log.read_text(errors="replace").strip().splitlines()[-LAST_LINES:]
    return f"see {log}; its last lines:\n  " + "\n  ".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit status 0 done, 1 it failed, 3 (status) something is not running."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "status":
            sys.exit(_print_status(Stack(options.home)))
        options.home.mkdir(parents=True, exist_ok=True)
        with FileLock(options.home / ".lock").acquire(timeout=0):
            stack = Stack(options.home)
            if options.command == "down":
                stack.down()
            else:
                stack.up(options.port, options.pool, options.host)
                print(_describe_first_run(stack))  # noqa: T201
    except StackError as error:
        sys.exit(f"stack: {error}")
    except Timeout:
        sys.exit(f"stack: another up or down is at work in {options.home}: wait for it")


def _parser() -> argparse.ArgumentParser:
    """Return the reader of the command line."""
    summary = (__doc__ or "").split("\n", 1)[0]
    parser = argparse.ArgumentParser(prog="python -m deployments.stack", description=summary)
    parser.add_argument("command", choices=["up", "down", "status"])
    parser.add_argument(
        "--home",
        type=Path,
        default=ROOT / "work" / "prefect",
        help="the folder of state, database and logs",
    )
    parser.add_argument(
        "--host",
        default=LOOPBACK,
        help="where UI and API listen; another address than loopback needs a password to be set",
    )
    parser.add_argument("--port", type=int, default=4200, help="the port of UI and API")
    parser.add_argument(
        "--pool",
        default="cxr-cpu",
        help="the work pool whose runs the worker takes",
    )
    return parser


def _print_status(stack: Stack) -> int:
    """Print what runs; return the exit status."""
    status = 0
    for name in ("server", "worker"):
        state = "not running"
        if stack.alive(name):
            state = f"running, process {stack.pids[name]}"
        else:
            status = 3
        print(f"{name:<8}{state}")  # noqa: T201
    return status


def _describe_first_run(stack: Stack) -> str:
    """Return where the UI is, and the commands of a first run."""
    images = ROOT / "work" / "phantoms"
    out = ROOT / "work" / "first"
    lines = [
        f"Prefect UI   {stack.address}",
        f"logs         {stack.home / 'logs'}",
        "A first run, on made-up images:",
        f"  export PREFECT_API_URL={stack.address}/api",
        f"  cxr phantoms {images}",
        f"  prefect deployment run pipeline/pipeline-demo --watch -p data={images} -p out={out}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
