"""The features that a training learns from, and the model that computes them.

A training computes what the cache does not hold. `FeatureJob` computes a part of it before, so that
several machines can share the work.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from cxr.core import timing
from cxr.core.settings import TrainingSettings
from cxr.models.compute import backend
from cxr.models.compute.worker import Emit, Progress
from cxr.models.features import features
from cxr.models.features.features import Source
from cxr.models.networks import architectures, model_surgery
from cxr.models.training.session import Session, TrainingInputs
from cxr.storage.arrays import Rows

_BATCH_NORM_IMAGES = 32  # that give a random network its batch normalisation statistics
Array = np.ndarray[Any, Any]


class FeatureJob(TrainingInputs):
    """Compute the features of one shard of a training's rows.

    What is missing then, the training computes itself.

    Attributes:
        shard: Which shard, counted from 1, and of how many.
    """

    shard: tuple[int, int]

    def work(self, emit: Emit) -> None:
        """Compute the features into the cache; note the time in the training's folder."""
        number, shards = self.shard
        session = Session(self, emit)
        session.feature_time = self.folder / f"features-{number}of{shards}.json"
        with backend.device_scope():
            # Before the rows are split: a random network's statistics are those of all of train.
            model = starting_model(session)
            session.train = np.array_split(session.train, shards)[number - 1]
            session.val = np.array_split(session.val, shards)[number - 1]
            compute_features(model, session)


class TrainingData(NamedTuple):
    """What a part of the network learns from.

    Attributes:
        train: For each pass the features of the train rows, in the order of Session.train.
        val: The features of the validation rows, in the order of Session.val.
    """

    train: list[Rows]
    val: Rows


class TrainingFeatures(NamedTuple):
    """The features of a training.

    Attributes:
        head: What the head learns from: pooled features. If no head is fitted, it is `top`.
        top: What the top learns from: activations at the cut.
    """

    head: TrainingData
    top: TrainingData


def starting_model(session: Session) -> Any:
    """Return the whole model as training begins: pretrained, random, or the one to start from."""
    import keras

    if session.job.init:
        return keras.models.load_model(session.job.init, compile=False)
    model = architectures.build_model(session.architecture, session.settings, session.job.weights)
    if session.job.weights is None:
        step = max(1, len(session.train) // _BATCH_NORM_IMAGES)
        positions = session.train[::step][:_BATCH_NORM_IMAGES]
        pixels = session.pixels[positions][..., np.newaxis]
        model_surgery.init_batch_norm(model, pixels, backend.call_in_training_mode)
    return model


def compute_features(whole: Any, session: Session) -> TrainingFeatures:
    """Return the features of a training, computing those that the cache does not hold.

    Args:
        whole: The whole model, as training begins.
        session: The training.
    """
    count = _progress_counter(session.emit)
    started = time.perf_counter()
    source = Source(
        root=session.caches,
        architecture=session.architecture,
        settings=session.settings,
        pixels=session.pixels,
        keys=session.keys,
        model=whole,
    )
    passes = _augmentation_indices(session)
    top = _cut_features(source, passes, session, count)
    head = top
    if session.job.fits_head():
        head = _pooled_features(source, top, passes, session, count)
    seconds = time.perf_counter() - started
    timing.add(session.feature_time, "features", source.computed, seconds)
    return TrainingFeatures(head, top)


def count_images(
    train: int,
    val: int,
    settings: TrainingSettings,
) -> int:
    """Return how many images go through a part of the network in `compute_features`.

    Args:
        train: How many images train.
        val: How many images validate.
        settings: How the network is trained.
    """
    cut_passes = settings.turns()
    head_passes = _head_passes(settings)
    return train * (cut_passes + head_passes) + 2 * val


def _head_passes(settings: TrainingSettings) -> int:
    """Return how many passes the head is fitted on.

    If fine-tuning follows, which sees all passes itself, the first is enough.
    """
    return 1 if settings.tuning_epochs() else settings.turns()


def _progress_counter(emit: Emit) -> Callable[[int], None]:
    """Return a function that is told of more images done, and tells the parent process of all."""
    done = 0

    def count(images: int) -> None:
        nonlocal done
        done += images
        emit(Progress(step="features", done=done))

    return count


def _augmentation_indices(session: Session) -> list[Array]:
    """Return, for each pass, the augmentation index of each train row, int (n,)."""
    settings = session.settings
    keys = [session.keys[position] for position in session.train]
    passes = []
    for number in range(settings.turns()):
        indices = [features.augmentation_index(key, number, settings.views) for key in keys]
        passes.append(np.array(indices))
    return passes


def _unchanged(session: Session) -> Array:
    """Return the augmentation index of each validation row: 0, the image itself."""
    return np.zeros(len(session.val), int)


def _cut_features(
    source: Source,
    passes: list[Array],
    session: Session,
    count: Callable[[int], None],
) -> TrainingData:
    """Return the activations at the cut: exact for validation, compact for training."""
    policy = backend.precision_policy(session.architecture)
    unchanged = _unchanged(session)
    val = features.cut_features(
        source,
        session.val,
        unchanged,
        "float32",
        "float32",
        count,
    )
    train = [
        features.cut_features(
            source,
            session.train,
            indices,
            policy,
            "float16",
            count,
        )
        for indices in passes
    ]
    return TrainingData(train, val)


def _pooled_features(
    source: Source,
    cut: TrainingData,
    passes: list[Array],
    session: Session,
    count: Callable[[int], None],
) -> TrainingData:
    """Return the pooled features of the passes that the head is fitted on."""
    keys = features.feature_keys(source, session.val, _unchanged(session))
    val = features.pooled_features(source, cut.val, keys, count)
    train = []
    for number in range(_head_passes(session.settings)):
        keys = features.feature_keys(source, session.train, passes[number])
        train.append(features.pooled_features(source, cut.train[number], keys, count))
    return TrainingData(train, val)
