"""How long a stage took, in a file beside what the stage made."""

import contextlib
import resource
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from cxr.core.formatting import printable as printable  # noqa: PLC0414 - others import it from here
from cxr.core.records import Record
from cxr.core.settings import LABEL_NAMES as LABEL_NAMES  # noqa: PLC0414 - others import it from here
from cxr.core.settings import Strict


class Stage(Strict):
    """What one stage of work took.

    `memory` is the peak of the process that did it, in MB, None where it was not measured.
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
        return self.images / self.seconds if self.images and self.seconds else None


FOLDER = "timings"  # below the work folder


class Timed(Record):
    """timing-<stage>.json."""

    stage: Stage


@contextlib.contextmanager
def time_stage(folder: Path, name: str, images: int) -> Iterator[None]:
    """Write timing-<name>.json into `folder` when the block is done.

    Nothing is written where there were no images to work on, so the file tells of the last time
    that there was work.
    """
    started = time.perf_counter()
    yield
    if images:
        seconds = round(time.perf_counter() - started, 2)
        stage = Stage(name=name, images=images, seconds=seconds, memory=peak_memory())
        Timed(stage=stage).write(folder / f"timing-{name}.json")


def add(path: Path, name: str, images: int, seconds: float) -> None:
    """Add work to the file at `path`, which counts what every attempt at a stage took."""
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
    """Return the most memory that this process has had so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read_timings(*folders: Path) -> list[Stage]:
    """Return the stages whose files lie in the folders, by name."""
    paths = [path for folder in folders for path in folder.glob("timing-*.json")]
    return [Timed.read(path).stage for path in sorted(paths, key=lambda path: path.name)]
