"""Inspecting and caching pixels against the barest loop, a second run, and peak memory by number of images.

    python -m bench.preprocessing [FOLDER of full-size JPEG files]

Without a folder the images are made up, of about 1,400 pixels a side. They are copied, each made
distinct by a text after its end marker. The barest loop reads, MD5s and decodes the same files
with the same decoder in two processes, which have imported everything before the clock starts.
"""

import hashlib
import io
import multiprocessing
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cxr.core.parallel import usable_cores
from cxr.core.settings import FileSettings, PixelSettings, SplitSettings
from cxr.data.images import content, hashing, model_input, pixel_cache
from cxr.data.images.decoding import decoder
from cxr.data.manifest import publish, scanning, shard_inspection
from cxr.data.manifest.columns import INSPECTED_COLUMNS
from cxr.data.phantoms import dataset
from cxr.storage.addresses import open_storage

IMAGES = 2000
REPEATS = 3
STEP_IMAGES = 120
STEP_REPEATS = 3
PHANTOM_SIDE = 1400
SIDE = PixelSettings().image_size


def copies(source: Path, folder: Path, count: int) -> Path:
    """Write `count` distinct files below `folder`, from the JPEG files below `source`; return it."""
    originals = sorted(p for p in source.rglob("*") if p.suffix.lower() in {".jpeg", ".jpg"})
    for i in range(count):
        path = originals[i % len(originals)]
        stem = path.stem.replace("person", f"person{i // len(originals)}0")
        target = folder / "train" / path.parent.name / f"{stem}_{i}.jpeg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes() + f"copy {i}".encode())
    return folder


def bare(path: Path) -> str:
    """Read, MD5 and decode one file."""
    data = path.read_bytes()
    decoder.decode(data)
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def bare_rate(pool: Pool, folder: Path) -> float:
    """Return the images per second of the barest loop in the processes of `pool`."""
    paths = sorted(folder.rglob("*.jpeg"))
    started = time.perf_counter()
    pool.map(bare, paths, chunksize=32)
    return len(paths) / (time.perf_counter() - started)


def inspect(folder: Path, work: Path, kept: PixelSettings | None = None) -> float:
    """Return the seconds of scanning and inspecting with a thread per core, as the flow does.

    With `kept` the pixels are cached, too.
    """
    started = time.perf_counter()
    storage = open_storage(str(folder))
    scan = scanning.scan(storage, work)
    rows = scanning.folder_of(scan, work)

    def shard(name: str) -> None:
        writer = pixel_cache.Writer(work, kept) if kept else None
        shard_inspection.inspect_shard(storage, rows, name, writer=writer)

    with ThreadPoolExecutor(usable_cores()) as pool:
        list(pool.map(shard, scan.shards))
    for _ in shard_inspection.read_good(rows, INSPECTED_COLUMNS):
        pass
    return time.perf_counter() - started


