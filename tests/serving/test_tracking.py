"""What is sent to MLflow, and that nothing is done where it is not asked for; a real server is in tests/operations."""

import logging
import subprocess

import pytest

from cxr.core.errors import DataError, TrackingError, UsageError
from cxr.core.files import read_table
from cxr.data.manifest.records import Ingest
from cxr.models.training.records import Training
from cxr.results.cards.model_card import read_card
from cxr.results.evaluation import Evaluation, read_stress_test
from cxr.serving.prediction.rows import scored_row
from cxr.serving.registry import Registry
from cxr.serving.tracking import calls, exported_model, run_figures
from cxr.serving.tracking.jobs import SyncJob
from cxr.serving.tracking.server import versions
from tests.support.registered import exported, won

ADDRESS = "http://ann:secret@tracking.example:5000/mlflow"


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """A process that has given up on no server yet, and knows of none."""
    monkeypatch.setattr(calls._Tracking, "given_up", set())
    monkeypatch.delenv(calls.ADDRESS, raising=False)


@pytest.fixture
def no_process(monkeypatch):
    """Any process that is started fails the test."""

    def fail(*arguments, **_options):
        raise AssertionError(f"started: {arguments}")

    monkeypatch.setattr(subprocess, "run", fail)


def test_every_test_metric_is_sent_with_the_ends_of_its_interval(finished_once):
    """Of evaluation.json and robustness.json: each metric that is estimable, clean, in each world, behind each mask."""
    folder = finished_once / "runs" / "abc"
    evaluation = Evaluation.read(folder / "evaluation.json")
    stress_test = read_stress_test(folder)
    points = run_figures.evaluation_points(evaluation, stress_test)
    found = {point.name: point.value for point in points}
    assert len(found) == len(points)
    for name, value in evaluation.test.items():
        assert found.get(f"test/{name}") == value
    assert found["test/brier"] == evaluation.calibration_quality.brier_after
    for name, interval in evaluation.intervals.items():
        if interval is not None:
            assert found[f"test/{name}_low"] == interval.low
            assert found[f"test/{name}_high"] == interval.high
    for world in stress_test.worlds.worlds:
        assert found[f"test_worlds/{world.world}/auroc"] == world.auroc
    for mask in stress_test.masks:
        assert found[f"test_masks/{mask.mask}/auroc"] == mask.auroc


def test_a_training_is_sent_with_its_metrics_per_epoch(finished_once):
    """Rows of the head are counted, those of fine-tuning have their epochs; validation has its intervals."""
    folder = finished_once / "runs" / "abc" / "MobileNetV2"
    history = read_table(folder / "history.csv").set_index("epoch")
    points = set(run_figures.history_points(folder))
    assert run_figures.Point("head/penalty", 0.01, 0) in points
    assert run_figures.Point("val_auroc", float(history["val_auroc"]["2"]), 2) in points
    training = Training.read(folder / "training.json")
    sent = run_figures.training_points(training)
    assert run_figures.Point("val/auroc", training.val["auroc"]) in sent
    assert run_figures.Point("val/auroc_low", training.val_intervals["auroc"].low) in sent


def test_an_ensemble_has_no_epochs(tmp_path):
    """Its folder has no history.csv."""
    assert run_figures.history_points(tmp_path) == []


def test_the_gate_is_sent_in_counts_and_words(finished_once):
    """A clean gate has passed; leakage that was allowed is named."""
    leakage = Ingest.read(finished_once / "ingest.json").leakage
    assert run_figures.gate_verdict(leakage) == "passed"
    allowed = leakage.model_copy(update={"pairs_left": 3, "patients_left": 2, "allowed": True})
    assert "3 pairs and 2 patients" in run_figures.gate_verdict(allowed)
    assert run_figures.Point("gate/pairs_left", 3.0) in run_figures.gate_points(allowed)


def test_nothing_is_done_without_an_address(no_process, tmp_path, caplog):
    """No process, no warning; only the command that asks for it says what is missing."""
    calls.track_run(tmp_path, "abc")
    calls.track_registry(str(tmp_path))
    assert not caplog.records
    with pytest.raises(UsageError, match=calls.ADDRESS):
        calls.sync_registry(str(tmp_path))


