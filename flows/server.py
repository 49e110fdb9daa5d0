"""The embedded Prefect server: used where no API address is set, gone when its starter is, even by kill -9.

Prefect's own temporary server outlives a killed starter, gets its Ctrl-C, and works in the user's ~/.prefect. This one
watches a pipe, is in a session of its own, keeps database and logs in a folder below the cache, and is watched.
"""

import contextlib
import importlib
import logging
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from cxr.errors import CxrError
from flows import interrupts, prefect_api, surroundings

LOOPBACK = "127.0.0.1"
READY_SECONDS = 120
LOCKED_SECONDS = 15  # another run's server writes for less
END_SECONDS = 10  # for what the server still has to write
FLUSH_SECONDS = 10
LOGS_KEPT = 20
LOG_SECONDS = 7 * 86_400.0  # a log stays so long at least
_IMPORTED_MEANWHILE = (
    "flows.pipeline",
    "seaborn",
    "sklearn.ensemble",
)  # they take as long as the server's start
_HINT = "set CXR_CACHE to a folder on this machine's own disk that you may write to"
# What a server says of a database that it cannot use, and never will.
_UNUSABLE = re.compile(
    "Can't locate revision|malformed|file is not a database|already exists|duplicate column|no such table|no such column"
)
_EXCEPTION = re.compile(
    r"(?:\w+\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt)(?:: .*)?|(?:\w+\.)+[A-Z]\w*[a-z]\w*: .*"
)
_LONGEST = 300  # characters of a cause
_PASSWORD = "PREFECT_SERVER_API_AUTH_STRING"
DATABASE = "prefect.db"
logger = logging.getLogger("cxr.server")


class Server:
    """A Prefect server of this user's own on loopback. Several may share a folder: SQLite lets one write at a time."""

    def __init__(self, folder: Path, port: int = 0, only_shows: bool = False):
        """Start it; `wait` until it answers.

        Args:
            folder: Where its database and its logs are; made where it is not there.
            port: Where it listens; any that is free where 0.
            only_shows: Nothing is to be done in the background: others do that.

        Raises:
            CxrError: The folder cannot be written to, the database is locked, or the port is taken.
        """
        self.folder = folder
        self.only_shows = only_shows
        self.ready = False
        self.closing = False
        self.log = _fresh_log(folder)
        self._listening = _listening(port)
        self.address = f"http://{LOOPBACK}:{self._listening.getsockname()[1]}"  # the UI's; the API is below it at /api
        # Two that make or migrate one database at once would break it.
        self._alone = FileLock(folder / ".starting")
        try:
            self._alone.acquire(timeout=READY_SECONDS)
            _set_aside_if_damaged(folder / DATABASE)
            self.process = self._start()
        except Timeout:
            self._let_go()
            raise CxrError(
                f"{folder}: another cxr's server has been starting for {READY_SECONDS} s: {_HINT}"
            ) from None
        except BaseException:
            self._let_go()
            raise

    def _start(self) -> "subprocess.Popen[bytes]":
        descriptor = self._listening.fileno()
        program = str(Path(__file__).with_name("serving.py"))
        given = environment(dict(os.environ), self.folder, self.address)
        if self.only_shows:
            given["PREFECT__SERVER_WEBSERVER_ONLY"] = "1"
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", program, str(descriptor)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=given,
                cwd=self.folder,  # a .env, prefect.toml or pyproject.toml where the run was started is not for it
                pass_fds=[descriptor],
                start_new_session=True,
            )

    def wait(self) -> None:
        """Return when it answers; a database that it cannot use is set aside once, and a new one made.

        Raises:
            CxrError: It ended, or did not answer in time.
        """
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        end = time.monotonic() + READY_SECONDS
        renewed = False
        while time.monotonic() < end:
            if self.process.poll() is not None:
                words = self.cause()
                if renewed or not _UNUSABLE.search(words):
                    raise CxrError(
                        f"the embedded Prefect server did not start: {words}; see {self.log}"
                    )
                renewed = True
                _set_aside(self.folder / DATABASE, words)
                _close_pipe(self.process)
                self.process = self._start()
            with (
                contextlib.suppress(OSError),
                opener.open(f"{self.address}/api/health", timeout=5) as answer,
            ):
                if answer.status == 200:
                    self._let_go()
                    self.ready = True
                    return
            time.sleep(0.1)
        raise CxrError(
            f"the embedded Prefect server did not answer within {READY_SECONDS} s: {self.cause()}; see {self.log}"
        )

    def _let_go(self) -> None:
        """Let go of what is held while it starts. The socket, too: a dead server's is to refuse, not to keep waiting."""
        self._alone.release()
        self._listening.close()

    def watch(self, on_end: Callable[[str], None]) -> None:
        """Have `on_end` called with one line where the server ends before it is told to."""

        def follow() -> None:
            self.process.wait()
            if not self.closing:
                words = f"the embedded Prefect server ended: {self.cause()}; see {self.log}"
                on_end(f"{words}; {interrupts.GOES_ON}")

        threading.Thread(target=follow, daemon=True, name="cxr-server").start()

    def cause(self) -> str:
        """Return in one line why it ended or does not answer."""
        try:
            said = self.log.read_text(errors="replace")
        except OSError:
            return "its log is gone"
        return cause(said, self.process.poll())

    def kill(self) -> None:
        """End it now: SQLite's files are whole all the same."""
        self.closing = True
        self.process.kill()

    def close(self) -> None:
        """Stop the server and wait for its pending writes; one that never became ready is killed."""
        self.closing = True
        self._let_go()
        if self.ready:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=END_SECONDS)
        self.process.kill()
        self.process.wait()
        _close_pipe(self.process)


