"""The local copy of a work folder on S3: pulled when it is opened, pushed when a stage is done.

Files are published before the records that describe them, so a record's presence means that its
stage is complete there too. If somebody else published since this machine did, theirs is taken;
otherwise what a killed run left here is kept. Which files are published: `shared_files`.

That each file is compared before it is replaced is a second safeguard behind the lease, for a
process that was suspended for longer than the lease lasts.
"""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from cxr.core.files import file_sha256
from cxr.core.records import Record
from cxr.core.settings import Strict
from cxr.storage.base import Entry, path_below
from cxr.storage.s3.writing import S3Storage
from cxr.storage.workspace.lease import Lease
from cxr.storage.workspace.shared_files import (
    in_publishing_order,
    in_removal_order,
    is_record,
    is_shared,
    shared_keys,
)
from cxr.storage.workspace.transfers import download_entry, run_concurrently

logger = logging.getLogger("cxr.workspace")
STATE = ".cxr-state.json"


class File(Strict):
    """What this machine knows of a published file.

    Attributes:
        version: Its version on S3.
        sha256: SHA-256 of the local copy, empty if it is not known.
        size: Bytes of the local copy, -1 if they are not known.
        mtime: The local copy's time of change in ns, -1 if it is not known.
    """

    version: str
    sha256: str = ""
    size: int = -1
    mtime: int = -1


class State(Record):
    """What this machine knows of the published work folder; kept in STATE.

    Attributes:
        lease: The nonce of this machine's last lease.
        clean: Whether its last push was completed.
        files: The published files, by key.
    """

    lease: str = ""
    clean: bool = True
    files: dict[str, File] = Field(default_factory=dict)


