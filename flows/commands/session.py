"""What a command needs around it: its log on the terminal, its work folder, a Prefect server."""

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

# Prefect's settings for a command: its log goes to the UI, the terminal shows cxr's own.
_PREFECT_SETTINGS = {
    "PREFECT_LOGGING_EXTRA_LOGGERS": "cxr",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "DO_NOT_TRACK": "1",
}


def file_in(out: str, name: str) -> str:
    """Return the address of a file in the work folder, spelled as the folder's was."""
    return f"{out.rstrip('/')}/{name}"


def run_with_server(
    call: Callable[[Path], None],
    out: str,
    modules: Sequence[str],
    wait: bool = False,
    meanwhile: Callable[[Path], contextlib.AbstractContextManager[None]] | None = None,
) -> None:
    """Run `call` on the local folder of a work folder, alone in it, with a Prefect server.

    Args:
        call: What to do; it gets the local folder.
        out: The work folder, a path or s3://bucket/prefix.
        modules: What `call` will import, imported while the server starts.
        wait: Whether to wait while another run is at work in the folder.
        meanwhile: Entered while the server starts.

    Raises:
        ConflictError: Another run is at work in the folder, and `wait` is not set.
        CxrError: There is no server, or it does not start.
    """
    for name, value in _PREFECT_SETTINGS.items():
        os.environ.setdefault(name, value)
    log_to_terminal()
    from cxr.storage.workspace import workspace
    from flows.server import interrupts, prefect_api
    from flows.server.embedded import embedded

    open_work = workspace.open_workspace_when_free if wait else workspace.open_workspace
    with contextlib.ExitStack() as stack:
        work = stack.enter_context(open_work(out))

        def enter_meanwhile() -> contextlib.AbstractContextManager[None]:
            return meanwhile(work) if meanwhile else contextlib.nullcontext()

        server = embedded(enter_meanwhile, on_end=interrupts.end, modules=modules)
        address = stack.enter_context(server)
        if address:
            logging.getLogger("cxr.server").info(
                "Prefect UI while this runs: %s (afterwards: cxr ui)", address
            )
        stack.enter_context(prefect_api.errors_explained())
        stack.enter_context(interrupts.flow_runs_recorded())
        call(work)


def log_to_terminal() -> None:
    """Show the log on stderr, in colour if that is a terminal; a second call changes nothing."""
    from flows.server import surroundings

    logger = logging.getLogger("cxr")
    if logger.handlers:
        return
    handler: logging.Handler
    if sys.stderr.isatty():
        from rich.logging import RichHandler

        from tasks.progress import console

        handler = RichHandler(console=console, show_path=False, log_time_format="%H:%M:%S")
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    logger.propagate = False
    surroundings.log_warnings()
