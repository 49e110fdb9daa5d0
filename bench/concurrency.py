"""Three architectures trained at once, or one after the other, with few or with all threads each.

    python -m bench.concurrency [images; default 300] [side; default 96] [repeats; default 2]

Phantom images, random weights, the children that `cxr train` starts, without Prefect; fresh caches each time.
"""

import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cxr.core.parallel import usable_cores
from cxr.core.settings import SplitSettings, training_settings
from cxr.data import splits
from cxr.data.images import pixel_cache
from cxr.data.manifest import publish, scanning, shard_inspection
from cxr.data.phantoms import dataset
from cxr.exploration import explore
from cxr.models import runs
from cxr.models.architectures import ARCHITECTURES
from cxr.models.compute import worker
from cxr.models.training.trainer import TrainingJob
from cxr.storage.addresses import open_storage


def prepared(root: Path, images: int, side: int) -> Path:
    dataset.make_dataset(root / "data", images=images, size=side)
    storage, work = open_storage(str(root / "data")), root / "work"
    scan = scanning.scan(storage, work)
    for shard in scan.shards:
        shard_inspection.inspect_shard(storage, scanning.folder_of(scan, work), shard)
    comparison = publish.find_near_duplicates(scan, work, SplitSettings())
    publish.publish_manifest(scan, comparison, work, SplitSettings())
    settings = training_settings("demo", image_size=side)
    cache = pixel_cache.fill_pixel_cache(runs.read_manifest(work), storage, side, True, work)
    explore.explore(work, runs.read_ingest(work), settings, cache)
    return work


def train_all(work: Path, side: int, at_a_time: int, threads: int) -> float:
    for path in (work / "cache").iterdir():
        if not path.name.startswith("pixels"):
            shutil.rmtree(path)
    shutil.rmtree(work / "out", ignore_errors=True)
    settings = training_settings("demo", image_size=side, epochs=3)
    weight_of = splits.class_weights(runs.read_ingest(work).splits["train"])
    names = sorted(ARCHITECTURES, key=lambda name: -ARCHITECTURES[name].relative_cost)

    def one(name: str) -> None:
        job = TrainingJob(
            name=name,
            architecture=name,
            settings=settings,
            folder=work / "out" / name,
            weights=None,
            weights_sha256="",
            manifest=work / "clean_metadata.csv",
            pixels=next((work / "cache").glob("pixels-*")),
            class_weights={str(label): weight for label, weight in weight_of.items()},
        )
        worker.run_job(job, work / "out" / f"{name}.log", threads)

    started = time.perf_counter()
    with ThreadPoolExecutor(at_a_time) as pool:
        list(pool.map(one, names))
    return time.perf_counter() - started


def main() -> None:
    images, side, repeats = (
        int(word) for word in (*sys.argv[1:], *["300", "96", "2"][len(sys.argv) - 1 :])
    )
    with tempfile.TemporaryDirectory() as scratch:
        work = prepared(Path(scratch), images, side)
        for at_a_time, threads in (
            (1, usable_cores()),
            (2, max(1, usable_cores() // 2)),
            (2, usable_cores()),
            (3, usable_cores()),
        ):
            spent = [train_all(work, side, at_a_time, threads) for _ in range(repeats)]
            each = ", ".join(f"{seconds:.0f}" for seconds in spent)
            print(
                f"{at_a_time} at a time, {threads} threads each: {min(spent):.0f} s (of {each})",
                flush=True,
            )


if __name__ == "__main__":
    main()
