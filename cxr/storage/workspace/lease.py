"""The lease of a work folder on S3: who holds it may publish there.

It is one small object, taken, renewed and released by conditional writes, so exactly one process
holds it. A holder that died is recognised by the age of its last renewal. That age is known from
the server's clock alone: the clocks of two machines are never compared.

Naming outputs by their content would not make it superfluous: two runs of the same command do not
write the same bytes, and `--policy refuse` and `wait`, the local copy and resuming all need to
know whether somebody is at work.
"""

import json
import os
import socket
import threading
import time
import uuid
from typing import Any

from cxr.core.errors import ChangedError, ConflictError, StorageError
from cxr.storage.s3.writing import S3Storage

KEY = ".cxr-lease.json"
EXPIRES = 120.0  # seconds without a renewal after which a holder counts as dead
SIGN = 20.0  # seconds between renewals
_BUSY = "another cxr is at work in this folder"
_WAIT = (
    "wait for it, or give another --out. "
    f"One that died is taken over {EXPIRES:.0f} s after its last sign"
)


class Lease:
    """The right to publish below one prefix, renewed by a thread until it is released.

    Attributes:
        nonce: A random text that names this holder.
        previous: The nonce of the holder before, empty if there was none.
    """

    def __init__(self, storage: S3Storage, dead_holder: str):
        """Take the lease.

        Args:
            storage: The prefix.
            dead_holder: The nonce of an earlier holder that is known to be dead; may be empty.

        Raises:
            ConflictError: Somebody else holds the lease.
        """
        self.nonce = uuid.uuid4().hex
        self.previous = ""
        self._storage = storage
        self._lock = threading.Lock()
        self._renewals = 0
        self._renewed_at = 0.0  # by the monotonic clock
        self._lost: ConflictError | None = None
        self._released = threading.Event()
        try:
            version = storage.version(KEY)
            if version is not None:
                self._require_free(version, dead_holder)
            self._version = self._write("held", version)
        except (ChangedError, FileNotFoundError) as error:
            raise ConflictError(f"{storage.uri}: {_BUSY} (it has just begun): {_WAIT}") from error
        thread = threading.Thread(
            target=self._keep_renewing,
            daemon=True,
            name="cxr-lease",
        )
        thread.start()

    def _require_free(self, version: str, dead_holder: str) -> None:
        """Raise ConflictError if the lease is held by a process that is alive."""
        holder = self._read(version)
        age = self._storage.age(KEY) or 0.0
        self.previous = str(holder["nonce"])
        is_held = holder["state"] == "held" and self.previous != dead_holder
        if is_held and age <= EXPIRES:
            raise ConflictError(
                f"{self._storage.uri}: {_BUSY} ({holder['host']}, process {holder['pid']}, "
                f"last sign {age:.0f} s ago): {_WAIT}"
            )

    def _read(self, version: str | None = None) -> dict[str, Any]:
        """Return what the lease's object says."""
        try:
            data = self._storage.read(KEY, version)
        except PermissionError as error:  # for an image this is a reject, but not here
            raise StorageError(str(error)) from error
        holder: dict[str, Any] = json.loads(data)
        return holder

    def _write(self, state: str, expected: str | None) -> str:
        """Write the lease's object and return its version.

        Args:
            state: "held" or "free".
            expected: The version that must still be there, None for none.
        """
        self._renewals += 1
        began = time.monotonic()
        holder = {
            "state": state,
            "nonce": self.nonce,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "n": self._renewals,  # so that each renewal changes the ETag
        }
        text = json.dumps(holder) + "\n"
        version = self._storage.write(KEY, text.encode(), expected)
        self._renewed_at = began
        return version

    def _keep_renewing(self) -> None:
        """Renew the lease until it is released or lost."""
        while not self._released.wait(SIGN):
            try:
                self.renew()
            except ConflictError:
                return
            except StorageError:
                continue  # a passing fault; `check` asks again before anything is published

    def renew(self) -> None:
        """Renew the lease.

        Raises:
            ConflictError: Somebody else has taken it over.
        """
        with self._lock:
            if self._lost:
                raise self._lost
            try:
                self._version = self._write("held", self._version)
            except ConflictError:
                self._version = self._find_own_version()
                self._version = self._write("held", self._version)

    def _find_own_version(self) -> str:
        """Return the version that is there if this process wrote it and the answer was lost.

        Raises:
            ConflictError: Somebody else wrote it.
        """
        version = self._storage.version(KEY)
        if version is None or self._read(version)["nonce"] != self.nonce:
            self._lost = ConflictError(
                f"{self._storage.uri}: another cxr has taken this folder over, because this one "
                f"gave no sign for {EXPIRES:.0f} s: nothing more is published from here; "
                "run the same command again"
            )
            raise self._lost
        return version

    def check(self) -> None:
        """Make sure, mostly without a request, that nobody else has taken the lease over.

        Raises:
            ConflictError: Somebody has.
        """
        since_renewal = time.monotonic() - self._renewed_at
        if self._lost or since_renewal > EXPIRES / 2:
            self.renew()

    def release(self) -> None:
        """Give the lease back if it is still held."""
        self._released.set()
        with self._lock:
            if not self._lost:
                self._write("free", self._version)
