"""Work folders, models and weights by URI: what lies on S3 has a local folder while it is worked with.

One cxr at a time is at work in a work folder: here by a lock, on S3 by a lease (`lease`). What is pulled and pushed,
and in which order, is in `staging`.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from filelock import FileLock, Timeout

from cxr.core.errors import ConflictError, CxrError, DataError, UsageError
from cxr.storage import object_cache
from cxr.storage.addresses import is_local, local_folder, open_storage
from cxr.storage.base import Storage
from cxr.storage.local import LocalStorage
from cxr.storage.local_files import storage_error
from cxr.storage.s3.writing import S3Storage
from cxr.storage.workspace.staging import Staging, download_entry, run_together

logger = logging.getLogger("cxr.storage.workspace.workspace")
DAY = 86_400.0  # seconds
WAIT = 5.0  # seconds between looks at a work folder where another is at work


class OpenFolders:
    """The work folders that this process has open.

    Whether a folder is open is known within a context, a flow and what it calls: a thread that opens it on its own meets
    the lock. What is staged is known to the whole process: tasks in other threads publish, and an interrupt gives back
    the leases.
    """

    def __init__(self) -> None:
        self._entered: ContextVar[frozenset[Path]] = ContextVar("entered", default=frozenset())
        self._stagings: dict[Path, Staging] = {}

    def __contains__(self, folder: Path) -> bool:
        return folder in self._entered.get()

    @contextlib.contextmanager
    def entered(self, folder: Path) -> Iterator[None]:
        """Count a folder as open in this context while the block lasts."""
        token = self._entered.set(self._entered.get() | {folder})
        try:
            yield
        finally:
            self._entered.reset(token)

    @contextlib.contextmanager
    def staged(self, staging: Staging) -> Iterator[None]:
        """Publish a folder by this staging while the block lasts."""
        self._stagings[staging.folder] = staging
        try:
            yield
        finally:
            del self._stagings[staging.folder]

    def stagings(self) -> dict[Path, Staging]:
        """Return what is staged, by folder."""
        return dict(self._stagings)


_open = OpenFolders()


@contextlib.contextmanager
def open_workspace(uri: str) -> Iterator[Path]:
    """Give the local folder of a work folder (a path, `file://…` or `s3://…`), alone in it; publish at the end.

    Opened again inside, it is the same folder, and what was done in it is published when the inner block ends.
    Raises ConflictError where another cxr is at work there, StorageError where it cannot be made or
    written.
    """
    storage = open_storage(uri)
    folder = local_copy_of(uri)
    if folder in _open:
        yield folder
        push(folder)
        return
    _make(folder)
    with _open.entered(folder), _alone(folder, storage.uri):
        if isinstance(storage, S3Storage):
            with _sharing(folder, storage):
                yield folder
        else:
            yield folder


def local_copy_of(uri: str) -> Path:
    """Return the folder on this machine in which a work folder is worked with; it need not be there yet."""
    storage = open_storage(uri)
    return storage.folder if isinstance(storage, LocalStorage) else _cached("work", storage)


@contextlib.contextmanager
def open_workspace_when_free(uri: str) -> Iterator[Path]:
    """Give what `opened` gives, and wait while another cxr is at work there."""
    with contextlib.ExitStack() as stack:
        while True:
            try:
                folder = stack.enter_context(open_workspace(uri))
                break
            except ConflictError as error:
                logger.info("waiting: %s", error)
                time.sleep(WAIT)
        yield folder


def push(folder: Path) -> None:
    """Publish what changed in an opened work folder since; nothing happens for a local one."""
    staging = stagings().get(folder)
    if staging:
        staging.push()


def published_address(path: Path) -> str:
    """Return the URI of a path in an opened work folder: itself, or where it is published."""
    for folder, staging in stagings().items():
        if path.is_relative_to(folder):
            return f"{staging.storage.uri}/{path.relative_to(folder).as_posix()}".removesuffix("/.")
    return str(path)


def key_inside(work: Path, data: Storage) -> str | None:
    """Return the key of an opened work folder below DATA, None where it lies elsewhere.

    Raises:
        DataError: The work folder is DATA itself.
    """
    place = published_address(work)
    if isinstance(data, LocalStorage):
        inside = data.folder.resolve()
        key = (
            work.resolve().relative_to(inside).as_posix()
            if work.resolve().is_relative_to(inside)
            else None
        )
    else:
        base = f"{data.uri}/"
        key = f"{place}/".removeprefix(base).rstrip("/") if f"{place}/".startswith(base) else None
    if key in {"", "."}:
        raise DataError(
            f"{place}: --out is DATA itself: give a folder of its own, for example {place.rstrip('/')}/work"
        )
    return key


def fetch_folder(uri: str) -> Path:
    """Return a local folder with the files of a folder: itself, or a copy by version of what is on S3.

    Raises DataError where there is nothing on S3. The copy is to be read only.
    """
    if is_local(uri):
        return local_folder(uri).absolute()
    storage = open_storage(uri)
    listed = sorted(storage.list())
    if not listed:
        raise DataError(
            f"{storage.uri}: expected a folder with files, found nothing: check the address"
        )
    family = _cached("fetched", storage)
    folder = family / _digest("\n".join(f"{entry.key} {entry.version}" for entry in listed))
    family.mkdir(parents=True, exist_ok=True)
    with FileLock(family / ".lock"):
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=family, prefix=".") as name:
                part = Path(name) / "part"
                run_together(lambda entry: download_entry(storage, entry, part), listed)
                part.rename(folder)
        os.utime(folder)
        _drop_unused(family)
    return folder


def stagings() -> dict[Path, Staging]:
    """Return what is opened on S3 in this process, by local folder."""
    return _open.stagings()


def _drop_unused(family: Path) -> None:
    """Remove the copies of other versions that nobody asked for within a day."""
    for each in family.iterdir():
        if each.is_dir() and time.time() - each.stat().st_mtime > DAY:
            shutil.rmtree(each)


@contextlib.contextmanager
def open_output(uri: str) -> Iterator[Path]:
    """Give a local path for a file to be at `uri`; on S3 it is put there when the block ends well.

    Folders above it are made. Raises StorageError or DataError at once where no file can be written.
    """
    if uri.endswith("/"):
        raise UsageError(
            f"{uri}: expected a file to write, found the name of a folder: give {uri}predictions.csv"
        )
    if is_local(uri):
        path = local_folder(uri)
        _require_writable(path)
        yield path
        return
    parent, _, name = uri.rpartition("/")
    if parent.endswith(":/"):
        raise UsageError(
            f"{uri}: expected s3://bucket/name of a file to write, found a bucket alone"
        )
    storage = open_storage(parent)
    storage.version(name)  # an endpoint or a bucket that is not there shows before the work
    with tempfile.TemporaryDirectory(prefix="cxr-") as scratch:
        yield Path(scratch) / name
        storage.upload(Path(scratch) / name, name)


def _make(folder: Path) -> None:
    """Make a folder where it is not there; StorageError in words where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error("make the folder", str(folder), error) from error


