"""The names of runs in the Prefect UI."""

import re
from types import SimpleNamespace

import pytest

from cxr.core.settings import TrainingSettings
from flows import names
from tests.conftest import ROOT, preprocess

TWO = TrainingSettings(arch=("MobileNetV2", "VGG16"))


@pytest.fixture
def named(monkeypatch):
    """A function that returns what a run of a flow with these parameters is called."""

    def call(name, flow, **parameters):
        monkeypatch.setattr(
            names, "flow_run", SimpleNamespace(flow_name=flow, parameters=parameters)
        )
        return name()

    return call


def test_a_run_is_named_after_its_flow_its_data_and_what_it_trains(named):
    """The last part of DATA's address, whatever its scheme; without settings the architectures are the standard ones."""
    assert (
        named(names.of_data, "preprocess", data="s3://bucket/chest_xray/", out="w")
        == "preprocess chest_xray"
    )
    assert (
        named(names.of_data, "predict", model="m", images="new/x.png", out="s3://b/p.csv")
        == "predict x.png"
    )
    several = ["s3://b/new/", "other", "third"]
    assert named(names.of_data, "predict", model="m", images=several, out="p.csv") == (
        "predict new and 2 more"
    )
    assert (
        named(names.of_training, "retrain", data="/d/a", out="w", training=TWO)
        == "retrain a, MobileNetV2 VGG16"
    )
    found = named(names.of_training, "pipeline", data="s3://bucket", out="w", training=None)
    assert found == "pipeline bucket, MobileNetV2 VGG16 DenseNet121"


def test_the_current_folder_has_a_name_too(named, tmp_path, monkeypatch):
    """A dot is no name."""
    monkeypatch.chdir(tmp_path)
    assert named(names.of_data, "preprocess", data=".", out="w") == f"preprocess {tmp_path.name}"


def test_a_stage_is_named_after_the_data_of_its_work_folder(named, phantoms, tmp_path, moto_bucket):
    """Read from ingest.json, on S3 too; where there is none, or no place at all, the work folder's name must do."""
    work = tmp_path / "work"
    preprocess(phantoms, work)
    named_so = "train phantoms, MobileNetV2 VGG16"
    assert named(names.of_training, "train", out=str(work), training=TWO) == named_so
    there = f"s3://{moto_bucket.name}/there"
    moto_bucket.client().upload_file(
        str(work / "ingest.json"), moto_bucket.name, "there/ingest.json"
    )
    assert named(names.of_data, "explore", out=there, training=TWO) == "explore phantoms"
    for out in (tmp_path / "empty", "s3://no-such-bucket/empty", "ftp://server/empty"):
        assert named(names.of_data, "export", out=str(out)) == "export empty"


def test_names_of_loggers_are_short_and_do_not_follow_the_files():
    """The UI shows them before each line, and people filter by them: cxr.training stays, wherever its file goes."""
    paths = [path for room in ("cxr", "tasks", "flows") for path in (ROOT / room).rglob("*.py")]
    loggers = set()
    for path in paths:
        loggers.update(re.findall(r'getLogger\("(cxr[\w.]*)"\)', path.read_text()))
    assert {"cxr.preprocessing", "cxr.exploration", "cxr.training", "cxr.export"} <= loggers
    assert all(name.count(".") <= 1 for name in loggers), loggers
