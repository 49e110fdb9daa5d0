"""Real training processes on phantom images: repeatable, resumable, whole after a reload."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from cxr.core import timing
from cxr.core.errors import DataError, TrainingError
from cxr.core.files import read_table, write_table
from cxr.core.settings import TrainingSettings, training_settings
from cxr.data.images import pixel_cache
from cxr.data.images.changes.stress_worlds import WORLDS
from cxr.models.compute import worker
from cxr.models.runs import Run
from cxr.models.selection import Selection
from cxr.models.training import checkpoints, session
from cxr.models.training.feature_extraction import FeatureJob
from cxr.models.training.learning import fine_tuning, head_fitting
from cxr.models.training.records import Training
from cxr.models.training.trainer import TrainingJob
from cxr.results import evaluation, exporting
from cxr.storage.addresses import open_storage
from tests.conftest import ROOT, preprocess
from tests.support.keras_process import run_with_keras


@pytest.fixture(scope="module")
def work(phantoms, tmp_path_factory):
    """A work folder with the phantoms preprocessed."""
    folder = tmp_path_factory.mktemp("work")
    preprocess(phantoms, folder)
    return folder


def job(work, phantoms, folder, settings: TrainingSettings, name="MobileNetV2", weights=None):
    cache = pixel_cache.fill_pixel_cache(
        read_table(work / "clean_metadata.csv"),
        open_storage(str(phantoms)),
        settings.image_size,
        settings.harmonise,
        work,
    )
    return TrainingJob(
        name=name,
        architecture=name,
        settings=settings,
        folder=folder,
        weights=weights,
        weights_sha256="",
        manifest=work / "clean_metadata.csv",
        pixels=cache,
        class_weights={"0": 1.2, "1": 0.9},
    )


def train(work, phantoms, folder, settings, **options) -> Training:
    worker.run_job(job(work, phantoms, folder, settings, **options), folder / "log", 1)
    return Training.read(folder / "training.json")


@pytest.fixture(scope="module")
def whole(work, phantoms, tmp_path_factory):
    """An undisturbed training of two epochs."""
    folder = tmp_path_factory.mktemp("whole") / "MobileNetV2"
    return folder, train(work, phantoms, folder, two_epochs())


def two_epochs() -> TrainingSettings:
    return training_settings("demo", image_size=32, epochs=2, patience=2, min_sensitivity=0.9)


def images_computed(path) -> int:
    """Return how many images a file of features' times counts."""
    return timing.Timed.read(path).stage.images


def same(first: Training, second: Training) -> bool:
    timeless = {"seconds", "stages", "images_per_second", "milliseconds", "model_sha256"}
    return first.model_dump(exclude=timeless) == second.model_dump(exclude=timeless)


def test_training_leaves_what_the_design_promises(whole):
    """A row of history.csv for each fit of the head and each epoch; no checkpoints; the tuned epoch of the highest score."""
    folder, record = whole
    assert {p.name for p in folder.iterdir()} - {".lock", "log"} == {
        "model.keras", "history.csv", "scores_val.csv", "scores_val_worlds.csv", "training.json", "features.json",
    }  # fmt: skip
    history = read_table(folder / "history.csv")
    assert list(history["phase"]) == ["frozen"] * len(head_fitting.PENALTIES) + ["fine_tune"] * 2
    assert tuple(history["penalty"].astype(float)[:3]) == head_fitting.PENALTIES
    assert list(history["epoch"].astype(int)) == [0, 0, 0, 1, 2] and record.epochs == 2
    assert [stage.name for stage in record.stages] == ["features", "frozen", "fine_tune", "stress"]
    tuned = history[history["phase"] == "fine_tune"]
    tuned = tuned.set_index(tuned["epoch"].astype(int))
    clean = tuned["val_auroc"].astype(float)
    score = (clean + tuned["stress_auroc"].astype(float)) / 2
    assert record.best_epoch == int(score.idxmax())
    assert record.val["auroc"] == pytest.approx(clean[record.best_epoch], abs=1e-9)


