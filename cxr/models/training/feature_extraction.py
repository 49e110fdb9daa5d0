"""The features that a training learns from, and the model that computes them.

A training computes what the cache does not hold. `FeatureJob` computes a part of it before, so that
several machines can share the work.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from cxr.core import timing
from cxr.core.settings import TrainingSettings
from cxr.data.images.changes import augmentation
from cxr.data.images.changes.changed_images import Change, ChangedImages
from cxr.data.images.changes.stress_worlds import WORLDS
from cxr.models import stress
from cxr.models.compute import backend
from cxr.models.compute.worker import Emit, Progress
from cxr.models.features import features
from cxr.models.features.features import Source
from cxr.models.networks import architectures, model_surgery
from cxr.models.training.session import Session, TrainingInputs
from cxr.storage.arrays import Rows, Stored

_BATCH_NORM_IMAGES = 32  # that give a random network its batch normalisation statistics
Array = np.ndarray[Any, Any]
Inputs = TypeVar("Inputs", bound=Stored | ChangedImages)


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
            session.stressed = np.array_split(session.stressed, shards)[number - 1]
            compute_features(model, session)


class TrainingData(NamedTuple, Generic[Inputs]):
    """What a network, or a part of it, learns from.

    Attributes:
        train: For each pass the features of the train rows, in the order of Session.train.
        val: The features of the validation rows, in the order of Session.val.
        worlds: For each stress world the features of rows changed so, in the order of
            Session.stressed.
    """

    train: list[Inputs]
    val: Inputs
    worlds: dict[str, Inputs]


class TrainingFeatures(NamedTuple):
    """The features of a training.

    Attributes:
        head: What the head learns from: pooled features. If no head is fitted, it is `top`.
        top: What fine-tuning learns from: activations at the cut, or images where the whole network
            learns.
    """

    head: TrainingData[Any]
    top: TrainingData[Any]


def starting_model(session: Session) -> Any:
    """Return the whole model as training begins: pretrained, random, or the one to start from."""
    import keras

    if session.job.init:
        # Built anew, because it may have been trained with another dropout than these settings'.
        model = architectures.build_model(session.architecture, session.settings, weights=None)
        trained = keras.models.load_model(session.job.init, compile=False)
        model.set_weights(trained.get_weights())
        return model
    model = architectures.build_model(session.architecture, session.settings, session.job.weights)
    if session.job.weights is None:
        step = max(1, len(session.train) // _BATCH_NORM_IMAGES)
        positions = session.train[::step][:_BATCH_NORM_IMAGES]
        pixels = session.pixels[positions][..., np.newaxis]
        model_surgery.init_batch_norm(model, pixels, backend.call_in_training_mode)
    return model


def whole_images(session: Session) -> TrainingFeatures:
    """Return the images that the whole network learns from: new augmentations in each epoch."""
    settings = session.settings

    def show(positions: Array, change: Change) -> ChangedImages:
        return ChangedImages(session.pixels, session.keys, change, positions)

    def augment_for(epoch: int) -> Change:
        index = 1 + epoch + settings.seed * settings.tuning_epochs()
        return lambda pixels, key: augmentation.augment(pixels, key, index, settings.augmentation)

    data = TrainingData(
        train=[
            show(session.train, augment_for(epoch)) for epoch in range(settings.tuning_epochs())
        ],
        val=show(session.val, lambda pixels, _: pixels),
        worlds={world.name: show(session.stressed, world.change) for world in WORLDS.values()},
    )
    return TrainingFeatures(head=data, top=data)


def compute_features(whole: Any, session: Session) -> TrainingFeatures:
    """Return the features of a training, computing those that the cache does not hold.

    Args:
        whole: The whole model, as training begins.
        session: The training.
    """
    count = progress_counter(session.emit)
    started = time.perf_counter()
    source = feature_source(whole, session)
    passes = _train_versions(session)
    top = _cut_features(source, passes, session, count)
    head: TrainingData[Rows] = top
    if session.job.fits_head():
        head = _pooled_features(source, top, passes, session, count)
    seconds = time.perf_counter() - started
    timing.add(session.feature_time, "features", source.computed, seconds)
    return TrainingFeatures(head, top)


def feature_source(whole: Any, session: Session) -> Source:
    """Return where the features of a training come from: the cache, or the model where it has none.

    Args:
        whole: The whole model, as training begins.
        session: The training.
    """
    return Source(
        root=session.caches,
        architecture=session.architecture,
        settings=session.settings,
        pixels=session.pixels,
        keys=session.keys,
        model=whole,
    )


def count_images(
    train: int,
    val: int,
    settings: TrainingSettings,
) -> int:
    """Return how many images go through a part of the network in `compute_features`, about.

    Args:
        train: How many images train.
        val: How many images validate.
        settings: How the network is trained.
    """
    if settings.learns == "whole":
        return 0
    cut_passes = settings.turns()
    head_passes = _head_passes(settings)
    stressed = len(WORLDS) * min(val, stress.EPOCH_IMAGES)
    return train * (cut_passes + head_passes) + 2 * (val + stressed)


def _head_passes(settings: TrainingSettings) -> int:
    """Return how many passes the head is fitted on.

    If fine-tuning follows, which sees all passes itself, the first is enough.
    """
    return 1 if settings.tuning_epochs() else settings.turns()


def progress_counter(emit: Emit) -> Callable[[int], None]:
    """Return a function that is told of more images done, and tells the parent process of all."""
    done = 0

    def count(images: int) -> None:
        nonlocal done
        done += images
        emit(Progress(step="features", done=done))

    return count


def _train_versions(session: Session) -> list[list[str]]:
    """Return, for each pass, the augmentation index of each train row, as the version of it."""
    settings = session.settings
    keys = [session.keys[position] for position in session.train]
    passes = []
    for number in range(settings.turns()):
        indices = [
            features.augmentation_index(key, number, settings.augmented_copies) for key in keys
        ]
        passes.append([str(index) for index in indices])
    return passes


def _cut_features(
    source: Source,
    passes: list[list[str]],
    session: Session,
    count: Callable[[int], None],
) -> TrainingData[Rows]:
    """Return the activations at the cut: exact for validation, compact for training."""
    policy = backend.precision_policy(session.architecture)

    def validation_features(positions: Array, version: str) -> Rows:
        versions = [version] * len(positions)
        return features.cut_features(source, positions, versions, "float32", "float32", count)

    val = validation_features(session.val, features.UNCHANGED)
    worlds = {world: validation_features(session.stressed, world) for world in WORLDS}
    train = [
        features.cut_features(
            source,
            session.train,
            versions,
            policy,
            "float16",
            count,
        )
        for versions in passes
    ]
    return TrainingData(train, val, worlds)


def _pooled_features(
    source: Source,
    cut: TrainingData[Rows],
    passes: list[list[str]],
    session: Session,
    count: Callable[[int], None],
) -> TrainingData[Rows]:
    """Return the pooled features of the passes that the head is fitted on."""

    def pool(rows: Rows, positions: Array, versions: Sequence[str]) -> Rows:
        keys = features.feature_keys(source, positions, versions)
        return features.pooled_features(source, rows, keys, count)

    unchanged = [features.UNCHANGED] * len(session.val)
    val = pool(cut.val, session.val, unchanged)
    worlds = {
        world: pool(rows, session.stressed, [world] * len(session.stressed))
        for world, rows in cut.worlds.items()
    }
    train = [
        pool(cut.train[number], session.train, passes[number])
        for number in range(_head_passes(session.settings))
    ]
    return TrainingData(train, val, worlds)
