"""The end of a training: the best model made whole, checked, saved and scored on validation."""

import hashlib
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np

from cxr.core import __version__, timing
from cxr.core.errors import TrainingError
from cxr.core.files import atomic_write, file_sha256, read_table
from cxr.core.timing import Stage
from cxr.models import scoring, stress
from cxr.models.compute import backend
from cxr.models.networks import model_surgery
from cxr.models.training import checkpoints, validation
from cxr.models.training.checkpoints import History, Row
from cxr.models.training.feature_extraction import TrainingFeatures
from cxr.models.training.records import Training
from cxr.models.training.session import Session, TrainingInputs

TOLERANCE = 1e-4  # of scores from pixels against those from cached activations
_IMAGES_CHECKED = 4
Array = np.ndarray[Any, Any]


def publish(
    history: History,
    model: Any,
    whole: Any,
    features: TrainingFeatures,
    session: Session,
) -> None:
    """Publish model.keras, scores_val.csv and, last, training.json; remove the checkpoints.

    Args:
        history: All rows.
        model: The head or top after the last epoch.
        whole: The whole model; it gets the weights of the best epoch.
        features: What was learned from.
        session: The training.

    Raises:
        TrainingError: The whole model does not score like its parts.
    """
    best = checkpoints.best_row(history)
    best_epoch = int(best["epoch"])
    trained = model
    if best_epoch != checkpoints.last_epoch(history):
        trained = checkpoints.load_checkpoint(session, best_epoch)
    raw = _complete(whole, trained, best, features, session)
    milliseconds = check_and_time(whole, raw, session)
    _copy_optimizer(whole, trained)
    model_path = session.folder / "model.keras"
    with atomic_write(model_path) as temporary:
        whole.save(temporary)

    stage = score_worlds(whole, session)
    rows = session.table.iloc[session.val]
    worlds = read_table(session.folder / stress.VAL_SCORES)
    fit = validation.fit_on_validation(rows.assign(raw_score=raw), worlds, session.settings)
    scores = fit["calibration"].apply(raw)
    scoring.write_scores(rows, raw, scores, session.folder / "scores_val.csv")

    stages = (*_stages(history, session), stage)
    seconds = sum(stage.seconds for stage in stages)
    images = len(session.train) * len(history)
    record = Training(
        name=session.name,
        architecture=session.architecture,
        seed=session.settings.seed,
        weights=_origin(session.job),
        weights_sha256=session.job.weights_sha256,
        image_size=session.settings.image_size,
        epochs=checkpoints.last_epoch(history),
        best_epoch=best_epoch,
        seconds=round(seconds, 2),
        stages=stages,
        images_per_second=round(images / seconds, 2),
        milliseconds=milliseconds,
        **fit,
        model_sha256=file_sha256(model_path),
        optimizer_sha256=optimizer_sha256(whole),
        versions=versions(),
    )
    if session.settings.ensemble == "epochs":
        checkpoints.keep_last_epochs(history, session.folder)
    record.write(session.folder / "training.json")
    checkpoints.remove_checkpoints(session.folder)


def optimizer_sha256(model: Any) -> str:
    """Return the SHA-256 of the optimizer's variables, in order: equal when its state is."""
    digest = hashlib.sha256()
    for variable in model.optimizer.variables:
        digest.update(np.ascontiguousarray(variable.numpy()).tobytes())
    return digest.hexdigest()


def _origin(job: TrainingInputs) -> str:
    """Return what the training started from, for a person to read."""
    if job.init:
        return "those of " + "/".join(Path(job.init).parts[-3:-1])
    if job.weights is None:
        return "none"
    return Path(job.weights).name


def _complete(
    whole: Any,
    trained: Any,
    best: Row,
    features: TrainingFeatures,
    session: Session,
) -> Array:
    """Give the whole model the trained weights; return the raw scores of validation."""
    is_tuned = best["phase"] == checkpoints.FINE_TUNING
    is_whole = session.settings.learns == "whole"
    model_surgery.copy_weights(whole, trained)  # below the cut nothing was trained
    part = trained
    if is_tuned and backend.precision_policy(session.architecture) != "float32":
        # It was trained in half precision; scores are those of the saved model, which is float32.
        part = whole
        if not is_whole:
            part = model_surgery.submodel(whole, session.architecture, "cut", "score")
    data = features.top if is_tuned else features.head
    raw = validation.raw_scores(part, data.val, best["phase"], session)
    # The saved model says what was trained, and its optimizer has variables for that.
    for layer in whole.layers:
        layer.trainable = layer.name == "score"
    if is_tuned and is_whole:
        model_surgery.unfreeze_all(whole)
    elif is_tuned:
        model_surgery.unfreeze_top(whole, session.architecture)
    return raw