@contextlib.contextmanager
def embedded(
    meanwhile: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    folder: Path | None = None,
    on_end: Callable[[str], None] | None = None,
) -> Iterator[str | None]:
    """Give the address of a fresh server on loopback, or None where an API address is set already and answers.

    Sets PREFECT_API_URL for this process and its children.

    Args:
        meanwhile: Entered while the server starts, which leaves a core idle.
        folder: Where its database and logs are; below the cache where None.
        on_end: Called, in a thread, with one line where the server ends before the block does.

    Raises:
        CxrError: The server does not start, or the one that is set does not answer.
    """
    surroundings.loopback_without_proxy()
    if prefect_api.configured():
        prefect_api.require_answer()
        yield None
        return
    if password := os.environ.get(_PASSWORD):  # it is this server's, too
        os.environ.setdefault("PREFECT_API_AUTH_STRING", password)
    server = Server(folder or surroundings.prefect_home())
    with interrupts.at_last(server.kill):
        try:
            prefect_api.load()
            for module in _IMPORTED_MEANWHILE:
                importlib.import_module(module)
            with meanwhile():
                server.wait()
                if on_end:
                    server.watch(on_end)
                os.environ["PREFECT_API_URL"] = f"{server.address}/api"
                _refresh_settings()
                try:
                    yield server.address
                finally:
                    if server.process.poll() is None:
                        _flush()
                    os.environ.pop("PREFECT_API_URL", None)
        finally:
            server.close()


def tried() -> str:
    """Start a server as a run does, end it, and return where its database is.

    Raises:
        CxrError: It does not start.
    """
    server = Server(surroundings.prefect_home())
    with interrupts.at_last(server.kill):
        try:
            server.wait()
        finally:
            server.close()
    return str(server.folder / DATABASE)


def show(port: int) -> None:
    """Show the runs of the database below the cache in Prefect's UI, until a signal.

    Args:
        port: Where it listens.

    Raises:
        CxrError: The port is taken, or the server does not start, or it ends.
    """
    interrupts.at_signal("the Prefect UI has ended", status=0)
    server = Server(surroundings.prefect_home(), port, only_shows=True)
    with interrupts.at_last(server.kill):
        try:
            server.wait()
            print(f"Prefect UI: {server.address} (Ctrl-C ends it)", flush=True)  # noqa: T201
            server.process.wait()
            raise CxrError(f"the Prefect UI's server ended: {server.cause()}; see {server.log}")
        finally:
            server.close()


