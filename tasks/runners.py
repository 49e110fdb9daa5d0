"""Where tasks run side by side: threads or processes of this machine, or the workers of a Dask cluster.

Prefect's Dask runner and Dask itself are the extra `dask`; nothing of them is imported for the others.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

from prefect.futures import PrefectFuture
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

import cxr
from cxr.core.errors import CxrError
from cxr.core.parallel import usable_cores

# Dask resources: a training takes one of the first of these that any worker offers.
SLOTS = ("GPU", "TRAINING")
CONNECT_SECONDS = 30


class Place(NamedTuple):
    """What the process that a task runs in may use.

    Attributes:
        cores: How many cores.
        trainings: Among how many trainings they are shared.
    """

    cores: int
    trainings: int


def is_dask(runner: str) -> bool:
    """Return whether other machines may share the work."""
    return "://" in runner


@contextlib.contextmanager
def opened(
    runner: str,
    at_a_time: int,
    work: Path,
    trainings: bool = False,
) -> Iterator[TaskRunner[Any]]:
    """Give the task runner that tasks are submitted to.

    Args:
        runner: "threads", "processes", or the address of a Dask scheduler.
        at_a_time: How many tasks run side by side on this machine.
        work: The work folder, which Dask's workers must see.
        trainings: The tasks are trainings: their work is done in worker processes, so that
            threads are enough for them, and on Dask each takes a slot.

    Raises:
        CxrError: The extra `dask` is not installed, no scheduler answers, or no worker can do the
            work.
    """
    pool: TaskRunner[Any]
    if is_dask(runner):
        with _open_dask(runner, work, trainings) as pool:
            yield pool
    elif runner == "processes" and not trainings:
        with _Processes(max_workers=at_a_time, initializer=_end_with_parent) as pool:
            yield pool
    else:
        with ThreadPoolTaskRunner(max_workers=at_a_time) as pool:
            yield pool


class _Processes(ProcessPoolTaskRunner):
    """Processes that a terminal's Ctrl-C does not reach: the run gets it, and they end with the run."""

    def __enter__(self) -> Self:
        before = os.environ.get("PYTHONWARNINGS")
        # Silence multiprocessing's resource tracker: it would warn about semaphores that an
        # interrupted run has left.
        os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [before, "ignore:resource_tracker"]))
        try:
            return super().__enter__()
        finally:
            del os.environ["PYTHONWARNINGS"]
            if before is not None:
                os.environ["PYTHONWARNINGS"] = before

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """Submit a task with SIGINT blocked: the threads and processes that this starts inherit that."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().submit(*args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def result(future: PrefectFuture[Any]) -> Any:
    """Wait for a task and return its result, or the exception that ended it or its runner."""
    try:
        return future.result(raise_on_failure=False)
    except Exception as error:  # noqa: BLE001 - Dask has several: workers died, the scheduler is gone
        return CxrError(f"the task's runner gave up: {error}: the same command goes on from here")


def place(at_a_time: int) -> Place:
    """Return what this process may use, for a task that runs in it.

    Args:
        at_a_time: How many trainings share this machine without Dask.
    """
    worker = _current_dask_worker()
    if worker is None:
        return Place(usable_cores(), at_a_time)
    state = worker.state
    resources = state.total_resources
    slots = [int(resources[name]) for name in SLOTS if name in resources]
    trainings = min([*slots, state.nthreads])
    return Place(state.nthreads, max(1, trainings))


def require_wanted() -> None:
    """Raise CxrError if no run waits for this task any more.

    Dask itself stops nothing that runs when the run that asked for it is killed.
    """
    worker = _current_dask_worker()
    if worker is None:
        return
    task = worker.state.tasks.get(worker.get_current_task())
    if task is None or task.state == "cancelled":
        raise CxrError(
            "the run that asked for this task has gone: the same command goes on from here"
        )


def _current_dask_worker() -> Any:
    """Return the Dask worker that runs this task, or None."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    with contextlib.suppress(ValueError):  # not on a worker
        return get_worker()
    return None


def _end_with_parent() -> None:
    """In a process of the pool: end when the flow's process is gone, kill -9 included."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def end_after_parent() -> None:
        parent.join()
        os._exit(3)

    threading.Thread(target=end_after_parent, daemon=True).start()


@contextlib.contextmanager
def _open_dask(
    address: str,
    work: Path,
    trainings: bool,
) -> Iterator[TaskRunner[Any]]:
    """Give a task runner on a Dask cluster whose workers were found able to do the work."""
    try:
        from dask.base import annotate
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError as error:
        raise CxrError(
            f"--runner {address}: expected the extra dask, found {error}: "
            "pip install 'cxr-pipeline[dask]', here and on the scheduler's and the workers' "
            "machines"
        ) from error
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(
            DaskTaskRunner(address=address, client_kwargs={"timeout": CONNECT_SECONDS})
        )
        with _dask_errors_explained(address):
            client = pool.client
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
            _require_able_workers(client, address, work)
        slot = _offered_slot(client) if trainings else None
        if slot:
            stack.enter_context(annotate(resources={slot: 1}))
        yield pool


@contextlib.contextmanager
def _dask_errors_explained(address: str) -> Iterator[None]:
    """Turn the errors of a connection to Dask into one that says what to do."""
    try:
        yield
    except TimeoutError as error:
        raise CxrError(
            f"--runner {address}: waited {CONNECT_SECONDS} s for a Dask worker, found none: "
            f"dask worker {address}"
        ) from error
    except OSError as error:
        raise CxrError(
            f"--runner {address}: no Dask scheduler answers there ({error}): "
            "start one (dask scheduler), or look at the address and the firewall"
        ) from error
    except TypeError as error:  # that is how Dask says that its settings name no certificate
        raise CxrError(
            f"--runner {address}: expected a certificate to connect with, found none ({error}): "
            "set DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT, …CLIENT__KEY and …TLS__CA_FILE"
        ) from error


def _require_able_workers(
    client: Any,
    address: str,
    work: Path,
) -> None:
    """Raise CxrError if a worker has another version of this project, or does not see the work folder."""
    probe = work / f".dask-{uuid.uuid4().hex}"
    probe.touch()
    try:
        answers = client.run(_answer, str(probe), on_error="return")
    finally:
        probe.unlink()
    for worker, answer in answers.items():
        if isinstance(answer, Exception):
            raise CxrError(
                f"--runner {address}: the worker {worker} cannot run cxr: {answer!r}: "
                "install it there"
            )
        version, sees_work = answer
        if version != cxr.__version__:
            raise CxrError(
                f"--runner {address}: expected cxr {cxr.__version__} on {worker}, "
                f"found {version}: install it"
            )
        if not sees_work:
            raise CxrError(
                f"--runner {address}: expected a work folder that all Dask workers see under the "
                f"same path, but {worker} does not see {work}: give an --out on a shared folder; "
                "with s3:// set CXR_CACHE to one, here and for the workers"
            )


def _answer(probe: str) -> tuple[str, bool]:
    """On a worker: return its version, and whether it sees the probe."""
    return cxr.__version__, Path(probe).is_file()


def _offered_slot(client: Any) -> str | None:
    """Return the resource that a training takes one of; None if no worker offers one."""
    offered: set[str] = set()
    for worker in client.scheduler_info()["workers"].values():
        offered.update(worker["resources"])
    return next((name for name in SLOTS if name in offered), None)
