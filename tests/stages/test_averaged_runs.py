"""Runs with `ensemble` on phantoms: averaged, exported and used like a single network."""

import csv
import io
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

import cxr
from cxr.core.errors import ModelError
from cxr.core.files import read_table, write_table
from cxr.core.settings import PixelSettings, TrainingSettings, training_settings
from cxr.models import runs
from cxr.models.selection import Selection
from cxr.models.training.records import Training
from cxr.results import exporting
from cxr.results.cards.model_card import Card
from cxr.results.evaluation import Evaluation
from cxr.results.evaluation.abstention.measurement import read_judgements
from cxr.results.evaluation.formats.records import read_formats
from cxr.results.verify.checks import verify_run
from cxr.serving.registry import Registry
from cxr.serving.retraining import challenge
from cxr.serving.retraining.challenge import Side
from cxr.storage.workspace import shared_files
from tests.support.bare_interpreter import make_interpreter

pytestmark = pytest.mark.slow


def settings_of(**changes: object) -> TrainingSettings:
    return training_settings(
        "demo", **{"arch": ("MobileNetV2",), "image_size": 32, "epochs": 1} | changes
    )


@pytest.fixture(scope="module")
def explored(phantoms, tmp_path_factory):
    """A work folder that is ready for training."""
    work = tmp_path_factory.mktemp("work")
    cxr.preprocess(phantoms, work, pixels=PixelSettings(image_size=32))
    cxr.explore(work, settings_of())
    return work


@pytest.fixture(scope="module")
def seeds(explored):
    """The work folder, and the folder of a run that averaged two seeds."""
    settings = settings_of(ensemble="seeds", seeds=2, min_sensitivity=0.9)
    for seed in (0, 1):
        cxr.train(explored, "MobileNetV2", settings, seed)
    exported = cxr.export(explored)
    return explored, explored / "runs" / exported.run


def problems(run) -> list[str]:
    return [check.problem for check in verify_run(run) if check.problem]


def test_the_ensemble_of_seeds_is_exported_and_its_members_are_compared_with_it(seeds):
    """Its scores are those of the mean logit; the rule chooses it; members keep their rows; the price is measured."""
    _, run = seeds
    record = Training.read(run / "ensemble-seeds-MobileNetV2" / "training.json")
    assert record.architecture == "ensemble of 2 seeds of MobileNetV2"
    names = ("MobileNetV2", "MobileNetV2-seed1")
    assert tuple(member.name for member in record.members) == names
    tables = [read_table(run / name / "scores_val.csv") for name in (record.name, *names)]
    raw, *own = [table["raw_score"].to_numpy() for table in tables]
    assert np.abs(own[0] - own[1]).max() > 1e-3, "members that agree test nothing"
    assert np.abs(raw - expit(logit(own).mean(axis=0))).max() < 1e-6
    assert record.members[1].auroc == pytest.approx(roc_auc_score(tables[0]["label"], own[1]))
    members = [Training.read(run / name / "training.json") for name in names]
    assert record.milliseconds > 0 and record.seconds > sum(one.seconds for one in members)
    assert Selection.read(run / "selection.json").name == record.name
    comparison = pd.read_csv(run / "comparison.csv").set_index("name")
    assert set(comparison.index) == {record.name, *names}
    assert comparison.loc[record.name, "members"] == "MobileNetV2, MobileNetV2-seed1"
    assert record.robustness is not None


def test_the_export_is_proven_by_its_scores_and_verified(seeds):
    """One calibration and threshold in one card; no optimizer to compare; a changed member's logit is found."""
    _, run = seeds
    found = Evaluation.read(run / "evaluation.json")
    assert found.optimizer_equal is None and found.reload_max_difference <= 1e-5
    card = Card.read(run / "export" / "model_card.json")
    assert card.architecture == "ensemble of 2 seeds of MobileNetV2"
    for text in ((run / "report.html").read_text(), (run / "export" / "MODEL_CARD.md").read_text()):
        assert "MobileNetV2-seed1" in text and "no one optimizer" in text
        assert "optimizer state equal" not in text
    assert problems(run) == []
    path = run / "ensemble-seeds-MobileNetV2" / "members.csv"
    before = path.read_bytes()
    table = read_table(path)
    write_table(table.assign(MobileNetV2=table["MobileNetV2"].astype(float) + 0.5), path)
    (problem,) = problems(run)
    assert "raw_score is not the mean of the logits" in problem
    path.write_bytes(before)


def test_predict_the_registry_and_the_challenge_take_it(seeds, phantoms, tmp_path):
    """Fused in `predict`, and loaded from a registry, it scores test images as the evaluation did."""
    work, run = seeds
    expected = read_table(run / "scores_test.csv").set_index("image")["score"]
    registry = Registry(str(tmp_path / "registry"))
    version = registry.register(run / "export", "tester", work / "clean_metadata.csv")
    rows = challenge.test_rows(runs.read_manifest(work))
    card = Card.read(run / "export" / "model_card.json")
    side = challenge.score_champion(run / "export", rows, work, tmp_path / "champion.csv")
    assert np.allclose(side.scores["score"], expected, atol=1e-5)
    judged = read_judgements(run)
    assert judged is not None and side.judgements is not None
    assert list(side.judgements["image"]) == list(judged["image"])
    assert np.allclose(side.judgements["scope_p"], judged["scope_p"])
    own = Side(version=version.name, card=card, scores=read_table(run / "scores_test.csv"))
    registry.add_challenge(challenge.compare_with_champion(own, None))
    registry.promote(version.name, "tester", "the first", against_the_rule=True)
    cxr.predict(registry.uri, phantoms / "test", tmp_path / "predictions.csv")
    table = read_table(tmp_path / "predictions.csv")
    scored = table[table["status"] == "scored"]
    found = scored.assign(image="test/" + scored["image"]).set_index("image")["score"]
    common = found.index.intersection(expected.index)
    assert len(common) > 10
    assert np.allclose(found.loc[common], expected.loc[common], atol=1e-5)


