"""How a command ends early: Ctrl-C, SIGTERM, the end of its server.

It says why in one line, ends within a few seconds and leaves nothing running. The main thread is
interrupted and may clean up. It may wait for something that takes minutes (native code, a server
that is gone), so after GRACE_SECONDS a thread does what must be done and ends the process. No work
is lost by that, since every output survives kill -9: the same command continues.
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
from typing import Any, NoReturn
from uuid import UUID

from cxr.models.compute import worker

GRACE_SECONDS = 2.0  # for the main thread, from the signal on
LAST_SECONDS = 1.2  # after that, to tell the server and S3
# A second signal within this time is the same one: `timeout` sends its signal to the process and to
# the process group.
TWICE_SECONDS = 1.0
GOES_ON = "the same command goes on from here"
_REASONS = {signal.SIGINT: "interrupted", signal.SIGTERM: "ended by SIGTERM"}
_lock = threading.Lock()
_last_actions: list[Callable[[], None]] = []
_flow_runs: set[UUID] = set()


class _End:
    """The end of this process, as far as it is known.

    Attributes:
        since: time.monotonic() of the first sign of it; None before.
        raised: Whether the main thread was interrupted.
        reason: What a signal's line says, instead of the signal's name.
        status: The exit status.
    """

    since: float | None = None
    raised = False
    reason: str | None = None
    status = 1


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """End this process within seconds at SIGINT and SIGTERM, while the block runs.

    A signal that is ignored, as in the background of a shell, stays ignored.
    """
    numbers = [number for number in _REASONS if signal.getsignal(number) is not signal.SIG_IGN]
    handlers = {number: signal.signal(number, _raise_once) for number in numbers}
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    # Python's own handlers wait for the main thread to come out of native code; the pipe does not.
    previous = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    threading.Thread(target=_listen, args=[read_end], daemon=True, name="cxr-interrupts").start()
    try:
        yield
    finally:
        if ended():
            leave()
        signal.set_wakeup_fd(previous)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(write_end)


def end(reason: str, status: int = 1) -> None:
    """End this process: say why, end its worker processes, interrupt the main thread.

    The process ends GRACE_SECONDS and LAST_SECONDS later at the latest.

    Args:
        reason: What happened and what to do, in one line without the name of the program.
        status: The exit status.
    """
    with _lock:
        if _End.since is not None:
            return
        _End.since = time.monotonic()
        _End.status = status
    _write_last_line(reason)
    _end_worker_processes()
    threading.Thread(target=_end_in_time, daemon=True, name="cxr-end").start()
    if threading.current_thread() is not threading.main_thread():
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def ended() -> bool:
    """Return whether this process is about to end."""
    return _End.since is not None


def at_signal(reason: str, status: int) -> None:
    """Let a signal end this process with another line and status, for what is meant to be ended by one.

    Args:
        reason: The line.
        status: The exit status.
    """
    _End.reason = reason
    _End.status = status


@contextlib.contextmanager
def at_last(action: Callable[[], None]) -> Iterator[None]:
    """Call `action`, which is quick and cannot fail, if the process ends before the block does."""
    _last_actions.append(action)
    try:
        yield
    finally:
        _last_actions.remove(action)


@contextlib.contextmanager
def flow_runs_recorded() -> Iterator[None]:
    """Record the flow runs that begin in the block, to tell the server of their end if there is time."""
    handler = _FlowRunRecorder()
    logger = logging.getLogger("prefect.flow_runs")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        _flow_runs.clear()


def leave() -> NoReturn:
    """End the process now: a normal exit would wait for threads, and for a server that may be gone."""
    _end_worker_processes()
    for action in reversed(_last_actions):
        with contextlib.suppress(Exception):
            action()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    os._exit(_End.status)


class _FlowRunRecorder(logging.Handler):
    """Records the id of a flow run, which Prefect adds to each line of its logger."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(ValueError):
            _flow_runs.add(UUID(str(getattr(record, "flow_run_id", ""))))


def _raise_once(number: int, _: FrameType | None) -> None:
    """In the main thread: interrupt it, but not again while it cleans up."""
    _on_signal(number)
    if not _End.raised:
        _End.raised = True
        raise KeyboardInterrupt


def _listen(read_end: int) -> None:
    """In a thread: react to each signal as it comes, until the other end of the pipe is closed."""
    while True:
        numbers = os.read(read_end, 1)
        if not numbers:
            break
        if numbers[0] in _REASONS:
            _on_signal(numbers[0])
    os.close(read_end)


def _on_signal(number: int) -> None:
    """End the process: in time at the first signal, at once at the second."""
    if _End.since is None:
        reason = _End.reason or f"{_REASONS[signal.Signals(number)]}; {GOES_ON}"
        end(reason, _End.status)
    elif time.monotonic() - _End.since > TWICE_SECONDS:
        leave()


def _write_last_line(reason: str) -> None:
    """Write the last line to stderr without taking any lock; nothing else is written there after it."""
    show_cursor = "\x1b[?25h\n" if os.isatty(2) else ""  # progress bars hide it
    line = f"{show_cursor}cxr: {reason}\n"
    with contextlib.suppress(OSError):
        os.write(2, line.encode(errors="backslashreplace"))
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)


def _end_worker_processes() -> None:
    """End the processes that train, and those of a pool: they hold nothing that is not written whole."""
    worker.end_all_workers()
    for process in multiprocessing.active_children():
        process.kill()


def _end_in_time() -> None:
    """In a thread: give the main thread its time, do what it did not get to, end the process."""
    time.sleep(GRACE_SECONDS)
    threads = [
        threading.Thread(target=_crash_flow_runs, daemon=True),
        threading.Thread(target=_release_leases, daemon=True),
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + LAST_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    leave()


def _crash_flow_runs() -> None:
    """Tell the server that the flow runs are over, so that they do not stay Running there."""
    if not _flow_runs:
        return
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import State
    from prefect.states import Crashed

    with (
        contextlib.suppress(Exception),
        get_client(sync_client=True, httpx_settings={"timeout": 1.0}) as client,
    ):
        crashed: State[Any] = Crashed(message=f"The run was ended; {GOES_ON}.")
        for flow_run in tuple(_flow_runs):
            state = client.read_flow_run(flow_run).state
            if state and not state.is_final():
                client.set_flow_run_state(flow_run, crashed, force=True)


def _release_leases() -> None:
    """Let the next run begin at once in a work folder on S3."""
    from cxr.storage.workspace import workspace

    for staging in workspace.stagings().values():
        with contextlib.suppress(Exception):
            staging.lease.release()
