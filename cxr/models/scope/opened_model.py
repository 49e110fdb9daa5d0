"""A model with the features by which its scope is judged, at the cost of one pass for both."""

from typing import Any, NamedTuple

from cxr.models.networks import ensembles
from cxr.models.networks.architectures import ARCHITECTURES

_CUTS = {architecture.cut for architecture in ARCHITECTURES.values()}


class OpenedModel(NamedTuple):
    """A model whose features can be read.

    Attributes:
        model: Pixels to features (n, c + w) and scores (n, 1): the mean and the standard deviation
            of each channel at the cut, then the pooled features of the network.
        cut_width: How many of the features are of the cut, c.
    """

    model: Any
    cut_width: int


def open_model(model: Any) -> OpenedModel:
    """Return a model that gives features beside its scores, which stay the same.

    Of an ensemble, the features are those of its first network: they tell a strange image as well as
    those of all, which would be several times as many to keep.

    Args:
        model: An exported model, or one whose batch normalisation was fused.
    """
    import keras

    parts = ensembles.find_parts(model)
    if not parts.members:
        statistics = _cut_statistics(model)
        pooled = model.get_layer("features").output
        features = _join([statistics, pooled], "scope_features")
        opened = keras.Model(model.inputs, [features, model.output])
        return OpenedModel(opened, int(statistics.shape[-1]))
    return _open_ensemble(model, parts)


def _open_ensemble(model: Any, parts: ensembles.Parts) -> OpenedModel:
    """Return an ensemble that gives the features of its first network beside its scores."""
    import keras

    pixels = keras.Input((None, None, None), name="pixels")
    inputs = pixels
    statistics = None
    if parts.shared is not None and _cut_layer(parts.shared) is not None:
        shared = keras.Model(
            parts.shared.inputs, [_cut_statistics(parts.shared), parts.shared.output]
        )
        statistics, inputs = shared(pixels)
    elif parts.shared is not None:
        inputs = parts.shared(pixels)
    first, *others = parts.members
    pooled_output = first.get_layer("features").output
    if statistics is None:
        opened_first = keras.Model(
            first.inputs, [_cut_statistics(first), pooled_output, first.output]
        )
        statistics, pooled, logit = opened_first(inputs)
    else:
        pooled, logit = keras.Model(first.inputs, [pooled_output, first.output])(inputs)
    logits = [logit, *(member(inputs) for member in others)]
    score = model.get_layer("score")(model.get_layer("logit")(logits))
    features = _join([statistics, pooled], "scope_features")
    return OpenedModel(keras.Model(pixels, [features, score]), int(statistics.shape[-1]))


def _cut_layer(network: Any) -> Any | None:
    """Return the layer of a network whose output is the cut, None if it is not in there."""
    for layer in network.layers:
        if layer.name in _CUTS:
            return layer
    return None


def _cut_statistics(network: Any) -> Any:
    """Return the mean and the standard deviation of each channel at the cut, symbolic (n, 2 c)."""
    import keras

    layer = _cut_layer(network)
    assert layer is not None  # every architecture has one
    activations = layer.output
    mean = keras.layers.GlobalAveragePooling2D(name="scope_mean")(activations)
    deviation = keras.ops.std(activations, axis=(1, 2))
    return _join([mean, deviation], "scope_cut")


def _join(parts: list[Any], name: str) -> Any:
    """Return symbolic rows side by side; a name that a loaded model has, too, would be refused."""
    import keras

    return keras.layers.Concatenate(name=name)(parts)
