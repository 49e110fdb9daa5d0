"""How long each stage of work took, in a file beside what the stage made."""

import contextlib
import resource
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from cxr.core.records import Record
from cxr.core.settings import Strict

FOLDER = "timings"  # below the work folder


class Stage(Strict):
    """What one stage of work took.

    Attributes:
        name: The stage.
        images: How many images it worked on.
        seconds: How long it took.
        memory: Peak memory of the process that did it, in MB; None where it was not measured.
    """

    name: str
    images: int
    seconds: float
    # Records of version 0.1 hold the images per second of a benchmark: read, but not kept.
    limit: float | None = Field(None, exclude=True, repr=False)
    memory: float | None = None

    @property
    def rate(self) -> float | None:
        """Return images per second, or None where nothing had to be done."""
        if not self.images or not self.seconds:
            return None
        return self.images / self.seconds


class Timed(Record):
    """The content of timing-<stage>.json."""

    stage: Stage


@contextlib.contextmanager
def time_stage(folder: Path, name: str, images: int) -> Iterator[None]:
    """Write timing-<name>.json into a folder when the block is done.

    Nothing is written without images, so the file tells of the last time that there was work.

    Args:
        folder: Where the file goes.
        name: The stage.
        images: How many images the block works on.
    """
    started = time.perf_counter()
    yield
    if images:
        seconds = round(time.perf_counter() - started, 2)
        stage = Stage(
            name=name,
            images=images,
            seconds=seconds,
            memory=peak_memory(),
        )
        Timed(stage=stage).write(folder / f"timing-{name}.json")


def add(path: Path, name: str, images: int, seconds: float) -> None:
    """Add one attempt at a stage to its file, which holds the sum over all attempts.

    Args:
        path: The file; made if it is not there.
        name: The stage.
        images: How many images this attempt worked on.
        seconds: How long it took.
    """
    images_before = 0
    seconds_before = 0.0
    if path.is_file():
        before = Timed.read(path).stage
        images_before = before.images
        seconds_before = before.seconds
    total = Stage(
        name=name,
        images=images_before + images,
        seconds=seconds_before + seconds,
        memory=peak_memory(),
    )
    Timed(stage=total).write(path)


def peak_memory() -> float:
    """Return the peak memory of this process so far, in MB."""
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kibibytes / 1024


def read_timings(*folders: Path) -> list[Stage]:
    """Return the stages whose files are in the folders, sorted by file name."""
    paths: list[Path] = []
    for folder in folders:
        paths += folder.glob("timing-*.json")
    paths.sort(key=lambda path: path.name)
    return [Timed.read(path).stage for path in paths]
