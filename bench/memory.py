"""Peak memory and processor time of preprocessing, caching and publishing by number of images, a process for each stage.

    python -m bench.memory [n ...; default 10000 200000] [--stages NAME ...]

The listing and the inspection are made up: thumbnails drawn from the principal components of those in
../shared/data/chest_xray_dev (phantoms where it is missing), two images a patient, one reject in a hundred, one copy a shard.
`scan` finds all of it known; `distinct` is the part of `compare` before the search; `decode` decodes one small JPEG again
for every image; `inspect` is of one shard. `--work` keeps what is made up, and what the stages left, for another time.
Wanted: a growth below 20 % from 10,000 to 200,000 images.
"""

import argparse
import hashlib
import io
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from PIL import Image

from bench.near_duplicates import FOLDER, components, real_or_phantom
from cxr.core.files import read_table, write_table
from cxr.core.settings import PixelSettings, SplitSettings, TrainingSettings
from cxr.data.images import pixel_cache
from cxr.data.manifest import distinct_images, publish, scanning, shard_inspection
from cxr.data.manifest.columns import INSPECTED_COLUMNS, MEASURED_COLUMNS
from cxr.data.manifest.comparison import COMPARISON, Comparison
from cxr.data.manifest.records import Scan
from cxr.data.patients.hidden_storage import hide_storage
from cxr.stages import data_steps
from cxr.storage.base import Entry, FileContent, Storage, WantedFile

SIDE = 32  # of the decoded pixels: how large they are is not what is measured
STAGES = ("scan", "distinct", "compare", "publish", "decode", "inspect")
RNG = np.random.default_rng(0)


def small_jpeg() -> bytes:
    """Return the file that stands for every image."""
    film = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64), dtype=np.uint8))
    written = io.BytesIO()
    film.save(written, "JPEG", quality=80)
    return written.getvalue()


class MadeUpBucket:
    """A storage that lists `images` images and gives the same bytes for each of them."""

    place = "s3://made-up/data"

    def __init__(self, images: int):
        self.uri = self.place
        self.images = images
        self.jpeg = small_jpeg()

    def list(self) -> Iterator[Entry]:
        """Yield four of five images below train, two images a patient."""
        for number in range(self.images):
            patient = number // 2
            split = "test" if patient % 5 == 4 else "train"
            name = f"PNEUMONIA/person{patient}_virus_{number}"
            if patient % 4 == 0:
                name = f"NORMAL/IM-{patient:04d}-{number}"
            key = f"chest_xray/{split}/{name}.jpeg"
            yield Entry(key, len(self.jpeg), f"{number:019d}-{number:019d}")

    def read(self, _key: str, _version: str | None = None) -> bytes:
        """Return the one file."""
        return self.jpeg

    def read_many(self, wanted: Iterable[WantedFile]) -> Iterator[FileContent]:
        """Yield the one file for each."""
        for key, _ in wanted:
            yield key, self.jpeg

    def peek_many(self, wanted: Iterable[WantedFile], _count: int) -> Iterator[FileContent]:
        """Yield nothing: every name tells that the file is an image."""
        assert not wanted
        return iter(())


def make_inspection(storage: Storage, work: Path) -> None:
    """Scan, and write the tables and thumbnails of all shards."""
    found = scan(storage, work)
    folder = scanning.folder_of(found, work)
    mean, directions = components(real_or_phantom(FOLDER))
    for name in found.shards:
        table = read_table(folder / "shards" / f"{name}.csv")
        weights = RNG.standard_normal((len(table), len(directions)), np.float32)
        pixels = (mean + weights @ directions).clip(0, 255).astype(np.uint8)
        rows = [made_up_row(row, place, name) for place, row in enumerate(table.to_dict("records"))]
        good = [place for place, row in enumerate(rows) if not row["reason"]]
        for index, place in enumerate(good):
            rows[place]["thumbnail"] = f"{name}:{index}"
        rows[good[0]]["pixel_sha256"] = rows[good[1]]["pixel_sha256"]
        path = folder / "inspected" / name
        path.parent.mkdir(exist_ok=True)
        np.save(path.with_suffix(".npy"), pixels[good].reshape(-1, 64, 64))
        write_table(pd.DataFrame(rows, columns=INSPECTED_COLUMNS), path.with_suffix(".csv"))


