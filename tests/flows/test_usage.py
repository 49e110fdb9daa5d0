"""Ordinary mistakes on the command line: one line, the right exit status, no traceback, nothing left behind."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

# Gives each of the command lines on its standard input to `main` in turn, and says what came of it.
CALLS = """
import contextlib, io, json, sys
from flows.command import main
for arguments in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    status = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as end:
            status = end.code
    print(json.dumps([status, out.getvalue(), err.getvalue()]))
print(json.dumps("prefect" in sys.modules))
"""


def called(lines, folder):
    """Return (status, stdout, stderr) of each command line, and whether Prefect was imported for any."""
    done = subprocess.run(
        [sys.executable, "-c", CALLS], input=json.dumps(lines), capture_output=True, text=True, check=False, cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "CXR_CACHE": str(folder / "cache"), "COLUMNS": "80"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    *answers, prefect = map(json.loads, done.stdout.splitlines())
    return answers, prefect


def is_one_line(out, err):
    return (
        out == ""
        and err.startswith("cxr: ")
        and err.count("\n") == 1
        and "http" not in err.replace("dicomweb+http://…", "")
        and "Traceback" not in err
    )


RUN = ("run", "data", "--out", "work")
WRONG = [
    ((*RUN, "--arch", "ResNet50"), "--arch: expected MobileNetV2, VGG16 or DenseNet121, found ResNet50"),
    ((*RUN, "--epochs", "-1"), "--epochs: expected at least 0, found -1"),
    ((*RUN, "--fine-tune-epochs", "-1"), "--epochs: expected at least 0, found -1"),
    ((*RUN, "--epochs", "3", "--fine-tune-epochs", "3"), "--fine-tune-epochs specified multiple times"),
    ((*RUN, "--epochs", "many"), "--epochs: expected a whole number, found many"),
    ((*RUN, "--image-size", "10"), "--image-size: expected at least 32, found 10"),
    ((*RUN, "--val-fraction", "1.5"), "--val-fraction: expected less than 0.5, found 1.5"),
    ((*RUN, "--batch-size", "-1"), "--batch-size: expected at least 1, found -1"),
    ((*RUN, "--augmentation.rotation", "99"), "--augmentation.rotation: expected at most 30, found 99"),
    ((*RUN, "--patient-key", "name"), "--patient-key: expected one of person+etiology"),
    ((*RUN, "--runner", "dusk"), "--runner: expected threads, processes or the address"),
    ((*RUN, "--bit-depth", "8", "--min-side", "0"), "--bit-depth: expected at least 9, found 8; --min-side: expected at"),
    ((*RUN, "--preset", "slow"), '"standard", "quick", "thorough", "demo"'),
    ((*RUN, "--ensemble", "seeds", "--seeds", "1"), "cxr: --ensemble seeds: expected at least 2 seeds to average, found 1"),
    ((*RUN, "--ensemble", "epochs", "--preset", "quick"), "found 0: give more with --epochs, or leave --ensemble out"),
    ((*RUN, "--learns", "whole", "--preset", "quick"), "cxr: --learns whole: expected at least 1 epoch in which all layers learn, found 0"),
    ((*RUN, "--epoch", "3"), "Did you mean --epochs?"),
    ((*RUN, "--exclude"), "expected --exclude with a value, found none: see `cxr run --help`"),
    ((*RUN, "more"), "expected no more arguments, found more"),
    (("run", "data"), "expected --out with a value"),
    (("run", "data", "--out"), "expected --out with a value"),
    (("run", "--out", "work"), "expected DATA with a value"),
    (("rnu", "data", "--out", "work"), 'Did you mean "run"?'),
    (("registry", "lost"), "list, promote, rollback, restore"),
    (("registry", "list"), "give one of them"),
    (("predict", "model", "--out", "p.csv"), "expected IMAGES with a value"),
    (("predict", "model", "images"), "expected --out with a value"),
    (("predict", "model", "images", "--out", "p.csv", "--folow-links"), "Did you mean --follow-links?"),
    (("predict", "gs://bucket/model", "images", "--out", "p.csv"), "found gs://"),
    (("predict", "s3:/bucket/model", "images", "--out", "p.csv"), "with two slashes"),
    (("predict", "model", "images", "--out", "results/"), "give results/predictions.csv"),
    (("phantoms", "s3://bucket/phantoms"), "expected a path"),
    (("phantoms", "new", "--images", "3"), "--images: expected at least 20, found 3"),
    (("cache", "prune", "--out", "work", "--unused-days", "-1"), "--unused-days: expected at least 0, found -1"),
    (("preprocess", "", "--out", "work"), "is a variable not set?"),
    (("preprocess", "s3://", "--out", "work"), "found no bucket"),
    (("preprocess", "s3://a b/data", "--out", "work"), "expected the name of a bucket"),
]  # fmt: skip


def test_what_the_arguments_alone_show_ends_with_2(tmp_path):
    """One line that names the flag, what was expected and what was found; nothing is made, no page is referred to."""
    answers, prefect = called([line for line, _ in WRONG], tmp_path)
    for (line, words), (status, out, err) in zip(WRONG, answers, strict=True):
        assert status == 2 and words in err and is_one_line(out, err), (line, status, out, err)
    assert not prefect and not list(tmp_path.iterdir())


@pytest.fixture
def folder(tmp_path):
    """A folder with what people point commands at by mistake."""
    (tmp_path / "data" / "train" / "NORMAL").mkdir(parents=True)
    (tmp_path / "data" / "train" / "NORMAL" / "a.jpeg").write_bytes(b"x")
    (tmp_path / "empty" / "deep").mkdir(parents=True)
    for name in ("file", "foreign.keras", "weights.h5", "data.zip", "a.png"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "champion.json").write_text('{"version": 3}')
    return tmp_path


FAILS = [
    (("explore", "--out", "nowhere"), "run `cxr preprocess DATA --out nowhere` first"),
    (("eda", "--out", "nowhere"), "run `cxr preprocess DATA --out nowhere` first"),
    (("train", "--out", "file"), "file is a file, not a folder"),
    (("export", "--out", "nowhere"), "there is no such file or folder"),
    (("verify", "nowhere"), "expected a finished run"),
    (("cache", "list", "--out", "nowhere"), "no such file or folder"),
    (("registry", "list", "--registry", "nowhere"), "no such file or folder"),
    (("registry", "list", "--registry", "registry"), "registry/champion.json cannot be read: version: Input should be"),
    (("registry", "restore", "v", "file", "--registry", "registry"), "file"),
    (("preprocess", "nowhere", "--out", "work"), "no such file or folder"),
    (("preprocess", "data.zip", "--out", "work"), "is an archive, not a folder: unpack it"),
    (("preprocess", "a.png", "--out", "work"), "is a file, not a folder"),
    (("preprocess", "broken", "--out", "work"), "is a broken link"),
    (("preprocess", "empty", "--out", "work"), "empty: expected images, found no file at all"),
    (("run", "file/below", "--out", "work"), "because"),
    (("run", "n" * 300, "--out", "work"), "name too long: give a shorter name"),
    (("run", "data", "--out", "work", "--init", "foreign.keras"), "found a Keras model without model_card.json"),
    (("run", "data", "--out", "work", "--init", "nowhere"), "no such file or folder"),
    (("retrain", "data", "--out", "work", "--init", "weights.h5"), "found an HDF5 file"),
    (("run", "data", "--out", "file"), "a file is where a folder is needed"),
    (("run", "data", "--out", "file/work"), "a file is where a folder is needed"),
    (("run", "data", "--out", "/proc/nowhere/work"), "give another folder"),
    (("demo", "--out", "file"), "a file is where a folder is needed"),
    (("phantoms", "file"), "choose another"),
    (("phantoms", "file", "--dicom"), "choose another"),
    (("predict", "nowhere", "a.png", "--out", "p.csv"), "no such file or folder"),
    (("predict", "foreign.keras", "a.png", "--out", "p.csv"), "found a Keras model without model_card.json beside it"),
    (("predict", "registry", "a.png", "--out", "p.csv"), "champion.json cannot be read"),
]  # fmt: skip


def test_what_the_files_show_ends_with_1(folder):
    """One line that names what is there and what to give instead, before any server starts; no work folder is made."""
    before = set(folder.rglob("*"))
    answers, prefect = called([line for line, _ in FAILS], folder)
    for (line, words), (status, out, err) in zip(FAILS, answers, strict=True):
        assert status == 1 and words in err and is_one_line(out, err), (line, status, out, err)
    made = {path.relative_to(folder).parts[0] for path in set(folder.rglob("*")) - before}
    assert made <= {"cache"} and not prefect


def test_a_key_map_that_would_travel_with_the_results_is_refused(folder):
    """Inside the work folder: exit status 2 and one line, for every command that trains."""
    lines = [
        (command, "data", "--out", "work", "--key-map", "work/who.csv")
        for command in ("run", "retrain")
    ]
    answers, _ = called(lines, folder)
    for status, out, err in answers:
        assert status == 2 and "the key map" in err and is_one_line(out, err), (status, err)
    assert not (folder / "work").exists()


def test_names_that_are_not_utf8_are_shown_with_their_bytes_escaped(tmp_path):
    """As DATA, as --out, as image: exit status 1 and one line, in a process of its own."""
    odd = os.fsencode(tmp_path) + b"/r\xf6ntgen"
    os.mkdir(odd)  # noqa: PTH102  # a Path of bytes there is not
    for arguments in (
        [b"preprocess", odd, b"--out", b"work"],
        [b"preprocess", b".", b"--out", odd],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "flows.command", *arguments], capture_output=True, text=True, check=False,
            cwd=ROOT / "tests",
        )  # fmt: skip
        assert done.returncode == 1 and is_one_line(done.stdout, done.stderr), done.stderr
        assert r"r\udcf6ntgen: a name in this path is not UTF-8" in done.stderr
