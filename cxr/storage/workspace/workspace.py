"""Work folders, models and weights by address: each has a folder on this machine while it is used.

One process at a time works in a work folder. On this machine a lock sees to that, on S3 a lease
(`lease`); what is copied from and to S3, and in which order, is decided in `staging`.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from cxr.core.errors import ConflictError, CxrError, DataError, UsageError
from cxr.storage import object_cache
from cxr.storage.addresses import is_local, local_folder, open_storage
from cxr.storage.base import Entry, Storage
from cxr.storage.dicomweb.storage import DicomWebStorage, read_only_error
from cxr.storage.local import LocalStorage
from cxr.storage.local_files import storage_error
from cxr.storage.s3.writing import S3Storage
from cxr.storage.workspace.open_folders import OpenFolders
from cxr.storage.workspace.staging import Staging
from cxr.storage.workspace.transfers import download_entry, run_concurrently

logger = logging.getLogger("cxr.workspace")
DAY = 86_400.0  # seconds
WAIT = 5.0  # seconds between attempts to open a work folder that another process has open

_open = OpenFolders()


@contextlib.contextmanager
def open_workspace(uri: str) -> Iterator[Path]:
    """Open a work folder for this process alone and publish it at the end.

    Opened again inside, it is the same folder, and what was done is published when the inner block
    ends, too.

    Args:
        uri: A path, `file://…` or `s3://…`.

    Yields:
        The folder on this machine.

    Raises:
        ConflictError: Another cxr is at work there.
        StorageError: The folder cannot be made or written to.
    """
    storage = open_storage(uri)
    folder = local_copy_of(uri)
    if folder in _open:
        yield folder
        push(folder)
        return
    _make_folder(folder)
    with _open.entered(folder), _locked(folder, storage.uri):
        if isinstance(storage, S3Storage):
            with _staged(folder, storage):
                yield folder
        else:
            yield folder


def local_copy_of(uri: str) -> Path:
    """Return the folder on this machine that stands for a work folder; it need not exist yet.

    Raises:
        UsageError: The address is that of an archive, to which nothing is written.
    """
    storage = open_storage(uri)
    if isinstance(storage, DicomWebStorage):
        raise read_only_error(uri)
    if isinstance(storage, LocalStorage):
        return storage.folder
    return _cache_folder("work", storage)


@contextlib.contextmanager
def open_workspace_when_free(uri: str) -> Iterator[Path]:
    """Do what `open_workspace` does, but wait while another cxr is at work there."""
    with contextlib.ExitStack() as stack:
        yield _enter_when_free(stack, uri)


def _enter_when_free(stack: contextlib.ExitStack, uri: str) -> Path:
    """Open a work folder as soon as no other process has it open; `stack` closes it."""
    while True:
        try:
            return stack.enter_context(open_workspace(uri))
        except ConflictError as error:
            logger.info("waiting: %s", error)
            time.sleep(WAIT)


def push(folder: Path) -> None:
    """Publish what changed in an open work folder; nothing happens for one that is not on S3."""
    staging = stagings().get(folder)
    if staging:
        staging.push()


def published_address(path: Path) -> str:
    """Return the address of a path: where it is published, or itself if it is not on S3."""
    for folder, staging in stagings().items():
        if path.is_relative_to(folder):
            key = path.relative_to(folder).as_posix()
            return f"{staging.storage.uri}/{key}".removesuffix("/.")
    return str(path)


def key_inside(work: Path, data: Storage) -> str | None:
    """Return the key of an open work folder below DATA, or None if it is elsewhere.

    Args:
        work: The folder on this machine.
        data: The storage of the images.

    Raises:
        DataError: The work folder is DATA itself.
    """
    address = published_address(work)
    key = _key_below(work, address, data)
    if key in {"", "."}:
        example = f"{address.rstrip('/')}/work"
        raise DataError(
            f"{address}: --out is DATA itself: give a folder of its own, for example {example}"
        )
    return key


def key_of(out: str, data: Storage) -> str | None:
    """Return the key of a work folder below DATA by its address alone, or None if it is elsewhere.

    Args:
        out: The address of the work folder, which need not be open.
        data: The storage of the images.
    """
    if is_local(out) != isinstance(data, LocalStorage):
        return None
    work = local_folder(out) if is_local(out) else Path()
    return _key_below(work, out.rstrip("/"), data)


def _key_below(work: Path, address: str, data: Storage) -> str | None:
    """Return the key of a work folder below DATA; empty or "." for DATA itself."""
    if isinstance(data, LocalStorage):
        real_work = work.resolve()
        real_data = data.folder.resolve()
        if not real_work.is_relative_to(real_data):
            return None
        return real_work.relative_to(real_data).as_posix()
    data_prefix = f"{data.uri}/"
    work_prefix = f"{address}/"
    if not work_prefix.startswith(data_prefix):
        return None
    return work_prefix.removeprefix(data_prefix).rstrip("/")


def fetch_folder(uri: str) -> Path:
    """Return a folder on this machine with the files of a folder, to be read only.

    Args:
        uri: A path, `file://…` or `s3://…`.

    Returns:
        The folder itself if it is on this machine, otherwise a copy. There is one copy for each
        version of a folder, so that another version does not replace it while it is read.

    Raises:
        DataError: There is nothing at this address on S3.
    """
    if is_local(uri):
        return local_folder(uri).absolute()
    storage = open_storage(uri)
    entries = sorted(storage.list())
    if not entries:
        raise DataError(
            f"{storage.uri}: expected a folder with files, found nothing: check the address"
        )
    versions = "\n".join(f"{entry.key} {entry.version}" for entry in entries)
    copies = _cache_folder("fetched", storage)
    copy = copies / _digest(versions)
    copies.mkdir(parents=True, exist_ok=True)
    with FileLock(copies / ".lock"):
        if not copy.is_dir():
            _download_folder(storage, entries, copy)
        os.utime(copy)  # the time of last use
        _remove_unused(copies)
    return copy


def _download_folder(storage: Storage, entries: Sequence[Entry], folder: Path) -> None:
    """Download files to a new folder that appears under its name when it is whole."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as name:
        part = Path(name) / "part"

        def download(entry: Entry) -> None:
            download_entry(storage, entry, part)

        run_concurrently(download, entries)
        part.rename(folder)


