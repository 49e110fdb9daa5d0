"""The whole, as a user runs it: real processes, a real Prefect server, phantom images."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

import pytest
from filelock import FileLock

from cxr.core.files import read_table
from cxr.core.settings import FileSettings
from cxr.models.selection import Selection
from cxr.results.cards.model_card import Card
from cxr.results.evaluation import Evaluation
from tests.conftest import ROOT, SMALLEST, Command

TINY = (
    *SMALLEST,
    "--epochs",
    "1",
)


@pytest.fixture(scope="module")
def finished(phantoms, tmp_path_factory, api):
    """A finished run of the pipeline: (work folder, run folder, the command's output)."""
    work = tmp_path_factory.mktemp("work")
    done = command(api, "run", phantoms, "--out", work, *TINY)
    assert done.returncode == 0, done.stderr[-3000:]
    (run,) = (work / "runs").iterdir()
    return work, run, done


def command(api, *arguments):
    return Command(os.environ | {"PREFECT_API_URL": api})(*arguments)


def test_everything_promised_is_there(finished):
    """Every file that users rely on, and at the end where the model, the card and the report are."""
    work, run, done = finished
    for name in (
        "clean_metadata.csv",
        "rejects.csv",
        "ingest.json",
        "eda/class_weights.json",
        "eda/eda.json",
        "eda/augmentation.png",
    ):
        assert (work / name).is_file(), name
    for name in (
        "MobileNetV2/model.keras", "MobileNetV2/history.csv", "MobileNetV2/scores_val.csv", "comparison.csv",
        "selection.json", "evaluation.json", "scores_test.csv", "report.html", "export/model.keras",
        "export/model_card.json", "export/MODEL_CARD.md", "export/SHA256SUMS", "roc_val.png", "histories.png",
    ):  # fmt: skip
        assert (run / name).is_file(), name
        assert not list(run.rglob(".writing-*"))
    for word in (
        "Chosen",
        "sensitivity",
        "missed pneumonia",
        "report.html",
        "MODEL_CARD.md",
        "model.keras",
    ):
        assert word in done.stdout, word


def test_checksums_hold_and_card_agrees_with_the_records(finished):
    """sha256sum -c passes; threshold, figures and data digest in the card are those of the records."""
    work, run, _ = finished
    subprocess.run(
        ["sha256sum", "-c", "SHA256SUMS"], cwd=run / "export", check=True, capture_output=True
    )
    card = Card.read(run / "export" / "model_card.json")
    assert card.evaluation == Evaluation.read(run / "evaluation.json")
    assert card.threshold == Selection.read(run / "selection.json").threshold
    assert (
        card.data.manifest_sha256
        == hashlib.sha256((work / "clean_metadata.csv").read_bytes()).hexdigest()
    )
    assert card.evaluation.optimizer_equal and card.evaluation.reload_max_difference <= 1e-5
    text = (run / "export" / "MODEL_CARD.md").read_text()
    assert "Not a medical device" in text and "random" in text and "CC BY 4.0" in text


def test_the_same_command_again_does_nothing_twice(finished, api, phantoms):
    """No file of the finished run is trained, scored or inspected again."""
    work, run, _ = finished
    kept = {
        p: p.stat().st_mtime_ns
        for p in run.rglob("*")
        if p.name in {"training.json", "evaluation.json", "scores_test.csv"}
    }
    again = command(api, "run", phantoms, "--out", work, *TINY)
    assert again.returncode == 0, again.stderr[-2000:]
    assert kept == {p: p.stat().st_mtime_ns for p in kept}
    assert json.loads((work / "ingest.json").read_text())["newly_read"] == 0


def test_runs_and_artifacts_are_in_the_server(finished, api):
    """The flow runs are Completed under names a person can read, and the pictures, tables and card are artifacts."""

    def post(path):
        request = urllib.request.Request(
            f"{api}/{path}/filter", b"{}", {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    runs = {each["name"]: each["state_name"] for each in post("flow_runs")}
    stages = {f"{stage} phantoms" for stage in ("preprocess", "explore", "export")}
    assert stages | {f"{flow} phantoms, MobileNetV2" for flow in ("pipeline", "train")} <= set(runs)
    assert set(runs.values()) == {"Completed"}
    keys = {each["key"] for each in post("artifacts")}
    assert {
        "ingest",
        "class-distribution",
        "exploration",
        "comparison",
        "selection",
        "model-card",
        "evaluation",
    } <= keys
    assert any(key and key.startswith("progress-") for key in keys)
    messages = [each["message"] for each in post("logs")]
    assert any("train MobileNetV2" in message for message in messages), (
        "the library's log lines reach the UI"
    )


def test_predict_uses_the_export_alone(finished, api, phantoms, tmp_path):
    """From a copied export folder: the scores of the test images equal scores_test.csv; rejects are listed."""
    _, run, _ = finished
    export = shutil.copytree(run / "export", tmp_path / "export")
    done = command(api, "predict", export, phantoms / "test", "--out", tmp_path / "predictions.csv")
    assert done.returncode == 0, done.stderr[-2000:]
    table = read_table(tmp_path / "predictions.csv")
    columns = ["image", "score", "prediction", "threshold", "status", "reason", "scope_p"]
    assert list(table.columns) == columns
    assert set(table["status"]) <= {"scored", "abstained", "rejected"}
    expected = read_table(run / "scores_test.csv").assign(
        image=lambda t: t["image"].str.removeprefix("test/")
    )
    both = expected.merge(table, on="image", suffixes=("", "_again"))
    assert (
        len(both) == len(expected) and (both["score"] - both["score_again"]).abs().max() < 1e-4
    )  # folded
    threshold = Card.read(export / "model_card.json").threshold
    answered = both[both["status"] == "scored"]
    assert len(answered) >= 0.9 * len(both)
    assert ((answered["score"] >= threshold) == (answered["prediction"] == "PNEUMONIA")).all()
    one = command(
        api,
        "predict",
        export / "model.keras",
        phantoms / both["image"][0].join(["test/", ""]),
        "--out",
        tmp_path / "one.csv",
    )
    assert one.returncode == 0 and len(read_table(tmp_path / "one.csv")) == 1


def test_predict_refuses_a_model_that_is_not_its_card_s(finished, api, phantoms, tmp_path):
    """A changed model file or a missing card: exit status 1 and one line that says what to do."""
    export = shutil.copytree(finished[1] / "export", tmp_path / "export")
    with (export / "model.keras").open("ab") as file:
        file.write(b"x")
    done = command(api, "predict", export, phantoms / "test", "--out", tmp_path / "p.csv")
    assert done.returncode == 1 and "not the file its card describes" in done.stderr
    done = command(api, "predict", tmp_path, phantoms / "test", "--out", tmp_path / "p.csv")
    assert (
        done.returncode == 1
        and "expected an export folder" in done.stderr
        and "Traceback" not in done.stderr
    )
    assert not (tmp_path / "p.csv").exists()


def test_predict_as_a_flow_fails_with_the_sentence_of_the_command(
    finished, api, phantoms, tmp_path
):
    """Where nothing can be scored its state says so, and is not tried again; else the reasons are counted."""
    from flows.predict import predict

    export = str(finished[1] / "export")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "none.png").write_bytes(b"")
    state = predict(export, str(tmp_path / "bad"), str(tmp_path / "p.csv"), return_state=True)
    assert state.is_failed() and f"{tmp_path}/bad: not scored: empty_file: 0 bytes" in state.message
    assert list(read_table(tmp_path / "p.csv")["status"]) == ["rejected"]
    data = str(phantoms / "test")
    found = predict(export, data, str(tmp_path / "p.csv"), FileSettings(exclude=("NORMAL",)))
    assert found.scored > 0 and found.images == found.scored + found.rejected


def test_predict_as_a_flow_gives_what_the_command_gives(finished, api, phantoms, tmp_path):
    """Several addresses at once: the same table, byte for byte, and the same counts."""
    from flows.predict import predict

    export = str(finished[1] / "export")
    places = [str(phantoms / "test" / name) for name in ("NORMAL", "PNEUMONIA")]
    out = tmp_path / "flow.csv"
    found = predict(export, places, str(out))
    done = command(api, "predict", export, *places, "--out", tmp_path / "command.csv")
    assert done.returncode == 0, done.stderr[-2000:]
    assert out.read_bytes() == (tmp_path / "command.csv").read_bytes()
    verdict, counts = done.stdout.strip().splitlines()  # the verdict stands above the counts
    assert found.verdict_sentence and verdict == f"{found.verdict_sentence}."
    assert counts == found.sentence().replace("flow.csv", "command.csv")
    table = read_table(out)
    assert all(table["image"].str.startswith(place).any() for place in places)
    assert f"score images: {found.images} of {found.images} images" in done.stderr


@pytest.mark.slow
def test_stages_run_alone_on_what_the_one_before_left(phantoms, tmp_path, api, finished):
    """preprocess, explore, train, export one by one end in the same figures as the pipeline; a pickle only on request."""
    for arguments in (
        ("preprocess", phantoms),
        ("explore", *TINY),
        ("train", *TINY),
        ("export", "--pickle"),
    ):
        done = command(api, arguments[0], *arguments[1:], "--out", tmp_path)
        assert done.returncode == 0, (arguments, done.stderr[-2000:])
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name == finished[1].name
    assert (
        Evaluation.read(run / "evaluation.json").test
        == Evaluation.read(finished[1] / "evaluation.json").test
    )
    assert (run / "export" / "model.pkl").is_file() and "runs whatever code" in done.stderr
    assert not (finished[1] / "export" / "model.pkl").exists()


def test_a_stage_without_the_one_before_says_what_to_run(tmp_path, api):
    """Exit status 1, one line with the command that is missing; of explore test_usage.py asks it."""
    for stage in ("train", "export"):
        done = command(api, stage, "--out", tmp_path)
        assert (
            done.returncode == 1 and "run `cxr " in done.stderr and "Traceback" not in done.stderr
        )


def prepared(work, tmp_path):
    """Return a copy of a work folder as the exploration left it, without the runs."""
    return shutil.copytree(work, tmp_path / "work", ignore=shutil.ignore_patterns("runs"))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["inspect", "train", "evaluate"])
def test_killed_in_the_middle_goes_on_to_the_undisturbed_result(
    stage, finished, phantoms, tmp_path, api
):
    """After kill -9 while inspecting, training or testing, then the same command: the result of a run left alone."""
    marks = {
        "inspect": "inspection/*/shards/*",
        "train": "runs/*/MobileNetV2/checkpoint-*",
        "evaluate": "runs/*/evaluation.log",
    }
    work = tmp_path if stage == "inspect" else prepared(finished[0], tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.command", "run", str(phantoms), "--out", str(work), *TINY],
        env=os.environ | {"PREFECT_API_URL": api}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not list(work.glob(marks[stage])):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = command(api, "run", phantoms, "--out", work, *TINY)
    assert done.returncode == 0, done.stderr[-2000:]
    (run,) = (work / "runs").iterdir()
    for name in ("scores_test.csv", "MobileNetV2/scores_val.csv", "selection.json"):
        assert (run / name).read_bytes() == (finished[1] / name).read_bytes(), name


@pytest.mark.slow
def test_one_failing_architecture_does_not_take_the_others_along(finished, tmp_path, api):
    """A weight file that cannot be loaded: reported, compared without it; alone, the run fails with one line."""
    (tmp_path / "vgg16_broken_notop.h5").write_bytes(b"not weights")
    work, small = prepared(finished[0], tmp_path), (*TINY[:2], *TINY[4:])
    mixed = (*small, "--weights", f"VGG16={tmp_path},MobileNetV2=none")
    done = command(api, "train", "--out", work, *mixed, "--arch", "VGG16", "MobileNetV2")
    assert done.returncode == 0, done.stderr[-2000:]
    (run,) = (work / "runs").iterdir()
    chosen = Selection.read(run / "selection.json")
    assert chosen.architecture == "MobileNetV2" and "could not be loaded" in chosen.failed["VGG16"]
    assert "VGG16 failed" in done.stderr and "failed" in (run / "comparison.csv").read_text()
    alone = command(api, "train", "--out", work, *mixed, "--arch", "VGG16")
    assert alone.returncode == 1 and "no architecture was trained: VGG16" in alone.stderr


def test_two_runs_in_one_work_folder_do_not_meet(phantoms, tmp_path, api):
    """The second is refused with one line while the first is at work; a dead one's lock is free."""
    with FileLock(tmp_path / ".lock"):
        done = command(api, "preprocess", phantoms, "--out", tmp_path)
        assert done.returncode == 1 and "another cxr is at work" in done.stderr
    assert command(api, "preprocess", phantoms, "--out", tmp_path).returncode == 0


def test_missing_weights_stop_the_run_before_any_work(phantoms, tmp_path, api):
    """Asked-for weights that are not there: exit 1 at once, nothing preprocessed."""
    done = command(api, "run", phantoms, "--out", tmp_path / "w", *TINY, "--weights", tmp_path)
    assert (
        done.returncode == 1
        and "--weights" in done.stderr
        and not (tmp_path / "w" / "ingest.json").exists()
    )


def test_the_embedded_server_ends_with_its_starter(tmp_path):
    """A kill -9 of a process with an embedded server leaves no server behind."""
    code = "import time; from flows.server.embedded import embedded\nwith embedded() as a: print(a, flush=True); time.sleep(99)"
    own = {"CXR_CACHE": str(tmp_path), "PREFECT_HOME": str(tmp_path)}
    environment = {
        name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"
    } | own
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    ) as starter:
        address = starter.stdout.readline().strip()
        starter.kill()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{address}/api/health", timeout=1).close()
        except OSError:
            return
        time.sleep(0.1)
    pytest.fail("the server still answers")
