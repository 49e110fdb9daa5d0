"""MLflow on its real server, with SQLite and artifacts on S3: runs, versions, aliases, processes that die, servers that fail."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from cxr.core.files import read_table
from cxr.serving.registry import Registry
from cxr.serving.tracking import calls
from cxr.serving.tracking.jobs import RunJob
from tests.conftest import ROOT, SMALLEST, Command
from tests.support import browser, mlflow_server
from tests.support.registered import exported
from tests.support.s3_servers import fresh_bucket

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
MODEL = "cxr-pneumonia"


class Server:
    """A tracking server, asked over its REST API: importing MLflow here would take seconds."""

    def __init__(self, address, bucket):
        self.address = address
        self.bucket = bucket

    def call(self, path, body=None):
        """Return the answer to a POST with a body, or to a GET."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(
            f"{self.address}/api/2.0/mlflow/{path}", data=data, headers=headers
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def runs(self, kind):
        """Return the runs of a kind."""
        body = {"experiment_ids": ["1"], "filter": f"tags.`cxr.kind` = '{kind}'"}
        return self.call("runs/search", body).get("runs", [])

    def history(self, run, metric):
        """Return all values of a metric of a run."""
        query = urllib.parse.urlencode({"run_id": run["info"]["run_id"], "metric_key": metric})
        return self.call(f"metrics/get-history?{query}").get("metrics", [])

    def aliases(self):
        """Return the number of the version that each alias names."""
        model = self.call(f"registered-models/get?name={MODEL}")["registered_model"]
        return {each["alias"]: each["version"] for each in model.get("aliases", [])}

    def versions(self):
        """Return the number of each version by its name in the registry."""
        filter_ = urllib.parse.quote(f"name='{MODEL}'")
        found = self.call(f"model-versions/search?filter={filter_}").get("model_versions", [])
        return {tags(version)["cxr.version"]: version["version"] for version in found}


def tags(entity):
    """Return the tags of a run or a version."""
    found = entity.get("data", entity)["tags"]
    return {each["key"]: each["value"] for each in found}


def values(run):
    """Return the metrics of a run by name."""
    return {each["key"]: each["value"] for each in run["data"]["metrics"]}


@pytest.fixture(scope="module")
def server(moto, tmp_path_factory):
    """A tracking server, one for this file."""
    bucket = fresh_bucket(moto)
    with mlflow_server.running(tmp_path_factory.mktemp("mlflow"), bucket) as address:
        yield Server(address, bucket)


@pytest.fixture(scope="module")
def tracked(server, api):
    """The command line, with the tracking server."""
    variables = {"PREFECT_API_URL": api, calls.ADDRESS: server.address}
    return Command(os.environ | variables)


@pytest.fixture(scope="module")
def work(tracked, phantoms, tmp_path_factory):
    """A work folder after a retraining whose model is the champion."""
    folder = tmp_path_factory.mktemp("tracked") / "work"
    retrain(tracked, phantoms, folder)
    (version,) = Registry(f"{folder}/registry").versions()
    promote(tracked, version.name, folder)
    return folder


def retrain(command, phantoms, work):
    """Retrain with the smallest settings."""
    done = command("retrain", phantoms, "--out", work, *SMALLEST, "--epochs", "1")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "not tracked" not in done.stderr + done.stdout
    return done


def promote(command, version, work):
    """Make a version the champion, whatever the rule says."""
    flags = ("--against-the-rule", "--out", work, "--why", "the test", "--who", "ann")
    return command("registry", "promote", version, *flags)


