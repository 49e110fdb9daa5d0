"""The log of an embedded Prefect server, and the reason that it gives for the server's end."""

import contextlib
import os
import re
import signal
import time
from datetime import datetime
from pathlib import Path

from cxr.core.errors import CxrError

LOGS_KEPT = 20
LOG_SECONDS = 7 * 86_400.0  # a log is kept at least this long
HINT = "set CXR_CACHE to a folder on this machine's own disk that you may write to"
MOST_CHARACTERS = 300  # of a cause
_EXCEPTION = re.compile(
    r"(?:\w+\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt)(?:: .*)?|(?:\w+\.)+[A-Z]\w*[a-z]\w*: .*"
)


def create(folder: Path) -> Path:
    """Create the folder of a server and a log for it; remove the oldest logs.

    Args:
        folder: Where the server's database and its logs/ are.

    Returns:
        The path of the new, empty log.

    Raises:
        CxrError: The folder cannot be written to.
    """
    logs = folder / "logs"
    log = logs / f"server-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.log"
    try:
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        log.touch(mode=0o600)
    except OSError as error:
        raise CxrError(
            f"{folder}: the embedded Prefect server's database and log cannot be written there "
            f"({error.strerror}): {HINT}"
        ) from None
    for old in sorted(logs.glob("server-*.log"))[:-LOGS_KEPT]:
        _remove_if_old(old)
    return log


def _remove_if_old(log: Path) -> None:
    """Remove a log that no running server can be writing to."""
    with contextlib.suppress(OSError):  # another run removes it, too
        if time.time() - log.stat().st_mtime > LOG_SECONDS:
            log.unlink()


def cause(log: str, status: int | None) -> str:
    """Return in one line why a server ended or does not answer.

    That is the last exception in its log or, without one, its last line.

    Args:
        log: The whole text of its log.
        status: Its exit status, None while it runs.
    """
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    raised = [line for line in lines if _EXCEPTION.fullmatch(line)]
    candidates = raised or lines or ["it said nothing"]
    reason = candidates[-1][:MOST_CHARACTERS]
    if status is not None and status < 0:
        killed = f"killed by {signal.Signals(-status).name}"
        # Without an exception, what it said before has nothing to do with the signal.
        return f"{killed}, {reason}" if raised else killed
    if status is not None and not raised:
        return f"exit status {status}, {reason}"
    return reason
