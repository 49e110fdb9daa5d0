"""Changes to a Keras model's layers: submodels, fused batch normalisation, unfreezing, copied weights."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from cxr.models.architectures import ARCHITECTURES, Array


def submodel(model: Any, name: str, start: str | None, end: str) -> Any:
    """Return the layers of `model` between two places as a model that shares them.

    `start` and `end` are "cut", "features" (pooled) or "score"; None starts at the pixels.
    """
    import keras

    names = {"cut": ARCHITECTURES[name].cut, "features": "features", "score": "score"}
    begin = model.input if start is None else model.get_layer(names[start]).output
    return keras.Model(
        begin, model.get_layer(names[end]).output, name=f"{name}_{start or 'pixels'}_to_{end}"
    )


def fuse_batch_norm(model: Any) -> Any:
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


def init_batch_norm(model: Any, pixels: Any, run: Callable[[Any, Any], None]) -> None:
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


def unfreeze_top(model: Any, name: str) -> None:
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


def copy_weights(model: Any, trained: Any) -> None:
    """Give `model` the weights of the layers that `trained`, a part of it, has."""
    for layer in trained.layers:
        if layer.weights:
            model.get_layer(layer.name).set_weights(layer.get_weights())