def score_worlds(whole: Any, session: Session) -> Stage:
    """Write the scores of validation images in the stress worlds; return what that took."""
    started = time.perf_counter()
    positions = stress.choose_images(session.table, session.val)
    keys = [session.keys[position] for position in positions]
    fused = model_surgery.fuse_batch_norm(whole)
    scores = stress.score_worlds(fused, session.pixels[positions], keys)
    rows = session.table.iloc[positions]
    stress.write_world_scores(rows, scores, session.folder / stress.VAL_SCORES)
    return Stage(
        name="stress",
        images=len(positions) * len(scores),
        seconds=round(time.perf_counter() - started, 2),
        memory=timing.peak_memory(),
    )


def _copy_optimizer(whole: Any, trained: Any) -> None:
    """Compile the whole model with the state of the optimizer that trained a part of it.

    Not for XLA, which has no counterpart of TensorFlow's resizing.
    """
    import keras

    # Where the whole network learned, `trained` may be `whole`, which gets another optimizer here.
    learned = trained.optimizer
    config = keras.optimizers.serialize(learned)
    whole.compile(keras.optimizers.deserialize(config), "binary_crossentropy", jit_compile=False)
    whole.optimizer.build(whole.trainable_variables)
    state = {}
    for variable in learned.variables:
        state[variable.path] = variable
    for variable in whole.optimizer.variables:
        variable.assign(state[variable.path])


def check_and_time(
    whole: Any,
    raw: Array,
    session: Session,
) -> float:
    """Return the milliseconds that scoring one image takes.

    They are the least of two batches: other trainings on the machine can only add to them.

    Raises:
        TrainingError: The whole model's scores from pixels are not those from cached activations.
    """
    evenly_spaced = np.linspace(0, len(session.val) - 1, _IMAGES_CHECKED)
    checked = np.unique(evenly_spaced.astype(int))
    positions = session.val[checked]
    # This first call also builds the model's function, which is not to be timed.
    scores = scoring.score_images(whole, session.pixels, positions, len(positions))
    difference = float(np.abs(scores - raw[checked]).max())
    if difference > TOLERANCE:
        raise TrainingError(
            f"{session.name}: scores of the whole model differ from those of its cached "
            f"activations by {difference:.2g} (expected at most {TOLERANCE}): "
            f"remove {session.caches} (`cxr cache prune`) and run again"
        )
    times = []
    for _ in range(2):
        started = time.perf_counter()
        scoring.score_images(whole, session.pixels, positions, len(positions))
        times.append(time.perf_counter() - started)
    return round(1000 * min(times) / len(positions), 3)


def _stages(history: History, session: Session) -> tuple[Stage, ...]:
    """Return what features, the fits of the head and fine-tuning took.

    An image counts once for each fit and epoch. The time of features is that of all attempts and
    shards. The peak memory is of this process, so of the last attempt.
    """
    paths = session.folder.glob("features*.json")
    computed = [timing.Timed.read(path).stage for path in paths]
    images = {"features": sum(stage.images for stage in computed)}
    seconds = {"features": sum(stage.seconds for stage in computed)}
    for phase in (checkpoints.HEAD, checkpoints.FINE_TUNING):
        rows = [row for row in history if row["phase"] == phase]
        images[phase] = len(session.train) * len(rows)
        seconds[phase] = sum(row["seconds"] for row in rows)
    memory = timing.peak_memory()
    return tuple(
        Stage(
            name=name,
            images=count,
            seconds=round(seconds[name], 2),
            memory=memory,
        )
        for name, count in images.items()
        if count
    )


def versions() -> dict[str, str]:
    """Return the versions of what the model was made with."""
    import keras

    return {
        "cxr": __version__,
        "keras": keras.__version__,
        **backend.backend_version(),
        "python": platform.python_version(),
    }
