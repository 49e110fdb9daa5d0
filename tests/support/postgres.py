"""A PostgreSQL server for one test, on loopback, which can be stopped as by a power cut."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows.server.process import free_port

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
# A link on the path has none of the other programs beside it, so it is followed.
_LINKED = shutil.which("initdb")
_FOUND = (
    os.path.realpath(_LINKED) if _LINKED else (str(BINARIES[-1] / "initdb") if BINARIES else None)
)


def missing() -> str:
    """Return why no database can be started here, or an empty text."""
    if not _FOUND:
        return "PostgreSQL is not installed: apt-get install postgresql"
    if os.geteuid() == 0:
        with contextlib.suppress(KeyError):
            pwd.getpwnam("postgres")
            return ""
        return "PostgreSQL does not run as root, and there is no user postgres"
    return ""


class Database:
    """A database cluster in a folder, without passwords: it listens on loopback only."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.port = free_port()
        self.user: dict[str, Any] = {"user": "postgres"} if os.geteuid() == 0 else {}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the value for PREFECT_API_DATABASE_CONNECTION_URL."""
        return f"postgresql+asyncpg://prefect@127.0.0.1:{self.port}/prefect"

    def make(self) -> None:
        """Create the cluster."""
        command = [
            _binary("initdb"),
            "-D",
            str(self.folder / "data"),
            "-U",
            "prefect",
            "--auth=trust",
            "-E",
            "UTF8",
        ]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **self.user)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    _binary("postgres"),
                    "-D",
                    self.folder / "data",
                    "-k",
                    self.folder,
                    "-p",
                    str(self.port),
                    "-h",
                    "127.0.0.1",
                ],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **self.user,
            )
        ready = [_binary("pg_isready"), "-h", "127.0.0.1", "-p", str(self.port)]
        end = time.monotonic() + 60
        while subprocess.run(ready, capture_output=True, check=False).returncode:
            assert time.monotonic() < end and self.process.poll() is None, (
                self.folder / "log"
            ).read_text()[-2000:]
            time.sleep(0.2)

    def stop(self) -> None:
        """Stop the server at once, without a checkpoint (pg_ctl stop -m immediate)."""
        if self.process:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(timeout=30)
            self.process = None

    def run(self, program: str, *arguments: str) -> bytes:
        """Return the output of a client program (psql, pg_dump) for this database."""
        command = [
            _binary(program),
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            "prefect",
            *arguments,
        ]
        return subprocess.run(command, check=True, capture_output=True).stdout


def _binary(name: str) -> str:
    return str(Path(str(_FOUND)).parent / name)


@contextlib.contextmanager
def database() -> Iterator[Database]:
    """Start a database; stop it and delete its folder after the block."""
    # The user postgres cannot enter the folders that pytest makes.
    folder = Path(tempfile.mkdtemp(prefix="cxr-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    started = Database(folder)
    try:
        started.make()
        started.start()
        started.run("createdb", "prefect")
        yield started
    finally:
        started.stop()
        shutil.rmtree(folder)
