"""One at a time at a place: a lock file on this machine, or in S3 a lease that its holder renews and others wait out.

A lock file is freed by the system when its process dies; a lease by its own end, LEASE_SECONDS after the last renewal.
Left out: clocks of two machines that differ by more than that (a lease in S3 then ends too early or too late).
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from filelock import FileLock, Timeout
from pydantic import AwareDatetime

from cxr.errors import BusyError, ConflictError, CxrError
from cxr.records import Record
from cxr.storage import Storage, local_folder, open_storage

LEASE_SECONDS = 120.0
_POLL_SECONDS = 2.0


class Lease(Record):
    """Who is at work at a place, and until when they are believed to be without a sign of life."""

    holder: str
    until: AwareDatetime


@contextlib.contextmanager
def alone(uri: str, name: str, wait: bool) -> Iterator[Callable[[], None]]:
    """Hold the place `uri` for one work of that `name`; give a function that raises BusyError once it is held no longer.

    Where another holds it: BusyError at once, or wait until it is free.
    """
    if uri.startswith("s3://"):
        with lease(open_storage(uri), f"{name}-lease.json", wait) as check:
            yield check
        return
    folder = local_folder(uri)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / f".{name}.lock").acquire(timeout=-1 if wait else 0)
    except Timeout:
        raise _busy(uri, name, "another process") from None
    with lock:
        yield lambda: None


@contextlib.contextmanager
def lease(storage: Storage, key: str, wait: bool, seconds: float = LEASE_SECONDS) -> Iterator[Callable[[], None]]:
    """Hold a lease file by conditional writes, renewed three times in `seconds`; as `alone`."""
    holder = f"{socket.gethostname()} process {os.getpid()} {uuid4().hex[:8]}"
    token = [_taken(storage, key, holder, wait, seconds)]
    ended, lost = threading.Event(), threading.Event()

    def renew() -> None:
        good_until = time.monotonic() + seconds
        while not ended.wait(seconds / 3):
            try:
                token[0] = storage.write(key, _data(holder, seconds), expected=token[0])
                good_until = time.monotonic() + seconds
            except ConflictError:
                lost.set()
                return
            except (CxrError, OSError):  # storage may come back before the lease ends
                if time.monotonic() > good_until:
                    lost.set()
                    return

    def check() -> None:
        if lost.is_set():
            raise BusyError(f"{storage.uri}/{key}: the lease went to another while this process stood still: run again")

    thread = threading.Thread(target=renew, daemon=True, name="lease")
    thread.start()
    try:
        yield check
    finally:
        ended.set()
        thread.join()
        with contextlib.suppress(CxrError, OSError):  # another's by now, or it ends by itself
            storage.write(key, _data(holder, 0.0), expected=token[0])


def _taken(storage: Storage, key: str, holder: str, wait: bool, seconds: float) -> str:
    """Return the version of the lease file that is ours now."""
    while True:
        token = storage.version(key)
        found = Lease.model_validate_json(storage.read(key)) if token else None
        if found is None or found.until <= datetime.now(UTC):
            with contextlib.suppress(ConflictError):  # another was faster: look again
                return storage.write(key, _data(holder, seconds), expected=token)
        elif not wait:
            raise _busy(
                storage.uri, key.removesuffix("-lease.json"), f"{found.holder}, until {found.until:%H:%M:%S} UTC"
            )
        time.sleep(min(_POLL_SECONDS, seconds / 10))


def _data(holder: str, seconds: float) -> bytes:
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    return Lease(holder=holder, until=until).model_dump_json().encode()


def _busy(uri: str, name: str, who: str) -> BusyError:
    return BusyError(f"{uri}: another {name} is at work here ({who}): wait for it, or start with the policy 'wait'")
