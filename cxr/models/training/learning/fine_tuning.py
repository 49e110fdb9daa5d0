"""Fine-tuning, epoch by epoch: the top learns from activations at the cut, or all from images.

Everything random in an epoch is drawn from (seed, epoch), so a resumed training repeats it.
"""

import math
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from cxr.data.images.changes.changed_images import ChangedImages
from cxr.models.compute import backend, feeding, keras_internals
from cxr.models.compute.worker import Progress
from cxr.models.networks import architectures, model_surgery
from cxr.models.training import checkpoints, validation
from cxr.models.training.checkpoints import History
from cxr.models.training.feature_extraction import TrainingData
from cxr.models.training.session import Session
from cxr.storage.arrays import Rows

# The share of all steps in which the learning rate rises: the gradients of a fitted head are small,
# and Adam's first steps are not.
_WARM_UP = 0.2
_SECONDS_BETWEEN_REPORTS = 0.5
Array = np.ndarray[Any, Any]

# One learner for all epochs: each would be compiled anew.
_learner_on_device = lru_cache(maxsize=1)(feeding.keep_on_device)


def build_learner(
    history: History,
    whole: Any,
    session: Session,
) -> Any:
    """Return the part of the network that learns, unfrozen and compiled.

    Args:
        history: If it has rows, the weights of the head are those of the best fit.
        whole: The whole model; it gets these weights, too.
        session: The training.
    """
    import keras

    if history:
        model_surgery.copy_weights(whole, checkpoints.load_checkpoint(session, 0))
    model = keras_internals.use_fast_conv_gradient(_part_that_learns(whole, session))
    if session.settings.learns == "whole":
        model_surgery.unfreeze_all(model)
    else:
        model_surgery.unfreeze_top(model, session.architecture)
    optimizer = keras.optimizers.Adam(_learning_rate(session))
    model.compile(
        optimizer,
        "binary_crossentropy",
        jit_compile=backend.uses_xla(),
    )
    # If the first step built it, that step would be traced twice.
    model.optimizer.build(model.trainable_variables)
    return model


def _learning_rate(session: Session) -> Any:
    """Return the schedule: up to the learning rate of the settings, then by cosine to 0."""
    import keras

    settings = session.settings
    steps_per_epoch = _steps_per_epoch(session)
    steps = settings.tuning_epochs() * steps_per_epoch
    warm_up = int(_WARM_UP * steps)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=steps - warm_up,
        warmup_target=settings.learning_rate(session.architecture),
        warmup_steps=warm_up,
    )


def _steps_per_epoch(session: Session) -> int:
    """Return how many batches an epoch has."""
    images = len(session.train)
    if session.settings.balanced:
        images -= images % 2
    return math.ceil(images / session.settings.batch_size)


def _part_that_learns(whole: Any, session: Session) -> Any:
    """Return the network above the cut, or all of it, with these weights, in bfloat16 where it pays.

    Never in float16: its gradients would need their loss scaled.
    """
    policy = backend.precision_policy(session.architecture)
    model = whole
    if policy == "mixed_bfloat16":
        model = architectures.build_model(
            session.architecture,
            session.settings,
            weights=None,
            policy=policy,
        )
        model.set_weights(whole.get_weights())
    if session.settings.learns == "whole":
        return model
    return model_surgery.submodel(model, session.architecture, "cut", "score")


def fine_tune_epoch(
    history: History,
    model: Any,
    data: TrainingData[Any],
    session: Session,
) -> History:
    """Learn once from each train image, and publish the epoch.

    Args:
        history: The rows so far.
        model: What learns, as `build_learner` returns it; it learns in place.
        data: Activations at the cut, or images.
        session: The training.

    Returns:
        The history with a row for the epoch.
    """
    started = time.perf_counter()
    epoch = checkpoints.last_epoch(history)
    rows = data.train[epoch % len(data.train)]
    learner, read = _learner(model, rows, session)
    _seed_dropout(model, session, epoch)
    fitted = learner.fit(
        feeding.as_dataset(lambda: epoch_batches(read, session, epoch)),
        initial_epoch=epoch,
        epochs=epoch + 1,
        callbacks=[_progress_callback(session, epoch)],
        verbose=0,
    )
    row: checkpoints.Row = {
        "epoch": epoch + 1,
        "phase": checkpoints.FINE_TUNING,
        "penalty": 0.0,
        "loss": float(fitted.history["loss"][-1]),
    }
    row |= validation.epoch_metrics(model, data, checkpoints.FINE_TUNING, session)
    row["seconds"] = round(time.perf_counter() - started, 3)
    history = [*history, row]
    note = f"fine-tuning, val AUROC {row['val_auroc']:.4f}"
    checkpoints.record_epoch(history, model, note, session)
    return history


