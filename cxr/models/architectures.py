"""One entry per network: its Keras application, the pixels it expects, and where fine-tuning starts.

Every model takes pixels 0..255, gray or RGB, any size, and carries its own gray conversion, resize and
scaling. Keras applications disagree on scaling; scaled twice, nothing fails and the model is only worse.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from cxr.core.errors import WeightsError
from cxr.core.settings import TrainingSettings

# VGG16 was trained on BGR with these ImageNet means subtracted (0..255); DenseNet121 on RGB in 0..1, standardised.
_VGG_MEANS_RGB = (123.68, 116.779, 103.939)
_IMAGENET_MEANS, _IMAGENET_STDS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Array = np.ndarray[Any, Any]


class Architecture(NamedTuple):
    """A network: `scaling` maps gray 0..255 to the three channels it was trained on, as (scales, offsets).

    `cut` names the layer whose output is cached and above which fine-tuning releases everything; `relative_cost` is
    forward work per image in GFLOP at 224x224, to start the longest training first; `bfloat16` says that half
    precision pays on processors that have it (measured: VGG16 2.0 times, DenseNet121 1.3, MobileNetV2 0.8).
    """

    application: str
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    cut: str
    relative_cost: float
    bfloat16: bool


ARCHITECTURES: Mapping[str, Architecture] = {
    "MobileNetV2": Architecture(
        "MobileNetV2", (1 / 127.5,) * 3, (-1.0,) * 3, "block_12_add", 0.6, False
    ),
    "VGG16": Architecture(
        "VGG16",
        (1.0,) * 3,
        tuple(-mean for mean in reversed(_VGG_MEANS_RGB)),
        "block4_pool",
        30.7,
        True,
    ),
    "DenseNet121": Architecture(
        "DenseNet121",
        tuple(1 / (255 * std) for std in _IMAGENET_STDS),
        tuple(-mean / std for mean, std in zip(_IMAGENET_MEANS, _IMAGENET_STDS, strict=True)),
        "pool4_pool",
        5.7,
        True,
    ),
}


def build_model(
    name: str, settings: TrainingSettings, weights: str | None, policy: str = "float32"
) -> Any:
    """Return an uncompiled keras.Model: pixels (n, h, w, 1 or 3) 0..255 → score (n, 1) in 0..1, backbone frozen.

    `weights` is "imagenet", a weight file, or None for random ones; `policy` is the backbone's Keras dtype policy.
    Raises WeightsError.
    """
    import keras

    entry, layers = ARCHITECTURES[name], keras.layers
    keras.utils.set_random_seed(settings.seed)
    pixels = keras.Input((None, None, None), name="pixels")
    gray = keras.ops.mean(pixels, axis=-1, keepdims=True)
    side = settings.image_size
    gray = layers.Resizing(side, side, interpolation="bilinear", antialias=True, name="resize")(
        gray
    )
    channels = layers.Concatenate(name="three_channels")([gray, gray, gray])
    channels = layers.Rescaling(entry.scales, entry.offsets, name="scaling")(channels)
    backbone = _backbone(entry, channels, weights, policy)
    backbone.trainable = False
    features = layers.GlobalAveragePooling2D(name="features")(backbone.output)
    return keras.Model(pixels, _score(features, settings), name=name)


def _backbone(entry: Architecture, channels: Any, weights: str | None, policy: str) -> Any:
    import keras

    application, before = (
        getattr(keras.applications, entry.application),
        keras.config.dtype_policy(),
    )
    keras.config.set_dtype_policy(policy)
    try:
        return application(include_top=False, weights=weights, input_tensor=channels)
    except Exception as error:
        if weights is None:
            raise
        raise WeightsError(
            f"weights {weights} could not be loaded ({type(error).__name__}: {error}). Expected a "
            f"network for Keras' own download, or `--weights DIR` with {entry.application}'s notop .h5 file, or "
            "`--weights none` to start from random ones"
        ) from error
    finally:
        keras.config.set_dtype_policy(before)


def _score(features: Any, settings: TrainingSettings) -> Any:
    import keras

    start = keras.initializers.GlorotUniform(settings.seed)
    last = keras.layers.Dense(
        1, activation="sigmoid", kernel_initializer=start, dtype="float32", name="score"
    )
    return last(features)


def build_head(width: int, settings: TrainingSettings) -> Any:
    """Return a model of the last layers alone: pooled features (n, width) → score (n, 1)."""
    import keras

    features = keras.Input((width,), name="pooled")
    return keras.Model(features, _score(features, settings), name="head")