def test_a_training_does_not_start_from_an_ensemble(seeds):
    """`init` names one: refused in one sentence that says what to do."""
    _, run = seeds
    settings = settings_of(init=str(run / "export"))
    with pytest.raises(ModelError, match=r"ensemble of 2 seeds of MobileNetV2.*leave --init out"):
        exporting.find_init(settings)


def test_an_ensemble_is_made_once_and_again_where_it_is_damaged(seeds):
    """The same export again makes nothing anew; a damaged model is averaged again, to the same scores."""
    work, run = seeds
    folder = run / "ensemble-seeds-MobileNetV2"
    record = folder / "training.json"
    first = record.stat().st_mtime_ns
    cxr.export(work, run.name)
    assert record.stat().st_mtime_ns == first
    scores = (folder / "scores_val.csv").read_bytes()
    (folder / "model.keras").write_bytes(b"half a file")
    cxr.export(work, run.name)
    assert record.stat().st_mtime_ns > first
    assert (folder / "scores_val.csv").read_bytes() == scores
    assert problems(run) == []


def test_the_last_epochs_of_a_run_are_averaged(explored):
    """Of two epochs both: the last one as published; both are published, so that any machine can average them."""
    settings = settings_of(ensemble="epochs", epochs=2, patience=2)
    training = cxr.train(explored, "MobileNetV2", settings)
    run = max((explored / "runs").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    folder = run / "MobileNetV2"
    assert not list(folder.glob("checkpoint-*.keras"))
    kept = [path.relative_to(explored).as_posix() for path in sorted(folder.glob("epoch-*.keras"))]
    assert [Path(key).name for key in kept] == ["epoch-0001.keras", "epoch-0002.keras"]
    assert set(kept) <= shared_files.shared_keys(explored)
    cxr.export(explored, run.name)
    record = Training.read(run / "ensemble-epochs-MobileNetV2" / "training.json")
    assert [member.epoch for member in record.members] == [1, 2]
    logits = read_table(run / record.name / "members.csv")
    own = read_table(folder / "scores_val.csv")["raw_score"].to_numpy()
    published = logits[f"MobileNetV2 epoch {training.best_epoch}"].astype(float)
    assert np.abs(expit(published) - own).max() < 1e-5
    history = read_table(folder / "history.csv")
    tuned = history[history["phase"] == "fine_tune"]
    for member, accuracy in zip(record.members, tuned["val_accuracy"].astype(float), strict=True):
        values = logits[member.name].astype(float)
        assert ((values >= 0) == logits["label"]).mean() == pytest.approx(accuracy)
        scores = expit(values).astype(np.float32)
        assert member.auroc == pytest.approx(roc_auc_score(logits["label"], scores))
    assert problems(run) == []


@pytest.fixture(scope="module")
def in_formats(seeds):
    """The folder of the run of two seeds, exported in every format."""
    work, run = seeds
    cxr.export(work, run.name, formats=("keras", "onnx", "litert", "savedmodel"))
    return run


def test_an_ensemble_decides_alike_in_every_runtime(in_formats):
    """Scores to 1e-4, decisions and abstentions equal, films read to the same pixels; what is verified passes.

    So few test images cannot show that reduced precision is as good: those files are not there, and the card says why.
    """
    found = {record.file: record for record in read_formats(in_formats)}
    export = in_formats / "export"
    for file in ("model.onnx", "model.tflite", "saved_model"):
        record = found[file]
        assert record.published, record.reason
        assert record.agreement.largest_difference <= 1e-4 and record.films > 5
        assert record.milliseconds > 0 and (export / file).exists()
    for file in ("model_float16.tflite", "model_int8.tflite"):
        assert "newly missed" in found[file].reason and not (export / file).exists()
    assert problems(in_formats) == []
    text = (export / "MODEL_CARD.md").read_text()
    assert "| model.onnx |" in text and "model_int8.tflite is not published" in text


@pytest.mark.parametrize(
    ("file", "runtime"), [("model.onnx", "onnxruntime"), ("model.tflite", "ai-edge-litert")]
)
def test_the_reader_predicts_where_nothing_else_is_installed(
    in_formats, phantoms, tmp_path, file, runtime
):
    """numpy, Pillow and the runtime: the scores, predictions and statuses of `cxr predict`, on images as files."""
    python = make_interpreter(tmp_path / "bare", "numpy", "pillow", runtime)
    missing = subprocess.run([python, "-c", "import keras"], capture_output=True, check=False)
    assert missing.returncode, "the interpreter has more than it should have"
    folder = phantoms / "test"
    cxr.predict(in_formats / "export", folder, tmp_path / "predictions.csv")
    expected = read_table(tmp_path / "predictions.csv").set_index("image")
    expected = expected[expected["status"] != "rejected"]
    reader = in_formats / "export" / "reader.py"
    done = subprocess.run(
        [python, reader, reader.with_name(file), *(folder / name for name in expected.index)],
        capture_output=True,
        text=True,
        check=True,
    )
    answers = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(answers) == len(expected) > 10
    scores = np.array([float(answer["score"]) for answer in answers])
    assert np.abs(scores - expected["score"].to_numpy()).max() < 1e-4
    for column in ("prediction", "status"):
        assert [answer[column] for answer in answers] == expected[column].to_list()
