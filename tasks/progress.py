"""The progress of long steps: bars on a terminal, plain lines in a file, artifacts in the UI.

A task opens a step with `tracking`; whatever runs in the same process moves it by its name with
`advance`. What other processes did is added when their task is done. Outside a flow run there is no
artifact, and Prefect is not imported: `cxr predict` does without it.
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

ARTIFACT_SECONDS = 3.0  # between two updates of an artifact
LINE_SECONDS = 10.0  # between two lines of the log
logger = logging.getLogger("cxr.progress")
console = Console(stderr=True)
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
    """A step that is under way, with its bar, its lines and its artifact."""

    def __init__(self, name: str, total: float, unit: str):
        now = time.monotonic()
        self.name = name
        self.total = total
        self.unit = unit
        self.done = 0.0
        self.note = ""
        self.started = now
        self.last_line = now
        self.last_update = now
        self.bar = _bars.add_task(name, total=total, note="")
        self.artifact = _create_artifact(name, unit) if _is_in_a_run() else None

    def move(self, done: float, note: str) -> None:
        """Show that so much is done, in each place as often as is useful there."""
        self.done = done
        self.note = note or self.note
        _bars.update(self.bar, completed=round(done, 1), note=self.note)
        now = time.monotonic()
        if not sys.stderr.isatty() and now - self.last_line >= LINE_SECONDS:
            self.last_line = now
            self.write_line()
        if now - self.last_update >= ARTIFACT_SECONDS:
            self.last_update = now
            self.update_artifact(100.0 * done / self.total)

    def write_line(self) -> None:
        """Write how far the step is to the log."""
        logger.info(
            "%s: %.4g of %.4g %s, %.0f s %s",
            self.name,
            self.done,
            self.total,
            self.unit,
            time.monotonic() - self.started,
            self.note,
        )

    def update_artifact(self, percent: float) -> None:
        """Show how far the step is in the UI."""
        if self.artifact is None:
            return
        from prefect.artifacts import update_progress_artifact

        text = f"{self.name}: {self.done:.4g} of {self.total:.4g} {self.unit} {self.note}"
        # Progress must never end the work that it tells of.
        with contextlib.suppress(Exception):
            update_progress_artifact(self.artifact, round(min(100.0, percent), 1), description=text)


@contextlib.contextmanager
def tracking(name: str, total: float, unit: str) -> Iterator[None]:
    """Show a step while the block runs; a step without work is not shown.

    Args:
        name: What is done.
        total: How many units there are.
        unit: What is counted.
    """
    if not total:
        yield
        return
    on_terminal = sys.stderr.isatty()
    with _lock:
        if not _steps and on_terminal:
            _bars.start()
        step = _Step(name, total, unit)
        _steps[name] = step
    try:
        yield
        # Early stopping, and images that are left out, keep the count below the total.
        step.update_artifact(100.0)
    finally:
        with _lock:
            if not on_terminal:
                step.write_line()
            del _steps[name]
            if not _steps and on_terminal:
                _bars.stop()
                for bar in _bars.task_ids:
                    _bars.remove_task(bar)


def advance(name: str, by: float = 0.0, to: float | None = None, note: str = "") -> None:
    """Move a step on; does nothing for a step that this process did not open.

    Args:
        name: The step.
        by: By how many units.
        to: To which count; never back.
        note: What is being done.
    """
    with _lock:
        step = _steps.get(name)
        if step is None:
            return
        done = step.done + by if to is None else max(step.done, to)
        step.move(done, note)


@contextlib.contextmanager
def following(unit: str) -> Iterator[Callable[[str, float, float], None]]:
    """Give a function (step, done, total) that shows a step from its first call on, and moves it.

    Args:
        unit: What is counted.
    """
    with contextlib.ExitStack() as shown:

        def on_progress(name: str, done: float, total: float) -> None:
            if name not in _steps:
                shown.enter_context(tracking(name, total, unit))
            advance(name, to=done)

        yield on_progress


def _is_in_a_run() -> bool:
    """Return whether a flow or a task is run here: where Prefect was not imported, none is."""
    if "prefect" not in sys.modules:
        return False
    from prefect.context import FlowRunContext, TaskRunContext

    return bool(TaskRunContext.get() or FlowRunContext.get())


def _create_artifact(name: str, unit: str) -> UUID | None:
    """Create the artifact of a step; None where that fails, for the work must not."""
    from prefect.artifacts import create_progress_artifact

    key = "progress-" + re.sub(r"[^a-z0-9]+", "-", name.lower())
    with contextlib.suppress(Exception):
        artifact: UUID = create_progress_artifact(  # type: ignore[assignment]  # it is not async here
            0.0, key=key, description=f"{name} ({unit})"
        )
        return artifact
    return None
