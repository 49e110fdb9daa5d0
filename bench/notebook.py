"""The whole pipeline against the notebook way of doing the same job, on the same images, one after the other.

    python -m bench.notebook DATA [--weights DIR] [--arch A ...] [--train N --test N] [--stand-ins]
                             [--out FILE] [--keep FOLDER]

The notebook is ../shared/baseline/notebook_baseline.py with up to 20 epochs and its patience of 3; the pipeline is
`cxr run` as a user starts it, with the standard preset, its embedded server, exploration, audit, test and report
included. --train and --test take a subset by patient, the same for both. --keep leaves the work folder and the
notebook's model in FOLDER, for bench.quality. --stand-ins gives both sides the same weight files for architectures that DIR has
none of: random ones that carry a signal (He et al. 2015; batch normalisation settled on images of DATA). From Keras' own
random weights the notebook learns nothing and gives up as soon as its patience allows, which real weights would not do.
Processor seconds are those of all processes of a side: on a shared machine they tell more than the wall clock.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from cxr.core.files import read_table
from cxr.data.images.decoding import formats
from cxr.data.patients import patients
from cxr.models.compute import backend
from cxr.models.networks import model_surgery as built
from cxr.models.training.records import Training

ROOT = Path(__file__).parent.parent
SHARED = ROOT / ".." / "shared"
EPOCHS = "20"


def subset(data: Path, train: int, test: int, folder: Path) -> Path:
    """Copy about so many train and test images below `folder`, whole patients, classes in their shares."""
    for split, wanted in (("train", train), ("test", test)):
        files = sorted(
            path
            for path in (data / split).glob("*/*")
            if path.suffix.lower() in formats.KNOWN_SUFFIXES
        )
        who = [
            patients.patient_of(path.relative_to(data).as_posix()) or path.name for path in files
        ]
        drawn = np.random.default_rng(0).permutation(sorted(set(who)))
        rank = {name: at for at, name in enumerate(drawn)}
        chosen = sorted(range(len(files)), key=lambda at: (rank[who[at]], at))[:wanted]
        for at in chosen:
            target = folder / files[at].relative_to(data)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(
                files[at], target
            )  # a link would lead out of the data folder, which is refused
    return folder


def timed(command: list[str], folder: Path) -> tuple[float, float]:
    """Run a command to its end; return its wall and its processor seconds."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"} | {
        "PYTHONPATH": str(ROOT)
    }
    environment |= {"PREFECT_HOME": str(folder / "prefect"), "TF_CPP_MIN_LOG_LEVEL": "3"}
    with (folder / "log").open("ab") as log:
        done = subprocess.run(
            command, stdout=log, stderr=log, check=False, env=environment, cwd=folder
        )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n" + (folder / "log").read_text()[-3000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (
        time.perf_counter() - started,
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    )


def stand_ins(data: Path, weights: Path | None, architectures: list[str], folder: Path) -> str:
    """Write weight files for architectures that `weights` has none of; return a folder with these and those."""
    import keras
    from PIL import Image

    folder.mkdir()
    for file in weights.glob("*.h5") if weights else ():
        shutil.copyfile(file, folder / file.name)
    paths = [
        path
        for path in sorted((data / "train").glob("*/*"))
        if path.suffix.lower() in formats.KNOWN_SUFFIXES
    ]
    drawn = np.random.default_rng(0).choice(len(paths), 64, replace=False)
    pixels = [np.asarray(Image.open(paths[at]).convert("RGB").resize((224, 224))) for at in drawn]
    settling = np.stack(pixels).astype(np.float32) / 255
    draw = keras.initializers.HeNormal(keras.random.SeedGenerator(0))
    for name in architectures:
        if _weights(name, str(folder)) != "none":
            continue
        model = getattr(keras.applications, name)(
            include_top=False, weights=None, input_shape=(224, 224, 3)
        )
        for layer in model.layers:
            if isinstance(layer, keras.layers.Conv2D):
                layer.kernel.assign(draw(layer.kernel.shape))
        built.init_batch_norm(model, settling, backend.call_in_training_mode)
        model.save(
            folder / f"{name.lower()}_weights_tf_dim_ordering_tf_kernels_notop.h5"
        )  # as the notebook asks for
    return str(folder)


