"""Who is at work in a place on S3: one small object that is taken, kept alive and given back by conditional writes.

A holder that died is found out by the age of its last sign, on the server's clock: no two clocks are compared.
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
EXPIRES = 120.0  # seconds without a sign after which a holder counts as dead
SIGN = 20.0  # seconds between signs
_BUSY = "another cxr is at work in this folder"
_WAIT = f"wait for it, or give another --out. One that died is taken over {EXPIRES:.0f} s after its last sign"


class Lease:
    """The right to publish below one prefix. `before` is the nonce of the last holder, "" where there was none."""

    def __init__(self, storage: S3Storage, mine: str):
        """Take it. `mine`: the nonce of an earlier holder that is known to be dead, or "".

        Raises ConflictError while somebody else has it.
        """
        self.nonce, self.before = uuid.uuid4().hex, ""
        self._storage, self._lock, self._signs = storage, threading.Lock(), 0
        self._lost: ConflictError | None = None
        self._done = threading.Event()
        try:
            version = storage.version(KEY)
            if version is not None:
                self._look(version, mine)
            self._version = self._write("held", version)
        except (ChangedError, FileNotFoundError) as error:
            raise ConflictError(f"{storage.uri}: {_BUSY} (it has just begun): {_WAIT}") from error
        threading.Thread(target=self._give_signs, daemon=True, name="cxr-lease").start()

    def _look(self, version: str, mine: str) -> None:
        """Raise ConflictError where the lease is held by somebody alive."""
        found = self._read(version)
        self.before, age = str(found["nonce"]), self._storage.age(KEY) or 0.0
        if found["state"] == "held" and self.before != mine and age <= EXPIRES:
            who = f"{found['host']}, process {found['pid']}, last sign {age:.0f} s ago"
            raise ConflictError(f"{self._storage.uri}: {_BUSY} ({who}): {_WAIT}")

    def _read(self, version: str | None = None) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._storage.read(KEY, version))
        except PermissionError as error:  # here it is no image that may be passed over
            raise StorageError(str(error)) from error
        return found

    def _write(self, state: str, expected: str | None) -> str:
        self._signs += 1
        began = time.monotonic()
        held = {
            "state": state,
            "nonce": self.nonce,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "n": self._signs,
        }
        version = self._storage.write(KEY, (json.dumps(held) + "\n").encode(), expected)
        self._signed = began
        return version

    def _give_signs(self) -> None:
        while not self._done.wait(SIGN):
            try:
                self.renew()
            except ConflictError:
                return
            except StorageError:
                continue  # a passing fault; whoever publishes asks again

    def renew(self) -> None:
        """Give a sign of life; ConflictError where somebody else has taken over."""
        with self._lock:
            if self._lost:
                raise self._lost
            try:
                self._version = self._write("held", self._version)
            except ConflictError:
                self._version = self._still_mine()
                self._version = self._write("held", self._version)

    def _still_mine(self) -> str:
        """Return the version that is there, where an own sign arrived but its answer did not; else ConflictError."""
        version = self._storage.version(KEY)
        if version is None or self._read(version)["nonce"] != self.nonce:
            self._lost = ConflictError(
                f"{self._storage.uri}: another cxr has taken this folder over, because this one gave no sign for "
                f"{EXPIRES:.0f} s: nothing more is published from here; run the same command again"
            )
            raise self._lost
        return version

    def check(self) -> None:
        """Make sure, at little cost, that nobody else has taken over; ConflictError where somebody has."""
        if self._lost or time.monotonic() - self._signed > EXPIRES / 2:
            self.renew()

    def release(self) -> None:
        """Give it back, if it is still held."""
        self._done.set()
        with self._lock:
            if not self._lost:
                self._write("free", self._version)
