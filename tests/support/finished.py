"""A finished run of synthetic scores, for the tests of selection, report and recomputation.

No model is trained, so these tests need no Keras.
"""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.core import settings as chosen
from cxr.core.files import file_sha256, read_table, write_table
from cxr.core.timing import Stage
from cxr.data.images.changes.masks import BORDER_EXCHANGED, DESCRIPTIONS
from cxr.data.images.changes.stress_worlds import WORLDS
from cxr.data.leakage import gate
from cxr.data.manifest.records import Ingest
from cxr.exploration import audit, shift
from cxr.models import selection, stress
from cxr.models.scoring import write_scores
from cxr.models.training import validation
from cxr.models.training.records import Failure, Training
from cxr.results import evaluation, exporting
from cxr.results.evaluation import Evaluation, StressTest
from cxr.results.evaluation.robustness import SCORES_NAME
from cxr.results.gradcam.summary import Attention, Group
from cxr.results.report import page
from cxr.stats import calibration

MODEL_SHA256 = hashlib.sha256(b"not a model").hexdigest()
NAMES = ("MobileNetV2", "DenseNet121")
ODD = "train/NORMAL/<script>alert(1)</script>\n\udcff.jpeg"
COUNTS = {"NORMAL": 40, "PNEUMONIA": 60}


