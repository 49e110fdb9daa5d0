"""One architecture trained in one process, on features computed once; resumable at every epoch.

First the last layer alone on pooled features, once for each of a few regularisations; then the best of these with the
top of the network released, on activations kept at the architecture's cut. The saved model is whole again.

Done by `child.run`. Everything random is drawn from (seed, epoch), and the history on disk is the only state
beside the checkpoint, so a killed training goes on to the result of an undisturbed one.
"""

import hashlib
import math
import platform
import resource
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from filelock import FileLock

from cxr import (
    architectures,
    backend,
    features,
    last_layer,
    metrics,
    pixels,
    scoring,
    splits,
    validation,
)
from cxr.cache import Rows
from cxr.errors import TrainingError
from cxr.records import Record, Stage, Training, file_sha256, publishing, read_table, write_table
from cxr.settings import TrainingSettings

WHOLE_TOLERANCE = 1e-4  # of scores from pixels against those from cached activations
_CHECKED = 4
_SETTLING = 32  # images that give a random network its batch normalisation statistics
_VALIDATED = ("auroc", "auprc", "accuracy", "precision", "sensitivity", "specificity")
_WARM_UP = 0.2  # of the steps of fine-tuning: the solved layer's gradients are small, and Adam's first steps are not
Emit = Callable[[dict[str, Any]], None]
History = list[dict[str, Any]]
Array = np.ndarray[Any, Any]


class Job:
    """What the child was asked for, with the rows it needs."""

    def __init__(self, job: dict[str, Any], emit: Emit):
        self.name, self.architecture, self.emit = job["name"], job["architecture"], emit
        self.settings = TrainingSettings.model_validate(job["settings"])
        self.folder, self.caches = Path(job["folder"]), Path(job["pixels"]).parent
        self.efforts = self.folder / job.get("efforts", "features.json")
        self.weights: str | None = job["weights"]
        self.weights_sha256: str = job["weights_sha256"]
        self.init: str = job.get("init", "")
        self.sharing: int = job.get("sharing", 1)  # trainings at a time
        self.class_weights = np.array([job["class_weights"][label] for label in ("0", "1")])
        self.table = read_table(Path(job["manifest"]))
        self.pixels = pixels.load(Path(job["pixels"]), self.table)
        self.keys = list(self.table["pixel_sha256"])
        self.train, self.val = positions(self.table, self.settings)

    def labels(self, rows: Any) -> Any:
        """Return the labels of rows, int (n,)."""
        return self.table["label"].to_numpy()[rows]


class Data(NamedTuple):
    """What one kind of phase learns from: rows of train for each pass, in the order of Job.train, and rows of val."""

    train: list[Rows]
    val: Rows


class Phase(NamedTuple):
    """A stretch of epochs: its name, the last layer's penalty, and how many epochs at most."""

    name: str
    penalty: float
    epochs: int


class Efforts(Record):
    """features*.json: what computing features has taken so far, over all attempts, in training or in a shard before."""

    images: int = 0
    seconds: float = 0.0
    bare: float = 0.0


def positions(table: pd.DataFrame, settings: TrainingSettings) -> tuple[Array, Array]:
    """Return the rows of the manifest that train and those that validate, int arrays."""
    train = table[table["split"] == "train"]
    chosen = splits.subset(train, settings.train_fraction, settings.seed).index.to_numpy()
    return chosen, np.flatnonzero(table["split"] == "val")


def passes(train: int, val: int, settings: TrainingSettings) -> int:
    """Return how many images go through a part of the network before anything learns."""
    each = settings.turns()
    return train * (each + (1 if settings.tuning_epochs() else each)) + 2 * val


def most_epochs(settings: TrainingSettings) -> int:
    """Return how many epochs there are where no phase stops early."""
    return len(last_layer.PENALTIES) * settings.epochs + settings.tuning_epochs()


def main(raw: dict[str, Any], emit: Emit) -> None:
    """Train to the end and publish model.keras, history.csv, scores_val.csv and, last, training.json."""
    job = Job(raw, emit)
    job.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(job.folder / ".lock", timeout=60), backend.scope():
        whole = initial(job)
        head, top = learned_from(whole, job)
        history, model = _resume(job)
        while phase := _phase(history, job):
            model = _enter(phase, history, model, whole, job)
            history = _epoch(phase, history, model, top if phase.name == "fine_tune" else head, job)
        _publish(history, model, whole, head, top, job)


