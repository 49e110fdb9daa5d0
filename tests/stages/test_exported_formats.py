"""Whole runs on phantoms that are exported for other runtimes, and read there."""

import csv
import io
import subprocess

import numpy as np
import pytest

import cxr
from cxr.core.files import read_table
from cxr.core.settings import PixelSettings, training_settings
from cxr.results.evaluation.formats.records import read_format_test
from cxr.results.verify.checks import verify_run
from tests.support.bare_interpreter import make_interpreter

pytestmark = pytest.mark.slow
ARCHITECTURES = ("MobileNetV2", "DenseNet121", "VGG16")
RUNTIMES = {"model.onnx": "onnxruntime", "model.tflite": "ai-edge-litert"}


@pytest.fixture(scope="module")
def run(phantoms, tmp_path_factory):
    """The folder of a run whose model averages all three architectures, in every format."""
    work = tmp_path_factory.mktemp("work")
    settings = training_settings(
        "demo", arch=ARCHITECTURES, image_size=32, epochs=0, ensemble="architectures"
    )
    cxr.preprocess(phantoms, work, pixels=PixelSettings(image_size=32))
    cxr.explore(work, settings)
    for name in ARCHITECTURES:
        cxr.train(work, name, settings)
    exported = cxr.export(work, formats=("keras", "onnx", "litert", "savedmodel"))
    return work / "runs" / exported.run


def test_an_ensemble_of_all_architectures_decides_alike_in_every_runtime(run):
    """Scores to 1e-4, decisions and abstentions equal, films read to the same pixels; verify passes.

    So few test images cannot show that reduced precision is as good: those files are not published, and the record says why.
    """
    found = {record.file: record for record in read_format_test(run).formats}
    for file in ("model.onnx", "model.tflite", "saved_model"):
        record = found[file]
        assert record.published, record.reason
        assert record.agreement.largest_difference <= 1e-4 and record.films > 5
        assert record.milliseconds > 0 and (run / "export" / file).exists()
    for file in ("model_float16.tflite", "model_int8.tflite"):
        assert "newly missed" in found[file].reason and not (run / "export" / file).exists()
    assert not [check.problem for check in verify_run(run) if check.problem]
    text = (run / "export" / "MODEL_CARD.md").read_text()
    assert "| model.onnx |" in text and "model_int8.tflite is not published" in text


@pytest.mark.parametrize("file", RUNTIMES)
def test_the_reader_predicts_where_nothing_else_is_installed(run, phantoms, tmp_path, file):
    """numpy, Pillow and the runtime: the scores, predictions and statuses of `cxr predict`, on images as files."""
    python = make_interpreter(tmp_path / "bare", "numpy", "pillow", RUNTIMES[file])
    missing = subprocess.run([python, "-c", "import keras"], capture_output=True, check=False)
    assert missing.returncode, "the interpreter has more than it should have"
    cxr.predict(run / "export", phantoms / "test", tmp_path / "predictions.csv")
    expected = read_table(tmp_path / "predictions.csv").set_index("image")
    expected = expected[expected["status"] != "rejected"]
    folder = phantoms / "test"
    done = subprocess.run(
        [python, "export/reader.py", f"export/{file}", *(folder / name for name in expected.index)],
        capture_output=True,
        text=True,
        check=True,
        cwd=run,
    )
    answers = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(answers) == len(expected) > 10
    scores = [float(answer["score"]) for answer in answers]
    assert np.abs(np.array(scores) - expected["score"].to_numpy()).max() < 1e-4
    for column in ("prediction", "status"):
        assert [answer[column] for answer in answers] == expected[column].to_list()
