"""Real training processes on phantom images: repeatable, resumable, whole after a reload."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from cxr import architectures, child, evaluation, export, last_layer, pixels, training
from cxr.errors import DataError, TrainingError, WeightsError
from cxr.records import Selection, Training, read_table, write_table
from cxr.settings import TrainingSettings, training_settings
from cxr.storage import open_storage
from tests.conftest import ROOT, preprocess


@pytest.fixture(scope="module")
def work(phantoms, tmp_path_factory):
    """A work folder with the phantoms preprocessed."""
    folder = tmp_path_factory.mktemp("work")
    preprocess(phantoms, folder)
    return folder


def job(work, phantoms, folder, settings: TrainingSettings, name="MobileNetV2", weights=None):
    cache = pixels.cache(
        read_table(work / "clean_metadata.csv"),
        open_storage(str(phantoms)),
        settings.image_size,
        settings.harmonise,
        work,
    )
    return {
        "name": name, "architecture": name, "settings": settings.model_dump(mode="json"), "folder": str(folder), "weights": weights,
        "weights_sha256": "", "manifest": str(work / "clean_metadata.csv"), "pixels": str(cache),
        "class_weights": {"0": 1.2, "1": 0.9},
    }  # fmt: skip


def train(work, phantoms, folder, settings, **options) -> Training:
    child.run(
        "cxr.training",
        job(work, phantoms, folder, settings, **options),
        folder / "log",
        1,
        lambda event: None,
    )
    return Training.read(folder / "training.json")


@pytest.fixture(scope="module")
def whole(work, phantoms, tmp_path_factory):
    """An undisturbed training of two epochs in each phase."""
    folder = tmp_path_factory.mktemp("whole") / "MobileNetV2"
    return folder, train(work, phantoms, folder, two_and_two())


def two_and_two() -> TrainingSettings:
    return training_settings(
        "demo", image_size=32, epochs=2, fine_tune_epochs=2, patience=2, min_sensitivity=0.9
    )


def same(first: Training, second: Training) -> bool:
    timeless = {"seconds", "stages", "images_per_second", "milliseconds", "model_sha256"}
    return first.model_dump(exclude=timeless) == second.model_dump(exclude=timeless)


def test_training_leaves_what_the_design_promises(whole):
    """model.keras, history.csv with every phase, scores_val.csv; no checkpoints; the tuned epoch of highest validation AUROC."""
    folder, record = whole
    assert {p.name for p in folder.iterdir()} - {".lock", "log"} == {
        "model.keras", "history.csv", "scores_val.csv", "training.json", "features.json",
    }  # fmt: skip
    history = read_table(folder / "history.csv")
    assert list(history["phase"]) == ["frozen"] * 2 * len(last_layer.PENALTIES) + ["fine_tune"] * 2
    assert [stage.name for stage in record.stages] == ["features", "frozen", "fine_tune"]
    tuned = history[history["phase"] == "fine_tune"].set_index("epoch")["val_auroc"].astype(float)
    assert record.best_epoch == int(tuned.idxmax())
    assert record.val["auroc"] == pytest.approx(tuned.max(), abs=1e-9)


@pytest.mark.parametrize(("fine_tune_epochs", "name"), [(0, "MobileNetV2"), (1, "VGG16")])
def test_the_model_that_is_published_is_that_of_its_best_epoch_where_it_is_the_last(
    fine_tune_epochs, name, work, phantoms, tmp_path
):
    """Its validation scores have the AUROC that its best epoch."""
    settings = training_settings(
        "demo", image_size=32, epochs=1, fine_tune_epochs=fine_tune_epochs, min_sensitivity=0.9
    )
    record = train(work, phantoms, tmp_path / name, settings, name=name)
    best = float(read_table(tmp_path / name / "history.csv")["val_auroc"][record.best_epoch - 1])
    scores = read_table(tmp_path / name / "scores_val.csv")
    found = roc_auc_score(scores["label"].astype(int), scores["raw_score"].astype(float))
    assert found == pytest.approx(best, abs=1e-9)


def killed(the_job: dict, after: int) -> None:
    """Run a training; kill -9 after that epoch."""
    asked = {
        "module": "cxr.training",
        "job": the_job,
        "log": f"{the_job['folder']}.log",
        "gpus": None,
    }
    process = child._started(1, subprocess.DEVNULL)
    with process:
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            if json.loads(line).get("epoch") == after:
                time.sleep(0.05)
                os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("after", [pytest.param((1, 4), marks=pytest.mark.slow), (7,)], ids=str)
def test_a_training_killed_at_any_epoch_ends_like_an_undisturbed_one(
    whole, work, phantoms, tmp_path, after
):
    """After kill -9 at an epoch, and after another, then the same job: same scores, same optimizer, same history of figures."""
    folder, record = whole
    resumed = tmp_path / "MobileNetV2"
    resumed.mkdir()
    for epoch in after:
        killed(job(work, phantoms, resumed, two_and_two()), epoch)
        assert not (resumed / "training.json").exists()
    assert same(train(work, phantoms, resumed, two_and_two()), record)
    figures = [
        read_table(each / "history.csv").drop(columns=["seconds", "bare_seconds"])
        for each in (folder, resumed)
    ]
    assert figures[0].equals(figures[1])


@pytest.mark.slow
def test_changed_test_labels_change_nothing_that_is_trained_or_chosen(
    whole, work, phantoms, tmp_path
):
    """The labels of test swapped in the manifest: same epochs, calibration, threshold and validation figures."""
    table = read_table(work / "clean_metadata.csv")
    table["label"] = table["label"].where(table["split"] != "test", 1 - table["label"])
    write_table(table, tmp_path / "swapped.csv")
    the_job = job(work, phantoms, tmp_path / "MobileNetV2", two_and_two()) | {
        "manifest": str(tmp_path / "swapped.csv")
    }
    child.run("cxr.training", the_job, tmp_path / "log", 1, lambda event: None)
    assert same(Training.read(tmp_path / "MobileNetV2" / "training.json"), whole[1])


def test_a_child_ends_with_its_parent(work, phantoms, tmp_path):
    """The parent killed by kill -9: the training process is gone within seconds, so it cannot write any more."""
    code = (
        "import json, sys; from cxr import child\n"
        "child.run('cxr.training', json.load(sys.stdin), __import__('pathlib').Path(sys.argv[1]), 1, print)"
    )
    long = training_settings("demo", image_size=32, epochs=500, patience=500)
    parent = subprocess.Popen(
        [sys.executable, "-u", "-c", code, str(tmp_path / "log")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, cwd=ROOT,
    )  # fmt: skip
    with parent:
        parent.stdin.write(json.dumps(job(work, phantoms, tmp_path / "a", long)))
        parent.stdin.close()
        while "epoch" not in parent.stdout.readline():
            assert parent.poll() is None
        children = subprocess.run(
            ["ps", "--ppid", str(parent.pid), "-o", "pid="],
            capture_output=True,
            text=True,
            check=True,
        )
        training = int(children.stdout.split()[0])
        parent.kill()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _alive(training):
        time.sleep(0.1)
    assert not _alive(training)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_a_child_that_fails_says_why(work, phantoms, tmp_path):
    """The error carries the child's own words, or the last lines of its log."""
    with pytest.raises(TrainingError, match=r"see .*log; its last lines"):
        train(work, phantoms, tmp_path, two_and_two(), name="AlexNet")


