"""How a command ends before its time: Ctrl-C, SIGTERM, the end of its server. One line, a few seconds, nothing left over.

The main thread is interrupted and may tidy up. What it waits for may not end for minutes (native code, a server that is
gone), so after GRACE_SECONDS a thread does what must be done and ends the process. Everything is made for kill -9, so
that no work is lost by it: the same command goes on.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn
from uuid import UUID

from cxr.models.compute import worker

GRACE_SECONDS = 2.0  # for the main thread, from the signal on
LAST_SECONDS = 1.2  # after it, for a server and S3 to be told
TWICE_SECONDS = 1.0  # `timeout` sends its signal to the process and to the group: that is one
GOES_ON = "the same command goes on from here"
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "ended by SIGTERM"}
_lock = threading.Lock()
_last: list[Callable[[], None]] = []
_flow_runs: set[UUID] = set()


class _State:
    """What this process knows of its end."""

    since: float | None = None  # time.monotonic() of the first word of it
    raised = False  # in the main thread
    words: str | None = None  # instead of those of a signal
    status = 1


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """End this process within seconds at SIGINT and SIGTERM, while the block runs.

    A signal that is ignored, as in the background of a shell, stays ignored.
    """
    numbers = [number for number in _WORDS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _raise_once) for number in numbers}
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    # Python's own handlers wait for the main thread to come out of native code; the pipe does not.
    previous = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_listen, args=[reading], daemon=True, name="cxr-interrupts").start()
    try:
        yield
    finally:
        if ended():
            leave()
        signal.set_wakeup_fd(previous)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writing)


def end(words: str, status: int = 1) -> None:
    """Say why in one line, end the children, interrupt the main thread; the process ends GRACE_SECONDS later at most.

    Args:
        words: What happened and what to do, without the name of the program.
        status: The exit status.
    """
    with _lock:
        if _State.since is not None:
            return
        _State.since = time.monotonic()
        _State.status = status
    _say(words)
    _end_children()
    threading.Thread(target=_see_to_it, daemon=True, name="cxr-end").start()
    if threading.current_thread() is not threading.main_thread():
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def ended() -> bool:
    """Return whether this process is about to end."""
    return _State.since is not None


def at_signal(words: str, status: int) -> None:
    """Have a signal end this process with other words and another exit status: for what is meant to be ended so."""
    _State.words = words
    _State.status = status


@contextlib.contextmanager
def at_last(action: Callable[[], None]) -> Iterator[None]:
    """Have `action` done where the process ends before the block does: something quick that cannot fail."""
    _last.append(action)
    try:
        yield
    finally:
        _last.remove(action)


@contextlib.contextmanager
def flow_runs_noted() -> Iterator[None]:
    """Take note of the flow runs that begin in the block: the server hears of their end, if there is time."""
    handler = _Noting()
    logger = logging.getLogger("prefect.flow_runs")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        _flow_runs.clear()


def leave() -> NoReturn:
    """End the process now: the interpreter's own way out would wait for threads, and for a server that may be gone."""
    _end_children()
    for action in reversed(_last):
        with contextlib.suppress(Exception):
            action()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    os._exit(_State.status)


class _Noting(logging.Handler):
    """Prefect tells the id of a flow run with each line of its logger."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(ValueError):
            _flow_runs.add(UUID(str(getattr(record, "flow_run_id", ""))))


def _raise_once(number: int, _: FrameType | None) -> None:
    """In the main thread: interrupt it, but not again while it tidies up."""
    _begin(number)
    if not _State.raised:
        _State.raised = True
        raise KeyboardInterrupt


def _listen(reading: int) -> None:
    """In a thread: see each signal as it comes; the pipe closes when nobody waits any more."""
    while numbers := os.read(reading, 1):
        if numbers[0] in _WORDS:
            _begin(numbers[0])
    os.close(reading)


def _begin(number: int) -> None:
    if _State.since is None:
        end(_State.words or f"{_WORDS[signal.Signals(number)]}; {GOES_ON}", _State.status)
    elif time.monotonic() - _State.since > TWICE_SECONDS:
        leave()


def _say(words: str) -> None:
    """Write the last line to stderr, past every lock; whatever else would be written there is not."""
    terminal = os.isatty(2)
    before = "\x1b[?25h\n" if terminal else ""  # the cursor, which progress bars hide
    with contextlib.suppress(OSError):
        os.write(2, f"{before}cxr: {words}\n".encode(errors="backslashreplace"))
    with contextlib.suppress(OSError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 2)
        os.close(nothing)


def _end_children() -> None:
    """End the processes that train, and those of a pool: they hold nothing that is not written whole."""
    worker.end_all_workers()
    for process in multiprocessing.active_children():
        process.kill()


def _see_to_it() -> None:
    """In a thread: give the main thread its time, then do what it did not come to, then end the process."""
    time.sleep(GRACE_SECONDS)
    telling = [
        threading.Thread(target=each, daemon=True) for each in (_end_flow_runs, _give_back_leases)
    ]
    for each in telling:
        each.start()
    until = time.monotonic() + LAST_SECONDS
    for each in telling:
        each.join(max(0.0, until - time.monotonic()))
    leave()


def _end_flow_runs() -> None:
    """Tell the server that these runs are over, so that they do not stay Running there."""
    if not _flow_runs:
        return
    from prefect.client.orchestration import get_client
    from prefect.states import Crashed

    with (
        contextlib.suppress(Exception),
        get_client(sync_client=True, httpx_settings={"timeout": 1.0}) as client,
    ):
        for each in tuple(_flow_runs):
            state = client.read_flow_run(each).state
            if state and not state.is_final():
                client.set_flow_run_state(
                    each, Crashed(message=f"The run was ended; {GOES_ON}."), force=True
                )


def _give_back_leases() -> None:
    """Let the next run begin at once in a work folder on S3."""
    from cxr.storage.workspace import workspace

    for staging in workspace.stagings().values():
        with contextlib.suppress(Exception):
            staging.lease.release()
