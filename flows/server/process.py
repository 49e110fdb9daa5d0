"""The process of an embedded Prefect server: start it, wait for its answer, watch it, stop it.

Prefect's own temporary server outlives a killed command, gets its Ctrl-C, and works in the user's
~/.prefect. This one ends when a pipe from the command closes, is in a session of its own, keeps
its database and logs in a folder below the cache, and is watched.
"""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from cxr.core.errors import CxrError
from flows.server import database, interrupts, log_reader

LOOPBACK = "127.0.0.1"
READY_SECONDS = 120
POLL_SECONDS = 0.05
END_SECONDS = 10  # for what the server still has to write
PASSWORD = "PREFECT_SERVER_API_AUTH_STRING"
# Prefect's settings of an embedded server. Its UI shows runs; nobody makes blocks or deployments
# there. Registering Prefect's blocks, and the services for deployments, their workers and
# automations, would cost each command about 0.7 s of processor time for nothing.
_SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
    "PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_FOREMAN_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
}


class Server:
    """A Prefect server of this user's own on loopback.

    Several may share a folder: SQLite lets one write at a time.

    Attributes:
        folder: Where its database and its logs are.
        log: The file that it writes its output to.
        address: The UI's address; the API is below it at /api.
        process: The running process.
        ready: Whether it has answered.
        closing: Whether it was told to end.
    """

    def __init__(self, folder: Path, port: int = 0, only_shows: bool = False):
        """Start it; `wait` until it answers.

        Args:
            folder: Where its database and its logs are; made where it is not there.
            port: Where it listens; any that is free where 0.
            only_shows: Do nothing in the background: other servers do that.

        Raises:
            CxrError: The folder cannot be written to, the database is locked, or the port is taken.
        """
        self.folder = folder
        self.only_shows = only_shows
        self.ready = False
        self.closing = False
        self.log = log_reader.create(folder)
        self._socket = _bind(port)
        self.address = f"http://{LOOPBACK}:{self._socket.getsockname()[1]}"
        # Two that make or migrate one database at once would break it.
        self._starting = FileLock(folder / ".starting")
        try:
            self._starting.acquire(timeout=READY_SECONDS)
            database.set_aside_if_damaged(folder / database.NAME)
            self.process = self._start()
        except Timeout:
            self._release()
            raise CxrError(
                f"{folder}: another cxr's server has been starting for {READY_SECONDS} s: "
                f"{log_reader.HINT}"
            ) from None
        except BaseException:
            self._release()
            raise

    def _start(self) -> "subprocess.Popen[bytes]":
        descriptor = self._socket.fileno()
        program = str(Path(__file__).with_name("serving.py"))
        variables = environment(dict(os.environ), self.folder, self.address)
        if self.only_shows:
            variables["PREFECT__SERVER_WEBSERVER_ONLY"] = "1"
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", program, str(descriptor)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=variables,
                # Not where the run was started: a .env, prefect.toml or pyproject.toml there is
                # not for it.
                cwd=self.folder,
                pass_fds=[descriptor],
                start_new_session=True,
            )

    def wait(self) -> None:
        """Wait until it answers; a database that it cannot use is set aside once.

        Raises:
            CxrError: It ended, or did not answer in time.
        """
        end = time.monotonic() + READY_SECONDS
        renewed = False
        while time.monotonic() < end:
            if self.process.poll() is not None:
                reason = self.cause()
                if renewed or not database.is_unusable(reason):
                    raise CxrError(
                        f"the embedded Prefect server did not start: {reason}; see {self.log}"
                    )
                renewed = True
                database.set_aside(self.folder / database.NAME, reason)
                _close_pipe(self.process)
                self.process = self._start()
            if _answers(f"{self.address}/api/health"):
                self._release()
                self.ready = True
                return
            time.sleep(POLL_SECONDS)
        raise CxrError(
            f"the embedded Prefect server did not answer within {READY_SECONDS} s: "
            f"{self.cause()}; see {self.log}"
        )

    def _release(self) -> None:
        """Release what is held during the start.

        The socket is closed here, too: a dead server's port is to refuse, not to keep callers waiting.
        """
        self._starting.release()
        self._socket.close()

    def watch(self, on_end: Callable[[str], None]) -> None:
        """Call `on_end` with one line if the server ends before it is told to."""

        def report_end() -> None:
            self.process.wait()
            if not self.closing:
                reason = f"the embedded Prefect server ended: {self.cause()}; see {self.log}"
                on_end(f"{reason}; {interrupts.GOES_ON}")

        threading.Thread(target=report_end, daemon=True, name="cxr-server").start()

    def cause(self) -> str:
        """Return in one line why it ended or does not answer."""
        try:
            log = self.log.read_text(errors="replace")
        except OSError:
            return "its log is gone"
        return log_reader.cause(log, self.process.poll())

    def kill(self) -> None:
        """End it now; SQLite's files survive that."""
        self.closing = True
        self.process.kill()

    def close(self) -> None:
        """Stop it and wait for its pending writes; one that never became ready is killed."""
        self.closing = True
        self._release()
        if self.ready:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=END_SECONDS)
        self.process.kill()
        self.process.wait()
        _close_pipe(self.process)


def environment(variables: dict[str, str], folder: Path, address: str) -> dict[str, str]:
    """Return the environment of an embedded server.

    Of the user's settings for Prefect it has only the password: database, profile, Redis and so on
    are meant for other servers.

    Args:
        variables: The environment of the command.
        folder: Where its database is.
        address: Where it listens.
    """
    kept = {
        name: value
        for name, value in variables.items()
        if not name.startswith("PREFECT_") or name == PASSWORD
    }
    own = {
        "PREFECT_HOME": str(folder),
        "PREFECT_PROFILES_PATH": str(folder / "profiles.toml"),
        "PREFECT_UI_API_URL": f"{address}/api",
    }
    return kept | _SETTINGS | own


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with _bind(0) as probe:
        return int(probe.getsockname()[1])


def _bind(port: int) -> socket.socket:
    """Return a socket bound to this port of loopback, or to any free one if 0."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((LOOPBACK, port))
    except OSError as error:
        bound.close()
        if port:
            raise CxrError(
                f"port {port} is taken by another process ({error.strerror}): "
                "choose one with --port"
            ) from None
        raise CxrError(
            f"no port of {LOOPBACK} is free ({error.strerror}): end what holds them"
        ) from None
    return bound


def _answers(address: str) -> bool:
    """Return whether there is a good answer at the address; no proxy is asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _close_pipe(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin:
        process.stdin.close()
