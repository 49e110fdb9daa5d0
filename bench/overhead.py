"""What orchestration costs: `cxr run` with its embedded server against the same library calls in a plain script.

    python -m bench.overhead

Phantom images, one architecture at 32 pixels; the two in turn, whole processes, fresh folders. Both train in the same
child processes, so TensorFlow's import is on both sides.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cxr import child, curves, exploration, export, ingest, manifest, phantom, pixels, report, runs, selection
from cxr.records import Evaluation, Training, read_table
from cxr.settings import SplitSettings, cores, training_settings
from cxr.storage import open_storage

REPEATS = 2
FLAGS = ["--preset", "demo", "--arch", "MobileNetV2", "--image-size", "32", "--epochs", "1", "--fine-tune-epochs", "0"]


def plain(data: str, work: Path) -> None:
    """The pipeline without Prefect."""
    settings = training_settings("demo", arch=("MobileNetV2",), image_size=32, epochs=1, fine_tune_epochs=0)
    storage = open_storage(data)
    scan = manifest.scan(storage, work)
    for shard in scan.shards:
        manifest.inspect_shard(storage, manifest.inspection_folder(work, scan.data), shard)
    books = ingest.publish(scan, work, SplitSettings())
    exploration.explore(work, books, settings)
    run = runs.start(work, settings)
    folder, table = run.folder(work), work / "clean_metadata.csv"
    cache = pixels.cache(read_table(table), storage, settings.image_size, settings.harmonise, work)
    job = {
        "architecture": "MobileNetV2", "settings": settings.model_dump(mode="json"), "folder": str(folder / "MobileNetV2"),
        "weights": None, "weights_sha256": "", "manifest": str(table), "pixels": str(cache),
        "class_weights": json.loads((work / "eda" / "class_weights.json").read_text()),
    }  # fmt: skip
    child.run("cxr.training", job, folder / "log", cores(), lambda event: None)
    trained = Training.read(folder / "MobileNetV2" / "training.json")
    selection.compare([trained], [], folder)
    curves.draw_comparison(folder, ["MobileNetV2"])
    chosen = selection.select([trained], []).write(folder / "selection.json")
    export.stage_model(folder, trained)
    job = {
        "run": str(folder),
        "training": trained.model_dump(mode="json"),
        "pixels": str(cache),
        "manifest": str(table),
    }
    child.run("cxr.evaluation", job, folder / "log", cores(), lambda event: None)
    evaluation = Evaluation.read(folder / "evaluation.json")
    export.write_card(folder, books, settings, trained, chosen, evaluation)
    curves.draw_evaluation(folder)
    report.write(work, folder)
    export.write_checksums(folder / "export")


def timed(command: list[str], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True, env=environment)
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
                ["flows.command", "run", str(root / "data"), "--out", str(root / f"a{i}"), *FLAGS], environment
            )
            script = timed(["bench.overhead", str(root / "data"), str(root / f"b{i}")], environment)
            differences.append(whole - script)
            print(f"{i}: cxr run {whole:.1f} s, plain script {script:.1f} s, overhead {differences[-1]:.1f} s")
        print(f"orchestration overhead: median {statistics.median(differences):.1f} s of {REPEATS}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        plain(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