def _require_writable(path: Path) -> None:
    """Make the folders above a file and try to write there; StorageError where that cannot be."""
    try:
        if path.is_dir():
            better = path / "predictions.csv"
            raise DataError(f"{path}: expected a file to write, found a folder: give {better}")
        _make(path.parent)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".writing-", suffix=path.suffix):
            pass
    except OSError as error:
        raise storage_error("write", str(path), error) from error


def _cached(kind: str, storage: Storage) -> Path:
    return object_cache.home() / kind / _digest(storage.place)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


@contextlib.contextmanager
def _alone(folder: Path, place: str) -> Iterator[None]:
    try:
        lock = FileLock(folder / ".lock").acquire(timeout=0)
    except Timeout:
        raise ConflictError(
            f"{place}: another cxr is at work in this folder: wait for it, or give another --out"
        ) from None
    except OSError as error:
        raise storage_error("write in", str(folder), error) from error
    with lock:
        yield


@contextlib.contextmanager
def _sharing(folder: Path, storage: S3Storage) -> Iterator[None]:
    """Pull, and push at the end, what a failed stage left too; the lease is held in between."""
    staging = Staging(folder, storage)
    try:
        staging.pull()
        with _open.staged(staging):
            try:
                yield
                staging.push()
            except ConflictError:  # the folder is somebody else's now
                raise
            except Exception:
                _push_what_there_is(staging)
                raise
    finally:
        with contextlib.suppress(CxrError):  # it expires
            staging.lease.release()


def _push_what_there_is(staging: Staging) -> None:
    try:
        staging.push()
    except CxrError as error:  # what went wrong first is what is told
        logger.warning(
            "what was done so far could not be published and waits in %s: %s", staging.folder, error
        )
