"""How long each stage took and how much memory it needed, in a file beside what the stage made."""

import contextlib
import resource
import time
from collections.abc import Iterator
from pathlib import Path

from cxr.records import Record, Stage

FOLDER = "timings"  # below the work folder


class Timed(Record):
    """timing-<stage>.json."""

    stage: Stage


@contextlib.contextmanager
def timed(folder: Path, name: str, images: int) -> Iterator[None]:
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


def collected(*folders: Path) -> list[Stage]:
    """Return the stages whose files lie in the folders, by name."""
    paths = [path for folder in folders for path in folder.glob("timing-*.json")]
    return [Timed.read(path).stage for path in sorted(paths, key=lambda path: path.name)]
