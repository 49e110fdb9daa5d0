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

from cxr import child, exploration, ingest, manifest, phantom, pixels, runs, splits
from cxr.architectures import ARCHITECTURES
from cxr.settings import SplitSettings, cores, training_settings
from cxr.storage import open_storage
from cxr.training import TrainingJob


def prepared(root: Path, images: int, side: int) -> Path:
    phantom.make_dataset(root / "data", images=images, size=side)
    storage, work = open_storage(str(root / "data")), root / "work"
    scan = manifest.scan(storage, work)
    for shard in scan.shards:
        manifest.inspect_shard(storage, manifest.folder_of(scan, work), shard)
    comparison = ingest.find_near_duplicates(scan, work, SplitSettings())
    ingest.publish(scan, comparison, work, SplitSettings())
    settings = training_settings("demo", image_size=side)
    cache = pixels.cache(runs.manifest(work), storage, side, True, work)
    exploration.explore(work, runs.ingest(work), settings, cache)
    return work


def train_all(work: Path, side: int, at_a_time: int, threads: int) -> float:
    for path in (work / "cache").iterdir():
        if not path.name.startswith("pixels"):
            shutil.rmtree(path)
    shutil.rmtree(work / "out", ignore_errors=True)
    settings = training_settings("demo", image_size=side, epochs=3)
    weight_of = splits.class_weights(runs.ingest(work).splits["train"])
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
        child.run(job, work / "out" / f"{name}.log", threads)

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
            (1, cores()),
            (2, max(1, cores() // 2)),
            (2, cores()),
            (3, cores()),
        ):
            spent = [train_all(work, side, at_a_time, threads) for _ in range(repeats)]
            each = ", ".join(f"{seconds:.0f}" for seconds in spent)
            print(
                f"{at_a_time} at a time, {threads} threads each: {min(spent):.0f} s (of {each})",
                flush=True,
            )


if __name__ == "__main__":
    main()
