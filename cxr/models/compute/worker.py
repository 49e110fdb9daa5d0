"""Worker processes for what imports Keras: a job goes in as JSON, progress comes back as JSON.

A worker process ends itself when its parent is gone (its standard input closes), so that a killed
run leaves nothing behind that still writes. SIGINT is blocked in it: Ctrl-C in a terminal is for
the parent alone, which then ends its workers. A SIGTERM to the process group, which Prefect's
worker sends to cancel a run, does end it. It is never forked: TensorFlow does not survive a fork.
Importing Keras takes seconds, so workers can be started while their job is still being prepared.
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
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, ClassVar

from cxr.core.errors import CxrError, TrainingError
from cxr.core.settings import Strict
from cxr.models.compute import backend, keras_internals

_LOG_LINES_SHOWN = 12
_END_SECONDS = 60
_PARENT_GONE = 3  # exit status
Process = subprocess.Popen[str]


class _Workers:
    """All worker processes of this process.

    Attributes:
        waiting: Those that were started ahead and have no job yet, by their number of threads.
        alive: All that were started and not ended.
        ending: Whether this process is about to end, so that none may start any more.
        lock: Held while one starts, and while all are ended.
    """

    waiting: ClassVar[dict[int, list[Process]]] = {}
    alive: ClassVar[set[Process]] = set()
    ending = False
    lock = threading.Lock()


class Progress(Strict):
    """How far a worker process has come, told to its parent.

    Attributes:
        step: What is being done: "images" or "features" (both counted in images), or "epochs".
        done: How many of them are done, parts of an epoch included.
        note: What a person may want to know at this point.
    """

    step: str = "images"
    done: float
    note: str = ""


Emit = Callable[[Progress], None]


class Job(Strict):
    """Work for a worker process. A subclass has a field for each input, and does it in `work`.

    The worker finds the subclass by its module and name, so it stands at the top level of a module.
    """

    @abstractmethod
    def work(self, emit: Emit) -> None:
        """Do the work, in the worker process; raise CxrError for what a person can mend."""

    @classmethod
    def kind(cls) -> str:
        """Return the module and the name by which the worker finds this type."""
        return f"{cls.__module__}:{cls.__qualname__}"


class _Order(Strict):
    """A line from parent to worker: the job, its type, where the log goes, the ids of its GPUs."""

    kind: str
    job: dict[str, Any]
    log: Path
    gpus: tuple[str, ...] | None


class _Answer(Strict):
    """A line from worker to parent: progress, or why the job failed."""

    progress: Progress | None = None
    failure: str | None = None


@contextlib.contextmanager
def prestarted_workers(wanted: Mapping[int, int]) -> Iterator[None]:
    """Let workers import Keras while the block runs; `run_job` takes one with as many threads.

    Workers that are already waiting count; unused ones are ended on exit.

    Args:
        wanted: How many workers should wait, by their number of threads.
    """
    started = []
    for threads, count in wanted.items():
        waiting = _Workers.waiting.setdefault(threads, [])
        for _ in range(count - len(waiting)):
            process = _start(threads, subprocess.DEVNULL)
            waiting.append(process)
            started.append((waiting, process))
    try:
        yield
    finally:
        for waiting, process in started:
            with contextlib.suppress(ValueError):  # it is not there any more: a job took it
                waiting.remove(process)
                _end(process)


def run_job(
    job: Job,
    log: Path,
    threads: int,
    on_progress: Emit = lambda _: None,
    gpus: list[str] | None = None,
) -> None:
    """Do a job in a worker process, to its end.

    Args:
        job: What to do.
        log: The file that gets what the worker prints.
        threads: How many threads the worker computes with.
        on_progress: Told how far the worker has come.
        gpus: The ids of the GPUs that it may use, all of them where None.

    Raises:
        DeviceError: KERAS_BACKEND names no backend.
        TrainingError: The job failed, with the worker's own message; or the worker died, with the
            last lines of its log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as errors:  # the log is there even if the worker dies before its first line
        process = _take_waiting(threads) or _start(threads, errors)
    assert process.stdin and process.stdout
    order = _Order(
        kind=job.kind(),
        job=job.model_dump(mode="json"),
        log=log,
        gpus=None if gpus is None else tuple(gpus),
    )
    failure = None
    try:
        with contextlib.suppress(BrokenPipeError):  # it died; its exit status says so below
            process.stdin.write(_to_line(order))
            process.stdin.flush()
        for line in process.stdout:
            answer = _Answer.model_validate(json.loads(line))
            if answer.failure is not None:
                failure = answer.failure
            if answer.progress is not None:
                on_progress(answer.progress)
    finally:
        status = _end(process)
    if status:
        raise TrainingError(
            failure or f"{job.kind()} ended with status {status}: {_last_lines(log)}"
        )