def test_export_is_the_trained_model_in_a_fresh_process(whole, work, phantoms, tmp_path):
    """Loaded elsewhere, model.keras gives the same scores to 1e-5 and has the same optimizer; test is then scored."""
    folder, record = whole
    run = folder.parent
    export.stage_model(run, record)
    the_job = job(work, phantoms, folder, two_and_two())
    child.run(
        "cxr.evaluation",
        {"run": str(run), "training": record.model_dump(mode="json"), **{n: the_job[n] for n in ("manifest", "pixels")}},
        tmp_path / "log", 1, lambda event: None,
    )  # fmt: skip
    found = evaluation.Evaluation.read(run / "evaluation.json")
    assert found.is_of(record)
    assert not found.is_of(record.model_copy(update={"model_sha256": "another"}))
    assert (
        found.reload_max_difference <= 1e-5
        and found.optimizer_equal
        and found.threshold == record.threshold
    )
    scores = read_table(run / "scores_test.csv")
    assert (
        found.test["n"]
        == len(scores)
        == (read_table(work / "clean_metadata.csv")["split"] == "test").sum()
    )
    (run / "evaluation.json").unlink()
    changed = record.model_copy(update={"optimizer_sha256": "0" * 64})
    with pytest.raises(TrainingError, match="optimizer state different"):
        child.run(
            "cxr.evaluation",
            {"run": str(run), "training": changed.model_dump(mode="json"), **{n: the_job[n] for n in ("manifest", "pixels")}},
            tmp_path / "log", 1, lambda event: None,
        )  # fmt: skip