def test_without_mlflow_a_run_gets_one_warning(no_process, monkeypatch, tmp_path, caplog):
    """It says how to install it; later stages are silent, and the command refuses."""
    monkeypatch.setenv(calls.ADDRESS, ADDRESS)
    monkeypatch.setattr(calls, "_is_installed", lambda: False)
    calls.track_run(tmp_path, "abc")
    calls.track_registry(str(tmp_path))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and calls.INSTALL in record.getMessage()
    with pytest.raises(UsageError, match="not installed"):
        calls.sync_registry(str(tmp_path))


def test_a_process_that_hangs_is_ended_and_no_password_is_shown(monkeypatch):
    """The deadline ends it; its address appears without the name and the password."""
    monkeypatch.setenv(calls.ADDRESS, ADDRESS)

    def hang(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(TrackingError, match="expected it to be done in 5 s") as caught:
        calls.run_child(SyncJob(registry="r"), 5)
    assert "http://tracking.example:5000/mlflow" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_last_words_of_a_process_that_failed_are_shown_without_the_password(monkeypatch):
    """What it wrote last says why."""
    monkeypatch.setenv(calls.ADDRESS, ADDRESS)

    def fail(command, **_options):
        return subprocess.CompletedProcess(command, 1, "", f"noise\nno way to {ADDRESS}/api\n")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(TrackingError, match=r"no way to http://tracking\.example:5000/mlflow/api"):
        calls.run_child(SyncJob(registry="r"), 5)


def test_aliases_follow_the_registry(finished_once, tmp_path):
    """The champion is the registry's, the challenger the newest version, unless it ever was champion."""
    registry = Registry(str(tmp_path / "registry"))
    assert versions.wanted_aliases(registry) == {"champion": None, "challenger": None}
    source = finished_once / "runs" / "abc" / "export"
    names = []
    for name in ("one", "two"):
        folder = exported(source, tmp_path / name, name, name.encode())
        names.append(registry.register(folder, "tester").name)
        expected = {"champion": None, "challenger": names[-1]}
        assert versions.wanted_aliases(registry) == expected
    first, second = names
    registry.add_challenge(won(finished_once, first, None))
    registry.add_challenge(won(finished_once, second, first))
    registry.promote(first, "ann", "the first")
    assert versions.wanted_aliases(registry) == {"champion": first, "challenger": second}
    registry.promote(second, "ann", "better")
    assert versions.wanted_aliases(registry) == {"champion": second, "challenger": None}
    registry.rollback("ann", "worse")
    assert versions.wanted_aliases(registry) == {"champion": first, "challenger": None}


@pytest.fixture
def model(finished_once, monkeypatch):
    """An exported model whose network gives rows in the reverse order, scored by the files' sizes."""

    def score(_network, images, _files):
        yield [
            scored_row(image.name, image.storage.find(image.key).size / 1e6, card)
            for image in reversed(images)
        ]

    card = read_card(finished_once / "runs" / "abc" / "export")
    monkeypatch.setattr(exported_model, "score_images", score)
    monkeypatch.setattr(exported_model, "open_network", lambda *_arguments: None)
    return exported_model.ExportedModel(finished_once / "runs" / "abc" / "export")


def test_rows_for_mlflow_are_in_the_order_of_the_images(model, phantoms, tmp_path):
    """Paths and bytes, a file that is no image and the same file twice: each row is that of its image."""
    films = sorted((phantoms / "test" / "NORMAL").glob("*.jpeg"))[:3]
    no_film = tmp_path / "notes.txt"
    no_film.write_text("no film")
    asked = [str(films[2]), str(no_film), films[0].read_bytes(), str(films[1]), str(films[2])]
    table = model.predict(asked)
    assert table["image"].tolist() == [asked[0], asked[1], "image-3", asked[3], asked[4]]
    assert table["status"].tolist() == ["scored", "rejected", "scored", "scored", "scored"]
    sizes = [films[place].stat().st_size / 1e6 for place in (2, 0, 1, 2)]
    assert table["score"].drop(index=1).tolist() == sizes
    assert table["score"].isna().tolist() == [False, True, False, False, False]
    assert len(model.predict([])) == 0


def test_a_folder_is_no_image_for_mlflow(model, phantoms):
    """One row for one image: a folder has many."""
    with pytest.raises(DataError, match="expected one image, found a folder"):
        model.predict([str(phantoms)])
