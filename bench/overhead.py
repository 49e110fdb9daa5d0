"""What orchestration costs: `cxr run` with its embedded server against the same library calls in a plain script.

    python -m bench.overhead

Phantom images, one architecture at 32 pixels; the two in turn, whole processes, fresh folders. Both train in the same
child processes, so TensorFlow's import is on both sides.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cxr import (
    child,
    curves,
    exploration,
    export,
    ingest,
    manifest,
    phantom,
    pixels,
    report,
    runs,
    selection,
    splits,
)
from cxr.evaluation import EvaluationJob
from cxr.records import Training
from cxr.settings import SplitSettings, cores, training_settings
from cxr.storage import open_storage
from cxr.training import TrainingJob

REPEATS = 3
FLAGS = [
    "--preset",
    "demo",
    "--arch",
    "MobileNetV2",
    "--image-size",
    "32",
    "--epochs",
    "0",
]


def plain(data: str, work: Path) -> None:
    """The pipeline without Prefect."""
    settings = training_settings("demo", arch=("MobileNetV2",), image_size=32, epochs=0)
    storage = open_storage(data)
    scan = manifest.scan(storage, work)
    for shard in scan.shards:
        manifest.inspect_shard(storage, manifest.folder_of(scan, work), shard)
    comparison = ingest.find_near_duplicates(scan, work, SplitSettings())
    ingest.publish(scan, comparison, work, SplitSettings())
    table = runs.manifest(work)
    cache = pixels.cache(table, storage, settings.image_size, settings.harmonise, work)
    exploration.explore(work, runs.ingest(work), settings, cache)
    run = runs.start(work, settings, None)
    folder, [member] = run.folder(work), run.members()
    manifest_path = work / "clean_metadata.csv"
    weight_of = splits.class_weights(runs.ingest(work).splits["train"])
    job = TrainingJob(
        name=member.name,
        architecture=member.architecture,
        settings=settings,
        folder=folder / member.name,
        weights=None,
        weights_sha256="",
        manifest=manifest_path,
        pixels=cache,
        class_weights={str(label): weight for label, weight in weight_of.items()},
    )
    child.run(job, folder / "log", cores())
    trained = Training.read(folder / member.name / "training.json")
    selection.compare([trained], [], folder)
    curves.draw_comparison(folder, [member.name])
    chosen = selection.select([trained], [], folder).write(folder / "selection.json")
    export.stage_model(folder, trained)
    test = EvaluationJob(run=folder, training=trained, manifest=manifest_path, pixels=cache)
    child.run(test, folder / "log", cores())
    export.keep_data(work, folder)
    export.write_card(folder, settings, trained, chosen)
    curves.draw_evaluation(folder)
    report.write(folder)
    export.write_checksums(folder / "export")


def timed(command: list[str], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", *command], check=True, capture_output=True, env=environment
    )
    return time.perf_counter() - started


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        phantom.make_dataset(root / "data", images=90, size=96)
        environment = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"} | {
            "PREFECT_HOME": str(root / "home")
        }
        differences = []
        for i in range(REPEATS):
            whole = timed(
                ["flows.command", "run", str(root / "data"), "--out", str(root / f"a{i}"), *FLAGS],
                environment,
            )
            script = timed(["bench.overhead", str(root / "data"), str(root / f"b{i}")], environment)
            differences.append(whole - script)
            print(
                f"{i}: cxr run {whole:.1f} s, plain script {script:.1f} s, overhead {differences[-1]:.1f} s"
            )
        print(f"orchestration overhead: median {statistics.median(differences):.1f} s of {REPEATS}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        plain(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