def end_all_workers() -> None:
    """End every worker at once, and let none start any more: this process is about to end."""
    with _Workers.lock:
        _Workers.ending = True
        for process in tuple(_Workers.alive):
            process.kill()


def _take_waiting(threads: int) -> Process | None:
    """Return a worker that was started ahead and is still alive, or None."""
    waiting = _Workers.waiting.get(threads, [])
    while waiting:
        process = waiting.pop(0)
        if process.poll() is None:
            return process
        _end(process)
    return None


def _start(threads: int, errors: IO[bytes] | int) -> Process:
    """Start a worker process.

    Args:
        threads: How many threads it computes with.
        errors: Where its standard error goes, until a job names its log.

    Raises:
        TrainingError: This process is about to end.
    """
    # If this process does not import from the folder that its command was started in, the worker
    # must not either (-P): what lies there could stand in for this project's packages.
    imports_from_folder = bool({"", str(Path.cwd())} & set(sys.path))
    options = [] if imports_from_folder else ["-P"]
    # Not with `-m`: the module that serves has to be the one that jobs import, or types differ.
    command = [sys.executable, *options, "-c", f"from {__name__} import serve; serve()"]
    with _Workers.lock:
        if _Workers.ending:
            raise TrainingError("this run is about to end: the same command goes on from here")
        blocked_before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | backend.child_environment(threads),
                text=True,
                encoding="utf-8",
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked_before)
        _Workers.alive.add(process)
    return process


def _end(process: Process) -> int:
    """Close the pipes, upon which the worker ends itself; return its exit status."""
    assert process.stdin and process.stdout
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    process.stdout.close()
    status = process.wait(timeout=_END_SECONDS)
    _Workers.alive.discard(process)
    return status


def _last_lines(log: Path) -> str:
    """Return the end of a log, on one line."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return f"see {log}; its last lines: " + " | ".join(lines[-_LOG_LINES_SHOWN:])


def serve() -> None:
    """Be a worker process: import Keras, wait for the job, do it, and leave.

    The exit status is 0, or 1 after a CxrError, whose message goes to the parent.
    """
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever libraries print goes to the log, not between the answers
    orders: queue.SimpleQueue[_Order] = queue.SimpleQueue()
    threading.Thread(
        target=_listen,
        args=[orders],
        daemon=True,
    ).start()
    keras_internals.import_keras()
    order = orders.get()
    with order.log.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    if order.gpus is not None:
        # TensorFlow and JAX read this when they are first asked for a device.
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(order.gpus)
    backend.configure()

    def send(answer: _Answer) -> None:
        channel.write(_to_line(answer))
        channel.flush()

    status = 0
    try:
        job = _job_type(order.kind).model_validate(order.job)
        job.work(lambda progress: send(_Answer(progress=progress)))
    except CxrError as error:
        send(_Answer(failure=str(error)))
        status = 1
    # Everything is published. The interpreter's own way out takes TensorFlow seconds, during which
    # the parent, which sees the channel closed, would close the pipe that this process is watching.
    sys.stderr.flush()
    os._exit(status)


def _listen(orders: "queue.SimpleQueue[_Order]") -> None:
    """Take the job, then watch the pipe: it closes with the parent, and this process ends."""
    line = sys.stdin.readline()
    if line:
        orders.put(_Order.model_validate(json.loads(line)))
    sys.stdin.read()
    os._exit(_PARENT_GONE)


def _to_line(record: Strict) -> str:
    """Return a record as a line of JSON; pydantic's own takes no file names that are not UTF-8."""
    return json.dumps(record.model_dump(mode="json")) + "\n"


def _job_type(kind: str) -> type[Job]:
    """Return the type of job that `Job.kind` names."""
    module, _, name = kind.partition(":")
    job_type = getattr(importlib.import_module(module), name)
    if not (isinstance(job_type, type) and issubclass(job_type, Job)):
        raise TypeError(f"{kind}: expected a job for a worker process, found {job_type!r}")
    return job_type
