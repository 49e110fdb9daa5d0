"""The SQLite database of the embedded Prefect server: one that cannot be used is set aside.

It holds the history of past runs and no results, so a run can continue with a new one.
"""

import contextlib
import logging
import re
import sqlite3
from datetime import datetime
from pathlib import Path

from cxr.core.errors import CxrError
from flows.server.log_reader import HINT

NAME = "prefect.db"
LOCKED_SECONDS = 15  # another run's server holds its lock for less
# What a server says of a database that it will never be able to use.
_UNUSABLE = re.compile(
    "Can't locate revision|malformed|file is not a database|already exists|duplicate column"
    "|no such table|no such column"
)
logger = logging.getLogger("cxr.server")


def is_unusable(cause: str) -> bool:
    """Return whether a server ended because of what is in its database.

    Args:
        cause: What `log_reader.cause` returned.
    """
    return _UNUSABLE.search(cause) is not None


def set_aside_if_damaged(database: Path) -> None:
    """Check that SQLite can read and write the file; set it aside where its contents are damaged.

    Raises:
        CxrError: It may not be written to, or another process keeps it locked.
    """
    if not database.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=LOCKED_SECONDS)) as connection:
            result = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise CxrError(
                f"{database} is locked by another process: end that, or {HINT}"
            ) from None
        raise CxrError(f"{database} cannot be used ({error}): {HINT}") from None
    except sqlite3.DatabaseError as error:
        result = str(error)
    if result != "ok":
        set_aside(database, result)


def set_aside(database: Path, reason: str) -> None:
    """Rename a database that no server can use, so that a new one is made.

    Args:
        database: The file; SQLite's files beside it are renamed, too.
        reason: Why it cannot be used, for the log.
    """
    stamp = f"{datetime.now():%Y%m%d-%H%M%S}"
    for suffix in ("", "-wal", "-shm"):
        path = database.with_name(database.name + suffix)
        with contextlib.suppress(FileNotFoundError):
            path.rename(path.with_name(f"aside-{stamp}-{path.name}"))
    logger.warning(
        "the database of past runs cannot be used (%s) and is set aside as %s: "
        "a new one is made; results are not in it",
        reason,
        database.with_name(f"aside-{stamp}-{database.name}"),
    )