def test_the_stress_worlds_are_scored_by_the_published_model(whole, work):
    """A column a world; clean scores are those of validation; AUROCs are scikit-learn's, and the mean is that of the epoch."""
    folder, record = whole
    table = read_table(folder / "scores_val_worlds.csv")
    assert list(table.columns) == ["image", "patient_id", "label", "clean", *WORLDS]
    scores = read_table(folder / "scores_val.csv").set_index("image")["raw_score"]
    clean = table["clean"].astype(float)
    assert np.allclose(clean, scores[table["image"]].astype(float), atol=1e-5)
    for world in record.robustness.worlds:
        raw = table[world.world].astype(float)
        assert world.auroc == pytest.approx(roc_auc_score(table["label"].astype(int), raw))
    history = read_table(folder / "history.csv")
    best = history[history["epoch"].astype(int) == record.best_epoch].iloc[-1]
    assert float(best["stress_auroc"]) == pytest.approx(record.robustness.mean_auroc, abs=1e-6)


@pytest.mark.parametrize(("epochs", "name"), [(0, "MobileNetV2"), (1, "VGG16")])
def test_the_model_that_is_published_is_that_of_its_best_epoch_where_it_is_the_last(
    epochs, name, work, phantoms, tmp_path
):
    """Its validation scores have the AUROC that its best epoch."""
    settings = training_settings("demo", image_size=32, epochs=epochs, min_sensitivity=0.9)
    record = train(work, phantoms, tmp_path / name, settings, name=name)
    assert record.best_epoch == epochs
    history = read_table(tmp_path / name / "history.csv")
    best = history["val_auroc"].astype(float)[history["epoch"].astype(int) == epochs].max()
    scores = read_table(tmp_path / name / "scores_val.csv")
    found = roc_auc_score(scores["label"].astype(int), scores["raw_score"].astype(float))
    assert found == pytest.approx(best, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNetV2", "VGG16"])
def test_the_whole_network_learns_and_a_killed_training_repeats_it(name, work, phantoms, tmp_path):
    """No features, no fit of the head; dropout, augmentation and optimizer are, after a kill, as if never killed."""
    settings = two_epochs().model_copy(
        update={"learns": "whole", "balanced": True, "dropout": 0.2, "epochs": 3, "patience": 3}
    )
    folder = tmp_path / "undisturbed"
    record = train(work, phantoms, folder, settings, name=name)
    killed = job(work, phantoms, tmp_path / "killed", settings, name=name)
    run_and_kill(killed, 1)
    worker.run_job(killed, tmp_path / "log", 1)
    again = Training.read(tmp_path / "killed" / "training.json")
    assert same(again, record)
    history = read_table(folder / "history.csv")
    assert set(history["phase"]) == {"fine_tune"}
    assert not (folder / "features.json").exists()


def test_a_model_that_learned_whole_keeps_the_state_of_its_optimizer():
    """Compiled anew for publishing, with itself as the part that was trained."""
    run_with_keras("""
import keras, numpy as np
from cxr.models.training import publishing

pixels = keras.Input((4,))
model = keras.Model(pixels, keras.layers.Dense(1, activation="sigmoid")(pixels))
model.compile("adam", "binary_crossentropy")
model.fit(np.eye(4), np.array([[0], [1], [0], [1]]), epochs=2, verbose=0)
state = publishing.optimizer_sha256(model)
publishing._copy_optimizer(model, model)
assert publishing.optimizer_sha256(model) == state
assert int(model.optimizer.iterations) == 2
""")


def test_dropout_repeats_no_draw_of_an_earlier_epoch():
    """An epoch begins with the draw that follows the last one of the epoch before, whatever was drawn since."""
    run_with_keras("""
from types import SimpleNamespace
import keras, numpy as np
from cxr.core.settings import TrainingSettings
from cxr.models.training.learning import fine_tuning

pixels = keras.Input((8,))
model = keras.Model(pixels, keras.layers.Dropout(0.5, name="dropout")(pixels))
settings = TrainingSettings(dropout=0.5, batch_size=4, seed=7)
training = SimpleNamespace(settings=settings, train=np.arange(10))
state = model.get_layer("dropout").seed_generator.state
fine_tuning._seed_dropout(model, training, epoch=0)
for _ in range(3):  # as many batches of at most 4 have 10 images
    model(np.ones((4, 8)), training=True)
after_one_epoch = state.numpy().copy()
model(np.ones((4, 8)), training=True)
fine_tuning._seed_dropout(model, training, epoch=1)
assert np.array_equal(state.numpy(), after_one_epoch)
assert state.numpy()[0] == 7
""")


def run_and_kill(the_job: TrainingJob, after: int) -> None:
    """Run a training; kill -9 after that epoch."""
    order = worker._Order(
        kind=the_job.kind(),
        job=the_job.model_dump(mode="json"),
        log=the_job.folder.with_suffix(".log"),
        gpus=None,
    )
    process = worker._start(1, subprocess.DEVNULL)
    with process:
        process.stdin.write(worker._to_line(order))
        process.stdin.flush()
        for line in process.stdout:
            told = json.loads(line)["progress"]
            if told["step"] == "epochs" and told["note"] and told["done"] == after:
                time.sleep(0.05)
                os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("after", [pytest.param((0, 1), marks=pytest.mark.slow), (1,)], ids=str)
def test_a_training_killed_at_any_epoch_ends_like_an_undisturbed_one(
    whole, work, phantoms, tmp_path, after
):
    """After kill -9 behind the head (0), behind an epoch, then the same job: same scores, same optimizer, same history."""
    folder, record = whole
    resumed = tmp_path / "MobileNetV2"
    resumed.mkdir()
    for epoch in after:
        run_and_kill(job(work, phantoms, resumed, two_epochs()), epoch)
        assert not (resumed / "training.json").exists()
    assert same(train(work, phantoms, resumed, two_epochs()), record)
    figures = [
        read_table(each / "history.csv").drop(columns="seconds") for each in (folder, resumed)
    ]
    assert figures[0].equals(figures[1])


@pytest.mark.slow
def test_changed_test_labels_change_nothing_that_is_trained_or_chosen(
    whole, work, phantoms, tmp_path
):
    """The labels of test swapped in the manifest: same epochs, calibration, threshold and validation metrics."""
    table = read_table(work / "clean_metadata.csv")
    table["label"] = table["label"].where(table["split"] != "test", 1 - table["label"])
    write_table(table, tmp_path / "swapped.csv")
    the_job = job(work, phantoms, tmp_path / "MobileNetV2", two_epochs())
    swapped = the_job.model_copy(update={"manifest": tmp_path / "swapped.csv"})
    worker.run_job(swapped, tmp_path / "log", 1)
    assert same(Training.read(tmp_path / "MobileNetV2" / "training.json"), whole[1])


def test_a_worker_ends_with_its_parent(work, phantoms, tmp_path):
    """The parent killed by kill -9: the training process is gone within seconds, so it cannot write any more."""
    code = (
        "import pathlib, sys\n"
        "from cxr.models.compute import worker; from cxr.models.training import trainer\n"
        "job = trainer.TrainingJob.model_validate_json(sys.stdin.read())\n"
        "worker.run_job(job, pathlib.Path(sys.argv[1]), 1, print)"
    )
    long = training_settings("demo", image_size=32, epochs=500, patience=500)
    parent = subprocess.Popen(
        [sys.executable, "-u", "-c", code, str(tmp_path / "log")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, cwd=ROOT,
    )  # fmt: skip
    with parent:
        parent.stdin.write(job(work, phantoms, tmp_path / "a", long).model_dump_json())
        parent.stdin.close()
        while "epochs" not in parent.stdout.readline():
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


def test_a_worker_that_fails_says_why(work, phantoms, tmp_path):
    """The error carries the worker's own message, or the last lines of its log."""
    with pytest.raises(TrainingError, match=r"see .*log; its last lines"):
        train(work, phantoms, tmp_path, two_epochs(), name="AlexNet")


def test_export_is_the_trained_model_in_a_fresh_process(whole, work, phantoms, tmp_path):
    """Loaded elsewhere, model.keras gives the same scores to 1e-5 and has the same optimizer; test is then scored."""
    folder, record = whole
    run = folder.parent
    exporting.stage_model(run, record)
    the_job = job(work, phantoms, folder, two_epochs())
    test = evaluation.EvaluationJob(
        run=run, training=record, manifest=the_job.manifest, pixels=the_job.pixels
    )
    worker.run_job(test, tmp_path / "log", 1)
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
        worker.run_job(test.model_copy(update={"training": changed}), tmp_path / "log", 1)


@pytest.mark.slow
def test_features_of_shards_made_side_by_side_are_those_of_a_training(whole, phantoms, tmp_path):
    """Two processes make a shard each; the training then computes none, ends the same, and tells of all of them."""
    preprocess(phantoms, tmp_path / "work")
    the_job, folder = (
        job(tmp_path / "work", phantoms, tmp_path / "sharded", two_epochs()),
        tmp_path / "sharded",
    )

    def shard(at: int) -> None:
        worker.run_job(FeatureJob(**dict(the_job), shard=(at, 2)), tmp_path / f"log{at}", 1)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(shard, (1, 2)))
    worker.run_job(the_job, tmp_path / "log", 1)
    made = [
        images_computed(folder / name)
        for name in ("features.json", "features-1of2.json", "features-2of2.json")
    ]
    assert made[0] == 0 and min(made[1:]) > 0
    assert sum(made) == images_computed(whole[0] / "features.json")
    done = Training.read(folder / "training.json")
    assert same(done, whole[1]) and done.stages[0].images == sum(made)
    assert (folder / "scores_val.csv").read_bytes() == (whole[0] / "scores_val.csv").read_bytes()


@pytest.mark.slow
def test_a_warm_start_costs_what_the_new_images_cost(work, phantoms, tmp_path):
    """From a finished model, with more images: fine-tuned only, features of the new images alone, scores that go on."""
    before = two_epochs().model_copy(update={"train_fraction": 0.7})
    first = train(work, phantoms, tmp_path / "first", before)
    table = read_table(work / "clean_metadata.csv")
    some = session.train_positions(table, before)
    every = session.train_positions(table, two_epochs())
    assert len(some) < len(every)
    the_job = job(work, phantoms, tmp_path / "second", two_epochs())
    init = {"init": str(tmp_path / "first" / "model.keras")}
    worker.run_job(the_job.model_copy(update=init), tmp_path / "log", 1)
    second = Training.read(tmp_path / "second" / "training.json")
    assert set(read_table(tmp_path / "second" / "history.csv")["phase"]) == {"fine_tune"}
    made = images_computed(tmp_path / "second" / "features.json")
    assert made == two_epochs().turns() * len(set(every) - set(some))
    assert "first" in second.weights and first.model_sha256 != second.model_sha256
    # The first one had no dropout.
    slowly = {"fine_tune_learning_rate": 1e-12, "epochs": 1, "dropout": 0.2}
    still = two_epochs().model_copy(update=slowly)
    the_job = job(work, phantoms, tmp_path / "still", still)
    worker.run_job(the_job.model_copy(update=init), tmp_path / "log", 1)
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
from cxr.models.compute import backend; from cxr.models.training import trainer
mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
backend.device_scope, backend.configure = mirrored.scope, lambda: None
trainer.TrainingJob.model_validate_json(sys.stdin.read()).work(lambda told: None)
assert mirrored.num_replicas_in_sync == 2
"""
    settings = two_epochs().model_copy(update={"epochs": 1})
    the_job = job(work, phantoms, tmp_path / "mirrored", settings).model_dump_json()
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
    assert record.epochs == 1 and record.val["auroc"] is not None


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
        record = train(work, phantoms, tmp_path / "first", two_epochs())
        (tmp_path / "resumed").mkdir()
        run_and_kill(job(work, phantoms, tmp_path / "resumed", two_epochs()), 1)
        assert same(train(work, phantoms, tmp_path / "resumed", two_epochs()), record)
    assert (
        "jax" in record.versions
        and "tensorflow" not in record.versions
        and list((tmp_path / "compiled").iterdir())
    )
    code = """
import json, sys
import keras, numpy as np
from cxr.models import scoring; from cxr.models.training.session import Session; from cxr.models.training.trainer import TrainingJob
job = Session(TrainingJob.model_validate_json(sys.stdin.read()), print)
assert keras.backend.backend() == "tensorflow"
scores = scoring.score_images(keras.models.load_model(job.folder / "model.keras"), job.pixels, job.val)
np.save(job.folder / "again.npy", scores)
"""
    the_job = job(work, phantoms, tmp_path / "first", two_epochs()).model_dump_json()
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


def test_early_stopping_ends_fine_tuning():
    """Patience counts epochs since the best one; the fits of the head do not count; a warm start only fine-tunes."""
    settings = TrainingSettings(epochs=9, patience=2)
    head_only = TrainingSettings(epochs=0)

    def rows(phase, *values):
        return [
            {"phase": phase, "val_auroc": value, "stress_auroc": value - 0.1} for value in values
        ]

    def fits_head(settings, init):
        return TrainingJob.model_construct(settings=settings, init=init).fits_head()

    head = rows("frozen", 0.99, 0.9, 0.9)
    assert checkpoints.wants_epoch(head, settings)
    assert checkpoints.wants_epoch(head + rows("fine_tune", 0.7, 0.9, 0.8), settings)
    assert not checkpoints.wants_epoch(head + rows("fine_tune", 0.7, 0.9, 0.8, 0.9), settings)
    assert not checkpoints.wants_epoch(
        head + rows("fine_tune", *np.linspace(0.7, 0.9, 9)), settings
    )
    assert not checkpoints.wants_epoch(head, head_only)
    assert fits_head(settings, "")
    assert fits_head(head_only, "model.keras"), "no epoch of fine-tuning: the head alone learns"
    assert not fits_head(settings, "model.keras")


def test_epochs_are_judged_by_clean_and_stressed_validation_alike():
    """Kept is the epoch of the highest mean of both, not that of the highest clean AUROC."""
    epochs = [(0.99, 0.90), (0.98, 0.95), (0.97, 0.95)]
    history = [
        {"epoch": number, "phase": "fine_tune", "val_auroc": clean, "stress_auroc": stressed}
        for number, (clean, stressed) in enumerate(epochs, 1)
    ]
    assert checkpoints.best_row(history)["epoch"] == 2


@pytest.mark.parametrize("positives", [0.1, 0.5, 0.8])
def test_a_balanced_epoch_has_as_many_images_of_each_class(positives):
    """As long as the set, every image of the rarer class in it about equally often; another order in each epoch."""
    labels = (np.random.default_rng(0).random(501) < positives).astype(int)
    order = fine_tuning.epoch_order(labels, True, np.random.default_rng(1))
    assert len(order) == 500
    assert labels[order].sum() == 250
    rare = int(positives < 0.5)
    counts = np.bincount(order, minlength=501)[labels == rare]
    assert np.ptp(counts) <= 1
    assert not np.array_equal(
        order, fine_tuning.epoch_order(labels, True, np.random.default_rng(2))
    )


def test_each_penalty_is_fitted_until_validation_stops_gaining():
    """From the same start; a fit ends `patience` rounds after its best one, or after ROUNDS; the best round is kept."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 5)).astype(np.float32)
    labels = (features[:, 0] + rng.normal(size=60) > 0).astype(int)
    start = head_fitting.Solution(np.ones((5, 1), np.float32), np.zeros(1, np.float32), np.inf)
    seen = []
    aurocs = iter([0.5, 0.8, 0.8, 0.7, 0.9, 0.8, 0.7, *np.linspace(0.5, 0.9, 20)])

    def validate(solution):
        seen.append(solution)
        return next(aurocs)

    fits = head_fitting.fit(start, features, labels, np.ones(60), validate, patience=2)
    assert [fit.auroc for fit in fits] == [0.8, 0.9, 0.9]
    assert [fit.penalty for fit in fits] == list(head_fitting.PENALTIES)
    assert [fit.solution for fit in fits] == [seen[1], seen[4], seen[-1]]
    assert len(seen) == 4 + 3 + head_fitting.ROUNDS


@pytest.mark.parametrize(
    ("given", "epochs"),
    [
        ({}, 6),
        ({"passes": 1}, 1),
        ({"passes": 3}, 3),
        ({"passes": 3, "augmented_copies": 1}, 2),
        ({"epochs": 0}, 0),
        ({"fine_tune_epochs": 2}, 2),
    ],
)
def test_fine_tuning_sees_each_pass_once_where_nothing_else_is_asked_for(given, epochs):
    """One epoch for each pass, of which there are at most augmentations + 1; a number given by hand wins, 0 included."""
    assert TrainingSettings(**given).tuning_epochs() == epochs


def test_epochs_under_both_names_are_refused_and_records_of_version_0_1_are_read():
    """There `epochs` were those of the head; a person who gives both cannot mean today's, a record does not."""
    with pytest.raises(ValueError, match="found epochs 20 and fine_tune_epochs 2"):
        TrainingSettings(epochs=20, fine_tune_epochs=2)
    run = {"id": "a", "manifest_sha256": "", "weights": {}, "version": "0.1.0"}
    settings = {"epochs": 20, "fine_tune_epochs": None, "passes": 1}
    found = Run.parse(json.dumps(run | {"settings": settings}).encode(), "run.json").settings
    assert found.epochs is None and found.tuning_epochs() == 1
    settings = {"epochs": 20, "fine_tune_epochs": 0}
    found = Run.parse(json.dumps(run | {"settings": settings}).encode(), "run.json").settings
    assert found.epochs == 0
    assert (
        Run.parse(json.dumps(run | {"settings": {"epochs": 3}}).encode(), "").settings.epochs == 3
    )
    schema = TrainingSettings.model_json_schema()["properties"]
    assert schema["fine_tune_epochs"]["deprecated"] and "epochs" in schema


def test_the_last_layer_comes_to_where_scikit_learn_ends():
    """Round by round the same weights and log loss as one long logistic regression, from a random start, class weights included."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 30)).astype(np.float32)
    labels = (features[:, 0] + 0.5 * features[:, 1] + rng.normal(size=400) > 0.7).astype(int)
    weights, penalty = np.where(labels, 1.6, 0.7), 1e-2
    kernel = rng.normal(size=(30, 1)).astype(np.float32)
    layer = head_fitting.Solution(kernel, np.zeros(1, np.float32), np.inf)
    for _ in range(8):
        before, layer = (
            layer,
            head_fitting.fit_head(layer.kernel, layer.bias, features, labels, weights, penalty),
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


class NoJob(worker.Job):
    """A job that names another type as its own."""

    def work(self, emit):
        """Never come to this."""
        raise AssertionError

    @classmethod
    def kind(cls) -> str:
        """Return a type that is no job."""
        return "cxr.models.compute.worker:Progress"


def test_a_prestarted_worker_does_the_next_job_and_unused_ones_end(tmp_path):
    """A job takes a living one with its threads; a dead one is passed over; those waiting count; none outlives the `with`."""
    with worker.prestarted_workers({1: 3}), worker.prestarted_workers({1: 2}):
        first, second, third = worker._Workers.waiting[1]
        first.kill()
        first.wait()
        with pytest.raises(TrainingError, match=r"expected a job .* found <class '.*Progress'>"):
            worker.run_job(NoJob(), tmp_path / "log", 1)
        assert (
            worker._Workers.waiting[1] == [third]
            and second.returncode == 1
            and third.poll() is None
        )
    assert third.returncode == 3 and not worker._Workers.waiting[1]


def test_pixel_cache_notices_a_changed_image(work, phantoms, tmp_path):
    """A file that changed after inspection is an error, not other pixels under the old label."""
    table = read_table(work / "clean_metadata.csv").head(2).assign(md5="0")
    with pytest.raises(DataError, match="changed since"):
        pixel_cache.fill_pixel_cache(table, open_storage(str(phantoms)), 33, True, tmp_path)
    assert not list((tmp_path / "cache").glob("*/*.keys"))


def test_pixel_cache_holds_resized_gray_images(work, phantoms):
    """uint8 (n, side, side) in the order of the table, whatever order they were decoded in; decoded once."""
    table = read_table(work / "clean_metadata.csv")
    path = pixel_cache.fill_pixel_cache(table, open_storage(str(phantoms)), 32, True, work)
    held = pixel_cache.load_pixels(path, table)
    assert held.shape == (len(table), 32, 32) and held.dtype == np.uint8
    files = {each: each.stat().st_mtime_ns for each in path.glob("*.npy")}
    assert path == pixel_cache.fill_pixel_cache(
        table.iloc[::-1], open_storage(str(phantoms)), 32, True, work
    )
    assert files == {each: each.stat().st_mtime_ns for each in path.glob("*.npy")}
    assert np.array_equal(
        pixel_cache.load_pixels(path, table.iloc[::-1])[np.arange(len(table))], held[::-1]
    )
    assert path != pixel_cache.fill_pixel_cache(
        table.head(2), open_storage(str(phantoms)), 32, False, work
    )


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