def made_up_row(listed: dict[Any, Any], place: int, shard: str) -> dict[str, Any]:
    """Return what inspection would have written of an image; one in a hundred is rejected."""
    row = {str(name): value for name, value in listed.items()}
    if place % 100 == 50:
        return row | dict.fromkeys(MEASURED_COLUMNS, "0") | {
            "reason": "truncated", "detail": "image file is truncated", "thumbnail": ""
        }  # fmt: skip
    digest = hashlib.sha256(f"{shard}{place}".encode()).hexdigest()
    return row | {
        "md5": hashlib.md5(small_jpeg(), usedforsecurity=False).hexdigest(),
        "pixel_sha256": digest, "phash": digest[::-1], "mode": "L", "format": "JPEG",
        "width": 64, "height": 64, "bytes": row["size"], "icc": 0, "exif": 0, "bit_depth": 8,
        "mean": float(RNG.uniform(80, 160)), "std": float(RNG.uniform(30, 70)),
        "quantisation": "a1b2c3d4", "reason": "", "detail": "",
    }  # fmt: skip


def scan(storage: Storage, work: Path) -> Scan:
    """Scan, and keep the record for the stages that follow."""
    found = scanning.scan(storage, work)
    return found.write(work / "scan.json")


def distinct(work: Path, found: Scan) -> None:
    """Read the inspection, and keep each picture once."""
    distinct_images.find_distinct_images(found, work, SplitSettings())


def compare(work: Path, found: Scan) -> None:
    """Do the same, and find the near-duplicates."""
    publish.find_near_duplicates(found, work, SplitSettings())


def publish_manifest(work: Path, found: Scan) -> None:
    """Assign the splits, pass the gate and write clean_metadata.csv."""
    comparison = Comparison.read(scanning.folder_of(found, work) / COMPARISON)
    publish.publish_manifest(found, comparison, work, SplitSettings())


def decode(work: Path, storage: Storage) -> None:
    """Check the manifest, and decode every image again."""
    data_steps.open_data = lambda *_: hide_storage(storage)  # type: ignore[attr-defined]
    data_steps.cache_pixels(work, TrainingSettings(image_size=SIDE))


def inspect(work: Path, storage: Storage, found: Scan) -> None:
    """Inspect one shard anew, with a cache that holds all other images."""
    folder = scanning.folder_of(found, work)
    shard = sorted((folder / "shards").iterdir())[0].stem
    writer = pixel_cache.Writer(work, PixelSettings(image_size=SIDE))
    shard_inspection.inspect_shard(storage, folder, shard, writer=writer)


def do_stage(stage: str, images: int, work: Path) -> float:
    """Do one stage on what those before it left; return its processor seconds."""
    storage = cast(Storage, MadeUpBucket(images))  # it is only listed and read
    started = time.process_time()
    if stage == "made up":
        make_inspection(storage, work)
    elif stage == "scan":
        scan(storage, work)
    else:
        found = Scan.read(work / "scan.json")
        calls: dict[str, Callable[[], None]] = {
            "distinct": lambda: distinct(work, found),
            "compare": lambda: compare(work, found),
            "publish": lambda: publish_manifest(work, found),
            "decode": lambda: decode(work, storage),
            "inspect": lambda: inspect(work, storage, found),
        }
        calls[stage]()
    return time.process_time() - started


def measure(stage: str, images: int, work: Path) -> tuple[float, float]:
    """Do a stage in a process of its own; return its processor seconds and its peak memory in MB."""
    command = [sys.executable, "-m", "bench.memory", "--do", stage, str(images), str(work)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seconds, megabytes = done.stdout.split()[-2:]
    return float(seconds), float(megabytes)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("n", type=int, nargs="*", default=[10_000, 200_000])
    arguments.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    arguments.add_argument("--work", type=Path, help="keep what is made up here, for another time")
    given = arguments.parse_args()
    print(f"{'images':>8} " + " ".join(f"{stage:>9} s {'MB':>5}" for stage in given.stages))
    for images in given.n:
        with tempfile.TemporaryDirectory() as scratch:
            work = (given.work or Path(scratch)) / str(images)
            if not (work / "scan.json").is_file():
                measure("made up", images, work)
            cells = []
            for stage in given.stages:
                seconds, megabytes = measure(stage, images, work)
                cells.append(f"{seconds:>11.1f} {megabytes:>5.0f}")
            print(f"{images:>8} " + " ".join(cells), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--do"]:
        spent = do_stage(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
        print(spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    else:
        main()
