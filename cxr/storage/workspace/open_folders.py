"""Which work folders this process has open, and which of them are published to S3."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from cxr.storage.workspace.staging import Staging


class OpenFolders:
    """The work folders that this process has open.

    Whether a folder is open is known within a context (a flow and what it calls): a thread that
    opens it on its own meets the lock. Stagings are known to the whole process, because tasks in
    other threads publish, and an interrupt releases the leases.
    """

    def __init__(self) -> None:
        self._folders: ContextVar[frozenset[Path]] = ContextVar("folders", default=frozenset())
        self._stagings: dict[Path, Staging] = {}

    def __contains__(self, folder: Path) -> bool:
        return folder in self._folders.get()

    @contextlib.contextmanager
    def entered(self, folder: Path) -> Iterator[None]:
        """Count a folder as open in this context while the block lasts."""
        token = self._folders.set(self._folders.get() | {folder})
        try:
            yield
        finally:
            self._folders.reset(token)

    @contextlib.contextmanager
    def staged(self, staging: Staging) -> Iterator[None]:
        """Publish a folder with this staging while the block lasts."""
        self._stagings[staging.folder] = staging
        try:
            yield
        finally:
            del self._stagings[staging.folder]

    def stagings(self) -> dict[Path, Staging]:
        """Return the stagings by folder."""
        return dict(self._stagings)
