"""What is sent to MLflow, and that nothing is done where it is not asked for; a real server is in tests/operations."""

import logging
import subprocess

import pytest

from cxr.core.errors import TrackingError, UsageError
from cxr.core.files import read_table
from cxr.data.manifest.records import Ingest
from cxr.models.training.records import Training
from cxr.results.evaluation import Evaluation, read_stress_test
from cxr.serving.registry import Registry
from cxr.serving.tracking import calls, run_figures
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