def initial(job: Job) -> Any:
    """Return the whole model as training begins: pretrained, random and settled, or the one to go on from."""
    import keras

    if job.init:
        return keras.models.load_model(job.init, compile=False)
    model = architectures.build(job.architecture, job.settings, job.weights)
    if job.weights is None:
        some = job.train[:: max(1, len(job.train) // _SETTLING)][:_SETTLING]
        architectures.settle(model, job.pixels[some][..., np.newaxis], backend.in_training)
    return model


def learned_from(whole: Any, job: Job) -> tuple[Data, Data]:
    """Return what the last layer and what the top learns from, computing the features that are not kept yet.

    Where fine-tuning follows, which sees all passes itself, the last layer gets along with the first.
    """
    settings, done = job.settings, [0]

    def progress(count: int) -> None:
        done[0] += count
        job.emit({"features": done[0]})

    source = features.Source(job.caches, job.architecture, settings, job.pixels, job.keys, whole)
    policy, plain = backend.policy(job.architecture), np.zeros(len(job.val), int)
    val, effort = features.at_cut(source, job.val, plain, "float32", "float32", progress)
    efforts = [effort]
    passes: list[Rows] = []
    views = [
        np.array([features.drawn(job.keys[at], turn, settings.views) for at in job.train])
        for turn in range(settings.turns())
    ]
    for seen in views:
        rows, effort = features.at_cut(source, job.train, seen, policy, "float16", progress)
        passes, efforts = [*passes, rows], [*efforts, effort]
    top = Data(passes, val)
    if _phases(job)[0].name == "fine_tune":
        _remember(efforts, job)
        return top, top
    pooled_val, effort = features.pooled(
        source, val, features.named(source, job.val, plain), progress
    )
    efforts = [*efforts, effort]
    pooled: list[Rows] = []
    needed = 1 if settings.tuning_epochs() else len(passes)
    for rows, seen in zip(passes[:needed], views[:needed], strict=True):
        each, effort = features.pooled(
            source, rows, features.named(source, job.train, seen), progress
        )
        pooled, efforts = [*pooled, each], [*efforts, effort]
    _remember(efforts, job)
    return Data(pooled, pooled_val), top


def _remember(efforts: list[features.Effort], job: Job) -> None:
    """Add what features took to what earlier attempts have told."""
    before = Efforts.read(job.efforts) if job.efforts.is_file() else Efforts()
    images, seconds, bare = (sum(column) for column in zip(*efforts, strict=True))
    Efforts(
        images=before.images + images, seconds=before.seconds + seconds, bare=before.bare + bare
    ).write(job.efforts)


def _phases(job: Job) -> list[Phase]:
    """Return the phases in their order; a model to go on from has a last layer already, so it is only fine-tuned."""
    settings, epochs = job.settings, job.settings.tuning_epochs()
    fine = [Phase("fine_tune", 0.0, epochs)] if epochs else []
    if job.init and fine:
        return fine
    return [*(Phase("frozen", penalty, settings.epochs) for penalty in last_layer.PENALTIES), *fine]


def _phase(history: History, job: Job) -> Phase | None:
    """Return the phase of the next epoch, or None when training is over."""
    for phase in _phases(job):
        done = [
            row["val_auroc"]
            for row in history
            if (row["phase"], row["penalty"]) == (phase.name, phase.penalty)
        ]
        stale = len(done) - 1 - int(np.argmax(done)) if done else 0
        if len(done) < phase.epochs and stale < job.settings.patience:
            return phase
    return None


def _resume(job: Job) -> tuple[History, Any]:
    """Return the epochs done before and their model as it was, or nothing and None."""
    import keras

    path = job.folder / "history.csv"
    if not path.is_file():
        return [], None
    table = read_table(path)
    numbers = [name for name in table.columns if name != "phase"]
    history: History = table.astype(dict.fromkeys(numbers, float)).to_dict("records")  # type: ignore[assignment]
    checkpoint = _checkpoint(job, len(history))
    return history, backend.eased(
        keras.models.load_model(checkpoint)
    ) if checkpoint.is_file() else None


def _checkpoint(job: Job, epochs: int) -> Path:
    return job.folder / f"checkpoint-{epochs:04d}.keras"


def _auroc(row: dict[str, Any]) -> float:
    return float(row["val_auroc"])


def _best(history: History, phase: str) -> dict[str, Any]:
    """Return the phase's best epoch, the first of equals."""
    return max((row for row in history if row["phase"] == phase), key=_auroc)


def _kept(history: History) -> set[int]:
    """Return the epochs whose checkpoints are still wanted: the last one, and the best of each phase."""
    best = {int(_best(history, phase)["epoch"]) for phase in {row["phase"] for row in history}}
    return best | {len(history)}


def _enter(phase: Phase, history: History, model: Any, whole: Any, job: Job) -> Any:
    """Return the model ready for the phase's next epoch: as it is, or the phase's own, freshly compiled."""
    import keras

    if (
        history
        and model is not None
        and (history[-1]["phase"], history[-1]["penalty"]) == (phase.name, phase.penalty)
    ):
        return model
    settings = job.settings
    if phase.name == "frozen":
        model = architectures.head(whole.get_layer("features").output.shape[-1], settings)
        model.compile(
            "adam", "binary_crossentropy", jit_compile=False
        )  # unused, but a saved model has one
        model.optimizer.build(model.trainable_variables)
        return model
    if history and history[0]["phase"] == "frozen":
        architectures.take_weights(whole, _reloaded(_best(history, "frozen"), job))
    model = backend.eased(_top(whole, job))
    architectures.release_top(model, job.architecture)
    steps = phase.epochs * math.ceil(len(job.train) / settings.batch_size)
    slow = int(_WARM_UP * steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - slow, warmup_target=settings.fine_tune_learning_rate, warmup_steps=slow
    )
    model.compile(
        keras.optimizers.Adam(schedule), "binary_crossentropy", jit_compile=backend.compiled()
    )
    model.optimizer.build(
        model.trainable_variables
    )  # else by the first step, which is then traced twice
    return model


def _top(whole: Any, job: Job) -> Any:
    """Return what lies above the cut, with these weights, computing in bfloat16 where that pays.

    Never in float16: its gradients would need their loss scaled.
    """
    policy = backend.policy(job.architecture)
    if policy != "mixed_bfloat16":
        return architectures.part(whole, job.architecture, "cut", "score")
    half = architectures.build(job.architecture, job.settings, None, policy)
    half.set_weights(whole.get_weights())
    return architectures.part(half, job.architecture, "cut", "score")


def _epoch(phase: Phase, history: History, model: Any, data: Data, job: Job) -> History:
    """Train one epoch, publish its checkpoint and then the history that includes it; return that history."""
    epoch, started = len(history), time.perf_counter()
    if phase.name == "fine_tune":
        loss, bare = _fine_tune(model, data.train, epoch, job)
    else:
        loss, bare = _solve(model, phase, data.train, job)
    row: dict[str, Any] = {
        "epoch": epoch + 1,
        "phase": phase.name,
        "penalty": phase.penalty,
        "loss": loss,
    }
    scores = scoring.score(model, data.val, np.arange(len(data.val)), _batch(phase.name, job))
    found = metrics.figures(job.labels(job.val), scores, 0.5)
    row |= {f"val_{name}": found[name] for name in _VALIDATED}
    row |= {"seconds": round(time.perf_counter() - started, 3), "bare_seconds": round(bare, 3)}
    history = [*history, row]
    with publishing(_checkpoint(job, epoch + 1)) as temporary:
        model.save(temporary)
    write_table(pd.DataFrame(history).astype({"epoch": int}), job.folder / "history.csv")
    for done in set(range(1, epoch + 1)) - _kept(history):
        _checkpoint(job, done).unlink(missing_ok=True)
    job.emit(
        {
            "epoch": epoch + 1,
            "phase": phase.name,
            "loss": row["loss"],
            "val_auroc": row["val_auroc"],
        }
    )
    return history


def _batch(phase: str, job: Job) -> int | None:
    """Return how many images are scored at a time: the last layer alone has so little to do that a call costs more."""
    return job.settings.batch_size if phase == "frozen" else None


def _solve(model: Any, phase: Phase, passes: list[Rows], job: Job) -> tuple[float, float]:
    """Take the last layer an epoch further on all passes at once; return the loss, and the seconds of solving alone."""
    layer, labels = model.get_layer("score"), np.tile(job.labels(job.train), len(passes))
    features = np.concatenate([rows[:] for rows in passes])
    kernel, bias = layer.get_weights()
    solved = last_layer.solve(
        kernel, bias, features, labels, job.class_weights[labels], phase.penalty
    )
    layer.set_weights([solved.kernel, solved.bias])
    return solved.loss, solved.seconds


def _fine_tune(model: Any, passes: list[Rows], epoch: int, job: Job) -> tuple[float, float]:
    """Learn once from each train image; return the loss, and the seconds inside the steps alone."""
    rows, bare = passes[epoch % len(passes)], [0.0]
    learner, given = _learner(model, rows, job)
    fitted = learner.fit(
        backend.fed(lambda: _batches(given, job, epoch)),
        initial_epoch=epoch,
        epochs=epoch + 1,
        callbacks=[_clock(bare, job, epoch)],
        verbose=0,
    )
    return float(fitted.history["loss"][-1]), bare[0]


def _learner(model: Any, rows: Rows, job: Job) -> tuple[Any, Callable[[Array], Array]]:
    """Return what learns from these rows, and what it is given for some of them: the rows, or their numbers.

    Where a GPU has room they stay on it for the epoch, as `backend.resident` has it.
    """
    if not backend.fits(rows.shape, rows.dtype, job.sharing):
        return model, lambda some: rows[some].astype(np.float32)
    learner, place = _resident(model, rows.shape, str(rows.dtype))
    place.assign(rows[:])
    return learner, lambda some: some.astype(np.int32)


_resident = lru_cache(maxsize=1)(
    backend.resident
)  # one for all epochs: each would be compiled anew


def _batches(
    given: Callable[[Array], Array], job: Job, epoch: int
) -> Iterator[tuple[Array, Array, Array]]:
    """Yield this epoch's shuffled batches: what is `given` for positions in train; labels and weights, float32.

    Where steps are compiled the last batch is filled up with images of weight 0, because a second size is a second
    compilation; its other weights grow by as much as the mean over it shrinks. (Of the loss that Keras tells for the epoch such a
    batch has the share of a full one.)
    """
    order = np.random.default_rng([job.settings.seed, epoch]).permutation(len(job.train))
    labels, size = job.labels(job.train), job.settings.batch_size
    for start in range(0, len(order), size):
        some = order[start : start + size]
        weights = job.class_weights[labels[some]]
        if backend.compiled():
            weights = np.pad(weights * size / len(some), (0, size - len(some)))
            some = np.resize(some, size)
        yield given(some), labels[some, np.newaxis].astype(np.float32), weights.astype(np.float32)


def _clock(bare: list[float], job: Job, epoch: int) -> Any:
    """Return a callback that sums the seconds inside training steps, and emits the share of the epoch done."""
    import keras

    steps, last, begun = -(-len(job.train) // job.settings.batch_size), [0.0], [0.0]

    class Clock(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras names them
            begun[0] = time.perf_counter()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras names them
            now = time.perf_counter()
            bare[0] += now - begun[0]
            if now - last[0] > 0.5:
                last[0] = now
                job.emit({"done": epoch + (batch + 1) / steps})

    return Clock()


def _publish(history: History, model: Any, whole: Any, head: Data, top: Data, job: Job) -> None:
    """Make the best model whole, prove it so, save it, score validation with it, and write the record last."""
    best = _best(history, history[-1]["phase"])
    trained = model if best is history[-1] else _reloaded(best, job)
    raw = _made_whole(best, trained, whole, head, top, job)
    milliseconds = _prove(whole, raw, job)
    _take_optimizer(whole, trained)
    model_path = job.folder / "model.keras"
    with publishing(model_path) as temporary:
        whole.save(temporary)
    rows = job.table.iloc[job.val]
    found = validation.chosen(rows.assign(raw_score=raw), job.settings)
    scoring.write_scores(rows, raw, found["calibration"].apply(raw), job.folder / "scores_val.csv")
    stages = _stages(history, job)
    seconds = sum(stage.seconds for stage in stages)
    Training(
        name=job.name,
        architecture=job.architecture,
        seed=job.settings.seed,
        weights="those of " + "/".join(Path(job.init).parts[-3:-1])
        if job.init
        else "none"
        if job.weights is None
        else Path(job.weights).name,
        weights_sha256=job.weights_sha256,
        image_size=job.settings.image_size,
        epochs=len(history),
        best_epoch=int(best["epoch"]),
        seconds=round(seconds, 2),
        stages=stages,
        images_per_second=round(len(job.train) * len(history) / seconds, 2),
        milliseconds=milliseconds,
        **found,
        model_sha256=file_sha256(model_path),
        optimizer_sha256=optimizer_sha256(whole),
        versions=_versions(),
    ).write(job.folder / "training.json")
    for path in job.folder.glob("checkpoint-*.keras"):
        path.unlink(missing_ok=True)


def _reloaded(row: dict[str, Any], job: Job) -> Any:
    """Return the trained part as it was after that epoch."""
    import keras

    return keras.models.load_model(_checkpoint(job, int(row["epoch"])))


def _made_whole(
    best: dict[str, Any], trained: Any, whole: Any, head: Data, top: Data, job: Job
) -> Array:
    """Give `whole` what `trained` has learned up to the best epoch; return the raw scores of validation.

    The best epoch is one of fine-tuning where there is any: the last layer alone, solved to its end, can look as good on validation,
    which does not see the shift to other hospitals; a top tuned from a solved layer holds better there (Kumar et al.,
    "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution", ICLR 2022).
    """
    fine, data = best["phase"] == "fine_tune", top if best["phase"] == "fine_tune" else head
    architectures.take_weights(whole, trained)  # below the cut nothing was trained
    exact = backend.policy(job.architecture) == "float32"
    above = (
        trained
        if exact or not fine
        else architectures.part(whole, job.architecture, "cut", "score")
    )
    raw = scoring.score(above, data.val, np.arange(len(data.val)), _batch(best["phase"], job))
    for layer in whole.layers:
        layer.trainable = layer.name == "score"
    if fine:
        architectures.release_top(whole, job.architecture)
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


def _prove(whole: Any, raw: Array, job: Job) -> float:
    """Return the milliseconds that scoring one image takes, the least of two batches: other trainings only add to it.

    Raises TrainingError where the whole model's scores from pixels are not those from cached activations.
    """
    some = np.unique(np.linspace(0, len(job.val) - 1, _CHECKED).astype(int))
    again = scoring.score(whole, job.pixels, job.val[some], len(some))  # builds the function, too
    if (difference := float(np.abs(again - raw[some]).max())) > WHOLE_TOLERANCE:
        raise TrainingError(
            f"{job.name}: scores of the whole model differ from those of its cached activations by {difference:.2g} "
            f"(expected at most {WHOLE_TOLERANCE}): remove {job.caches} (`cxr cache prune`) and run again"
        )
    times = []
    for _ in range(2):
        started = time.perf_counter()
        scoring.score(whole, job.pixels, job.val[some], len(some))
        times.append(time.perf_counter() - started)
    return round(1000 * min(times) / len(some), 3)


def _stages(history: History, job: Job) -> tuple[Stage, ...]:
    """Return what features and each kind of phase took; the peak memory is of this process, so of the last attempt."""
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    efforts = [Efforts.read(path) for path in job.folder.glob("features*.json")]
    taken = [
        (
            "features",
            *(sum(getattr(each, name) for each in efforts) for name in Efforts.model_fields),
        )
    ]
    for name in ("frozen", "fine_tune"):
        rows = [row for row in history if row["phase"] == name]
        images = len(job.train) * len(rows)
        taken.append(
            (
                name,
                images,
                *(sum(row[column] for row in rows) for column in ("seconds", "bare_seconds")),
            )
        )
    return tuple(
        Stage(
            name=name,
            images=images,
            seconds=round(seconds, 2),
            limit=images / bare if bare else None,
            memory=memory,
        )
        for name, images, seconds, bare in taken
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

    import cxr

    return {
        "cxr": cxr.__version__,
        "keras": keras.__version__,
        **backend.version(),
        "python": platform.python_version(),
    }
