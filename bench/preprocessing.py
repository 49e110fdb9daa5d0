"""Preprocessing against the barest loop, a second run against the first, and peak memory by number of images.

    python -m bench.preprocessing [FOLDER of full-size images, default ../shared/data/full_resolution_sample]

The images are copied, each made distinct by a trailing byte string after its end marker.
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from cxr import ingest, manifest
from cxr.settings import SplitSettings, cores
from cxr.storage import open_storage

SAMPLE = Path(__file__).parent.parent / ".." / "shared" / "data" / "full_resolution_sample"
IMAGES, REPEATS = 3000, 3


def copies(source: Path, folder: Path, count: int) -> Path:
    originals = sorted(p for p in source.rglob("*") if p.suffix.lower() in {".jpeg", ".jpg"})
    for i in range(count):
        path = originals[i % len(originals)]
        target = (
            folder
            / "train"
            / path.parent.name
            / (path.stem.replace("person", f"person{i // len(originals)}0") + f"_{i}.jpeg")
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes() + f"copy {i}".encode())
    return folder


def bare(path: Path) -> str:
    data = path.read_bytes()
    Image.open(io.BytesIO(data)).load()
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def bare_loop(folder: Path) -> float:
    paths = sorted(folder.rglob("*.jpeg"))
    started = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(bare, paths, chunksize=64)
    return len(paths) / (time.perf_counter() - started)


def inspect(folder: Path, work: Path) -> float:
    """Return the seconds of scanning and inspecting with a thread per core, as the flow does."""
    started = time.perf_counter()
    storage = open_storage(str(folder))
    scan = manifest.scan(storage, work)
    rows = manifest.folder_of(scan, work)
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(lambda shard: manifest.inspect_shard(storage, rows, shard), scan.shards))
    manifest.inspected(rows)
    return time.perf_counter() - started


def peak_memory(source: Path, count: int, root: Path) -> float:
    """Return the peak memory in MB of a process that preprocesses `count` images."""
    folder = copies(source, root / f"images{count}", count)
    done = subprocess.run(
        [sys.executable, "-m", "bench.preprocessing", "--memory", str(folder), str(root / f"work{count}")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    shutil.rmtree(folder)
    return float(done.stdout)


def main() -> None:
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLE
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        folder = copies(source, root / "images", IMAGES)
        ratios, seconds = [], []
        for i in range(REPEATS):
            rate, spent = bare_loop(folder), inspect(folder, root / f"w{i}")
            again = inspect(folder, root / f"w{i}")
            ratios.append(IMAGES / spent / rate)
            seconds.append(spent / again)
            print(
                f"{i}: bare {rate:.0f}/s, inspect {IMAGES / spent:.0f}/s, ratio {ratios[-1]:.2f}; second run {again:.2f} s"
            )
        print(f"ratio to the barest loop: median {statistics.median(ratios):.2f} of {REPEATS}")
        print(f"unchanged second run: {statistics.median(seconds):.0f} times faster")
        shutil.rmtree(folder)
        for count in (1000, 10_000):
            print(f"peak memory at {count} images: {peak_memory(source, count, root):.0f} MB")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        inspect(Path(sys.argv[2]), Path(sys.argv[3]))
        work = Path(sys.argv[3])
        scan = manifest.scan(open_storage(sys.argv[2]), work)
        comparison = ingest.find_near_duplicates(scan, work, SplitSettings())
        ingest.publish(scan, comparison, work, SplitSettings())
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    else:
        main()
