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

from cxr.core.parallel import usable_cores
from cxr.core.settings import SplitSettings, training_settings
from cxr.data import splits
from cxr.data.images import pixel_cache
from cxr.data.manifest import publish, scanning, shard_inspection
from cxr.data.phantoms import dataset
from cxr.exploration import explore
from cxr.models import runs, selection
from cxr.models.compute import worker
from cxr.models.training.records import Training
from cxr.models.training.trainer import TrainingJob
from cxr.results import exporting, plots, report
from cxr.results.evaluation import EvaluationJob
from cxr.storage.addresses import open_storage

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
    scan = scanning.scan(storage, work)
    for shard in scan.shards:
        shard_inspection.inspect_shard(storage, scanning.folder_of(scan, work), shard)
    comparison = publish.find_near_duplicates(scan, work, SplitSettings())
    publish.publish_manifest(scan, comparison, work, SplitSettings())
    table = runs.read_manifest(work)
    cache = pixel_cache.fill_pixel_cache(
        table, storage, settings.image_size, settings.harmonise, work
    )
    explore.explore(work, runs.read_ingest(work), settings, cache)
    run = runs.start_run(work, settings, None)
    folder, [member] = run.folder(work), run.members()
    manifest_path = work / "clean_metadata.csv"
    weight_of = splits.class_weights(runs.read_ingest(work).splits["train"])
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
    worker.run_job(job, folder / "log", usable_cores())
    trained = Training.read(folder / member.name / "training.json")
    selection.write_comparison([trained], [], folder)
    plots.draw_comparison(folder, [member.name])
    chosen = selection.select_model([trained], [], folder).write(folder / "selection.json")
    exporting.stage_model(folder, trained)
    test = EvaluationJob(run=folder, training=trained, manifest=manifest_path, pixels=cache)
    worker.run_job(test, folder / "log", usable_cores())
    exporting.copy_data_files(work, folder)
    exporting.write_card(folder, settings, trained, chosen)
    plots.draw_evaluation(folder)
    report.write_report(folder)
    exporting.write_checksums(folder / "export")


def timed(command: list[str], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", *command], check=True, capture_output=True, env=environment
    )
    return time.perf_counter() - started


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        dataset.make_dataset(root / "data", images=90, size=96)
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