def environment(given: dict[str, str], folder: Path, address: str) -> dict[str, str]:
    """Return the environment of an embedded server.

    Of the user's settings for Prefect it has none but the password: database, profile, Redis and the rest are those of
    other servers.

    Args:
        given: The environment of the command.
        folder: Where its database is.
        address: Where it listens.
    """
    kept = {
        name: value
        for name, value in given.items()
        if not name.startswith("PREFECT_") or name == _PASSWORD
    }
    return kept | {
        "PREFECT_HOME": str(folder),
        "PREFECT_PROFILES_PATH": str(folder / "profiles.toml"),
        "PREFECT_UI_API_URL": f"{address}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }


def cause(log: str, status: int | None) -> str:
    """Return in one line why a server ended or does not answer: the last exception in its log, or its last line.

    Args:
        log: All that it said.
        status: Its exit status, None where it still runs.
    """
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    raised = [line for line in lines if _EXCEPTION.fullmatch(line)]
    words = [(raised or lines or ["it said nothing"])[-1][:_LONGEST]]
    if status is not None and status < 0:
        words.insert(0, f"killed by {signal.Signals(-status).name}")
        if not raised:  # what it said before has nothing to do with it
            return words[0]
    elif status is not None and not raised:
        words.insert(0, f"exit status {status}")
    return ", ".join(words)


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with _listening(0) as probe:
        return int(probe.getsockname()[1])


def _listening(port: int) -> socket.socket:
    """Return a socket of loopback's with this port, any where 0; who gets it may begin to listen."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((LOOPBACK, port))
    except OSError as error:
        found.close()
        if port:
            raise CxrError(
                f"port {port} is taken by another process ({error.strerror}): choose one with --port"
            ) from None
        raise CxrError(
            f"no port of {LOOPBACK} is to be had ({error.strerror}): end what holds them"
        ) from None
    return found


def _fresh_log(folder: Path) -> Path:
    """Make the folder, and a log for one server in it; remove the oldest ones.

    Raises:
        CxrError: It cannot be written to.
    """
    logs = folder / "logs"
    log = logs / f"server-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.log"
    try:
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        log.touch(mode=0o600)
    except OSError as error:
        raise CxrError(
            f"{folder}: the embedded Prefect server's database and log cannot be written there ({error.strerror}): {_HINT}"
        ) from None
    for old in sorted(logs.glob("server-*.log"))[:-LOGS_KEPT]:
        with contextlib.suppress(OSError):  # another run removes it, too
            if (
                time.time() - old.stat().st_mtime > LOG_SECONDS
            ):  # a younger one may be a running server's
                old.unlink()
    return log


def _set_aside_if_damaged(database: Path) -> None:
    """Look whether SQLite can read and write the file.

    Raises:
        CxrError: It may not be written to, or another process keeps it locked.
    """
    if not database.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=LOCKED_SECONDS)) as connection:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise CxrError(
                f"{database} is locked by another process: end that, or {_HINT}"
            ) from None
        raise CxrError(f"{database} cannot be used ({error}): {_HINT}") from None
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        _set_aside(database, found)


def _set_aside(database: Path, words: str) -> None:
    """Rename a database that no server can use, so that a new one is made: it holds history alone."""
    stamp = f"{datetime.now():%Y%m%d-%H%M%S}"
    for suffix in ("", "-wal", "-shm"):
        path = database.with_name(database.name + suffix)
        with contextlib.suppress(FileNotFoundError):
            path.rename(path.with_name(f"aside-{stamp}-{path.name}"))
    logger.warning(
        "the database of past runs cannot be used (%s) and is set aside as %s: a new one is made; results are not in it",
        words,
        database.with_name(f"aside-{stamp}-{database.name}"),
    )


def _close_pipe(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin:
        process.stdin.close()


def _refresh_settings() -> None:
    from prefect.context import refresh_global_settings_context

    refresh_global_settings_context()


def _flush() -> None:
    """Hand the last logs and events over while the server still listens."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    seconds = 0.5 if interrupts.ended() else FLUSH_SECONDS
    APILogWorker.drain_all(timeout=seconds)
    EventsWorker.drain_all(timeout=seconds)
