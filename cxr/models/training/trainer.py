"""One architecture trained in one process, on features computed once; resumable at every epoch.

First the head alone is fitted on pooled features, once for each of a few penalties. Then the best of these heads and the
top of the network learn together, epoch by epoch, from activations kept at the architecture's cut. The saved model is whole
again.

Everything random is drawn from (seed, epoch), and the history on disk is the only state beside the checkpoint, so a killed
training goes on to the result of an undisturbed one.
"""

import hashlib
import math
import platform
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from filelock import FileLock

from cxr.core import timing
from cxr.core.errors import TrainingError
from cxr.core.files import atomic_write, file_sha256, read_table, write_table
from cxr.core.settings import TrainingSettings
from cxr.core.timing import Stage
from cxr.data import splits
from cxr.data.images import pixel_cache
from cxr.models import architectures, model_surgery, scoring
from cxr.models.compute import backend
from cxr.models.compute.worker import Emit, Job, Progress
from cxr.models.features import features
from cxr.models.training import head_fitting, validation
from cxr.models.training.records import Training
from cxr.stats import metrics
from cxr.storage.arrays import Rows

WHOLE_TOLERANCE = 1e-4  # of scores from pixels against those from cached activations
_CHECKED = 4
_SETTLING = 32  # images that give a random network its batch normalisation statistics
_VALIDATED = ("auroc", "auprc", "accuracy", "precision", "sensitivity", "specificity")
_WARM_UP = 0.2  # of the steps of fine-tuning: the fitted head's gradients are small, and Adam's first steps are not
History = list[dict[str, Any]]
Array = np.ndarray[Any, Any]


class TrainingJob(Job):
    """Train one architecture with one seed.

    Attributes:
        name: The name of the training, and of its folder.
        architecture: Which network.
        settings: How it is trained, with the seed of this training.
        folder: Where the training's files go.
        weights: "imagenet", a weight file, or None for random weights.
        weights_sha256: The SHA-256 of the weight file, or "".
        manifest: clean_metadata.csv.
        pixels: The folder of the pixel cache.
        class_weights: The weight in the loss of each label, "0" and "1".
        init: The model.keras to start from, "" for none.
        sharing: How many trainings share the machine.
    """

    name: str
    architecture: str
    settings: TrainingSettings
    folder: Path
    weights: str | None
    weights_sha256: str
    manifest: Path
    pixels: Path
    class_weights: dict[str, float]
    init: str = ""
    sharing: int = 1

    def work(self, emit: Emit) -> None:
        """Train to the end; publish model.keras, history.csv, scores_val.csv and, last, training.json."""
        train(Session(self, emit))


class Session:
    """A job with the rows that it works on.

    Attributes:
        table: The manifest.
        pixels: The pixels of all its rows, uint8 (n, side, side).
        keys: What names the pixels of each row.
        train: The rows that train, int (n,).
        val: The rows that validate, int (n,).
    """

    def __init__(self, job: TrainingJob, emit: Emit):
        self.job = job
        self.emit = emit
        self.name = job.name
        self.architecture = job.architecture
        self.settings = job.settings
        self.folder = job.folder
        self.caches = job.pixels.parent
        self.feature_time = job.folder / "features.json"
        self.class_weights = np.array([job.class_weights[label] for label in ("0", "1")])
        self.table = read_table(job.manifest)
        self.pixels = pixel_cache.load_pixels(job.pixels, self.table)
        self.keys = list(self.table["pixel_sha256"])
        self.train, self.val = positions(self.table, self.settings)

    def labels(self, rows: Any) -> Any:
        """Return the labels of rows, int (n,)."""
        return self.table["label"].to_numpy()[rows]


class Data(NamedTuple):
    """What a part of the network learns from: rows of train for each pass, in the order of Session.train, and rows of val."""

    train: list[Rows]
    val: Rows


def positions(table: pd.DataFrame, settings: TrainingSettings) -> tuple[Array, Array]:
    """Return the rows of the manifest that train and those that validate, int arrays."""
    train = table[table["split"] == "train"]
    chosen = splits.subset_by_patient(
        train, settings.train_fraction, settings.seed
    ).index.to_numpy()
    return chosen, np.flatnonzero(table["split"] == "val")


def passes(train: int, val: int, settings: TrainingSettings) -> int:
    """Return how many images go through a part of the network before anything learns."""
    each = settings.turns()
    return train * (each + (1 if settings.tuning_epochs() else each)) + 2 * val


