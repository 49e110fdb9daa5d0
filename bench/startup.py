"""How long `cxr preprocess` takes where nothing is new: on ten files, and on 2,000.

    python -m bench.startup

Whole commands, the two in turn, each with an embedded server of its own on one database; both data
sets were preprocessed once before. The first figure is what starting costs; the difference is what
looking at 2,000 unchanged files costs.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cxr.data.patients.patients import patient_of
from cxr.data.phantoms import dataset

IMAGES = 2000
PIXELS = 64
TEN = {"train/NORMAL": 3, "train/PNEUMONIA": 3, "test/NORMAL": 2, "test/PNEUMONIA": 2}
REPEATS = 5


def copy_ten(source: Path, target: Path) -> None:
    """Copy ten images of ten patients, so that validation can be carved."""
    for folder, count in TEN.items():
        (target / folder).mkdir(parents=True)
        by_patient = {
            patient_of(path.name): path
            for path in sorted((source / folder).iterdir())
            if patient_of(path.name)
        }
        for path in list(by_patient.values())[:count]:
            shutil.copy(path, target / folder)


def run(*arguments: str, environment: dict[str, str]) -> float:
    """Return the seconds that a command took."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "flows.command", *arguments]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return time.perf_counter() - started


def summary(seconds: list[float]) -> str:
    """Return median and range in words."""
    return f"{statistics.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})"


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        environment = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
        environment["CXR_CACHE"] = str(root / "cache")
        dataset.make_dataset(root / "many", images=IMAGES, size=PIXELS)
        copy_ten(root / "many", root / "ten")
        commands = {
            name: ("preprocess", str(root / name), "--out", str(root / f"{name}-work"))
            for name in ("ten", "many")
        }
        first = {name: run(*command, environment=environment) for name, command in commands.items()}
        print(f"first run, on a fresh database: ten files {first['ten']:.1f} s")
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(REPEATS):
            for name, command in commands.items():
                seconds[name].append(run(*command, environment=environment))
        help_seconds = [run("--help", environment=environment) for _ in range(REPEATS)]
        pairs = zip(seconds["ten"], seconds["many"], strict=True)
        differences = [many - ten for ten, many in pairs]
        print(f"unchanged ten files: median {summary(seconds['ten'])} of {REPEATS}")
        print(f"unchanged {IMAGES:,} files: median {summary(seconds['many'])}")
        print(f"difference: median {summary(differences)}")
        print(f"cxr --help: median {summary(help_seconds)}")


if __name__ == "__main__":
    main()
