"""Grad-CAM maps: which cells of the network's last, coarse grid raise the score of an image.

A map does not outline disease; it is enough to notice a network that reads the side marker. Maps
are of PNEUMONIA; those of NORMAL would be the same sums with the other sign.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from cxr.core.errors import DataError
from cxr.models import scoring
from cxr.models.networks import ensembles
from cxr.results.gradcam.border_share import enlarge_maps
from cxr.stats.metrics import Vector
from cxr.storage.arrays import Stored


class _Opened(NamedTuple):
    """A model whose inner values can be read.

    Attributes:
        model: Pixels to the last feature maps of each network in it, then the scores.
        heads: The weights of each network's head, float32 (c,).
    """

    model: Any
    heads: list[Vector]


def gradcam_maps(
    model: Any,
    pixels: Stored,
    positions: Vector,
    batch_size: int | None = None,
    on_images: Callable[[int], None] = lambda _: None,
) -> tuple[Vector, Vector]:
    """Return Grad-CAM maps and scores of images.

    Grad-CAM (Selvaraju et al., ICCV 2017) is relu(sum_k a_k A_k) over the last feature maps A_k,
    where a_k is the mean over their h x w cells of d logit / d A_k. Here
    logit = sum_k w_k mean(A_k) + b (average pooling, one dense unit), so that
    d logit / d A_k = w_k / (h w) in every cell, and the map is relu(sum_k w_k A_k) up to a factor
    that the scaling to 1 removes: no gradient is taken, whatever the backend. It is the class
    activation map of Zhou et al. (CVPR 2016). The sigmoid is left out, as usual: its slope is a
    positive factor, too.

    Args:
        model: A Keras model whose head is average pooling "features" and one dense unit "score".
        pixels: uint8, (m, side, side).
        positions: Of the images in `pixels`, (n,).
        batch_size: Images per call of the model; None for the size that scoring chooses.
        on_images: Told after each batch how many images it had.

    Returns:
        The maps, float32 (n, h, w) from 0 to 1, whose largest value is 1, or all 0 where nothing
        raises the score; and the model's scores, float64 (n,).

    Raises:
        DataError: The model has no such head, or there is no image.
    """
    opened = _open_model(model)
    maps = []
    scores = []
    batches = scoring.model_outputs(opened.model, pixels, positions, batch_size, on_images)
    for *features, batch_scores in batches:
        maps.append(_mean_map(features, opened.heads))
        scores.append(batch_scores.astype(np.float64).reshape(-1))
    if not maps:
        raise DataError(
            "Grad-CAM: expected at least one image, found none: check the split and its scores"
        )
    return np.concatenate(maps), np.concatenate(scores)


def _mean_map(features: list[Vector], heads: list[Vector]) -> Vector:
    """Return the mean of the networks' maps, float32 (n, h, w), scaled to 1.

    Args:
        features: The last feature maps of each network, (n, h, w, c).
        heads: The weights of each network's head, (c,).
    """
    maps = []
    for network_features, weights in zip(features, heads, strict=True):
        weighted = network_features.astype(np.float32) @ weights
        maps.append(_scale(np.maximum(weighted, 0)))
    largest = max(network_maps.shape[1] for network_maps in maps)
    sized = []
    for network_maps in maps:
        is_smaller = network_maps.shape[1] < largest
        sized.append(enlarge_maps(network_maps, largest) if is_smaller else network_maps)
    return _scale(np.mean(sized, axis=0)).astype(np.float32)


def _scale(maps: Vector) -> Vector:
    """Return maps whose largest value is 1; one that is all 0 stays so."""
    peaks = maps.max(axis=(1, 2), keepdims=True)
    scaled: Vector = maps / np.where(peaks > 0, peaks, 1)
    return scaled


def _open_model(model: Any) -> _Opened:
    """Return a model that also gives the last feature maps of each network, and their heads."""
    import keras

    parts = ensembles.find_parts(model)
    if not parts.members:
        feature_model, weights = _with_feature_output(model)
        return _Opened(feature_model, [weights])
    pixels = keras.Input((None, None, None), name="pixels")
    inputs = pixels if parts.shared is None else parts.shared(pixels)
    feature_maps = []
    logits = []
    heads = []
    for member in parts.members:
        feature_model, weights = _with_feature_output(member)
        features, logit = feature_model(inputs)
        feature_maps.append(features)
        logits.append(logit)
        heads.append(weights)
    score = model.get_layer("score")(model.get_layer("logit")(logits))
    return _Opened(keras.Model(pixels, [*feature_maps, score]), heads)


def _with_feature_output(model: Any) -> tuple[Any, Vector]:
    """Return a model that also gives its last feature maps, and the head's weights (c,)."""
    import keras

    layers: dict[str, Any] = {layer.name: layer for layer in model.layers}
    pooling = layers.get("features")
    head = layers.get("score")
    has_pooling = isinstance(pooling, keras.layers.GlobalAveragePooling2D)
    has_head = isinstance(head, keras.layers.Dense) and head.units == 1
    if not (has_pooling and has_head):
        raise DataError(
            "Grad-CAM: expected a model with average pooling named 'features' and one dense unit "
            f"named 'score', found the last layers {list(layers)[-3:]}: use a model.keras that "
            "this pipeline exported"
        )
    feature_model = keras.Model(model.inputs, [layers["features"].input, model.output])
    kernel = keras.ops.convert_to_numpy(layers["score"].kernel)
    return feature_model, np.asarray(kernel, np.float32)[:, 0]
