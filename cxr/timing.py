"""How long a stage took beside the barest loop that must do its work, in a file beside what the stage made."""

import contextlib
import hashlib
import resource
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cxr import images as files
from cxr.errors import CxrError
from cxr.records import Record, Stage
from cxr.settings import cores
from cxr.storage import Storage

FOLDER = "timings"  # below the work folder
_SAMPLE = 64


class Timed(Record):
    """timing-<stage>.json."""

    stage: Stage


@contextlib.contextmanager
def timed(folder: Path, name: str, images: int, limit: float | None = None) -> Iterator[None]:
    """Write timing-<name>.json into `folder` when the block is done; nothing where there were no images to work on.

    So the file tells of the last time that there was work. `limit` is in images per second.
    """
    started = time.perf_counter()
    yield
    if images:
        seconds = round(time.perf_counter() - started, 2)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        stage = Stage(name=name, images=images, seconds=seconds, limit=limit, memory=memory)
        Timed(stage=stage).write(folder / f"timing-{name}.json")


def collected(*folders: Path) -> list[Stage]:
    """Return the stages whose files lie in the folders, by name."""
    paths = [path for folder in folders for path in folder.glob("timing-*.json")]
    return [Timed.read(path).stage for path in sorted(paths, key=lambda path: path.name)]


def barest(storage: Storage, keys: Sequence[str]) -> float | None:
    """Return images per second of reading, MD5 and decoding with a thread a core, on up to 64 of these images.

    None where there are too few images to tell, or one cannot be read or decoded.
    """
    some = keys[:: max(1, len(keys) // _SAMPLE)][:_SAMPLE]

    def one(key: str) -> None:
        data = storage.read(key)
        hashlib.md5(data, usedforsecurity=False)
        files.decode(data)

    started = time.perf_counter()
    try:
        with ThreadPoolExecutor(cores()) as pool:
            list(pool.map(one, some))
    except (OSError, CxrError, files.Rejected):
        return None
    return len(some) / (time.perf_counter() - started) if len(some) == _SAMPLE else None