def sync(command, work):
    """Return what `cxr registry sync` says."""
    done = command("registry", "sync", "--out", work)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_retraining_is_one_run_with_a_child_for_each_training(server, work):
    """Settings, metrics with intervals and epochs, data, gate and files are those on disk; nothing is there twice."""
    (parent,) = server.runs("run")
    (child,) = server.runs("training")
    assert tags(child)["mlflow.parentRunId"] == parent["info"]["run_id"]
    (folder,) = (work / "runs").iterdir()
    assert tags(parent)["cxr.run"] == folder.name
    evaluation = json.loads((folder / "evaluation.json").read_text())
    found = values(parent)
    assert found["test/auroc"] == evaluation["test"]["auroc"]
    assert found["test/auroc_low"] == evaluation["intervals"]["auroc"]["low"]
    assert found["test/auroc_high"] == evaluation["intervals"]["auroc"]["high"]
    assert any(name.startswith("test_worlds/") for name in found)
    ingest = json.loads((work / "ingest.json").read_text())
    assert tags(parent)["cxr.manifest_sha256"] == ingest["manifest_sha256"]
    assert tags(parent)["cxr.gate"] == "passed"
    params = {each["key"]: each["value"] for each in parent["data"]["params"]}
    assert params["arch"] == "MobileNetV2" and params["image_size"] == "32"
    history = read_table(folder / "MobileNetV2" / "history.csv")
    epochs = history[history["phase"] != "frozen"]
    sent = server.history(child, "val_auroc")
    assert [each["step"] for each in sent] == epochs["epoch"].astype(int).tolist()
    assert [each["value"] for each in sent] == epochs["val_auroc"].astype(float).tolist()
    assert len(server.history(parent, "test/auroc")) == 1
    objects = server.bucket.client().list_objects_v2(Bucket=server.bucket.name)["Contents"]
    names = {Path(each["Key"]).name for each in objects}
    assert {"report.html", "MODEL_CARD.md", "gradcam.png", "model.keras", "MLmodel"} <= names


def known(server):
    """Return what was logged of the runs, by what it is, and the versions.

    The digest of what was sent last is left out: a report that is rendered again tells other times.
    """
    found = {"versions": server.versions()}
    for run in server.runs("run") + server.runs("training"):
        name = run["info"]["run_name"]
        found[f"{name} id"] = run["info"]["run_id"]
        found[f"{name} tags"] = {k: v for k, v in tags(run).items() if k != "cxr.logged"}
        found[f"{name} metrics"] = values(run)
        found[f"{name} params"] = {each["key"]: each["value"] for each in run["data"]["params"]}
    return found


def test_the_same_command_goes_on_in_the_same_run(server, work, tracked, phantoms, monkeypatch):
    """No run and no value is there twice; what was sent and is unchanged on disk is not sent again."""
    before = known(server)
    done = tracked("run", phantoms, "--out", work, *SMALLEST, "--epochs", "1")
    assert done.returncode == 0, done.stderr[-3000:]
    assert known(server) == before
    (child,) = server.runs("training")
    assert len(server.history(child, "val_auroc")) == 1
    monkeypatch.setenv(calls.ADDRESS, server.address)
    bucket = server.bucket
    objects = bucket.client().list_objects_v2(Bucket=bucket.name)["Contents"]
    (run,) = (work / "runs").iterdir()
    (said,) = calls.run_child(RunJob(work=work, run=run.name), calls.RUN_SECONDS)
    assert "trainings: 1" in said
    assert bucket.client().list_objects_v2(Bucket=bucket.name)["Contents"] == objects
    assert known(server) == before


PREDICT = """
import sys, mlflow.pyfunc, pandas
model = mlflow.pyfunc.load_model("models:/cxr-pneumonia@champion")
paths = sys.argv[2:]
table = model.predict(pandas.DataFrame({"image": paths}))
table.to_csv(sys.argv[1], index=False, na_rep="nan")
some = table[table["status"] != "rejected"].head(2)
as_bytes = model.predict([open(path, "rb").read() for path in some["image"]])
assert as_bytes["image"].tolist() == ["image-1", "image-2"]
assert abs(as_bytes["score"].to_numpy() - some["score"].to_numpy()).max() <= 1e-4
"""


def test_the_model_in_mlflow_gives_what_predict_gives(server, work, tracked, phantoms, tmp_path):
    """Scores to 1e-4, predictions, thresholds and abstentions; a file that is no image is rejected with its reason."""
    done = tracked("predict", work / "registry", phantoms, "--out", tmp_path / "own.csv")
    assert done.returncode == 0, done.stderr[-3000:]
    own = read_table(tmp_path / "own.csv").set_index("image")
    paths = [str(phantoms / name) for name in own.index]
    environment = os.environ | {calls.ADDRESS: server.address} | calls.CLIENT_SETTINGS
    command = [sys.executable, "-c", PREDICT, tmp_path / "theirs.csv", *paths]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    theirs = read_table(tmp_path / "theirs.csv")
    assert theirs["image"].tolist() == paths
    theirs.index = own.index
    assert list(theirs.columns) == ["image", *own.columns]
    for name in ("prediction", "status"):
        assert theirs[name].tolist() == own[name].tolist()
    scored = own["status"] != "rejected"
    assert scored.sum() >= 60 and not scored.all()
    for name in ("score", "threshold", "scope_p"):
        difference = theirs[name][scored].astype(float) - own[name][scored].astype(float)
        assert np.abs(difference).max() <= 1e-4, name


