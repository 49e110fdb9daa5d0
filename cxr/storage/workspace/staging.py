"""The local side of a work folder on S3: pulled when it is opened, pushed when a stage is done.

Files go first, then the records that tell of them, so a record's presence means that its stage is whole there too.
Where somebody else published since, theirs is taken; where nobody did, what a killed run left here is kept. Not
shared: caches, logs, the registry (it has its own rules) and trainings that are not finished.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from pydantic import Field

from cxr.core.files import file_sha256
from cxr.core.records import Record
from cxr.core.settings import Strict
from cxr.storage.base import Entry, Storage, changed_error, path_below
from cxr.storage.s3.writing import S3Storage
from cxr.storage.workspace.lease import Lease

logger = logging.getLogger("cxr.storage.workspace.workspace")
RECORDS = (  # in the order in which they are published: each only tells of what is there already
    "ingest.json",
    "exploration.json",
    "run.json",
    "failure.json",
    "training.json",
    "selection.json",
    "evaluation.json",
    "export.json",
)
AT_A_TIME = 8  # transfers
STATE = ".cxr-state.json"
_APART = ("cache", "registry")
_NO_TRAINING = ("export", "data", "challenge")
T = TypeVar("T")


class File(Strict):
    """A published file: its version there; SHA-256 ("" where not known), size and time of change here."""

    version: str
    sha256: str = ""
    size: int = -1
    mtime: int = -1


class State(Record):
    """What this machine knows of the place. `lease` is its last; `clean`: its last push came to its end."""

    lease: str = ""
    clean: bool = True
    files: dict[str, File] = Field(default_factory=dict)


class Staging:
    """A work folder on S3 and its folder on this machine, whose lock the caller holds.

    Raises ConflictError where another cxr is at work there.
    """

    def __init__(self, folder: Path, storage: S3Storage):
        self.folder, self.storage, self._pushing = folder, storage, threading.Lock()
        self._state = State.read(folder / STATE) if (folder / STATE).is_file() else State()
        # Whoever had this folder before on this machine is dead: its lock was free.
        self.lease = Lease(storage, self._state.lease)
        self._last_was_here = bool(self._state.lease) and self._state.lease == self.lease.before
        self._save(lease=self.lease.nonce)

    def pull(self) -> None:
        """Make the folder what is published, unless what is here is newer than that."""
        there = {entry.key: entry for entry in self.storage.list() if is_shared(entry.key)}
        mine = self._is_newer_here(there)
        if (
            mine
        ):  # what is missing here alone is fetched: a cleaned cache is no wish to remove it there
            wanted = [
                entry
                for entry in there.values()
                if not path_below(self.folder, entry.key).is_file()
            ]
        else:
            self._drop([key for key in self._here() if key not in there])
            wanted = [entry for entry in there.values() if not self._is_same(entry)]
        run_together(self._fetch, wanted)
        self._save(files={key: self._known(entry, mine) for key, entry in there.items()})
        if wanted:
            logger.info("%s: %s of %s files fetched", self.storage.uri, len(wanted), len(there))

    def _is_newer_here(self, there: dict[str, Entry]) -> bool:
        """Return whether nobody else published since this machine did, or since its last push was cut off."""
        known = {key: file.version for key, file in self._state.files.items()}
        unchanged = known == {key: entry.version for key, entry in there.items()}
        return unchanged or (self._last_was_here and not self._state.clean)

    def _drop(self, keys: list[str]) -> None:
        for key in sorted(keys, key=_rank, reverse=True):
            path_below(self.folder, key).unlink()

    def _is_same(self, entry: Entry) -> bool:
        path, known = path_below(self.folder, entry.key), self._state.files.get(entry.key)
        if not path.is_file() or path.stat().st_size != entry.size:
            return False
        if known and (known.version, known.mtime) == (entry.version, path.stat().st_mtime_ns):
            return True
        return self.storage.sha256(entry.key) == file_sha256(path)

    def _fetch(self, entry: Entry) -> None:
        download_entry(self.storage, entry, self.folder)

    def _known(self, entry: Entry, mine: bool) -> File:
        """Return what is known of a file there; of one that a cut-off push may have left, only its version."""
        known = self._state.files.get(entry.key)
        if known and known.version == entry.version:
            return known
        if mine:
            return File(version=entry.version)
        path = path_below(self.folder, entry.key)
        return File(
            version=entry.version,
            sha256=file_sha256(path),
            size=entry.size,
            mtime=path.stat().st_mtime_ns,
        )

    def push(self) -> None:
        """Publish every file that is new or changed, remove there what is gone here; records last."""
        with self._pushing:
            self.lease.renew()
            here = self._here()
            new = [key for key in here if self._differs(key)]
            gone = [key for key in self._state.files if key not in here]
            if new or gone or not self._state.clean:
                self._save(clean=False)
                try:
                    self._publish(new, gone)
                finally:
                    self._save()
                self._save(clean=True)
                logger.info(
                    "%s: %s files published, %s removed", self.storage.uri, len(new), len(gone)
                )

    def _publish(self, new: list[str], gone: list[str]) -> None:
        files = [key for key in new if not _is_record(key)]
        records = [key for key in new if _is_record(key)]
        # No record tells of files that are being replaced: it goes first and comes back last.
        stale = [key for key in (*gone, *(records if files else ())) if _is_record(key)]
        for key in sorted(stale, key=_rank, reverse=True):
            self._remove(key)
        run_together(self._send, files)
        run_together(self._remove, [key for key in gone if not _is_record(key)])
        self.lease.renew()
        for key in sorted(records, key=_rank):
            self._send(key)

    def _send(self, key: str) -> None:
        """Upload a file, provided that what is there is what this machine knows of."""
        self.lease.check()
        path, known = path_below(self.folder, key), self._state.files.get(key)
        try:
            status, digest = path.stat(), file_sha256(path)
            version = self.storage.upload(path, key, known.version if known else None)
        except FileNotFoundError:
            return  # replaced or removed meanwhile: the next push sees it
        self._state.files[key] = File(
            version=version, sha256=digest, size=status.st_size, mtime=status.st_mtime_ns
        )

    def _remove(self, key: str) -> None:
        self.lease.check()
        self.storage.delete(key)
        self._state.files.pop(key, None)

    def _differs(self, key: str) -> bool:
        path, known = path_below(self.folder, key), self._state.files.get(key)
        if known is None:
            return True
        status = path.stat()
        if (known.size, known.mtime) == (status.st_size, status.st_mtime_ns):
            return False
        return known.sha256 != file_sha256(path)

    def _here(self) -> set[str]:
        """Return the keys of all files to be published."""
        paths = (
            path for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink()
        )
        keys = (path.relative_to(self.folder).as_posix() for path in paths)
        return {key for key in keys if is_shared(key) and self._is_finished(key)}

    def _is_finished(self, key: str) -> bool:
        """Return whether a file is of no training, or of one that has ended: a half-trained model serves nobody else."""
        parts = key.split("/")
        if len(parts) < 4 or parts[0] != "runs" or parts[2] in _NO_TRAINING:
            return True
        training = self.folder.joinpath(*parts[:3])
        return any((training / name).is_file() for name in ("training.json", "failure.json"))

    def _save(self, **changes: object) -> None:
        self._state = self._state.model_copy(update=changes).write(self.folder / STATE)


def is_shared(key: str) -> bool:
    """Return whether a file is for others too.

    >>> [is_shared(key) for key in ("eda/eda.json", "cache/pixels.npy", "runs/a/M/training.log", ".lock")]
    [True, False, False, False]
    """
    parts = key.split("/")
    apart = any(part.startswith((".", "checkpoint-")) for part in parts) or parts[0] in _APART
    return not apart and not key.endswith(".log")


def _is_record(key: str) -> bool:
    return key.rpartition("/")[2] in RECORDS


def _rank(key: str) -> tuple[int, str]:
    name = key.rpartition("/")[2]
    return RECORDS.index(name) if name in RECORDS else -1, key


def download_entry(storage: Storage, entry: Entry, folder: Path) -> None:
    """Download what was listed; ConflictError where it is another file by now."""
    try:
        version = storage.download(entry.key, path_below(folder, entry.key))
    except FileNotFoundError:
        raise changed_error(f"{storage.uri}/{entry.key}", entry.version, None) from None
    if version != entry.version:
        raise changed_error(f"{storage.uri}/{entry.key}", entry.version, version)


def run_together(do: Callable[[T], object], each: Iterable[T]) -> None:
    """Do something for each, several at a time; the first error ends it."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        futures = [pool.submit(do, one) for one in each]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
