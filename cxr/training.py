"""One architecture trained in one process: a frozen phase, then its top released; resumable at every epoch.

Run as `python -m cxr.training` by `child.run`. Everything random is drawn from (seed, epoch), and the history
on disk is the only state beside the checkpoint, so a killed training goes on to the result of an undisturbed one.
"""

import hashlib
import math
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from cxr import architectures, child, metrics, pixels, scoring, splits, validation
from cxr.records import Training, file_sha256, publishing, read_table, write_table
from cxr.settings import TrainingSettings

Emit = Callable[[dict[str, Any]], None]
Rows = list[dict[str, Any]]


class Job:
    """What the child was asked for, with the rows it needs."""

    def __init__(self, job: dict[str, Any], emit: Emit):
        self.name, self.architecture, self.emit = job["name"], job["architecture"], emit
        self.settings = TrainingSettings.model_validate(job["settings"])
        self.folder = Path(job["folder"])
        self.weights: str | None = job["weights"]
        self.weights_sha256: str = job["weights_sha256"]
        self.class_weights = {int(label): weight for label, weight in job["class_weights"].items()}
        self.table = read_table(Path(job["manifest"]))
        self.pixels = pixels.load(Path(job["pixels"]))
        self.val = np.flatnonzero(self.table["split"] == "val")
        train = self.table[self.table["split"] == "train"]
        self.train = splits.subset(train, self.settings.train_fraction, self.settings.seed).index.to_numpy()

    def labels(self, positions: Any) -> Any:
        """Return the labels of rows, int (n,)."""
        return self.table["label"].to_numpy()[positions]


def main(raw: dict[str, Any], emit: Emit) -> None:
    """Train to the end and publish model.keras, history.csv, scores_val.csv and, last, training.json."""
    child.limit_threads()
    job = Job(raw, emit)
    job.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(job.folder / ".lock", timeout=60):
        history, model = _resume(job)
        while phase := _phase(history, job.settings):
            model = _enter(phase, history, model, job)
            history = _epoch(phase, history, model, job)
        _publish(history, job)


def _phase(history: Rows, settings: TrainingSettings) -> str | None:
    """Return the phase of the next epoch, or None when training is over."""
    for phase, most in (("frozen", settings.epochs), ("fine_tune", settings.fine_tune_epochs)):
        done = [row["val_auroc"] for row in history if row["phase"] == phase]
        stale = len(done) - 1 - int(np.argmax(done)) if done else 0
        if len(done) < most and stale < settings.patience:
            return phase
    return None


def _resume(job: Job) -> tuple[Rows, Any]:
    """Return the epochs done before and their model as it was, or nothing and None."""
    import keras

    path = job.folder / "history.csv"
    if not path.is_file():
        return [], None
    table = read_table(path)
    numbers = [name for name in table.columns if name != "phase"]
    history: Rows = table.astype(dict.fromkeys(numbers, float)).to_dict("records")  # type: ignore[assignment]
    checkpoint = _checkpoint(job, len(history))
    return history, keras.models.load_model(checkpoint) if checkpoint.is_file() else None


def _checkpoint(job: Job, epochs: int) -> Path:
    return job.folder / f"checkpoint-{epochs:04d}.keras"


def _best(job: Job) -> Path:
    return job.folder / "best.keras"