def notebook(
    data: Path, weights: str | None, architectures: list[str], folder: Path
) -> dict[str, Any]:
    folder.mkdir()
    command = [
        sys.executable,
        str(SHARED / "baseline" / "notebook_baseline.py"),
        str(data),
        "--epochs",
        EPOCHS,
    ]
    command += [word for name in architectures for word in ("--arch", name)] + ["--out", "out.json"]
    wall, processor = timed(command + (["--weights-dir", weights] if weights else []), folder)
    found = json.loads((folder / "out.json").read_text())
    rows = [
        {
            "model": each["arch"], "epochs": each["epochs_run"], "seconds": each["train_seconds"], "test AUROC": each["auc"],
            "sensitivity": each["recall"], "specificity": each["specificity"],
        }
        for each in found["models"]
    ]  # fmt: skip
    return {"wall": wall, "processor": processor, "models": rows}


def pipeline(
    data: Path, weights: str | None, architectures: list[str], folder: Path
) -> dict[str, Any]:
    folder.mkdir()
    given = ",".join(f"{name}={_weights(name, weights)}" for name in architectures)
    command = [
        sys.executable,
        "-m",
        "flows.command",
        "run",
        str(data),
        "--out",
        "work",
        "--weights",
        given,
    ]
    wall, processor = timed(
        [
            *command,
            "--arch",
            *architectures,
            "--seed",
            "0",
        ],
        folder,
    )
    (run,) = (folder / "work" / "runs").iterdir()
    tested = json.loads((run / "evaluation.json").read_text())
    rows = []
    for name in architectures:
        training = Training.read(run / name / "training.json")
        figures = tested["test"] if training.model_sha256 == tested["model_sha256"] else {}
        rows.append({
            "model": name, "epochs": training.epochs, "seconds": training.seconds, "test AUROC": figures.get("auroc"),
            "sensitivity": figures.get("sensitivity"), "specificity": figures.get("specificity"),
            "val AUROC": training.val["auroc"],
        })  # fmt: skip
    kept = read_table(folder / "work" / "clean_metadata.csv")["split"].value_counts().to_dict()
    return {"wall": wall, "processor": processor, "models": rows, "images": kept}


def _weights(name: str, folder: str | None) -> str:
    """Return the folder where it holds the architecture's weights, else none: as the notebook does."""
    plain = name.lower()
    files = Path(folder).glob("*.h5") if folder else ()
    return (
        str(folder)
        if any(path.name.lower().replace("_", "").startswith(plain) for path in files)
        else "none"
    )


def shown(side: str, found: dict[str, Any]) -> None:
    print(f"{side}: {found['wall']:.0f} s wall, {found['processor']:.0f} s of processor")
    for row in found["models"]:
        print(
            "   ",
            ", ".join(
                f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()
            ),
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", default=None)
    parser.add_argument("--arch", nargs="+", default=["MobileNetV2", "VGG16", "DenseNet121"])
    parser.add_argument("--train", type=int, default=0)
    parser.add_argument("--test", type=int, default=10**9)
    parser.add_argument("--stand-ins", action="store_true")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--keep", type=Path, default=None)
    given = parser.parse_args()
    weights = str(Path(given.weights).resolve()) if given.weights else None
    with tempfile.TemporaryDirectory() as scratch:
        root = given.keep.resolve() if given.keep else Path(scratch)
        root.mkdir(parents=True, exist_ok=True)
        data = (
            subset(given.data, given.train, given.test, root / "data")
            if given.train
            else given.data.resolve()
        )
        if given.stand_ins:
            weights = stand_ins(
                data, Path(weights) if weights else None, given.arch, root / "weights"
            )
        ours = pipeline(data, weights, given.arch, root / "pipeline")
        shown("pipeline", ours)
        print("    images", ours["images"])
        theirs = notebook(data, weights, given.arch, root / "notebook")
        shown("notebook", theirs)
    ratio = {name: round(theirs[name] / ours[name], 2) for name in ("wall", "processor")}
    print(f"notebook / pipeline: wall {ratio['wall']}, processor {ratio['processor']}")
    if given.out:
        given.out.write_text(
            json.dumps({"pipeline": ours, "notebook": theirs, "ratio": ratio}, indent=2)
        )


if __name__ == "__main__":
    main()