@pytest.mark.slow
def test_features_of_shards_made_side_by_side_are_those_of_a_training(whole, phantoms, tmp_path):
    """Two processes make a shard each; the training then computes none, ends the same, and tells of all of them."""
    preprocess(phantoms, tmp_path / "work")
    the_job, folder = (
        job(tmp_path / "work", phantoms, tmp_path / "sharded", two_and_two()),
        tmp_path / "sharded",
    )

    def shard(at: int) -> None:
        each = the_job | {"shard": (at, 2), "efforts": f"features-{at}.json"}
        child.run("cxr.extraction", each, tmp_path / f"log{at}", 1, lambda event: None)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(shard, (1, 2)))
    child.run("cxr.training", the_job, tmp_path / "log", 1, lambda event: None)
    made = [
        training.Efforts.read(folder / name).images
        for name in ("features.json", "features-1.json", "features-2.json")
    ]
    assert made[0] == 0 and min(made[1:]) > 0
    assert sum(made) == training.Efforts.read(whole[0] / "features.json").images
    done = Training.read(folder / "training.json")
    assert same(done, whole[1]) and done.stages[0].images == sum(made)
    assert (folder / "scores_val.csv").read_bytes() == (whole[0] / "scores_val.csv").read_bytes()


@pytest.mark.slow
def test_a_warm_start_costs_what_the_new_images_cost(work, phantoms, tmp_path):
    """From a finished model, with more images: fine-tuned only, features of the new images alone, scores that go on."""
    before = two_and_two().model_copy(update={"train_fraction": 0.7})
    first = train(work, phantoms, tmp_path / "first", before)
    table = read_table(work / "clean_metadata.csv")
    some, _ = training.positions(table, before)
    every, _ = training.positions(table, two_and_two())
    assert len(some) < len(every)
    the_job = job(work, phantoms, tmp_path / "second", two_and_two())
    init = {"init": str(tmp_path / "first" / "model.keras")}
    child.run("cxr.training", the_job | init, tmp_path / "log", 1, lambda event: None)
    second = Training.read(tmp_path / "second" / "training.json")
    assert set(read_table(tmp_path / "second" / "history.csv")["phase"]) == {"fine_tune"}
    effort = training.Efforts.read(tmp_path / "second" / "features.json")
    assert effort.images == two_and_two().turns() * len(set(every) - set(some))
    assert "first" in second.weights and first.model_sha256 != second.model_sha256
    still = two_and_two().model_copy(
        update={"fine_tune_learning_rate": 1e-12, "fine_tune_epochs": 1}
    )
    the_job = job(work, phantoms, tmp_path / "still", still) | init
    child.run("cxr.training", the_job, tmp_path / "log", 1, lambda event: None)
    scores = [
        read_table(tmp_path / name / "scores_val.csv")["raw_score"] for name in ("first", "still")
    ]
    assert np.allclose(*scores, atol=1e-4), "it began where the first one ended"