class Steps:
    """The processor milliseconds of each step of inspecting and caching one image, on one core."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {}

    def take(self, name: str, call: Callable[[], Any]) -> Any:
        """Do one step; return what it gives."""
        started = time.thread_time()
        result = call()
        self.spent.setdefault(name, []).append(1000 * (time.thread_time() - started))
        return result

    def all(self, path: Path, scratch: Path) -> None:
        """Do every step with one file."""
        data = self.take("read", path.read_bytes)
        self.take("md5", lambda: hashlib.md5(data, usedforsecurity=False).hexdigest())
        decoded = self.take("decode", lambda: decoder.decode(data))
        image = decoded.image
        self.take("sha256 of pixels", lambda: hashing.pixel_sha256(image, decoded.pixels))
        counts = self.take("statistics", lambda: content.gray_counts(image))
        self.take("verdict", lambda: content.check_content(image, counts, FileSettings()))
        self.take("thumbnail", lambda: model_input.resize(image, model_input.THUMBNAIL_SIDE))
        small = self.take(f"resize to {SIDE}", lambda: model_input.resize(image, SIDE))
        encoded = self.take("harmonise: encode", lambda: model_input.encode_uniformly(small))
        self.take("harmonise: decode", lambda: np.asarray(Image.open(io.BytesIO(encoded))))
        self.take("write", lambda: np.save(scratch, small))

    def show(self) -> None:
        """Print the mean of each step as a table in Markdown."""
        print("\n| step | processor ms an image |\n|---|---|")
        means = {name: statistics.mean(spent) for name, spent in self.spent.items()}
        for name, mean in means.items():
            print(f"| {name} | {mean:.2f} |")
        barest = sum(means[name] for name in ("read", "md5", "decode"))
        total = sum(means.values())
        print(f"| all | {total:.2f} |\n| the barest loop's | {barest:.2f} |")
        print(f"\nratio by processor time: {barest / total:.2f}")


def show_steps(folder: Path, scratch: Path) -> None:
    """Print how long each step takes with some of the images, the first time left out."""
    paths = sorted(folder.rglob("*.jpeg"))[:STEP_IMAGES]
    for _ in range(STEP_REPEATS):
        steps = Steps()
        for path in paths:
            steps.all(path, scratch)
    steps.show()


def show_rates(folder: Path, root: Path) -> None:
    """Print the ratio to the barest loop, which runs before and after each repeat, and the second run's time."""
    inspecting = []
    caching = []
    again = []
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(bare, sorted(folder.rglob("*.jpeg"))[:8], chunksize=1)
        for i in range(REPEATS):
            before = bare_rate(pool, folder)
            cached = IMAGES / inspect(folder, root / f"cached{i}", PixelSettings())
            alone = IMAGES / inspect(folder, root / f"alone{i}")
            rate = (before + bare_rate(pool, folder)) / 2
            second = inspect(folder, root / f"cached{i}", PixelSettings())
            caching.append(cached / rate)
            inspecting.append(alone / rate)
            again.append(second)
            print(
                f"{i}: barest loop {rate:.0f}/s; inspecting and caching {cached:.0f}/s, ratio {caching[-1]:.2f}; "
                f"inspecting alone {alone:.0f}/s, ratio {inspecting[-1]:.2f}; second run {second:.2f} s"
            )
    print(f"inspecting and caching: ratio {statistics.median(caching):.2f} (median of {REPEATS})")
    print(f"inspecting alone: ratio {statistics.median(inspecting):.2f}")
    print(f"unchanged second run of {IMAGES} images: {statistics.median(again):.2f} s")


def peak_memory(source: Path, count: int, root: Path) -> float:
    """Return the peak memory in MB of a process that preprocesses `count` images."""
    folder = copies(source, root / f"images{count}", count)
    work = root / f"work{count}"
    command = [sys.executable, "-m", "bench.preprocessing", "--memory", str(folder), str(work)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    shutil.rmtree(folder)
    shutil.rmtree(work)
    return float(done.stdout)


def show_own_memory(folder: Path, work: Path) -> None:
    """Preprocess, caching pixels, and print the peak memory of this process in MB."""
    inspect(folder, work, PixelSettings())
    scan = scanning.scan(open_storage(str(folder)), work)
    comparison = publish.find_near_duplicates(scan, work, SplitSettings())
    publish.publish_manifest(scan, comparison, work, SplitSettings())
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        source = Path(sys.argv[1]) if len(sys.argv) > 1 else root / "phantoms"
        if len(sys.argv) == 1:
            dataset.make_dataset(source, images=STEP_IMAGES, size=PHANTOM_SIDE, broken=False)
        folder = copies(source, root / "images", IMAGES)
        show_rates(folder, root)
        show_steps(folder, root / "written.npy")
        shutil.rmtree(folder)
        for count in (1000, 10_000):
            print(f"peak memory at {count} images: {peak_memory(source, count, root):.0f} MB")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        show_own_memory(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
