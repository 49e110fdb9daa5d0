"""The model for other runtimes: the reader decides as the library does, and only what is proven is published."""

import functools
import hashlib
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.special import expit

from cxr.core.errors import DeviceError, ModelError
from cxr.core.settings import FileSettings, training_settings
from cxr.data.images import content, model_input
from cxr.models.compute import worker
from cxr.models.runs import Run
from cxr.models.training.records import Training
from cxr.results.evaluation.formats import pipeline
from cxr.results.evaluation.formats.records import Format, FormatTest, read_format_test
from cxr.results.evaluation.in_scope import RATE
from cxr.serving.formats import conversion, proof, publishing, reader
from cxr.serving.formats.conversion import Target
from cxr.serving.formats.proof import Expected, Films
from cxr.stats.calibration import Calibration
from tests.conftest import ROOT
from tests.support import small_network
from tests.support.keras_process import run_with_keras

CALIBRATIONS = {
    "none": {},
    "temperature": {"temperature": 0.02},
    "platt": {"temperature": 0.7, "intercept": -1.3},
    "isotonic": {"x": (0.1, 0.4, 0.6), "y": (0.2, 0.2, 0.9)},
}
ONNX = Target("onnx", "float32", "model.onnx")


def calibration_of(method: str) -> Calibration:
    return Calibration(
        method=method, reason="made up", images=9, patients=9, **CALIBRATIONS[method]
    )


@pytest.fixture
def training(finished_once) -> Training:
    return Training.read(finished_once / "runs" / "abc" / "MobileNetV2" / "training.json")


