"""One entry per network: its Keras application, the pixels it expects, and where fine-tuning starts.

Every model takes pixels 0..255, gray or RGB, any size, and carries its own gray conversion, resize and
scaling. Keras applications disagree on scaling; scaled twice, nothing fails and the model is only worse.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from cxr import workspace
from cxr.errors import DataError, WeightsError
from cxr.records import file_sha256
from cxr.settings import TrainingSettings

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


def build(
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


def head(width: int, settings: TrainingSettings) -> Any:
    """Return a model of the last layers alone: pooled features (n, width) → score (n, 1)."""
    import keras

    features = keras.Input((width,), name="pooled")
    return keras.Model(features, _score(features, settings), name="head")


def part(model: Any, name: str, start: str | None, end: str) -> Any:
    """Return the layers of `model` between two places as a model that shares them.

    `start` and `end` are "cut", "features" (pooled) or "score"; None starts at the pixels.
    """
    import keras

    names = {"cut": ARCHITECTURES[name].cut, "features": "features", "score": "score"}
    begin = model.input if start is None else model.get_layer(names[start]).output
    return keras.Model(
        begin, model.get_layer(names[end]).output, name=f"{name}_{start or 'pixels'}_to_{end}"
    )


def folded(model: Any) -> Any:
    """Return a model of the same scores, to float tolerance, whose convolutions do the batch normalisation after them.

    In inference the two are one convolution with other kernels and a bias (Jacob et al., "Quantization and Training of Neural
    Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018, section 3.2). Only for scoring: the statistics are gone.
    A normalisation that comes before its convolution, as half of DenseNet121's do, stays.
    """
    import keras

    layers, users = keras.layers, Counter(_sources(model))
    norms = {
        source: layer
        for layer in model.layers
        if isinstance(layer, layers.BatchNormalization)
        and users[source := _source(layer.input)] == 1
        if isinstance(model.get_layer(source), layers.Conv2D | layers.DepthwiseConv2D)
    }
    gone = {norm.name for norm in norms.values()}

    def copied(layer: Any) -> Any:
        return layer.from_config(
            layer.get_config() | ({"use_bias": True} if layer.name in norms else {})
        )

    def called(layer: Any, *inputs: Any, **options: Any) -> Any:
        return inputs[0] if layer.name in gone else layer(*inputs, **options)

    found = keras.models.clone_model(model, clone_function=copied, call_function=called)
    for layer in found.layers:
        weights = model.get_layer(layer.name).get_weights()
        layer.set_weights(_merged(weights, norms[layer.name]) if layer.name in norms else weights)
    return found


def _sources(model: Any) -> Iterator[str]:
    """Yield the name of the layer that each input of each layer comes from."""
    import keras

    for layer in model.layers:
        if not isinstance(layer, keras.layers.InputLayer):
            yield from map(_source, keras.tree.flatten(layer.input))


def _source(tensor: Any) -> str:
    """Return the name of the layer that a tensor comes from."""
    return str(tensor._keras_history.operation.name)  # noqa: SLF001 - Keras has no public way to ask


def _merged(weights: list[Array], norm: Any) -> list[Array]:
    """Return kernel and bias that do what the convolution with `weights` (kernel, and a bias or none) and `norm` after it do."""
    gamma, beta, mean, variance = (weight.astype(np.float64) for weight in norm.get_weights())
    scale, kernel = gamma / np.sqrt(variance + norm.epsilon), weights[0]
    bias = weights[1] if len(weights) > 1 else np.zeros(1)
    along = (
        scale if scale.size == kernel.shape[3] else scale.reshape(kernel.shape[2:])
    )  # depthwise: (h, w, channels, 1)
    return [kernel * along, beta + (bias - mean) * scale]


def settle(model: Any, pixels: Any, run: Callable[[Any, Any], None]) -> None:
    """Set the batch normalisation statistics of a random network from one batch of training pixels.

    Frozen at their initial 0 and 1 they would let the activations of a deep random network die out: its
    features would be constant. The idea is that of data-dependent initialisation (Mishkin and Matas,
    "All you need is a good init", ICLR 2016). Pretrained networks keep their own statistics.
    `run` calls the model in training mode, as `backend.in_training` does.
    """
    import keras

    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    if not norms:
        return
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.trainable, layer.momentum = True, 0.0
    run(model, pixels)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.trainable, layer.momentum = False, momentum


def release_top(model: Any, name: str) -> None:
    """Make the layers above the architecture's cut trainable; batch normalisation stays frozen.

    A frozen BatchNormalization layer runs in inference mode, as transfer learning wants it. In a model that begins at
    the cut everything is above it.
    """
    import keras

    below = {layer.name for layer in model.layers}
    released = ARCHITECTURES[name].cut not in below
    for layer in model.layers:
        layer.trainable = released and not isinstance(layer, keras.layers.BatchNormalization)
        released = released or layer.name == ARCHITECTURES[name].cut


def take_weights(model: Any, trained: Any) -> None:
    """Give `model` the weights of the layers that `trained`, a part of it, has."""
    for layer in trained.layers:
        if layer.weights:
            model.get_layer(layer.name).set_weights(layer.get_weights())


def find_weights(name: str, weights: str) -> tuple[str | None, str]:
    """Return (what `build` takes, SHA-256 or "") for a --weights value; raises WeightsError, never falls back.

    `weights` is imagenet, none, a folder, or one of these for each architecture:
    "MobileNetV2=DIR,VGG16=none".
    """
    chosen = _for_architecture(name, weights)
    if chosen in {"none", "imagenet"}:
        return (None if chosen == "none" else "imagenet"), ""
    try:
        folder = workspace.fetched(chosen)
    except DataError as error:
        raise WeightsError(f"--weights {chosen}: {error}") from error
    if not folder.is_dir():
        raise WeightsError(
            f"--weights {chosen}: expected imagenet, none, or a folder; found no such folder"
        )
    fitting = [path for path in sorted(folder.glob("*.h5")) if _fits(path.name, name)]
    if len(fitting) != 1:
        seen = ", ".join(path.name for path in sorted(folder.iterdir())[:8]) or "nothing"
        raise WeightsError(
            f"--weights {chosen}: expected one *notop*.h5 file whose name starts with {name}, found {len(fitting)} "
            f"(the folder holds: {seen}). Add the file, leave {name} out with --arch, or say what to do for each: "
            f"--weights MobileNetV2={chosen},{name}=none"
        )
    return str(fitting[0].absolute()), file_sha256(fitting[0])


def _for_architecture(name: str, weights: str) -> str:
    if "=" not in weights:
        return weights
    each = dict(part.strip().split("=", 1) for part in weights.split(",") if "=" in part)
    if unknown := set(each) - set(ARCHITECTURES):
        raise WeightsError(
            f"--weights {weights}: expected names out of {list(ARCHITECTURES)}, found {sorted(unknown)}"
        )
    if name not in each:
        raise WeightsError(
            f"--weights {weights}: says nothing for {name}: add {name}=DIR or {name}=none"
        )
    return each[name]


def _fits(file: str, name: str) -> bool:
    plain = file.lower().replace("_", "")
    return plain.startswith(name.lower()) and "notop" in plain
