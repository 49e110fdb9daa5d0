"""Time and peak memory of preprocessing, caching and feature extraction as the number of images grows.

    python -m bench.scale [n ...; default 1000 10000 100000]

Made-up images of 64 pixels, all different; each stage in a process of its own on what the one before left. Features are
MobileNetV2's at its cut, of the clean view. Wanted: time an image and peak memory flat within 20 %.
"""

import io
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from cxr.core.files import read_table
from cxr.core.parallel import usable_cores
from cxr.core.settings import SplitSettings, TrainingSettings
from cxr.data.images import pixel_cache
from cxr.data.manifest import publish, scanning, shard_inspection
from cxr.models.compute import backend, keras_internals
from cxr.models.features import features
from cxr.models.networks import architectures
from cxr.storage.addresses import open_storage

SIDE = 64
STAGES = ("inspect", "publish", "decode", "features")


def make(folder: Path, count: int) -> None:
    """Write smooth noise, four of five images to train, two classes, two images a patient."""
    rng = np.random.default_rng(0)
    for at in range(count):
        split, label = "test" if at % 10 > 7 else "train", "PNEUMONIA" if at // 2 % 2 else "NORMAL"
        path = (
            folder
            / split
            / label
            / (f"person{at // 2}_virus_{at}.jpeg" if at // 2 % 2 else f"IM-{at // 2}-{at}.jpeg")
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8))
        written = io.BytesIO()
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(written, "JPEG", quality=80)
        path.write_bytes(written.getvalue())


def work_on(stage: str, data: Path, work: Path) -> float:
    """Do one stage as the flows do it; return its seconds, imports and the network's building left out."""
    storage, settings = open_storage(str(data)), TrainingSettings(image_size=SIDE)
    if stage == "features":
        keras_internals.import_keras()
        backend.configure()
        table = read_table(work / "clean_metadata.csv")
        held = pixel_cache.load_pixels(next((work / "cache").glob("pixels-*")), table)
        model = architectures.build_model("MobileNetV2", settings, None)
        source = features.Source(
            work / "cache", "MobileNetV2", settings, held, list(table["pixel_sha256"]), model
        )
        # Traces and warms up, in another cache.
        features.cut_features(source, np.arange(256), ["1"] * 256, "float32", "float16")
    started = time.perf_counter()
    if stage == "inspect":
        scan = scanning.scan(storage, work)
        rows = scanning.folder_of(scan, work)
        with ThreadPoolExecutor(usable_cores()) as pool:
            list(
                pool.map(
                    lambda shard: shard_inspection.inspect_shard(storage, rows, shard), scan.shards
                )
            )
    elif stage == "publish":
        scan = scanning.scan(storage, work)
        comparison = publish.find_near_duplicates(scan, work, SplitSettings())
        publish.publish_manifest(scan, comparison, work, SplitSettings())
    elif stage == "decode":
        pixel_cache.fill_pixel_cache(
            read_table(work / "clean_metadata.csv"), storage, SIDE, True, work
        )
    else:
        features.cut_features(
            source, np.arange(len(table)), [features.UNCHANGED] * len(table), "float32", "float16"
        )
    return time.perf_counter() - started


def main() -> None:
    counts = [int(word) for word in sys.argv[1:]] or [1000, 10_000, 100_000]
    print(f"{'images':>8} " + " ".join(f"{stage:>9} ms {'MB':>6}" for stage in STAGES))
    for count in counts:
        with tempfile.TemporaryDirectory() as scratch:
            data, work = Path(scratch) / "data", Path(scratch) / "work"
            make(data, count)
            cells = []
            for stage in STAGES:
                done = subprocess.run(
                    [sys.executable, "-m", "bench.scale", "--stage", stage, str(data), str(work)],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
                seconds, memory = map(float, done.stdout.split()[-2:])
                cells.append(f"{1000 * seconds / count:>12.3f} {memory:>6.0f}")
            print(f"{count:>8} " + " ".join(cells), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--stage"]:
        spent = work_on(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
        print(spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    else:
        main()