KILLED = """
import os, signal, sys
from cxr.serving.tracking import calls
calls.track_registry = lambda registry: os.kill(os.getpid(), signal.SIGKILL)
from flows.command import main
sys.argv = ["cxr", *sys.argv[1:]]
main()
"""


def test_a_kill_between_switch_and_alias_is_repaired_and_hands_are_not_obeyed(
    server, work, tracked, tmp_path
):
    """After kill -9 the registry has the new champion and MLflow the old one, until `sync`; it also undoes what hands did."""
    registry = Registry(f"{work}/registry")
    (first,) = registry.versions()
    (folder,) = (work / "runs").iterdir()
    copy = exported(folder / "export", tmp_path / "copy", "another-run", b"another model")
    second = registry.register(copy, "tester")
    assert sync(tracked, work).count("\n") == 2  # a version, an alias
    numbers = server.versions()
    assert server.aliases() == {
        "champion": numbers[first.name],
        "challenger": numbers[second.name],
    }
    arguments = ["registry", "promote", second.name, "--against-the-rule", "--out", str(work)]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments, "--why", "the test"],
        env=tracked.environment,
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -9
    assert registry.champion().version == second.name
    assert server.aliases()["champion"] == numbers[first.name]
    said = sync(tracked, work)
    assert "by hand" not in said
    assert server.aliases() == {"champion": numbers[second.name]}
    moved = {"name": MODEL, "alias": "champion", "version": numbers[first.name]}
    server.call("registered-models/alias", moved)
    said = sync(tracked, work)
    assert re.search(r"alias champion had been moved by hand to version 1", said)
    assert server.aliases() == {"champion": numbers[second.name]}
    assert registry.champion().version == second.name
    assert "nothing to do" in sync(tracked, work)
    rolled = tracked("registry", "rollback", "--out", work, "--why", "the test")
    assert rolled.returncode == 0, rolled.stderr
    assert server.aliases() == {"champion": numbers[first.name]}


def test_another_registry_does_not_take_the_model_over(server, work, tracked, tmp_path):
    """The model follows one registry; the command for another one says so and changes nothing."""
    before = server.aliases()
    refused = tracked("registry", "sync", "--registry", tmp_path / "other")
    assert refused.returncode == 1 and "CXR_MLFLOW_MODEL" in refused.stderr
    assert server.aliases() == before


@pytest.fixture
def given_up(monkeypatch):
    """A process that has given up on no server yet."""
    monkeypatch.setattr(calls._Tracking, "given_up", set())


@pytest.mark.parametrize("answers", [False, True], ids=["down", "accepts and never answers"])
def test_a_server_that_fails_costs_a_warning_and_a_stated_time(
    answers, work, monkeypatch, caplog, given_up
):
    """One warning; the first stage waits ten seconds for an answer, and stays below its limit; the next ones take nothing."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if answers:
            silent.listen()
        monkeypatch.setenv(calls.ADDRESS, f"http://127.0.0.1:{silent.getsockname()[1]}")
        (run,) = (work / "runs").iterdir()
        started = time.monotonic()
        calls.track_run(work, run.name)
        first = time.monotonic() - started
        calls.track_run(work, run.name)
        calls.track_registry(f"{work}/registry")
    assert time.monotonic() - started - first < 1
    assert (10 if answers else 0) < first < calls.RUN_SECONDS
    (record,) = caplog.records
    assert "expected an answer in 10 s" in record.getMessage()


@pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium here")
def test_the_ui_shows_runs_pictures_and_the_champion(server, work, tmp_path):
    """What a person sees: the run, its pictures, the model and its alias."""
    (parent,) = server.runs("run")
    base = f"{server.address}/#"
    run = f"{base}/experiments/1/runs/{parent['info']['run_id']}"
    with browser.browser(tmp_path / "profile") as page:
        page.open(f"{base}/experiments/1/runs", parent["info"]["run_name"])
        page.open(run, "Child runs", "MobileNetV2", MODEL, "test/auroc")
        page.open(f"{run}/artifacts/pictures/gradcam.png", "gradcam.png", "roc_test.png")
        page.open(f"{base}/models/{MODEL}", "champion", "Version 1")
