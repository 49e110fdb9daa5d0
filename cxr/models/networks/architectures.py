"""Build the networks of `cxr.core.settings.architectures`, where one is added by one entry.

Every model takes pixels 0..255, gray or RGB, of any size, and carries its own gray conversion,
resizing and scaling, so that nobody else can get these wrong.
"""

from typing import Any

import numpy as np

from cxr.core.errors import WeightsError
from cxr.core.settings import TrainingSettings
from cxr.core.settings.architectures import ARCHITECTURES, Architecture

__all__ = ["ARCHITECTURES", "Architecture", "Array", "build_head", "build_model"]

Array = np.ndarray[Any, Any]


def build_model(
    name: str,
    settings: TrainingSettings,
    weights: str | None,
    policy: str = "float32",
) -> Any:
    """Build a network with one output, its backbone frozen.

    Args:
        name: A key of ARCHITECTURES.
        settings: image_size, dropout and seed are read.
        weights: "imagenet", a weight file, or None for random weights.
        policy: The Keras dtype policy of the backbone.

    Returns:
        An uncompiled keras.Model: pixels (n, h, w, 1 or 3) in 0..255 to scores (n, 1) in 0..1.

    Raises:
        WeightsError: The weights could not be loaded.
    """
    import keras

    architecture = ARCHITECTURES[name]
    layers = keras.layers
    keras.utils.set_random_seed(settings.seed)
    pixels = keras.Input((None, None, None), name="pixels")
    gray = keras.ops.mean(pixels, axis=-1, keepdims=True)
    side = settings.image_size
    resize = layers.Resizing(
        side,
        side,
        interpolation="bilinear",
        antialias=True,
        name="resize",
    )
    gray = resize(gray)
    channels = layers.Concatenate(name="three_channels")([gray, gray, gray])
    scaling = layers.Rescaling(architecture.scales, architecture.offsets, name="scaling")
    backbone = _build_backbone(architecture, scaling(channels), weights, policy)
    backbone.trainable = False
    features = layers.GlobalAveragePooling2D(name="features")(backbone.output)
    if settings.dropout:
        features = layers.Dropout(settings.dropout, seed=settings.seed, name="dropout")(features)
    return keras.Model(pixels, _score(features, settings), name=name)


def build_head(width: int, settings: TrainingSettings) -> Any:
    """Build the head alone.

    Args:
        width: How many features the backbone has.
        settings: seed is read.

    Returns:
        An uncompiled keras.Model: pooled features (n, width) to scores (n, 1) in 0..1.
    """
    import keras

    features = keras.Input((width,), name="pooled")
    return keras.Model(features, _score(features, settings), name="head")


def _build_backbone(
    architecture: Architecture,
    channels: Any,
    weights: str | None,
    policy: str,
) -> Any:
    """Return the network without its classifier, called on scaled pixels."""
    import keras

    application = getattr(keras.applications, architecture.application)
    previous_policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        return application(
            include_top=False,
            weights=weights,
            input_tensor=channels,
        )
    except Exception as error:
        if weights is None:
            raise
        raise WeightsError(
            f"weights {weights} could not be loaded ({type(error).__name__}: {error}). Expected a "
            "network for Keras' own download, or `--weights DIR` with "
            f"{architecture.application}'s notop .h5 file, or `--weights none` to start from "
            "random ones"
        ) from error
    finally:
        keras.config.set_dtype_policy(previous_policy)


def _score(features: Any, settings: TrainingSettings) -> Any:
    """Return the output of a new head: the score in 0..1 of each image's features."""
    import keras

    layer = keras.layers.Dense(
        1,
        activation="sigmoid",
        kernel_initializer=keras.initializers.GlorotUniform(settings.seed),
        dtype="float32",
        name="score",
    )
    return layer(features)