def _remove_unused(copies: Path) -> None:
    """Remove the copies that were not used within a day."""
    oldest_use = time.time() - DAY
    for copy in copies.iterdir():
        if copy.is_dir() and copy.stat().st_mtime < oldest_use:
            shutil.rmtree(copy)


def stagings() -> dict[Path, Staging]:
    """Return the work folders on S3 that this process has open, by local folder."""
    return _open.stagings()


@contextlib.contextmanager
def open_output(uri: str) -> Iterator[Path]:
    """Give a path on this machine for a file that is to be written to an address.

    The folders above it are made. A file on S3 is put there if the block ends without an error.

    Args:
        uri: A path, `file://…` or `s3://…` of a file.

    Yields:
        The path to write to.

    Raises:
        UsageError: The address is that of a folder or a bucket.
        DataError: There is a folder at this address.
        StorageError: No file can be written there; raised before the block begins.
    """
    if uri.endswith("/"):
        raise UsageError(
            f"{uri}: expected a file to write, found the name of a folder: "
            f"give {uri}predictions.csv"
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
    if isinstance(storage, DicomWebStorage):
        raise read_only_error(uri)
    storage.version(name)  # shows before the work that an endpoint or bucket does not exist
    with tempfile.TemporaryDirectory(prefix="cxr-") as scratch:
        path = Path(scratch) / name
        yield path
        storage.upload(path, name)


def _make_folder(folder: Path) -> None:
    """Make a folder if it does not exist; StorageError if it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error("make the folder", str(folder), error) from error


def _require_writable(path: Path) -> None:
    """Make the folders above a file and try to write there; StorageError if that fails."""
    try:
        if path.is_dir():
            example = path / "predictions.csv"
            raise DataError(f"{path}: expected a file to write, found a folder: give {example}")
        _make_folder(path.parent)
        with tempfile.NamedTemporaryFile(
            dir=path.parent,
            prefix=".writing-",
            suffix=path.suffix,
        ):
            pass
    except OSError as error:
        raise storage_error("write", str(path), error) from error


def _cache_folder(kind: str, storage: Storage) -> Path:
    """Return the cache's folder for a storage: "work" for work folders, "fetched" for copies."""
    return object_cache.home() / kind / _digest(storage.place)


def _digest(text: str) -> str:
    """Return the name of a folder for a text."""
    data = text.encode("utf-8", "surrogateescape")
    return hashlib.sha256(data).hexdigest()[:16]


@contextlib.contextmanager
def _locked(folder: Path, uri: str) -> Iterator[None]:
    """Hold a folder's lock; ConflictError if another process of this machine holds it."""
    try:
        lock = FileLock(folder / ".lock").acquire(timeout=0)
    except Timeout:
        raise ConflictError(
            f"{uri}: another cxr is at work in this folder: wait for it, or give another --out"
        ) from None
    except OSError as error:
        raise storage_error("write in", str(folder), error) from error
    with lock:
        yield


@contextlib.contextmanager
def _staged(folder: Path, storage: S3Storage) -> Iterator[None]:
    """Pull a work folder, and push it at the end; the lease is held in between.

    What a failed stage left is pushed, too.
    """
    staging = Staging(folder, storage)
    try:
        staging.pull()
        with _open.staged(staging):
            try:
                yield
                staging.push()
            except ConflictError:
                raise  # the work folder is somebody else's now
            except Exception:
                _push_after_failure(staging)
                raise
    finally:
        with contextlib.suppress(CxrError):  # a lease that cannot be released expires
            staging.lease.release()


def _push_after_failure(staging: Staging) -> None:
    """Push what there is; an error is only logged, because the failure before it is reported."""
    try:
        staging.push()
    except CxrError as error:
        logger.warning(
            "what was done so far could not be published and waits in %s: %s",
            staging.folder,
            error,
        )