@pytest.mark.slow
def test_several_devices_train_one_model(work, phantoms, tmp_path):
    """Mirrored over two devices (here two logical processors): the whole model still scores as its cached path does."""
    code = """
import json, sys, tensorflow as tf
processor = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
from cxr import backend, training
mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
backend.scope, backend.configure = mirrored.scope, lambda: None
training.main(json.load(sys.stdin), lambda event: None)
assert mirrored.num_replicas_in_sync == 2
"""
    settings = two_and_two().model_copy(update={"epochs": 1, "fine_tune_epochs": 1})
    the_job = json.dumps(job(work, phantoms, tmp_path / "mirrored", settings))
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=the_job,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    record = Training.read(tmp_path / "mirrored" / "training.json")
    assert (
        record.epochs == len(read_table(tmp_path / "mirrored" / "history.csv"))
        and record.val["auroc"] is not None
    )


@pytest.mark.slow
def test_jax_trains_without_tensorflow_and_tensorflow_scores_its_model_alike(
    work, phantoms, tmp_path, monkeypatch
):
    """KERAS_BACKEND=jax where there is no TensorFlow: killed in the last phase it ends as undisturbed; TensorFlow finds its scores."""
    (absent := tmp_path / "absent" / "tensorflow").mkdir(parents=True)
    (absent / "__init__.py").write_text("raise ImportError('not here')")
    with monkeypatch.context() as jax:
        jax.setenv("KERAS_BACKEND", "jax")
        jax.setenv("PYTHONPATH", f"{absent.parent}:{os.environ.get('PYTHONPATH', '')}")
        jax.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "compiled"))
        record = train(work, phantoms, tmp_path / "first", two_and_two())
        (tmp_path / "resumed").mkdir()
        killed(job(work, phantoms, tmp_path / "resumed", two_and_two()), 7)
        assert same(train(work, phantoms, tmp_path / "resumed", two_and_two()), record)
    assert (
        "jax" in record.versions
        and "tensorflow" not in record.versions
        and list((tmp_path / "compiled").iterdir())
    )
    code = """
import json, sys
import keras, numpy as np
from cxr import scoring, training
job = training.Job(json.load(sys.stdin), print)
assert keras.backend.backend() == "tensorflow"
scores = scoring.score(keras.models.load_model(job.folder / "model.keras"), job.pixels, job.val)
np.save(job.folder / "again.npy", scores)
"""
    the_job = json.dumps(job(work, phantoms, tmp_path / "first", two_and_two()))
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=the_job,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    raw = read_table(tmp_path / "first" / "scores_val.csv")["raw_score"]
    assert np.allclose(np.load(tmp_path / "first" / "again.npy"), raw, atol=1e-4)


def test_early_stopping_ends_a_phase():
    """Patience counts epochs since the best of the phase; the next phase starts afresh; a warm start only fine-tunes."""
    job = SimpleNamespace(
        settings=TrainingSettings(epochs=9, fine_tune_epochs=9, patience=2),
        init="",
        architecture="VGG16",
    )
    first, second, third = last_layer.PENALTIES

    def rows(name, penalty, *values):
        return [{"phase": name, "penalty": penalty, "val_auroc": value} for value in values]

    history = rows("frozen", first, 0.7, 0.9, 0.8)
    assert training._phase(history, job)[:2] == ("frozen", first)
    history += rows("frozen", first, 0.85)
    assert training._phase(history, job)[:2] == ("frozen", second)
    history += rows("frozen", second, *[0.5] * 3) + rows("frozen", third, *[0.5] * 3)
    assert training._phase(history, job)[:2] == ("fine_tune", 0)
    assert training._phase(history + rows("fine_tune", 0.0, 0.8, 0.7, 0.7), job) is None
    job.settings = job.settings.model_copy(update={"fine_tune_epochs": 0})
    assert training._phase(history, job) is None
    warm = SimpleNamespace(
        settings=TrainingSettings(fine_tune_epochs=1), init="model.keras", architecture="VGG16"
    )
    assert training._phase([], warm)[:2] == ("fine_tune", 0)
    warm.settings = TrainingSettings(fine_tune_epochs=0)
    assert training._phase([], warm)[:2] == ("frozen", first)