def _seed_dropout(model: Any, session: Session, epoch: int) -> None:
    """Let dropout draw from (seed, number of the step), so that a resumed training repeats it.

    Keras counts the second number up in each step: a lower start would repeat an earlier epoch's.
    """
    if session.settings.dropout:
        first_step = epoch * _steps_per_epoch(session)
        state = model.get_layer("dropout").seed_generator.state
        state.assign(np.array([session.settings.seed, first_step], state.dtype))


def _learner(
    model: Any,
    rows: Rows | ChangedImages,
    session: Session,
) -> tuple[Any, Callable[[Array], Array]]:
    """Return the model to call `fit` on, and a function from positions in `rows` to its inputs.

    Where a GPU has room for them the rows stay on it for the epoch; its inputs are then positions.
    """
    if isinstance(rows, ChangedImages):
        return model, lambda positions: rows[positions][..., np.newaxis].astype(np.float32)
    if not feeding.fits_in_memory(rows.shape, rows.dtype, session.job.sharing):
        return model, lambda positions: rows[positions].astype(np.float32)
    learner, variable = _learner_on_device(model, rows.shape, str(rows.dtype))
    variable.assign(rows[:])
    return learner, lambda positions: positions.astype(np.int32)


def epoch_batches(
    read: Callable[[Array], Array],
    session: Session,
    epoch: int,
) -> Iterator[tuple[Array, Array, Array]]:
    """Yield the shuffled batches of an epoch.

    Where steps are compiled the last batch is filled up with images of weight 0, because a second
    size is a second compilation; its other weights grow by as much as the mean over it shrinks. (In
    the loss that Keras reports for the epoch such a batch counts as much as a full one.)

    Args:
        read: Returns the inputs of the model for positions in Session.train.
        session: The training.
        epoch: Which epoch; with the seed it decides the order.

    Yields:
        The inputs, the labels, float32 (n, 1), and the weights in the loss, float32 (n,).
    """
    size = session.settings.batch_size
    labels = session.labels(session.train)
    rng = np.random.default_rng([session.settings.seed, epoch])
    order = epoch_order(labels, session.settings.balanced, rng)
    class_weights = np.ones(2) if session.settings.balanced else session.class_weights
    for start in range(0, len(order), size):
        positions = order[start : start + size]
        weights = class_weights[labels[positions]]
        if backend.uses_xla():
            images = len(positions)
            weights = np.pad(weights * size / images, (0, size - images))
            positions = np.resize(positions, size)
        targets = labels[positions, np.newaxis]
        yield (
            read(positions),
            targets.astype(np.float32),
            weights.astype(np.float32),
        )


def epoch_order(
    labels: Array,
    balanced: bool,
    rng: np.random.Generator,
) -> Array:
    """Return the order in which an epoch takes the images, positions, int (n,).

    Args:
        labels: 0 or 1 for each image, int (n,).
        balanced: Take as many of each class: each image of the rarer class several times, of the
            other class only a part.
        rng: Decides the order.
    """
    if not balanced:
        return rng.permutation(len(labels))
    wanted = len(labels) // 2
    chosen = []
    for label in (0, 1):
        members = np.flatnonzero(labels == label)
        repeats = -(-wanted // len(members))
        permutations = [rng.permutation(members) for _ in range(repeats)]
        chosen.append(np.concatenate(permutations)[:wanted])
    return rng.permutation(np.concatenate(chosen))


def _progress_callback(session: Session, epoch: int) -> Any:
    """Return a Keras callback that tells the parent process how much of the epoch is done."""
    import keras

    steps = _steps_per_epoch(session)

    class ProgressCallback(keras.callbacks.Callback):  # type: ignore[misc]  # mypy skips Keras
        def __init__(self) -> None:
            super().__init__()
            self.last_report = 0.0

        def on_train_batch_end(
            self,
            batch: int,
            logs: Any = None,  # noqa: ARG002 - Keras passes it
        ) -> None:
            now = time.perf_counter()
            if now - self.last_report > _SECONDS_BETWEEN_REPORTS:
                self.last_report = now
                session.emit(Progress(step="epochs", done=epoch + (batch + 1) / steps))

    return ProgressCallback()
