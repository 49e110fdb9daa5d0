"""The embedded Prefect server: used if no API address is set; it ends with the command.

That holds for kill -9 of the command, too. The server's process is in `process`.
"""

import contextlib
import gc
import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cxr.core.errors import CxrError
from flows.server import database, interrupts, prefect_api, surroundings
from flows.server.process import PASSWORD, Server

FLUSH_SECONDS = 10
# What a run would import late, in Prefect's engine: imported while the server starts.
_ALWAYS_IMPORTED = ("prefect.flow_engine", "prefect.task_engine", "fastapi.encoders")


@contextlib.contextmanager
def embedded(
    meanwhile: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    folder: Path | None = None,
    on_end: Callable[[str], None] | None = None,
    modules: Sequence[str] = (),
) -> Iterator[str | None]:
    """Give the address of a new server on loopback, None if an API that answers is set already.

    Sets PREFECT_API_URL for this process and those that it starts.

    Args:
        meanwhile: Entered while the server starts, which leaves a core idle.
        folder: Where its database and logs are; below the cache if None.
        on_end: Called, in a thread, with one line if the server ends before the block does.
        modules: What the block will import, imported while the server starts.

    Raises:
        CxrError: The server does not start, or the one that is set does not answer.
    """
    surroundings.loopback_without_proxy()
    if prefect_api.configured():
        prefect_api.require_answer()
        yield None
        return
    password = os.environ.get(PASSWORD)
    if password:  # the server asks for it, so the client needs it
        os.environ.setdefault("PREFECT_API_AUTH_STRING", password)
    server = Server(folder or surroundings.prefect_home())
    with interrupts.at_last(server.kill):
        try:
            _import_all(modules)
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


def check_start() -> str:
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
    return str(server.folder / database.NAME)


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


def _import_all(modules: Sequence[str]) -> None:
    """Import Prefect and what the command needs.

    Imports leave no garbage, and collecting it would take a fifth of the time (bench/startup.py).
    """
    gc.disable()
    try:
        prefect_api.load()
        for module in (*_ALWAYS_IMPORTED, *modules):
            # Only a head start: what is broken fails again where it is needed, and the server,
            # which imports much of the same, says why in one line.
            with contextlib.suppress(Exception):
                importlib.import_module(module)
    finally:
        gc.enable()


def _refresh_settings() -> None:
    from prefect.context import refresh_global_settings_context

    refresh_global_settings_context()


def _flush() -> None:
    """Send the last logs and events while the server still listens."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    seconds = 0.5 if interrupts.ended() else FLUSH_SECONDS
    APILogWorker.drain_all(timeout=seconds)
    EventsWorker.drain_all(timeout=seconds)