def _enter(phase: str, history: Rows, model: Any, job: Job) -> Any:
    """Return the model ready for the phase's next epoch: as it is, built anew, or the best one with its top released."""
    import keras

    if history and history[-1]["phase"] == phase and model is not None:
        return model
    if phase == "frozen":
        model = architectures.build(job.architecture, job.settings, job.weights)
        if job.weights is None:
            _reseed(model, job.settings.seed, 0)
            architectures.settle(model, job.pixels[job.train[:: max(1, len(job.train) // 64)][:64]][..., np.newaxis])
        step = job.settings.learning_rate
    else:
        model = keras.models.load_model(_best(job))
        architectures.release_top(model, job.architecture)
        step = job.settings.fine_tune_learning_rate
    model.compile(keras.optimizers.Adam(step), "binary_crossentropy", jit_compile=False)
    return model


def _epoch(phase: str, history: Rows, model: Any, job: Job) -> Rows:
    """Train one epoch, publish its checkpoint and then the history that includes it; return that history."""
    import keras

    epoch = len(history)
    _reseed(model, job.settings.seed, epoch)
    started = time.perf_counter()
    row: dict[str, Any] = {"epoch": epoch + 1, "phase": phase}
    best = max((past["val_auroc"] for past in history), default=None)
    callbacks = [
        _progress(job, epoch),
        _validation(job),
        keras.callbacks.ModelCheckpoint(
            _best(job), monitor="val_auroc", mode="max", save_best_only=True, initial_value_threshold=best
        ),
    ]
    fitted = model.fit(
        _batches(job, epoch), shuffle=False, initial_epoch=epoch, epochs=epoch + 1, class_weight=job.class_weights,
        callbacks=callbacks, verbose=0,
    )  # fmt: skip
    row |= {name: float("nan" if values[-1] is None else values[-1]) for name, values in fitted.history.items()}
    row["seconds"] = round(time.perf_counter() - started, 2)
    with publishing(_checkpoint(job, epoch + 1)) as temporary:
        model.save(temporary)
    history = [*history, row]
    write_table(pd.DataFrame(history).astype({"epoch": int}), job.folder / "history.csv")
    _checkpoint(job, epoch).unlink(missing_ok=True)
    job.emit({"epoch": epoch + 1, "phase": phase, "loss": row["loss"], "val_auroc": row["val_auroc"]})
    return history


def _batches(job: Job, epoch: int) -> Any:
    """Return this epoch's shuffled batches: (uint8 pixels (n, side, side, 1), labels (n,))."""
    import keras

    order = np.random.default_rng([job.settings.seed, epoch]).permutation(job.train)
    size = job.settings.batch_size

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return math.ceil(len(order) / size)

        def __getitem__(self, at: int) -> Any:
            rows = order[at * size : (at + 1) * size]
            return job.pixels[rows][..., np.newaxis], job.labels(rows).astype(np.float32)

    return Batches()


def _reseed(model: Any, seed: int, epoch: int) -> None:
    """Set the state of every random layer from (seed, epoch): a resumed epoch draws what it would have drawn."""
    for at, layer in enumerate(model.layers):
        generator = getattr(layer, "generator", None) or getattr(layer, "seed_generator", None)
        if generator is not None:
            generator.state.assign(np.random.default_rng([seed, epoch, at]).integers(0, 2**31, 2).astype("uint32"))


def _validation(job: Job) -> Any:
    """Return a callback that adds the exact validation figures at 0.5 to the epoch's logs."""
    import keras

    class Validation(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            scores = scoring.score(self.model, job.pixels, job.val, job.settings.batch_size)
            found = metrics.figures(job.labels(job.val), scores, 0.5)
            for name in ("auroc", "auprc", "accuracy", "precision", "sensitivity", "specificity"):
                (logs if logs is not None else {})[f"val_{name}"] = found[name]

    return Validation()


def _progress(job: Job, epoch: int) -> Any:
    """Return a callback that emits the share of the epoch done, about twice a second."""
    import keras

    steps, last = -(-len(job.train) // job.settings.batch_size), [0.0]

    class Progress(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if time.monotonic() - last[0] > 0.5:
                last[0] = time.monotonic()
                job.emit({"done": epoch + (batch + 1) / steps})

    return Progress()


def _publish(history: Rows, job: Job) -> None:
    """Rename the best model, score validation with it, and write the record last."""
    import keras

    model_path = job.folder / "model.keras"
    if _best(job).is_file():
        _best(job).replace(model_path)
    model = keras.models.load_model(model_path)
    raw = scoring.score(model, job.pixels, job.val, job.settings.batch_size)
    rows = job.table.iloc[job.val]
    found = validation.chosen(rows.assign(raw_score=raw), job.settings)
    scoring.write_scores(rows, raw, found["calibration"].apply(raw), job.folder / "scores_val.csv")
    seconds = sum(row["seconds"] for row in history)
    best = max(history, key=lambda row: row["val_auroc"])
    Training(
        name=job.name,
        architecture=job.architecture,
        seed=job.settings.seed,
        weights="none" if job.weights is None else Path(job.weights).name,
        weights_sha256=job.weights_sha256,
        image_size=job.settings.image_size,
        epochs=len(history),
        best_epoch=int(best["epoch"]),
        seconds=round(seconds, 2),
        images_per_second=round(len(job.train) * len(history) / seconds, 2),
        milliseconds=_milliseconds(model, job),
        **found,
        model_sha256=file_sha256(model_path),
        optimizer_sha256=optimizer_sha256(model),
        versions=_versions(),
    ).write(job.folder / "training.json")
    for checkpoint in job.folder.glob("checkpoint-*.keras"):
        checkpoint.unlink()


def _milliseconds(model: Any, job: Job) -> float:
    """Return the time to score one image, the least of three batches: other trainings only ever add to it."""
    batch = np.resize(job.val, job.settings.batch_size)
    times = []
    for _ in range(4):  # the first one builds the function
        started = time.perf_counter()
        scoring.score(model, job.pixels, batch, len(batch))
        times.append(time.perf_counter() - started)
    return round(1000 * min(times[1:]) / len(batch), 3)


def optimizer_sha256(model: Any) -> str:
    """Return the SHA-256 of the optimizer's variables, in order: equal when its state is."""
    digest = hashlib.sha256()
    for variable in model.optimizer.variables:
        digest.update(np.ascontiguousarray(variable.numpy()).tobytes())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    import keras
    import tensorflow

    import cxr

    return {
        "cxr": cxr.__version__,
        "keras": keras.__version__,
        "tensorflow": tensorflow.__version__,
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    child.serve(main)
