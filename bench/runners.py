"""The same run with threads, with processes, and on a Dask cluster of two workers on this very machine.

    python -m bench.runners [REPEATS]

Phantom images, two architectures at 32 pixels; whole commands against one Prefect server, in turn, fresh folders. Then
preprocessing alone, of more images. On one machine Dask can win nothing: the difference is what it costs.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cxr.data.phantoms import dataset
from flows.server.embedded import embedded
from tests.support.dask_cluster import cluster

FLAGS = [
    "--preset", "demo", "--arch", "MobileNetV2", "VGG16", "--image-size", "32", "--epochs", "0",
]  # fmt: skip


def timed(command: str, data: Path, out: Path, *flags: str) -> float:
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "flows.command", command, str(data), "--out", str(out), *flags],
        check=True, capture_output=True, env=os.environ,
    )  # fmt: skip
    return time.perf_counter() - started


def main(repeats: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        os.environ["PREFECT_HOME"] = str(root / "home")
        os.environ.pop("PREFECT_API_URL", None)
        dataset.make_dataset(root / "few", images=420, size=96)
        dataset.make_dataset(root / "many", images=2400, size=256)
        with embedded(folder=root / "home"), cluster(root / "cluster") as found:
            for name in ("one", "two"):
                found.join(name)
            found.joined("one", "two")
            for command, data, flags in (("run", "few", FLAGS), ("preprocess", "many", [])):
                taken: dict[str, list[float]] = {}
                for repeat in range(repeats):
                    for runner in ("threads", "processes", found.address):
                        name = "Dask" if "://" in runner else runner
                        out = root / f"{command}-{name}-{repeat}"
                        seconds = timed(command, root / data, out, *flags, "--runner", runner)
                        taken.setdefault(name, []).append(seconds)
                        print(f"{command} {repeat}: {name} {seconds:.1f} s", flush=True)
                words = ", ".join(
                    f"{name} {statistics.median(each):.1f} s" for name, each in taken.items()
                )
                print(f"{command}, {data} images, median of {repeats}: {words}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
