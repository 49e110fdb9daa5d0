"""Build one Keras model out of several networks: the mean of their logits, as a score.

It is made of Keras' own layers alone, so that `keras.models.load_model` reads it without trust. The
networks are models in it, "member_1" and so on, from their inputs to their logits. What is equal in
all of them from the pixels upwards is one more model, "shared", and computed once.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from cxr.models.compute.keras_internals import source_layer

_SHARED = "shared"
_MEMBER = "member_"
_NOT_COMPUTED_WITH = {"name", "trainable"}  # parts of an operation's configuration


class Ensemble(NamedTuple):
    """Several networks as one model.

    Attributes:
        model: Pixels (n, h, w, 1 or 3) in 0..255 to scores (n, 1) in 0..1.
        opened: The same, with more outputs: the logits (n, 1) of each network, then the scores.
    """

    model: Any
    opened: Any


class Parts(NamedTuple):
    """What an ensemble is made of.

    Attributes:
        shared: From pixels to what all networks have in common, None if they have nothing.
        members: The networks, from there (or from pixels) to logits.
    """

    shared: Any | None
    members: list[Any]


def build_ensemble(networks: Sequence[Any]) -> Ensemble:
    """Build a model whose score is the sigmoid of the mean of the networks' logits.

    A network's logit is what its last layer "score" computes before its sigmoid, so that scores
    that round to 0 or 1 lose nothing.

    Args:
        networks: At least two models as `architectures.build_model` returns them, each with layers
            of its own. They are changed: do not use them afterwards.
    """
    import keras

    pixels = keras.Input((None, None, None), name="pixels")
    inputs = pixels
    last = _last_shared_layer(networks)
    if last is not None:
        first = networks[0]
        shared = keras.Model(first.input, first.operations[last].output, name=_SHARED)
        inputs = shared(pixels)
    logits = []
    for number, network in enumerate(networks, start=1):
        member = _logit_model(network, last, f"{_MEMBER}{number}")
        logits.append(member(inputs))
    mean = keras.layers.Average(dtype="float32", name="logit")(logits)
    score = keras.layers.Activation("sigmoid", dtype="float32", name="score")(mean)
    model = keras.Model(pixels, score, name="ensemble")
    model.trainable = False
    return Ensemble(model, keras.Model(pixels, [*logits, score]))


def find_parts(model: Any) -> Parts:
    """Return the parts of a model; one that is no ensemble has no members."""
    layers = {layer.name: layer for layer in model.layers}
    members = [layer for name, layer in layers.items() if name.startswith(_MEMBER)]
    return Parts(layers.get(_SHARED), members)


def _logit_model(
    network: Any,
    last_shared: int | None,
    name: str,
) -> Any:
    """Return the part of a network above a layer, or all of it, that ends with the logit."""
    import keras

    network.get_layer("score").activation = keras.activations.linear
    inputs = network.input
    if last_shared is not None:
        inputs = network.operations[last_shared].output
    return keras.Model(inputs, network.output, name=name)


def _last_shared_layer(networks: Sequence[Any]) -> int | None:
    """Return the place of the highest layer up to which all networks compute the same.

    Up to it all layers and weights are equal, and what is above it reads nothing from below it. It is below
    the pooling "features", whose input Grad-CAM reads in each network.

    Returns:
        A position in the operations of each network, None if they have nothing in common.
    """
    operations = networks[0].operations
    kinds = [type(operation) for operation in operations]
    for network in networks[1:]:
        if [type(operation) for operation in network.operations] != kinds:
            return None
    last = None
    furthest_use = 0
    uses = _last_uses(networks[0])
    for place, operation in enumerate(operations):
        if operation.name == "features" or not _is_equal(place, networks):
            break
        if furthest_use <= place:
            last = place
        furthest_use = max(furthest_use, uses[place])
    return last


def _last_uses(model: Any) -> list[int]:
    """Return, for each operation of a model in its order, the place of the last one that reads it."""
    import keras

    places = {operation.name: place for place, operation in enumerate(model.operations)}
    uses = [0] * len(places)
    for place, operation in enumerate(model.operations):
        if isinstance(operation, keras.layers.InputLayer):
            continue
        for tensor in keras.tree.flatten(operation.input):
            uses[places[source_layer(tensor)]] = place
    return uses


def _is_equal(place: int, networks: Sequence[Any]) -> bool:
    """Return whether the operation at this place computes the same in all networks."""
    first, *others = [network.operations[place] for network in networks]
    return all(
        _description(other) == _description(first) and _has_weights_of(first, other)
        for other in others
    )


def _description(operation: Any) -> dict[str, Any]:
    """Return what an operation does, its weights left out."""
    config = operation.get_config()
    return {name: value for name, value in config.items() if name not in _NOT_COMPUTED_WITH}


def _has_weights_of(first: Any, other: Any) -> bool:
    """Return whether two operations have equal weights; what is no layer has none."""
    import keras

    if not isinstance(first, keras.layers.Layer):
        return True
    pairs = zip(first.get_weights(), other.get_weights(), strict=True)
    return all(np.array_equal(weight, of_other) for weight, of_other in pairs)
