"""Change the layers of a Keras model: submodels, fused batch normalisation, unfreezing, weights."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from cxr.models.compute.keras_internals import source_layer
from cxr.models.networks.architectures import ARCHITECTURES, Array

_MOMENTUM = 0.95  # of batch normalisation where the whole network learns


def submodel(
    model: Any,
    name: str,
    start: str | None,
    end: str,
) -> Any:
    """Return the part of a model between two places; it shares the model's layers.

    Args:
        model: The whole model.
        name: Its architecture.
        start: "cut" or "features" (pooled), or None to start at the pixels.
        end: "cut", "features" or "score".
    """
    import keras

    layer_names = {
        "cut": ARCHITECTURES[name].cut,
        "features": "features",
        "score": "score",
    }
    inputs = model.input
    if start is not None:
        inputs = model.get_layer(layer_names[start]).output
    outputs = model.get_layer(layer_names[end]).output
    return keras.Model(inputs, outputs, name=f"{name}_{start or 'pixels'}_to_{end}")


def fuse_batch_norm(model: Any) -> Any:
    """Return a faster model with the same scores, to float tolerance, for scoring alone.

    In inference a convolution and the batch normalisation after it are one convolution with another
    kernel and a bias (Jacob et al., "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", CVPR 2018, section 3.2). A normalisation that comes before
    its convolution, like half of DenseNet121's, is kept. The models in an ensemble are fused likewise.
    """
    import keras

    norms = _norms_after_convolutions(model)
    removed = {norm.name for norm in norms.values()}

    def clone_layer(layer: Any) -> Any:
        if isinstance(layer, keras.Model):
            return fuse_batch_norm(layer)
        config = layer.get_config()
        if layer.name in norms:
            config["use_bias"] = True
        return layer.from_config(config)

    def call_layer(layer: Any, *inputs: Any, **options: Any) -> Any:
        if layer.name in removed:
            return inputs[0]
        return layer(*inputs, **options)

    fused = keras.models.clone_model(
        model,
        clone_function=clone_layer,
        call_function=call_layer,
    )
    for layer in fused.layers:
        if isinstance(layer, keras.Model):
            continue  # it has its weights already
        weights = model.get_layer(layer.name).get_weights()
        if layer.name in norms:
            weights = _fused_weights(weights, norms[layer.name])
        layer.set_weights(weights)
    return fused


def _norms_after_convolutions(model: Any) -> dict[str, Any]:
    """Return each batch normalisation that can be fused, by the convolution's name."""
    import keras

    layers = keras.layers
    uses = Counter(_input_sources(model))
    norms = {}
    for layer in model.layers:
        if not isinstance(layer, layers.BatchNormalization):
            continue
        source = source_layer(layer.input)
        is_convolution = isinstance(model.get_layer(source), layers.Conv2D | layers.DepthwiseConv2D)
        # What another layer reads, too, must keep its values.
        if is_convolution and uses[source] == 1:
            norms[source] = layer
    return norms


def _input_sources(model: Any) -> Iterator[str]:
    """Yield, for each input of each layer, the name of the layer that it comes from."""
    import keras

    for layer in model.layers:
        if not isinstance(layer, keras.layers.InputLayer):
            yield from map(source_layer, keras.tree.flatten(layer.input))


def _fused_weights(weights: list[Array], norm: Any) -> list[Array]:
    """Return the kernel and bias of a convolution that also does the normalisation after it.

    Args:
        weights: The kernel of the convolution, and its bias if it has one.
        norm: The BatchNormalization layer.
    """
    norm_weights = [weight.astype(np.float64) for weight in norm.get_weights()]
    gamma, beta, mean, variance = norm_weights
    scale = gamma / np.sqrt(variance + norm.epsilon)
    kernel = weights[0]
    bias = weights[1] if len(weights) > 1 else np.zeros(1)
    kernel_scale = scale
    is_depthwise = scale.size != kernel.shape[3]
    if is_depthwise:  # its kernel is (h, w, channels, 1)
        kernel_scale = scale.reshape(kernel.shape[2:])
    return [
        kernel * kernel_scale,
        beta + (bias - mean) * scale,
    ]


def with_fixed_pixels(model: Any, side: int) -> Any:
    """Return a model of the same outputs that takes gray pixels of one size, and resizes nothing.

    A resizing to the size that pixels have changes nothing, and the converters to other formats do not
    know it.

    Args:
        model: A network or an ensemble, or one with its features as outputs, too.
        side: The image size that it was trained with.
    """
    import keras

    pixels = keras.Input((side, side, 1), name="pixels")
    has_list = isinstance(model.input, list)
    return _without_resizing(model, [pixels] if has_list else pixels)


def _without_resizing(model: Any, inputs: Any = None) -> Any:
    """Return a copy of a model, and of the models in it, without the layers "resize"."""
    import keras

    def clone_layer(layer: Any) -> Any:
        if isinstance(layer, keras.Model):
            return _without_resizing(layer)
        return layer.from_config(layer.get_config())

    def call_layer(layer: Any, *arguments: Any, **options: Any) -> Any:
        if layer.name == "resize":
            return arguments[0]
        return layer(*arguments, **options)

    copy = keras.models.clone_model(
        model,
        input_tensors=inputs,
        clone_function=clone_layer,
        call_function=call_layer,
    )
    for layer in copy.layers:
        if not isinstance(layer, keras.Model):  # such a one has its weights already
            layer.set_weights(model.get_layer(layer.name).get_weights())
    return copy


def init_batch_norm(
    model: Any,
    pixels: Array,
    run: Callable[[Any, Array], None],
) -> None:
    """Set the batch normalisation statistics of a random network from one batch of train images.

    Left at their initial 0 and 1, and frozen, they would let the activations of a deep random
    network die out: its features would be constant. The idea is that of data-dependent
    initialisation (Mishkin and Matas, "All you need is a good init", ICLR 2016). Pretrained
    networks keep their own statistics.

    Args:
        model: The network, changed in place.
        pixels: The batch, (n, h, w, 1).
        run: Calls the model in training mode, like `backend.call_in_training_mode`.
    """
    import keras

    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    if not norms:
        return
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.trainable = True
        layer.momentum = 0.0  # the statistics become those of the batch alone
    run(model, pixels)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.trainable = False
        layer.momentum = momentum


def unfreeze_top(model: Any, name: str) -> None:
    """Make the layers above the architecture's cut trainable, but for batch normalisation.

    A frozen BatchNormalization layer runs in inference mode, as transfer learning wants it.

    Args:
        model: The whole model, or the part above the cut, in which all layers are above it.
        name: Its architecture.
    """
    import keras

    cut = ARCHITECTURES[name].cut
    is_above_cut = all(layer.name != cut for layer in model.layers)
    for layer in model.layers:
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = is_above_cut and not is_norm
        if layer.name == cut:
            is_above_cut = True


def unfreeze_all(model: Any) -> None:
    """Make all layers of a model trainable, batch normalisation included.

    Its running statistics then follow the training images within a few hundred steps: networks are
    published with momenta that suit a million steps.
    """
    import keras

    model.trainable = True
    for layer in model.layers:
        layer.trainable = True
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = _MOMENTUM


def copy_weights(model: Any, part: Any) -> None:
    """Give the layers of a model the weights that they have in a part of it."""
    for layer in part.layers:
        if layer.weights:
            model.get_layer(layer.name).set_weights(layer.get_weights())