def train(session: Session) -> None:
    """Train to the end and publish what came out; go on where an earlier attempt was killed."""
    session.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(session.folder / ".lock", timeout=60), backend.device_scope():
        whole = initial(session)
        head, top = compute_features(whole, session)
        history, model = _resume(session)
        if not history and _fits_head(session):
            history, model = _fit_head(whole, head, session)
        while _wants_epoch(history, session):
            if not _tuned(history):
                model = _top_to_tune(history, whole, session)
            history = _fine_tune_epoch(history, model, top, session)
        _publish(history, model, whole, head, top, session)


def initial(session: Session) -> Any:
    """Return the whole model as training begins: pretrained, random and settled, or the one to go on from."""
    import keras

    if session.job.init:
        return keras.models.load_model(session.job.init, compile=False)
    model = architectures.build_model(session.architecture, session.settings, session.job.weights)
    if session.job.weights is None:
        some = session.train[:: max(1, len(session.train) // _SETTLING)][:_SETTLING]
        model_surgery.init_batch_norm(
            model, session.pixels[some][..., np.newaxis], backend.call_in_training_mode
        )
    return model


def compute_features(whole: Any, session: Session) -> tuple[Data, Data]:
    """Return what the head and what the top learn from, computing the features that are not kept yet.

    If fine-tuning follows, which sees all passes itself, the head is fitted on the first pass alone.
    """
    settings = session.settings
    done = 0

    def count(images: int) -> None:
        nonlocal done
        done += images
        session.emit(Progress(step="features", done=done))

    started = time.perf_counter()
    source = features.Source(
        session.caches, session.architecture, settings, session.pixels, session.keys, whole
    )
    policy = backend.precision_policy(session.architecture)
    plain = np.zeros(len(session.val), int)
    val = features.cut_features(source, session.val, plain, "float32", "float32", count)
    views = [
        np.array(
            [
                features.augmentation_index(session.keys[at], turn, settings.views)
                for at in session.train
            ]
        )
        for turn in range(settings.turns())
    ]
    passes = [
        features.cut_features(source, session.train, seen, policy, "float16", count)
        for seen in views
    ]
    top = Data(passes, val)
    head = top
    if _fits_head(session):
        names = features.feature_keys(source, session.val, plain)
        pooled_val = features.pooled_features(source, val, names, count)
        needed = 1 if settings.tuning_epochs() else len(passes)
        pooled = [
            features.pooled_features(
                source, rows, features.feature_keys(source, session.train, seen), count
            )
            for rows, seen in zip(passes[:needed], views[:needed], strict=True)
        ]
        head = Data(pooled, pooled_val)
    seconds = time.perf_counter() - started
    timing.add(session.feature_time, "features", source.computed, seconds)
    return head, top


def _fits_head(session: Session) -> bool:
    """Return whether the head is fitted; a model to start from has one already, if it is fine-tuned."""
    return not (session.job.init and session.settings.tuning_epochs())


def _tuned(history: History) -> History:
    """Return the epochs of fine-tuning alone."""
    return [row for row in history if row["phase"] == "fine_tune"]


def _wants_epoch(history: History, session: Session) -> bool:
    """Return whether another epoch of fine-tuning follows."""
    found = [_auroc(row) for row in _tuned(history)]
    stale = len(found) - 1 - int(np.argmax(found)) if found else 0
    return len(found) < session.settings.tuning_epochs() and stale < session.settings.patience


def _resume(session: Session) -> tuple[History, Any]:
    """Return the history so far and the head or top as it was after its last epoch, or nothing and None."""
    import keras

    path = session.folder / "history.csv"
    if not path.is_file():
        return [], None
    table = read_table(path)
    numbers = [name for name in table.columns if name != "phase"]
    history: History = table.astype(dict.fromkeys(numbers, float)).to_dict("records")  # type: ignore[assignment]
    checkpoint = _checkpoint(session, _last_epoch(history))
    if not checkpoint.is_file():  # of a training that ended, and whose model was damaged since
        return [], None
    return history, backend.use_fast_conv_gradient(keras.models.load_model(checkpoint))


def _checkpoint(session: Session, epoch: int) -> Path:
    """Return where the head (epoch 0), or the top after an epoch of fine-tuning, is kept."""
    return session.folder / f"checkpoint-{epoch:04d}.keras"


def _last_epoch(history: History) -> int:
    """Return the number of the last epoch of fine-tuning, 0 before the first."""
    return len(_tuned(history))


def _auroc(row: dict[str, Any]) -> float:
    return float(row["val_auroc"])


def _best(history: History) -> dict[str, Any]:
    """Return the epoch whose model is kept, the first of equals: of fine-tuning where there was any, else of the head's fits.

    The head alone can look as good on validation, which does not see the shift to other hospitals; a top tuned from a
    fitted head holds better there (Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform
    Out-of-Distribution", ICLR 2022).
    """
    return max(_tuned(history) or history, key=_auroc)


def _fit_head(whole: Any, data: Data, session: Session) -> tuple[History, Any]:
    """Fit the head with each penalty, publish the best as epoch 0, then the history; return that history and the head."""
    width = whole.get_layer("features").output.shape[-1]
    model = architectures.build_head(width, session.settings)
    # Unused, but a saved model has an optimizer.
    model.compile("adam", "binary_crossentropy", jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    layer = model.get_layer("score")
    labels = np.tile(session.labels(session.train), len(data.train))

    kernel, bias = layer.get_weights()

    def figures(solution: head_fitting.Solution) -> dict[str, Any]:
        layer.set_weights([solution.kernel, solution.bias])
        return _figures(model, data, "frozen", session)

    fits = head_fitting.fit(
        head_fitting.Solution(kernel, bias, np.inf),
        np.concatenate([rows[:] for rows in data.train]),
        labels,
        session.class_weights[labels],
        lambda solution: float(figures(solution)["val_auroc"]),
        session.settings.patience,
    )
    history = [
        {"epoch": 0, "phase": "frozen", "penalty": fit.penalty, "loss": fit.solution.loss}
        | figures(fit.solution)
        | {"seconds": round(fit.seconds, 3)}
        for fit in fits
    ]
    best = max(fits, key=lambda fit: fit.auroc)
    layer.set_weights([best.solution.kernel, best.solution.bias])
    note = f"last layer, val AUROC {best.auroc:.4f}"
    _record_epoch(history, model, note, session)
    return history, model


def _figures(model: Any, data: Data, phase: str, session: Session) -> dict[str, Any]:
    """Return the validation figures of a model at the threshold 0.5, by their columns in history.csv."""
    scores = scoring.score_images(model, data.val, np.arange(len(data.val)), _batch(phase, session))
    found = metrics.compute_metrics(session.labels(session.val), scores, 0.5)
    return {f"val_{name}": found[name] for name in _VALIDATED}


def _record_epoch(history: History, model: Any, note: str, session: Session) -> None:
    """Publish the checkpoint of the last epoch and then the history that includes it; tell the parent."""
    epoch = _last_epoch(history)
    with atomic_write(_checkpoint(session, epoch)) as temporary:
        model.save(temporary)
    table = pd.DataFrame(history).astype({"epoch": int})
    write_table(table, session.folder / "history.csv")
    kept = {epoch, int(_best(history)["epoch"])}
    for done in set(range(epoch)) - kept:
        _checkpoint(session, done).unlink(missing_ok=True)
    session.emit(Progress(step="epochs", done=epoch, note=note))


def _top_to_tune(history: History, whole: Any, session: Session) -> Any:
    """Return what lies above the cut, released and compiled, with the fitted head where there is one."""
    import keras

    settings = session.settings
    if history:
        model_surgery.copy_weights(whole, keras.models.load_model(_checkpoint(session, 0)))
    model = backend.use_fast_conv_gradient(_top(whole, session))
    model_surgery.unfreeze_top(model, session.architecture)
    steps = settings.tuning_epochs() * math.ceil(len(session.train) / settings.batch_size)
    slow = int(_WARM_UP * steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - slow, warmup_target=settings.fine_tune_learning_rate, warmup_steps=slow
    )
    model.compile(
        keras.optimizers.Adam(schedule), "binary_crossentropy", jit_compile=backend.uses_xla()
    )
    # Else the first step builds it, and is then traced twice.
    model.optimizer.build(model.trainable_variables)
    return model


def _top(whole: Any, session: Session) -> Any:
    """Return what lies above the cut, with these weights, computing in bfloat16 where that pays.

    Never in float16: its gradients would need their loss scaled.
    """
    policy = backend.precision_policy(session.architecture)
    if policy != "mixed_bfloat16":
        return model_surgery.submodel(whole, session.architecture, "cut", "score")
    half = architectures.build_model(session.architecture, session.settings, None, policy)
    half.set_weights(whole.get_weights())
    return model_surgery.submodel(half, session.architecture, "cut", "score")


def _fine_tune_epoch(history: History, model: Any, data: Data, session: Session) -> History:
    """Learn once from each train image, publish the epoch; return the history that includes it."""
    started = time.perf_counter()
    epoch = _last_epoch(history)
    rows = data.train[epoch % len(data.train)]
    learner, given = _learner(model, rows, session)
    fitted = learner.fit(
        backend.as_dataset(lambda: _batches(given, session, epoch)),
        initial_epoch=epoch,
        epochs=epoch + 1,
        callbacks=[_progress_callback(session, epoch)],
        verbose=0,
    )
    row = {
        "epoch": epoch + 1,
        "phase": "fine_tune",
        "penalty": 0.0,
        "loss": float(fitted.history["loss"][-1]),
    }
    row |= _figures(model, data, "fine_tune", session)
    row |= {"seconds": round(time.perf_counter() - started, 3)}
    history = [*history, row]
    note = f"fine-tuning, val AUROC {row['val_auroc']:.4f}"
    _record_epoch(history, model, note, session)
    return history


def _batch(phase: str, session: Session) -> int | None:
    """Return how many images are scored at a time: the head alone has so little to do that a call costs more."""
    return session.settings.batch_size if phase == "frozen" else None


def _learner(model: Any, rows: Rows, session: Session) -> tuple[Any, Callable[[Array], Array]]:
    """Return what learns from these rows, and what it is given for some of them: the rows, or their numbers.

    Where a GPU has room they stay on it for the epoch, as `backend.resident` has it.
    """
    if not backend.fits_in_memory(rows.shape, rows.dtype, session.job.sharing):
        return model, lambda some: rows[some].astype(np.float32)
    learner, place = _resident(model, rows.shape, str(rows.dtype))
    place.assign(rows[:])
    return learner, lambda some: some.astype(np.int32)


_resident = lru_cache(maxsize=1)(
    backend.keep_on_device
)  # one for all epochs: each would be compiled anew


def _batches(
    given: Callable[[Array], Array], session: Session, epoch: int
) -> Iterator[tuple[Array, Array, Array]]:
    """Yield this epoch's shuffled batches: what is `given` for positions in train; labels and weights, float32.

    Where steps are compiled the last batch is filled up with images of weight 0, because a second size is a second
    compilation; its other weights grow by as much as the mean over it shrinks. (Of the loss that Keras tells for the epoch such a
    batch has the share of a full one.)
    """
    order = np.random.default_rng([session.settings.seed, epoch]).permutation(len(session.train))
    labels, size = session.labels(session.train), session.settings.batch_size
    for start in range(0, len(order), size):
        some = order[start : start + size]
        weights = session.class_weights[labels[some]]
        if backend.uses_xla():
            weights = np.pad(weights * size / len(some), (0, size - len(some)))
            some = np.resize(some, size)
        yield given(some), labels[some, np.newaxis].astype(np.float32), weights.astype(np.float32)


def _progress_callback(session: Session, epoch: int) -> Any:
    """Return a Keras callback that tells the parent, twice a second at most, how much of the epoch is done."""
    import keras

    steps = -(-len(session.train) // session.settings.batch_size)

    class Tell(keras.callbacks.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.told = 0.0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras names them
            now = time.perf_counter()
            if now - self.told > 0.5:
                self.told = now
                session.emit(Progress(step="epochs", done=epoch + (batch + 1) / steps))

    return Tell()


def _publish(
    history: History, model: Any, whole: Any, head: Data, top: Data, session: Session
) -> None:
    """Make the best model whole, prove it so, save it, score validation with it, and write the record last."""
    best = _best(history)
    is_last = int(best["epoch"]) == _last_epoch(history)
    trained = model if is_last else _reloaded(best, session)
    raw = _made_whole(best, trained, whole, head, top, session)
    milliseconds = _prove(whole, raw, session)
    _take_optimizer(whole, trained)
    model_path = session.folder / "model.keras"
    with atomic_write(model_path) as temporary:
        whole.save(temporary)
    rows = session.table.iloc[session.val]
    found = validation.fit_on_validation(rows.assign(raw_score=raw), session.settings)
    scoring.write_scores(
        rows, raw, found["calibration"].apply(raw), session.folder / "scores_val.csv"
    )
    stages = _stages(history, session)
    seconds = sum(stage.seconds for stage in stages)
    Training(
        name=session.name,
        architecture=session.architecture,
        seed=session.settings.seed,
        weights=_origin(session.job),
        weights_sha256=session.job.weights_sha256,
        image_size=session.settings.image_size,
        epochs=_last_epoch(history),
        best_epoch=int(best["epoch"]),
        seconds=round(seconds, 2),
        stages=stages,
        images_per_second=round(len(session.train) * len(history) / seconds, 2),
        milliseconds=milliseconds,
        **found,
        model_sha256=file_sha256(model_path),
        optimizer_sha256=optimizer_sha256(whole),
        versions=_versions(),
    ).write(session.folder / "training.json")
    for path in session.folder.glob("checkpoint-*.keras"):
        path.unlink(missing_ok=True)


def _origin(job: TrainingJob) -> str:
    """Return in words where the weights come from that the training began with."""
    if job.init:
        return "those of " + "/".join(Path(job.init).parts[-3:-1])
    return "none" if job.weights is None else Path(job.weights).name


def _reloaded(row: dict[str, Any], session: Session) -> Any:
    """Return the trained part as it was after that epoch."""
    import keras

    return keras.models.load_model(_checkpoint(session, int(row["epoch"])))


def _made_whole(
    best: dict[str, Any], trained: Any, whole: Any, head: Data, top: Data, session: Session
) -> Array:
    """Give `whole` what `trained` has learned up to the best epoch; return the raw scores of validation."""
    fine = best["phase"] == "fine_tune"
    data = top if fine else head
    model_surgery.copy_weights(whole, trained)  # below the cut nothing was trained
    exact = backend.precision_policy(session.architecture) == "float32"
    above = (
        trained
        if exact or not fine
        else model_surgery.submodel(whole, session.architecture, "cut", "score")
    )
    raw = scoring.score_images(
        above, data.val, np.arange(len(data.val)), _batch(best["phase"], session)
    )
    for layer in whole.layers:
        layer.trainable = layer.name == "score"
    if fine:
        model_surgery.unfreeze_top(whole, session.architecture)
    return raw


def _take_optimizer(whole: Any, trained: Any) -> None:
    """Compile `whole` with the state of the optimizer that trained a part of it; not for XLA, which TensorFlow's resizing lacks."""
    import keras

    config = keras.optimizers.serialize(trained.optimizer)
    whole.compile(keras.optimizers.deserialize(config), "binary_crossentropy", jit_compile=False)
    whole.optimizer.build(whole.trainable_variables)
    state = {variable.path: variable for variable in trained.optimizer.variables}
    for variable in whole.optimizer.variables:
        variable.assign(state[variable.path])


def _prove(whole: Any, raw: Array, session: Session) -> float:
    """Return the milliseconds that scoring one image takes, the least of two batches: other trainings only add to it.

    Raises TrainingError where the whole model's scores from pixels are not those from cached activations.
    """
    some = np.unique(np.linspace(0, len(session.val) - 1, _CHECKED).astype(int))
    again = scoring.score_images(
        whole, session.pixels, session.val[some], len(some)
    )  # builds the function, too
    difference = float(np.abs(again - raw[some]).max())
    if difference > WHOLE_TOLERANCE:
        raise TrainingError(
            f"{session.name}: scores of the whole model differ from those of its cached activations by {difference:.2g} "
            f"(expected at most {WHOLE_TOLERANCE}): remove {session.caches} (`cxr cache prune`) and run again"
        )
    times = []
    for _ in range(2):
        started = time.perf_counter()
        scoring.score_images(whole, session.pixels, session.val[some], len(some))
        times.append(time.perf_counter() - started)
    return round(1000 * min(times) / len(some), 3)


def _stages(history: History, session: Session) -> tuple[Stage, ...]:
    """Return what features, the head's fits and fine-tuning took, an image counted once for each fit and epoch.

    The time of features is that of all attempts and shards. The peak memory is of this process, so of the last attempt.
    """
    memory = timing.peak_memory()
    computed = [timing.Timed.read(path).stage for path in session.folder.glob("features*.json")]
    taken = {
        "features": (
            sum(stage.images for stage in computed),
            sum(stage.seconds for stage in computed),
        )
    }
    for name in ("frozen", "fine_tune"):
        rows = [row for row in history if row["phase"] == name]
        taken[name] = (len(session.train) * len(rows), sum(row["seconds"] for row in rows))
    return tuple(
        Stage(name=name, images=images, seconds=round(seconds, 2), memory=memory)
        for name, (images, seconds) in taken.items()
        if images
    )


def optimizer_sha256(model: Any) -> str:
    """Return the SHA-256 of the optimizer's variables, in order: equal when its state is."""
    digest = hashlib.sha256()
    for variable in model.optimizer.variables:
        digest.update(np.ascontiguousarray(variable.numpy()).tobytes())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    import keras

    from cxr.core import __version__

    return {
        "cxr": __version__,
        "keras": keras.__version__,
        **backend.backend_version(),
        "python": platform.python_version(),
    }
