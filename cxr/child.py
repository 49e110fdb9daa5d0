"""Child processes for the work that imports Keras: a job goes in as JSON, events come back as JSON lines.

A child ends itself when its parent is gone (its standard input closes), so that a killed run leaves nothing
behind that still writes. SIGINT is blocked in it: Ctrl-C in a terminal is for the parent alone, which then ends its children;
a SIGTERM to the group, as Prefect's worker sends to cancel a run, does end it. Never forked: TensorFlow does not survive a
fork. Importing Keras takes seconds, so children can be readied while their job is still being prepared.
"""

import contextlib
import importlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from cxr import backend
from cxr.errors import CxrError, TrainingError

Event = dict[str, Any]
_LAST_LINES = 12
_ready: dict[int, list["subprocess.Popen[str]"]] = {}  # by their threads
_alive: set["subprocess.Popen[str]"] = set()
_starting = threading.Lock()


class _State:
    """Whether this process is about to end."""

    over = False


@contextlib.contextmanager
def readied(wanted: Mapping[int, int]) -> Iterator[None]:
    """Have children import Keras meanwhile, so many of each number of threads; `run` with as many threads takes one.

    Those that wait already count. Those not taken end here.
    """
    mine = [
        (_ready.setdefault(threads, []), _started(threads, subprocess.DEVNULL))
        for threads, count in wanted.items()
        for _ in range(count - len(_ready.get(threads, [])))
    ]
    for waiting, process in mine:
        waiting.append(process)
    try:
        yield
    finally:
        for waiting, process in mine:
            with contextlib.suppress(ValueError):  # taken
                waiting.remove(process)
                _end(process)


def run(
    module: str,
    job: dict[str, Any],
    log: Path,
    threads: int,
    on_event: Callable[[Event], None],
    gpus: list[str] | None = None,
) -> None:
    """Do module.main(job, emit) in a child to its end, passing on what it emits; what else it prints goes to `log`.

    `gpus` are the ids of those that it may use, all of them where None.
    Raises DeviceError for a Keras backend that is none, and TrainingError with the child's own words where it fails, or the log's last lines where it died.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as errors:
        process = _taken(threads) or _started(threads, errors)
    assert process.stdin and process.stdout
    failure = None
    try:
        with contextlib.suppress(BrokenPipeError):  # it died; its status says so
            process.stdin.write(
                json.dumps({"module": module, "job": job, "log": str(log), "gpus": gpus}) + "\n"
            )
            process.stdin.flush()
        for line in process.stdout:
            event = json.loads(line)
            if "failure" in event:
                failure = event["failure"]
            else:
                on_event(event)
    finally:
        status = _end(process)
    if status:
        raise TrainingError(failure or f"{module} ended with status {status}: {_tail(log)}")


def _taken(threads: int) -> "subprocess.Popen[str] | None":
    """Return a readied child that is still alive, or None."""
    while waiting := _ready.get(threads):
        process = waiting.pop(0)
        if process.poll() is None:
            return process
        _end(process)
    return None


def end_all() -> None:
    """End every child at once, and let none start any more: this process is about to end."""
    with _starting:
        _State.over = True
        for process in tuple(_alive):
            process.kill()


def _started(threads: int, errors: IO[bytes] | int) -> "subprocess.Popen[str]":
    # What lies in the folder that a command was started in is not to be imported in the place of this project's packages.
    here = {"", str(Path.cwd())} & set(sys.path)
    command = [sys.executable, *([] if here else ["-P"]), "-m", __name__]
    with _starting:
        if _State.over:
            raise TrainingError("this run is about to end: the same command goes on from here")
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | backend.environment(threads),
                text=True,
                encoding="utf-8",
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        _alive.add(process)
    return process


def _end(process: "subprocess.Popen[str]") -> int:
    """Close the pipes, upon which the child ends itself; return its status."""
    assert process.stdin and process.stdout
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    process.stdout.close()
    status = process.wait(timeout=60)
    _alive.discard(process)
    return status


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()[-_LAST_LINES:]
    return f"see {log}; its last lines: " + " | ".join(lines)


def _serve() -> None:
    """In the child: import Keras, wait for the job, do it, exit 0; on a CxrError emit its words and exit 1."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever libraries print goes to the log, not between the events
    asked: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=[asked], daemon=True).start()
    backend.load()
    task = asked.get()
    with Path(task["log"]).open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    if task["gpus"] is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(
            task["gpus"]
        )  # read when the first device is asked for
    backend.configure()

    def emit(event: Event) -> None:
        channel.write(json.dumps(event) + "\n")
        channel.flush()

    status = 0
    try:
        importlib.import_module(task["module"]).main(task["job"], emit)
    except CxrError as error:
        emit({"failure": str(error)})
        status = 1
    # Everything is published; the interpreter's own way out takes TensorFlow seconds, during which the parent,
    # which sees the channel closed, would close the pipe that this process is watching.
    sys.stderr.flush()
    os._exit(status)


def _listen(asked: "queue.SimpleQueue[dict[str, Any]]") -> None:
    """Take the job, then watch the pipe: it closes with the parent."""
    if line := sys.stdin.readline():
        asked.put(json.loads(line))
    sys.stdin.read()
    os._exit(3)


if __name__ == "__main__":
    _serve()