@pytest.mark.parametrize(
    ("given", "epochs"),
    [({}, 1), ({"passes": 3}, 3), ({"passes": 3, "views": 1}, 2), ({"fine_tune_epochs": 0}, 0)],
)
def test_fine_tuning_sees_each_pass_once_where_nothing_else_is_asked_for(given, epochs):
    """One epoch for each pass, of which there are at most as many as versions; a number given by hand wins, 0 included."""
    assert TrainingSettings(**given).tuning_epochs() == epochs


def test_the_last_layer_comes_to_where_scikit_learn_ends():
    """Epoch by epoch the same weights and log loss as one long logistic regression, from a random start, class weights included."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 30)).astype(np.float32)
    labels = (features[:, 0] + 0.5 * features[:, 1] + rng.normal(size=400) > 0.7).astype(int)
    weights, penalty = np.where(labels, 1.6, 0.7), 1e-2
    layer = last_layer.Solved(
        rng.normal(size=(30, 1)).astype(np.float32), np.zeros(1, np.float32), np.inf, 0.0
    )
    for _ in range(8):
        before, layer = (
            layer,
            last_layer.solve(layer.kernel, layer.bias, features, labels, weights, penalty),
        )
        assert layer.loss <= before.loss + 1e-3
    reference = LogisticRegression(C=1 / (2 * penalty * 400), max_iter=1000, tol=1e-8)
    reference.fit(features.astype(float), labels, weights)
    assert (
        np.allclose(layer.kernel[:, 0], reference.coef_[0], atol=2e-3)
        and layer.bias.dtype == np.float32
    )
    scores = 1 / (1 + np.exp(-(features @ layer.kernel + layer.bias)[:, 0]))
    assert layer.loss == pytest.approx(log_loss(labels, scores, sample_weight=weights), abs=1e-5)


def test_a_readied_child_does_the_next_job_and_those_left_over_end(tmp_path):
    """`run` takes a living one with its threads; a dead one is passed over; those that wait count; none outlives the `with`."""
    with child.readied({1: 3}), child.readied({1: 2}):
        first, second, third = child._ready[1]
        first.kill()
        first.wait()
        with pytest.raises(TrainingError, match="No module named 'nowhere'"):
            child.run("nowhere", {}, tmp_path / "log", 1, print)
        assert child._ready[1] == [third] and second.returncode == 1 and third.poll() is None
    assert third.returncode == 3 and not child._ready[1]


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_every_architecture_is_built_saved_and_scales_once(name, tmp_path):
    """Gray or RGB, any dtype; pixels scaled as Keras' own preprocess_input does; weight files load; folded, the same scores."""
    code = f"""
import keras, numpy as np
from cxr import architectures
from cxr.settings import TrainingSettings
settings = TrainingSettings(image_size=32)
model = architectures.build({name!r}, settings, None)
gray = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 1), dtype=np.uint8)
first = model.predict_on_batch(gray)
assert first.shape == (4, 1) and ((first >= 0) & (first <= 1)).all()
rgb = model.predict_on_batch(np.repeat(gray, 3, axis=-1).astype("float64"))
assert np.allclose(first, rgb, atol=1e-6)
module = {{"MobileNetV2": "mobilenet_v2", "VGG16": "vgg16", "DenseNet121": "densenet"}}[{name!r}]
scaled = keras.Model(model.inputs, model.get_layer("scaling").output).predict_on_batch(gray)
expected = getattr(keras.applications, module).preprocess_input(np.repeat(gray, 3, axis=-1).astype("float32"))
assert np.abs(scaled - expected).max() < 1e-4
assert not any(layer.trainable_variables for layer in model.layers if layer.name != "score")
architectures.release_top(model, {name!r})
cut = [layer.name for layer in model.layers].index(architectures.ARCHITECTURES[{name!r}].cut)
assert not any(layer.trainable_variables for layer in model.layers[: cut + 1])
released = [layer for layer in model.layers if layer.trainable_variables]
assert len(released) > 1
assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in released)
model.save({str(tmp_path / "m.keras")!r})
again = keras.models.load_model({str(tmp_path / "m.keras")!r})
assert np.allclose(again.predict_on_batch(gray), first, atol=1e-6)
norms = [layer for layer in again.layers if isinstance(layer, keras.layers.BatchNormalization)]
rng = np.random.default_rng(1)
for norm in norms:
    width = norm.get_weights()[0].shape
    norm.set_weights([rng.uniform(0.5, 1.5, width), rng.normal(0, 0.1, width), rng.normal(0, 0.1, width), rng.uniform(0.5, 1.5, width)])
folded = architectures.folded(again)
assert np.allclose(folded.predict_on_batch(gray), again.predict_on_batch(gray), atol=1e-5)
left = sum(isinstance(layer, keras.layers.BatchNormalization) for layer in folded.layers)
assert (len(norms), left) == {{"MobileNetV2": (52, 0), "VGG16": (0, 0), "DenseNet121": (121, 62)}}[{name!r}]
source = getattr(keras.applications, {name!r})(include_top=False, weights=None, input_shape=(32, 32, 3))
source.save_weights({str(tmp_path)!r} + "/{name.lower()}_test_notop.weights.h5")
path, digest = architectures.find_weights({name!r}, {str(tmp_path)!r})
loaded = architectures.build({name!r}, settings, path)
kernel = [layer for layer in source.layers if layer.weights][0]
assert np.array_equal(loaded.get_layer(kernel.name).get_weights()[0], kernel.get_weights()[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_weights_that_are_not_there_are_never_replaced(tmp_path):
    """A missing folder, a folder without the file, an unnamed architecture: errors that say what to do."""
    with pytest.raises(WeightsError, match="no such folder"):
        architectures.find_weights("VGG16", str(tmp_path / "no"))
    (tmp_path / "mobilenet_v2_notop.h5").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"mobilenet_v2_notop.h5\). Add the file"):
        architectures.find_weights("VGG16", str(tmp_path))
    mixed = f"MobileNetV2={tmp_path},VGG16=none"
    assert architectures.find_weights("VGG16", mixed) == (None, "")
    assert architectures.find_weights("MobileNetV2", mixed)[0].endswith("mobilenet_v2_notop.h5")
    with pytest.raises(WeightsError, match="says nothing for DenseNet121"):
        architectures.find_weights("DenseNet121", mixed)


def test_pixel_cache_notices_a_changed_image(work, phantoms, tmp_path):
    """A file that changed after inspection is an error, not other pixels under the old label."""
    table = read_table(work / "clean_metadata.csv").head(2).assign(md5="0")
    with pytest.raises(DataError, match="changed since"):
        pixels.cache(table, open_storage(str(phantoms)), 33, True, tmp_path)
    assert not list((tmp_path / "cache").glob("*/*.keys"))


def test_pixel_cache_holds_resized_gray_images(work, phantoms):
    """uint8 (n, side, side) in the order of the table, whatever order they were decoded in; decoded once."""
    table = read_table(work / "clean_metadata.csv")
    path = pixels.cache(table, open_storage(str(phantoms)), 32, True, work)
    held = pixels.load(path, table)
    assert held.shape == (len(table), 32, 32) and held.dtype == np.uint8
    files = {each: each.stat().st_mtime_ns for each in path.glob("*.npy")}
    assert path == pixels.cache(table.iloc[::-1], open_storage(str(phantoms)), 32, True, work)
    assert files == {each: each.stat().st_mtime_ns for each in path.glob("*.npy")}
    assert np.array_equal(pixels.load(path, table.iloc[::-1])[np.arange(len(table))], held[::-1])
    assert path != pixels.cache(table.head(2), open_storage(str(phantoms)), 32, False, work)


def test_selection_record_round_trips(tmp_path):
    """A record read back equals the one written; an unknown key is refused."""
    record = Selection(
        name="VGG16", architecture="VGG16", best="VGG16", rule="r", reason="r", threshold=0.1, eligible=("VGG16",),
        versus=(), stability=(), failed={},
    )  # fmt: skip
    assert Selection.read((record.write(tmp_path / "s.json"), tmp_path / "s.json")[1]) == record
    (tmp_path / "s.json").write_text(record.model_dump_json()[:-1] + ',"thresold":1}')
    with pytest.raises(DataError, match="thresold"):
        Selection.read(tmp_path / "s.json")
