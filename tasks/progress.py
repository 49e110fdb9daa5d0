"""Progress of long steps, three ways at once: bars on a terminal, plain lines in a file, artifacts in the UI.

Outside a flow run there is no artifact, and Prefect is not imported: `cxr predict` needs none.

A flow or a task opens a step with `tracking`; tasks in the same process `advance` it by name. Of work in other processes
the flow itself tells when a task is done.
"""

import contextlib
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from uuid import UUID

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

logger = logging.getLogger("cxr.progress")
console = Console(stderr=True)
_ARTIFACT_SECONDS, _LINE_SECONDS = 3.0, 10.0
_steps: dict[str, "_Step"] = {}
_lock = threading.Lock()
_bars = Progress(
    TextColumn("{task.description:<22}"),
    BarColumn(40),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TimeRemainingColumn(),
    TextColumn("{task.fields[note]}"),
    console=console,
)


class _Step:
    def __init__(self, name: str, total: float, unit: str):
        self.name, self.total, self.unit = name, total, unit
        self.done, self.note = 0.0, ""
        self.started = self.lined = self.sent = time.monotonic()
        self.bar = _bars.add_task(name, total=total, note="")
        self.artifact: UUID | None = None
        if _is_in_a_run():
            from prefect.artifacts import create_progress_artifact

            with contextlib.suppress(Exception):  # progress must never end the work it tells of
                self.artifact = create_progress_artifact(
                    0.0, key=_key(name), description=f"{name} ({unit})"
                )  # type: ignore[assignment]

    def move(self, done: float, note: str) -> None:
        self.done, self.note = done, note or self.note
        _bars.update(self.bar, completed=round(done, 1), note=self.note)
        now = time.monotonic()
        if not sys.stderr.isatty() and now - self.lined >= _LINE_SECONDS:
            self.lined = now
            self.line()
        if now - self.sent >= _ARTIFACT_SECONDS:
            self.sent = now
            self.send(100.0 * done / self.total)

    def line(self) -> None:
        spent = time.monotonic() - self.started
        logger.info(
            "%s: %.4g of %.4g %s, %.0f s %s",
            self.name,
            self.done,
            self.total,
            self.unit,
            spent,
            self.note,
        )

    def send(self, share: float) -> None:
        if self.artifact:
            from prefect.artifacts import update_progress_artifact

            words = f"{self.name}: {self.done:.4g} of {self.total:.4g} {self.unit} {self.note}"
            with contextlib.suppress(Exception):
                update_progress_artifact(
                    self.artifact, round(min(100.0, share), 1), description=words
                )


@contextlib.contextmanager
def tracking(name: str, total: float, unit: str) -> Iterator[None]:
    """Show a step of `total` units while the block runs; nothing is shown of a step without work."""
    if not total:
        yield
        return
    with _lock:
        if not _steps and sys.stderr.isatty():
            _bars.start()
        step = _steps[name] = _Step(name, total, unit)
    try:
        yield
        step.send(
            100.0
        )  # early stopping and copies set aside leave the count below the total: it is done all the same
    finally:
        with _lock:
            if not sys.stderr.isatty():
                step.line()
            del _steps[name]
            if not _steps and sys.stderr.isatty():
                _bars.stop()
                for task in _bars.task_ids:
                    _bars.remove_task(task)


def advance(name: str, by: float = 0.0, to: float | None = None, note: str = "") -> None:
    """Move a step on `by` units or `to` a count, never back; does nothing for a step that this process did not open."""
    with _lock:
        if step := _steps.get(name):
            step.move(step.done + by if to is None else max(step.done, to), note)


@contextlib.contextmanager
def counting(name: str, unit: str) -> Iterator[Callable[[float, float], None]]:
    """Give a function (done, of) that shows a step from its first call on, and moves it."""
    with contextlib.ExitStack() as shown:

        def move(done: float, of: float) -> None:
            if name not in _steps:
                shown.enter_context(tracking(name, of, unit))
            advance(name, to=done)

        yield move


def _is_in_a_run() -> bool:
    """Return whether a flow or a task is run here: where Prefect was not imported, none is."""
    if "prefect" not in sys.modules:
        return False
    from prefect.context import FlowRunContext, TaskRunContext

    return bool(TaskRunContext.get() or FlowRunContext.get())


def _key(name: str) -> str:
    return "progress-" + re.sub(r"[^a-z0-9]+", "-", name.lower())
