"""Features for the scope, read out of every architecture and of ensembles, beside scores that stay the same."""

from pathlib import Path

import pytest

from tests.support.keras_process import run_with_keras

_CODE = """
import keras, numpy as np
from cxr.core.settings import TrainingSettings
from cxr.models.networks import architectures, ensembles, model_surgery
from cxr.models.scope.opened_model import open_model

images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), dtype=np.uint8)

def network(name, seed=0):
    return architectures.build_model(name, TrainingSettings(image_size=32, seed=seed), None)

def check(model, reference):
    opened = open_model(model)
    features, scores = (np.asarray(part) for part in opened.model.predict_on_batch(images))
    assert np.allclose(scores, np.asarray(model.predict_on_batch(images)), atol=1e-6)
    cut = reference.get_layer(architectures.ARCHITECTURES[reference.name].cut).output
    inner = keras.Model(reference.input, [cut, reference.get_layer("features").output])
    activations, pooled = (np.asarray(part) for part in inner.predict_on_batch(images))
    parts = [activations.mean(axis=(1, 2)), activations.std(axis=(1, 2)), pooled]
    expected = np.concatenate(parts, axis=1)
    assert opened.cut_width == 2 * activations.shape[-1]
    assert features.shape == expected.shape
    assert np.allclose(features, expected, atol=1e-4 * np.abs(expected).max())
"""


@pytest.mark.slow
def test_every_architecture_gives_its_features():
    """The mean and deviation of each channel at the cut, then the pooled features; fused models, too."""
    run_with_keras(
        _CODE
        + """
for name in architectures.ARCHITECTURES:
    model = network(name)
    check(model, model)
    check(model_surgery.fuse_batch_norm(model), model)
"""
    )


@pytest.mark.slow
def test_an_ensemble_gives_the_features_of_its_first_network(tmp_path: Path):
    """Read from its file, where its networks share the cut, and where they share nothing that learned."""
    run_with_keras(
        _CODE
        + f"""
path = "{tmp_path}/ensemble.keras"
for seeds in ((0, 0), (0, 1)):
    networks = [network("MobileNetV2", seed) for seed in seeds]
    head = networks[1].get_layer("score")
    head.set_weights([1 + weight for weight in head.get_weights()])
    first = network("MobileNetV2", seeds[0])
    first.set_weights(networks[0].get_weights())
    ensembles.build_ensemble(networks).model.save(path)
    loaded = keras.models.load_model(path)
    check(loaded, first)
    check(model_surgery.fuse_batch_norm(loaded), first)
"""
    )