def scores(
    path: Path, seed: int, apart: float = 0.4, fitted: calibration.Calibration | None = None
) -> pd.DataFrame:
    """Write and return the scores of 40 NORMAL and 60 PNEUMONIA images, two of each patient.

    Args:
        path: The file.
        seed: Seed of the scores.
        apart: Distance of the two classes' mean scores.
        fitted: The calibration to apply; None for none.
    """
    label = np.repeat([0, 1], [40, 60])
    raw = np.clip(np.random.default_rng(seed).normal(0.3 + apart * label, 0.15), 0.001, 0.999)
    names = [
        f"person{i // 2}_virus_{i}.jpeg" if label[i] else f"IM-{i // 2:04d}-{i}.jpeg"
        for i in range(100)
    ]
    rows = pd.DataFrame(
        {
            "image": names,
            "patient_id": [f"p{i // 2}" for i in range(100)],
            "etiology": np.where(label, "virus", ""),
            "width": 64,
            "height": 64,
            "label": label,
            "age": [f"{i // 2 * 1.5:g}" for i in range(100)],
            "sex": np.where(np.arange(100) // 2 % 2, "F", "M"),
            "manufacturer": np.where(np.arange(100) // 2 % 5, "Agfa", "<b>Siemens</b>"),
        }
    )
    write_scores(rows, raw, fitted.apply(raw) if fitted else raw, path)
    return read_table(path)


def world_scores(path: Path, table: pd.DataFrame, seed: int, noise: float = 0.05) -> pd.DataFrame:
    """Write and return scores in the stress worlds: those of the images as they are, and noise."""
    rng = np.random.default_rng(seed)
    raw = table["raw_score"].to_numpy()
    scores = {"clean": raw}
    for world in WORLDS:
        scores[world] = np.clip(raw + rng.normal(0, noise, len(raw)), 0, 1)
    stress.write_world_scores(table, scores, path)
    return read_table(path)


def trained(
    run: Path,
    name: str,
    seed: int = 0,
    apart: float = 0.4,
    milliseconds: float = 5.0,
    specific: float | None = None,
    stressed: float = 0.05,
) -> Training:
    """Write the folder of a training with synthetic scores, and return its record.

    Args:
        run: The run's folder.
        name: The training, as its folder is called.
        seed: Seed of the scores.
        apart: Distance of the two classes' mean scores.
        milliseconds: The time to score an image.
        specific: The specificity to record instead of the measured one; None to keep that.
        stressed: Standard deviation of the noise that the stress worlds add to scores.
    """
    table = scores(run / name / "scores_val.csv", seed, apart)
    seed_of = int(name.partition("-seed")[2] or 0)
    worlds = world_scores(run / name / stress.VAL_SCORES, table, seed, stressed)
    settings = chosen.training_settings("demo", seed=seed_of)
    found = validation.fit_on_validation(table, worlds, settings)
    scores(run / name / "scores_val.csv", seed, apart, found["calibration"])
    if specific is not None:
        found["val"] |= {"specificity": specific}
    history = {
        "epoch": [1, 2],
        "phase": ["frozen", "fine_tune"],
        "penalty": [0.01, 0.0],
        "loss": [0.6, 0.4],
        "val_auroc": [0.7, 0.8],
    }
    write_table(pd.DataFrame(history), run / name / "history.csv")
    return Training(
        name=name,
        architecture=name.split("-", maxsplit=1)[0],
        weights="none",
        weights_sha256="",
        image_size=64,
        seed=seed_of,
        epochs=2,
        best_epoch=2,
        seconds=61.0,
        images_per_second=10.0,
        stages=(
            Stage(name="features", images=300, seconds=31.0, memory=900.0),
            Stage(name="frozen", images=600, seconds=30.0),
        ),
        milliseconds=milliseconds,
        **found,
        model_sha256=MODEL_SHA256,
        optimizer_sha256="ef" * 32,
        versions={"keras": "3.15"},
    ).write(run / name / "training.json")


def finish(work: Path) -> Path:
    """Make a run that is finished except for its figures and report; return its folder."""
    run = work / "runs" / "abc"
    models = [trained(run, name, seed) for seed, name in enumerate(NAMES)]
    failed = [Failure(name="VGG16", architecture="VGG16", error="killed <by signal 9>")]
    failed[0].write(run / "VGG16" / "failure.json")
    selection.write_comparison(models, failed, run)
    choice = selection.select_model(models, failed, run).write(run / "selection.json")
    training = next(one for one in models if one.name == choice.name)
    table = scores(run / "scores_test.csv", seed=9, fitted=training.calibration)
    Evaluation(
        architecture=training.architecture,
        model_sha256=MODEL_SHA256,
        threshold=training.threshold,
        **evaluation.test_metrics(table, training.threshold),
        reload_max_difference=3e-8,
        reload_images=64,
        optimizer_equal=True,
        scores_sha256=file_sha256(run / "scores_test.csv"),
    ).write(run / "evaluation.json")
    stressed(run, table, training).write(run / "robustness.json")
    attention(training).write(run / "attention.json")
    demo = chosen.training_settings("demo")
    audited, shifted = looked()
    audited.write(work / "eda" / "audit.json")
    shifted.write(work / "eda" / "shift.json")
    ingest(work).write(work / "ingest.json")
    exporting.copy_data_files(work, run)
    (run / "export").mkdir()
    (run / "export" / "model.keras").write_bytes(b"not a model")
    exporting.write_card(run, demo, training, choice)
    return run


def stressed(run: Path, table: pd.DataFrame, training: Training) -> StressTest:
    """Write synthetic scores in the stress worlds, chance behind masks; return their record."""
    worlds = world_scores(run / SCORES_NAME, table, seed=10)
    rng = np.random.default_rng(11)
    chance = {mask: rng.uniform(0, 1, len(table)) for mask in DESCRIPTIONS}
    chance[BORDER_EXCHANGED] = table["raw_score"].to_numpy()  # it does not look there
    write_table(worlds.assign(**chance), run / SCORES_NAME)
    worlds = read_table(run / SCORES_NAME)
    return StressTest(
        architecture=training.architecture,
        model_sha256=MODEL_SHA256,
        threshold=training.threshold,
        **evaluation.stress_metrics(worlds, training.calibration, training.threshold),
        world_scores_sha256=file_sha256(run / SCORES_NAME),
    )


def attention(training: Training) -> Attention:
    """Return a synthetic record of where a model looks."""
    group = Group(images=1, examined=1, with_map=1, border_share=0.2)
    return Attention(
        architecture=training.architecture,
        model_sha256=MODEL_SHA256,
        threshold=training.threshold,
        split="test",
        images=100,
        examined=100,
        with_map=90,
        grid=(7, 7),
        side_fraction=0.1,
        border_share=0.21,
        interval=(0.19, 0.23),
        uniform_share=0.36,
        groups=dict.fromkeys(("tp", "fn", "fp", "tn"), group),
        figure="gradcam.png",
    )


def looked() -> tuple[audit.Audit, shift.Shift]:
    """Return the audit and the distribution shift of a synthetic table and noise."""
    n = 120
    label = np.arange(n) % 2
    split = np.array(["train", "test", "val"])[np.arange(n) % 3]
    table = pd.DataFrame(
        {
            "image": [f"{i}.png" for i in range(n)],
            "patient_id": "",
            "label": label,
            "split": split,
            "label_name": np.array(["NORMAL", "PNEUMONIA"])[label],
            "width": 64,
            "height": 64,
            "bytes": 900 + np.arange(n) % 7,
            "mode": "L",
            "format": "PNG",
            "icc": 0,
            "exif": 0,
            "quantisation": "",
            "mean": 90.0 + np.arange(n) % 5,
            "std": 40.0,
        }
    )
    noise = np.random.default_rng(0).integers(0, 256, (n, 64, 64)).astype(np.uint8)
    return audit.run_audit(table, noise, "34" * 32, True), shift.measure_shift(
        table, noise, "34" * 32
    )


def ingest(work: Path) -> Ingest:
    """Write a rejects.csv with an odd name and return the counts that belong to it."""
    rejects = pd.DataFrame(
        {"image": [ODD], "reason": ["truncated"], "detail": ["<b>ends</b> too early"]}
    )
    write_table(rejects, work / "rejects.csv")
    rows = pd.DataFrame(
        {
            "image": ["a", "b"],
            "split": ["train", "test"],
            "source_split": ["train", "test"],
            "patient_id": "",
        }
    )
    empty = pd.DataFrame(columns=["image_a", "image_b"])
    return Ingest(
        data="/data",
        root="",
        found=301,
        kept=300,
        rejected={"truncated": 1},
        newly_read=301,
        splits=dict.fromkeys(("train", "val", "test"), COUNTS),
        patients={"train": 9, "val": 9, "test": 9},
        patient_wise=False,
        split_policy="by patient",
        leakage=gate.measure_leakage(rows, rows, empty, "person+etiology", False),
        manifest_sha256="34" * 32,
    )


def complete(work: Path) -> Path:
    """Make a finished run with report and checksums; return its folder."""
    run = finish(work)
    exporting.write_checksums(run / "export")
    page.write_report(run)
    return run
