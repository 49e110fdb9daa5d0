"""Child processes for the work that imports Keras: a job goes in as JSON, progress comes back as JSON lines.

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
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from cxr.core.errors import CxrError, TrainingError
from cxr.core.settings import Strict
from cxr.models.compute import backend

_LAST_LINES = 12
_ready: dict[int, list["subprocess.Popen[str]"]] = {}  # by their threads
_alive: set["subprocess.Popen[str]"] = set()
_starting = threading.Lock()


class _State:
    """Whether this process is about to end."""

    over = False


class Progress(Strict):
    """What a child tells its parent: how far it has come.

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
    """Work for a child process. A subclass has a field for each thing it needs, and does it in `work`.

    The child finds the subclass by its module and name, so it stands at the top level of a module.
    """

    @abstractmethod
    def work(self, emit: Emit) -> None:
        """Do the work, in the child; raises CxrError for what a person can mend."""

    @classmethod
    def kind(cls) -> str:
        """Return the module and the name by which the child finds this type."""
        return f"{cls.__module__}:{cls.__qualname__}"


class _Order(Strict):
    """A line from parent to child: the job, its type, where the log goes, the ids of its GPUs."""

    kind: str
    job: dict[str, Any]
    log: Path
    gpus: tuple[str, ...] | None


class _Answer(Strict):
    """A line from child to parent: progress, or why the job failed."""

    progress: Progress | None = None
    failure: str | None = None


@contextlib.contextmanager
def prestarted_workers(wanted: Mapping[int, int]) -> Iterator[None]:
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


def run_job(
    job: Job,
    log: Path,
    threads: int,
    on_progress: Emit = lambda _: None,
    gpus: list[str] | None = None,
) -> None:
    """Do the job in a child process, to its end.

    Args:
        job: What to do.
        log: The file that gets what the child prints.
        threads: How many threads the child computes with.
        on_progress: Told how far the child has come.
        gpus: The ids of the GPUs that it may use, all of them where None.

    Raises:
        DeviceError: The Keras backend that was asked for is none.
        TrainingError: The job failed, with the child's own words; or the child died, with the last
            lines of its log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as errors:
        process = _taken(threads) or _started(threads, errors)
    assert process.stdin and process.stdout
    order = _Order(
        kind=job.kind(),
        job=job.model_dump(mode="json"),
        log=log,
        gpus=None if gpus is None else tuple(gpus),
    )
    failure = None
    try:
        with contextlib.suppress(BrokenPipeError):  # it died; its status says so
            process.stdin.write(_to_line(order))
            process.stdin.flush()
        for line in process.stdout:
            answer = _Answer.model_validate(json.loads(line))
            failure = answer.failure or failure
            if answer.progress is not None:
                on_progress(answer.progress)
    finally:
        status = _end(process)
    if status:
        raise TrainingError(failure or f"{job.kind()} ended with status {status}: {_tail(log)}")


def _taken(threads: int) -> "subprocess.Popen[str] | None":
    """Return a readied child that is still alive, or None."""
    while waiting := _ready.get(threads):
        process = waiting.pop(0)
        if process.poll() is None:
            return process
        _end(process)
    return None


def end_all_workers() -> None:
    """End every child at once, and let none start any more: this process is about to end."""
    with _starting:
        _State.over = True
        for process in tuple(_alive):
            process.kill()


def _started(threads: int, errors: IO[bytes] | int) -> "subprocess.Popen[str]":
    # What lies in the folder that a command was started in is not to be imported in the place of this project's packages.
    here = {"", str(Path.cwd())} & set(sys.path)
    # Not `-m`: the module that serves has to be the one that jobs import, so that their types are one.
    serve = f"from {__name__} import serve; serve()"
    command = [sys.executable, *([] if here else ["-P"]), "-c", serve]
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
                env=os.environ | backend.child_environment(threads),
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


def serve() -> None:
    """In the child: import Keras, wait for the job, do it, exit 0; on a CxrError emit its words and exit 1."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever libraries print goes to the log, not between the answers
    orders: queue.SimpleQueue[_Order] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=[orders], daemon=True).start()
    backend.import_keras()
    order = orders.get()
    with order.log.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    if order.gpus is not None:
        # TensorFlow and JAX read this when they are first asked for a device.
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(order.gpus)
    backend.configure()

    def answer(line: _Answer) -> None:
        channel.write(_to_line(line))
        channel.flush()

    status = 0
    try:
        job = _job_type(order.kind).model_validate(order.job)
        job.work(lambda progress: answer(_Answer(progress=progress)))
    except CxrError as error:
        answer(_Answer(failure=str(error)))
        status = 1
    # Everything is published; the interpreter's own way out takes TensorFlow seconds, during which the parent,
    # which sees the channel closed, would close the pipe that this process is watching.
    sys.stderr.flush()
    os._exit(status)


def _to_line(record: Strict) -> str:
    """Return the record as a line of JSON. Pydantic's own JSON cannot hold file names that are not UTF-8."""
    return json.dumps(record.model_dump(mode="json")) + "\n"


def _job_type(kind: str) -> type[Job]:
    """Return the type of job that `Job.kind` names."""
    module, _, name = kind.partition(":")
    found = getattr(importlib.import_module(module), name)
    if not (isinstance(found, type) and issubclass(found, Job)):
        raise TypeError(f"{kind}: expected a job for a child process, found {found!r}")
    return found


def _listen(orders: "queue.SimpleQueue[_Order]") -> None:
    """Take the job, then watch the pipe: it closes with the parent."""
    line = sys.stdin.readline()
    if line:
        orders.put(_Order.model_validate(json.loads(line)))
    sys.stdin.read()
    os._exit(3)