class Staging:
    """A work folder on S3 and its local copy.

    Attributes:
        folder: The local copy.
        storage: The work folder on S3.
        lease: The right to publish there.
    """

    def __init__(self, folder: Path, storage: S3Storage):
        """Take the work folder's lease.

        Args:
            folder: The local copy, whose lock the caller holds.
            storage: The work folder on S3.

        Raises:
            ConflictError: Another cxr is at work there.
        """
        self.folder = folder
        self.storage = storage
        self._pushing = threading.Lock()
        self._state = State()
        state_path = folder / STATE
        if state_path.is_file():
            self._state = State.read(state_path)
        last_lease = self._state.lease
        # Whoever had the local copy before is dead, because its lock was free.
        self.lease = Lease(storage, dead_holder=last_lease)
        self._was_last_here = bool(last_lease) and last_lease == self.lease.previous
        self._save(lease=self.lease.nonce)

    def pull(self) -> None:
        """Make the local copy equal to what is published, unless the local copy is newer."""
        listed = self.storage.list()
        published = [entry for entry in listed if is_shared(entry.key)]
        local_is_newer = self._local_is_newer(published)
        if local_is_newer:
            # A file missing locally is fetched, not deleted remotely: a cache may be cleaned.
            wanted = [entry for entry in published if self._is_missing(entry)]
        else:
            self._remove_unpublished(published)
            wanted = [entry for entry in published if not self._is_same(entry)]
        run_concurrently(self._fetch, wanted)
        files = {}
        for entry in published:
            files[entry.key] = self._describe_published(entry, local_is_newer)
        self._save(files=files)
        if wanted:
            logger.info(
                "%s: %s of %s files fetched",
                self.storage.uri,
                len(wanted),
                len(published),
            )

    def _local_is_newer(self, published: Sequence[Entry]) -> bool:
        """Return whether nobody else published since this machine did or tried to."""
        push_was_cut_off = self._was_last_here and not self._state.clean
        if push_was_cut_off:
            return True
        known = self._state.files
        versions = {entry.key: entry.version for entry in published}
        known_versions = {key: file.version for key, file in known.items()}
        return versions == known_versions

    def _remove_unpublished(self, published: Sequence[Entry]) -> None:
        """Remove what is not published from the local copy."""
        published_keys = {entry.key for entry in published}
        surplus = shared_keys(self.folder) - published_keys
        for key in in_removal_order(surplus):
            self._path(key).unlink()

    def _is_missing(self, entry: Entry) -> bool:
        """Return whether the local copy lacks a file."""
        return not self._path(entry.key).is_file()

    def _is_same(self, entry: Entry) -> bool:
        """Return whether the local copy of a file is what is published."""
        path = self._path(entry.key)
        if not path.is_file():
            return False
        status = path.stat()
        if status.st_size != entry.size:
            return False
        known = self._state.files.get(entry.key)
        if known and known.version == entry.version:
            is_untouched = known.mtime == status.st_mtime_ns
            if is_untouched:
                return True
        return self.storage.sha256(entry.key) == file_sha256(path)

    def _fetch(self, entry: Entry) -> None:
        """Download a file to the local copy."""
        download_entry(self.storage, entry, self.folder)

    def _describe_published(self, entry: Entry, local_is_newer: bool) -> File:
        """Return what is known of a published file.

        Of one that a push may have left when it was cut off, this is its version only.
        """
        known = self._state.files.get(entry.key)
        if known and known.version == entry.version:
            return known
        if local_is_newer:
            return File(version=entry.version)
        path = self._path(entry.key)
        return File(
            version=entry.version,
            sha256=file_sha256(path),
            size=entry.size,
            mtime=path.stat().st_mtime_ns,
        )

    def push(self) -> None:
        """Publish files that are new or changed and remove those that are gone, records last.

        Raises:
            ConflictError: Somebody else has taken the work folder over, or changed a file.
        """
        with self._pushing:
            self.lease.renew()
            local = shared_keys(self.folder)
            changed = [key for key in local if self._is_changed(key)]
            gone = [key for key in self._state.files if key not in local]
            if self._state.clean and not changed and not gone:
                return
            self._save(clean=False)
            try:
                self._publish(changed, gone)
            finally:
                self._save()
            self._save(clean=True)
            logger.info(
                "%s: %s files published, %s removed",
                self.storage.uri,
                len(changed),
                len(gone),
            )

    def _publish(self, changed: list[str], gone: list[str]) -> None:
        """Upload changed files and remove those that are gone.

        While files are replaced no record may describe them: changed records are removed first and
        come back last.
        """
        files = [key for key in changed if not is_record(key)]
        records = [key for key in changed if is_record(key)]
        gone_files = [key for key in gone if not is_record(key)]
        stale_records = [key for key in gone if is_record(key)]
        if files:
            stale_records += records
        for key in in_removal_order(stale_records):
            self._remove(key)
        run_concurrently(self._send, files)
        run_concurrently(self._remove, gone_files)
        self.lease.renew()
        for key in in_publishing_order(records):
            self._send(key)

    def _send(self, key: str) -> None:
        """Upload a file, provided that what it replaces is what this machine knows of."""
        self.lease.check()
        path = self._path(key)
        known = self._state.files.get(key)
        expected = known.version if known else None
        try:
            status = path.stat()
            digest = file_sha256(path)
            version = self.storage.upload(path, key, expected)
        except FileNotFoundError:
            return  # replaced or removed meanwhile: the next push sees it
        self._state.files[key] = File(
            version=version,
            sha256=digest,
            size=status.st_size,
            mtime=status.st_mtime_ns,
        )

    def _remove(self, key: str) -> None:
        """Remove a published file."""
        self.lease.check()
        self.storage.delete(key)
        self._state.files.pop(key, None)

    def _is_changed(self, key: str) -> bool:
        """Return whether a local file is new, or has other bytes than the published one."""
        known = self._state.files.get(key)
        if known is None:
            return True
        path = self._path(key)
        status = path.stat()
        if known.size == status.st_size and known.mtime == status.st_mtime_ns:
            return False
        return known.sha256 != file_sha256(path)

    def _path(self, key: str) -> Path:
        """Return the local path of a key."""
        return path_below(self.folder, key)

    def _save(self, **changes: object) -> None:
        """Write the state, with some changes, to the local copy."""
        state = self._state.model_copy(update=changes)
        self._state = state.write(self.folder / STATE)