@pytest.fixture
def small(tmp_path, training):
    """A folder with a network, its scope and its contract, and what the library says of 40 images."""
    small_network.write_network(tmp_path / "model.onnx")
    scope = small_network.write_small_scope(tmp_path)
    calibration = calibration_of("platt")
    small_network.write_pipeline(tmp_path, training, calibration, scope.reference)
    shutil.copy(reader.__file__, tmp_path / "reader.py")
    pixels = np.concatenate([small_network.noise(30, 3), small_network.noise(10, 4)[:, ::-1] // 3])
    pixels[-5:] = np.random.default_rng(5).integers(0, 256, (5, 8, 8))
    np.save(tmp_path / "pixels.npy", pixels)
    measured = pd.DataFrame(
        {"features": scope.neighbours.distances(small_network.features_of(pixels))}
    )
    for signal in scope.reference.signals[1:]:
        measured[signal] = 0.0
    raw = small_network.scores_of(pixels)
    names = [f"{number}.png" for number in range(40)]
    return Expected(
        scores=pd.DataFrame(
            {
                "image": names,
                "patient_id": names,
                "label": np.arange(40) % 2,
                "score": calibration.apply(raw),
            }
        ),
        judgements=pd.DataFrame(
            {"image": names, "status": [each.status for each in scope.judge(measured, RATE)]}
        ),
        threshold=training.threshold,
        pixels=tmp_path / "pixels.npy",
        films=Films((), ()),
    )


def test_the_reader_sees_the_pixels_that_the_library_sees(phantoms, tmp_path):
    """Byte for byte: phantoms of every format, colour, EXIF turns, palettes; what is rejected by both."""
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 256, (70, 50, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    colour.save(tmp_path / "turned.jpg", exif=exif)
    colour.convert("P").save(tmp_path / "palette.png")
    colour.putalpha(254)
    colour.save(tmp_path / "transparent.png")
    Image.fromarray(rng.integers(0, 60000, (70, 50), dtype=np.uint16)).save(tmp_path / "deep.png")
    Image.new("L", (60, 60), 7).save(tmp_path / "flat.png")
    Image.new("L", (60, 6), 7).save(tmp_path / "thin.png")
    films = [path for path in phantoms.rglob("*") if path.suffix in {".png", ".jpeg", ".jpg"}]
    seen = {True: 0, False: 0}
    for harmonise in (True, False):
        contract = pipeline.PixelContract(side=48, jpeg_quality=90 if harmonise else None)
        for path in [*films[:12], *tmp_path.iterdir()]:
            try:
                examined = content.examine(path.read_bytes(), FileSettings())
            except Exception:  # noqa: BLE001 - the library's own reason does not matter here
                expected = None
            else:
                expected = model_input.prepare_for_model(examined.image, 48, harmonise)
            try:
                found = reader.read_pixels(path, contract.model_dump())
            except (OSError, ValueError):
                found = None
            if expected is not None:
                assert np.array_equal(found, expected), path
            seen[expected is not None] += 1
            if path.parent == tmp_path:
                assert (found is None) == (expected is None), path
    assert seen[True] > 20 and seen[False] >= 8


@pytest.mark.parametrize("method", CALIBRATIONS)
def test_the_reader_calibrates_as_the_library_does(method):
    """Also where scores are 0 and 1, and where a divisor makes the exponent too large."""
    calibration = calibration_of(method)
    fields = set(pipeline.CalibrationContract.model_fields)
    contract = pipeline.CalibrationContract(**calibration.model_dump(include=fields)).model_dump()
    raw = np.concatenate([[0.0, 1.0, 1e-9], np.random.default_rng(0).uniform(0, 1, 50)])
    found = [reader.calibrate(score, contract) for score in raw.tolist()]
    assert np.allclose(found, calibration.apply(raw), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("patients", "rate"), [(60, 0.05), (60, 0.01), (10, 0.01), (60, 0.0)])
def test_the_reader_abstains_where_the_library_abstains(tmp_path, patients, rate):
    """300 images, near and far; enough patients for the rate, too few for it, too few at all, switched off."""
    scope = small_network.write_small_scope(tmp_path, patients)
    rng = np.random.default_rng(9)
    noise = small_network.noise(300, 7)
    pixels = np.where(rng.random((300, 1, 1)) < 0.3, rng.integers(0, 256, (300, 8, 8)), noise)
    features = small_network.features_of(pixels.astype(np.uint8))
    features[:3] *= 40
    measured = pd.DataFrame({"features": scope.neighbours.distances(features)})
    for signal in scope.reference.signals[1:]:
        measured[signal] = 0.0
    expected = [judgement.status == "abstained" for judgement in scope.judge(measured, rate)]
    contract = pipeline.ScopeContract(arrays_sha256="", rate=rate, signal=0).model_dump()
    with np.load(tmp_path / "scope.npz") as arrays:
        kept = {name: arrays[name] for name in arrays.files}
    found = [reader.is_out_of_scope(row, kept, contract) for row in features]
    assert found == expected
    assert any(expected) == (patients == 60 and rate > 0)


def test_a_file_that_answers_as_the_model_does_is_proven_in_a_fresh_interpreter(small, tmp_path):
    """ONNX Runtime, the reader and nothing else; scores to 1e-6, decisions and abstentions equal."""
    film = tmp_path / "film.png"
    Image.fromarray(small_network.noise(50, 1)[:49].reshape(56, 56)).save(film)
    contract = pipeline.Pipeline.read(tmp_path / "pipeline.json").pixels.model_dump()
    seen = hashlib.sha256(reader.read_pixels(film, contract).tobytes()).hexdigest()
    found = proof.prove(ONNX, tmp_path, small._replace(films=Films((film,), (seen,))))
    assert found.record.published, found.record.reason
    agreement = found.record.agreement
    assert agreement.largest_difference < 1e-6 and agreement.images == 40
    assert agreement.decisions_changed == agreement.abstentions_changed == 0
    assert 0 < (found.answers["status"] == "abstained").sum() < 40
    assert found.record.films == 1 and found.record.runtime.startswith("onnxruntime ")
    other = proof.prove(ONNX, tmp_path, small._replace(films=Films((film,), ("00",))))
    assert "reads 1 of 1 films to other pixels" in other.record.reason


def test_what_needs_keras_or_decides_otherwise_is_not_proven(small, tmp_path):
    """A reader that imports cxr; scores that differ; an abstention that differs: each says what and by how much."""
    worse = small.scores.assign(score=small.scores["score"] * 0.9)
    judged = small.judgements.assign(status="scored")
    found = proof.prove(ONNX, tmp_path, small._replace(scores=worse, judgements=judged)).record
    assert not found.published and "scores differ by up to 0.0" in found.reason
    assert "of 40 abstentions differ" in found.reason
    program = tmp_path / "reader.py"
    program.write_text("import cxr.core\n" + program.read_text())
    found = proof.prove(ONNX, tmp_path, small).record
    assert not found.published and "No module named 'cxr" in found.reason
    assert found.agreement is None and "is not published" in found.sentence()


def test_what_is_proven_is_published_and_what_is_not_is_said(
    finished_work, training, tmp_path, monkeypatch
):
    """One converter works and one fails; a file that is there stays; one of another threshold does not."""
    run = Run(
        id="abc",
        manifest_sha256="",
        settings=training_settings("demo"),
        weights={},
        init=None,
        version="",
    )
    folder = run.folder(finished_work)
    pixels = small_network.noise(30, 3)
    np.save(tmp_path / "pixels.npy", pixels)
    scores = pd.DataFrame({"image": [f"{number}.png" for number in range(30)]})
    scores["score"] = training.calibration.apply(small_network.scores_of(pixels))
    films = Films((), (), "none is at hand")
    expected = Expected(scores, None, training.threshold, tmp_path / "pixels.npy", films)

    def convert(job: conversion.ConversionJob, *_: object) -> None:
        small_network.write_network(job.folder / "model.onnx")
        failures = dict.fromkeys(job.files[1:], "RuntimeError: no such operation")
        record = conversion.Failures(reasons=failures)
        (job.folder / conversion.FAILURES_NAME).write_text(record.model_dump_json())

    monkeypatch.setattr(publishing.worker, "run_job", convert)
    monkeypatch.setattr(publishing, "read_expected", lambda *_: expected)
    write = functools.partial(publishing.write_formats, run, work=finished_work, cache=tmp_path)
    assert write(training, formats=("keras",)) is None
    test = write(training, formats=("onnx", "litert"))
    reasons = {record.file: record.reason for record in test.formats}
    assert reasons.pop("model.onnx") == ""
    assert all("no such operation" in reason for reason in reasons.values()) and len(reasons) == 3
    names = {path.name for path in (folder / "export").iterdir()}
    assert {"model.onnx", "pipeline.json", "reader.py"} < names and "model.tflite" not in names
    with pytest.raises(ModelError, match=r"model.tflite is not published.*no such operation"):
        publishing.require_published(folder, ("onnx", "litert"))
    monkeypatch.setattr(publishing.worker, "run_job", None)  # called again, it would fail
    assert write(training, formats=("onnx",)) == test == write(training, formats=())
    point = training.operating_point.model_copy(update={"threshold": 0.123})
    other = training.model_copy(update={"operating_point": point})
    assert write(other, formats=()) is None and read_format_test(folder) is None
    left = {path.name for path in (folder / "export").iterdir()}
    assert not left & {"model.onnx", "pipeline.json", "reader.py"}


def test_every_field_of_pipeline_json_is_documented():
    """docs/formats.md has a row for each field, and none for another one."""
    text = (ROOT / "docs" / "formats.md").read_text()
    tables = {
        "field": pipeline.Pipeline,
        "field of `pixels`": pipeline.PixelContract,
        "field of `calibration`": pipeline.CalibrationContract,
        "field of `scope`": pipeline.ScopeContract,
    }
    for heading, record in tables.items():
        rows = text.partition(f"| {heading} | meaning |\n|---|---|\n")[2].partition("\n\n")[0]
        names = re.findall(r"`(\w+)`", "\n".join(row.split(" | ")[0] for row in rows.splitlines()))
        assert sorted(names) == sorted(record.model_fields), heading


def test_the_reader_is_one_page_and_imports_what_it_says():
    """At most 165 lines; numpy, Pillow and the runtimes beside the standard library."""
    text = Path(reader.__file__).read_text()
    assert len(text.splitlines()) <= 165
    imported = set(re.findall(r"^ *(?:from|import) (\w+)", text, re.MULTILINE))
    assert imported - set(sys.stdlib_module_names) == {
        "numpy",
        "PIL",
        "onnxruntime",
        "ai_edge_litert",
    }


def test_formats_that_cannot_be_converted_here_are_refused_at_once(monkeypatch):
    """Another backend, a package that is not installed; keras alone needs nothing."""
    conversion.require_converters(("keras", "onnx", "litert", "savedmodel"))
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    conversion.require_converters(("keras",))
    with pytest.raises(DeviceError, match="unset KERAS_BACKEND"):
        conversion.require_converters(("savedmodel",))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match=r"expected onnxruntime.*pip install"):
        conversion.require_converters(("onnx",))


def test_an_export_that_lacks_a_format_it_was_asked_for_is_an_error(tmp_path):
    """float32 has to be there; of float16 the rule decides; what was not asked for does not matter."""
    formats = (
        Format(name="onnx", precision="float32", file="model.onnx", reason="scores differ by 0.2"),
        Format(name="litert", precision="float16", file="model_float16.tflite", reason="worse"),
    )
    FormatTest(
        model_sha256="", threshold=0.5, arrays_sha256="", scores_sha256="", formats=formats
    ).write(tmp_path / "formats.json")
    publishing.require_published(tmp_path, ("keras", "litert"))
    with pytest.raises(ModelError, match=r"model.onnx is not published: scores differ by 0.2"):
        publishing.require_published(tmp_path, ("litert", "onnx"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "file"), [("DenseNet121", "model.onnx"), ("VGG16", "model.tflite")]
)
def test_every_architecture_converts_to_the_same_scores_and_features(name, file, tmp_path):
    """Random weights, 32 pixels; MobileNetV2 and ensembles are converted to every format by whole runs."""
    run_with_keras(f"""
import numpy as np
from cxr.core.settings import TrainingSettings
from cxr.models.networks.architectures import build_model
from cxr.models.scope.opened_model import open_model
model = build_model("{name}", TrainingSettings(arch=("{name}",), image_size=32), None)
model.save("{tmp_path}/model.keras")
pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32)).astype(np.uint8)
features, score = open_model(model).model.predict_on_batch(pixels[..., np.newaxis])
np.savez("{tmp_path}/seen.npz", pixels=pixels, features=features, score=score)
""")
    job = conversion.ConversionJob(
        export=tmp_path, side=32, files=(file,), manifest=tmp_path, pixels=tmp_path, folder=tmp_path
    )
    worker.run_job(job, tmp_path / "log", threads=2)
    with np.load(tmp_path / "seen.npz") as arrays:
        seen = {name: arrays[name] for name in arrays.files}
    network = reader.load_network(tmp_path / file)
    found = [network(row[None, ..., None].astype(np.float32)) for row in seen["pixels"]]
    features = np.concatenate([each["features"] for each in found])
    scores = expit(np.concatenate([each["logit"] for each in found]))
    assert np.allclose(features, seen["features"], rtol=1e-4, atol=1e-5)
    assert np.allclose(scores, seen["score"], rtol=1e-4, atol=1e-7)
