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

SLOTS = (
    "GPU",
    "TRAINING",
)  # Dask resources: a training takes one of the first of these that any worker offers
CONNECT_SECONDS = 30
_SHARED = "a work folder that all Dask workers see under the same path"


class Place(NamedTuple):
    """What the process that a task runs in may use: cores, and among how many trainings they are shared."""

    cores: int
    trainings: int


def is_dask(runner: str) -> bool:
    """Return whether other machines may share the work."""
    return "://" in runner


@contextlib.contextmanager
def opened(
    runner: str, at_a_time: int, work: Path, trainings: bool = False
) -> Iterator[TaskRunner[Any]]:
    """Give what tasks are mapped over or submitted to; on this machine `at_a_time` of them run together.

    `trainings`: the tasks' work is done in child processes, so that threads do for them, and on Dask each takes a slot.
    Raises CxrError without the extra `dask`, a scheduler that answers, and workers that can do the work.
    """
    pool: TaskRunner[Any]
    if is_dask(runner):
        with _dask(runner, work, trainings) as pool:
            yield pool
    elif runner == "processes" and not trainings:
        with _Processes(max_workers=at_a_time, initializer=_end_with_parent) as pool:
            yield pool
    else:
        with ThreadPoolTaskRunner(max_workers=at_a_time) as pool:
            yield pool


class _Processes(ProcessPoolTaskRunner):
    """Processes that a terminal's Ctrl-C does not reach: it is for the run alone, with which they end, in silence."""

    def __enter__(self) -> Self:
        before = os.environ.get("PYTHONWARNINGS")
        # Silence multiprocessing's resource tracker: it would warn about semaphores that an interrupted run has left.
        os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [before, "ignore:resource_tracker"]))
        try:
            return super().__enter__()
        finally:
            del os.environ["PYTHONWARNINGS"]
            if before is not None:
                os.environ["PYTHONWARNINGS"] = before

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """Submit a task. What starts here, threads and through them processes, starts with SIGINT blocked."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().submit(*args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def result(future: PrefectFuture[Any]) -> Any:
    """Wait for a task and return its result, or the exception that it ended with, or that befell its runner."""
    try:
        return future.result(raise_on_failure=False)
    except Exception as error:  # noqa: BLE001 - Dask's own: too many workers died of the task, the scheduler is gone
        return CxrError(f"the task's runner gave up: {error}: the same command goes on from here")


def place(at_a_time: int) -> Place:
    """Return what this process may use, where a task asks; `at_a_time` trainings share this machine without Dask."""
    if worker := _worker():
        state = worker.state
        offered = [
            int(state.total_resources[name]) for name in SLOTS if name in state.total_resources
        ]
        return Place(state.nthreads, max(1, min([*offered, state.nthreads])))
    return Place(usable_cores(), at_a_time)


def require_wanted() -> None:
    """Raise CxrError where nobody waits for this task: Dask itself stops nothing that runs when its run is killed."""
    if worker := _worker():
        task = worker.state.tasks.get(worker.get_current_task())
        if task is None or task.state == "cancelled":
            raise CxrError(
                "the run that asked for this task has gone: the same command goes on from here"
            )


def _worker() -> Any:
    """Return the Dask worker that runs this task, or None."""
    if "distributed" in sys.modules:
        from distributed import get_worker

        with contextlib.suppress(ValueError):  # not on a worker
            return get_worker()
    return None


def _end_with_parent() -> None:
    """In a process of the pool: end when the flow's is gone, kill -9 included."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def follow() -> None:
        parent.join()
        os._exit(3)

    threading.Thread(target=follow, daemon=True).start()


@contextlib.contextmanager
def _dask(address: str, work: Path, trainings: bool) -> Iterator[TaskRunner[Any]]:
    try:
        from dask.base import annotate
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError as error:
        raise CxrError(
            f"--runner {address}: expected the extra dask, found {error}: pip install 'cxr-pipeline[dask]', here and on the "
            "scheduler's and the workers' machines"
        ) from error
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(
            DaskTaskRunner(address=address, client_kwargs={"timeout": CONNECT_SECONDS})
        )
        try:
            client = pool.client
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
            _require_able(client, address, work)
        except TimeoutError as error:
            raise CxrError(
                f"--runner {address}: waited {CONNECT_SECONDS} s for a Dask worker, found none: dask worker {address}"
            ) from error
        except OSError as error:
            raise CxrError(
                f"--runner {address}: no Dask scheduler answers there ({error}): start one (dask scheduler), or look at the "
                "address and the firewall"
            ) from error
        except TypeError as error:  # that is how Dask says that its settings name no certificate
            raise CxrError(
                f"--runner {address}: expected a certificate to connect with, found none ({error}): set "
                "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT, …CLIENT__KEY and …TLS__CA_FILE"
            ) from error
        if trainings and (slot := _slot(client)):
            stack.enter_context(annotate(resources={slot: 1}))
        yield pool


def _require_able(client: Any, address: str, work: Path) -> None:
    """Raise CxrError where a worker has not this project in this version, or does not see the work folder."""
    probe = work / f".dask-{uuid.uuid4().hex}"
    probe.touch()
    try:
        answers = client.run(_answer, str(probe), on_error="return")
    finally:
        probe.unlink()
    for worker, answer in answers.items():
        if isinstance(answer, Exception):
            raise CxrError(
                f"--runner {address}: the worker {worker} cannot run cxr: {answer!r}: install it there"
            )
        version, sees = answer
        if version != cxr.__version__:
            raise CxrError(
                f"--runner {address}: expected cxr {cxr.__version__} on {worker}, found {version}: install it"
            )
        if not sees:
            raise CxrError(
                f"--runner {address}: expected {_SHARED}, but {worker} does not see {work}: give an --out on a shared "
                "folder; with s3:// set CXR_CACHE to one, here and for the workers"
            )


def _answer(probe: str) -> tuple[str, bool]:
    """On a worker: return its version, and whether it sees the probe."""
    return cxr.__version__, Path(probe).is_file()


def _slot(client: Any) -> str | None:
    """Return the resource that a training takes one of; None where no worker offers one."""
    offered = {
        name
        for worker in client.scheduler_info()["workers"].values()
        for name in worker["resources"]
    }
    return next((name for name in SLOTS if name in offered), None)
