"""The networks: listed once, built, cut and fused; the weights that they start from."""

from typing import get_args

import pytest

from cxr.core.errors import WeightsError
from cxr.core.settings import ArchitectureName, TrainingSettings
from cxr.models.networks import architectures, pretrained_weights
from cxr.results.plots import style
from tests.support.keras_process import run_with_keras

# DenseNet121 has more than four hundred layers and takes half a minute: it is among the slow tests.
EACH = [
    pytest.param(name, marks=[pytest.mark.slow] if name == "DenseNet121" else [])
    for name in architectures.ARCHITECTURES
]


def test_all_that_names_architectures_follows_from_one_list():
    """Settings, the schema of the flows' forms and plots know every entry of ARCHITECTURES, and no other."""
    names = tuple(architectures.ARCHITECTURES)
    assert get_args(ArchitectureName) == names
    assert TrainingSettings(arch=names).arch == names
    schema = TrainingSettings.model_json_schema()["properties"]["arch"]
    assert tuple(schema["items"]["enum"]) == names
    with pytest.raises(ValueError, match="ResNet"):
        TrainingSettings(arch=("ResNet",))
    styles = {style.architecture_style(f"{name}-seed1") for name in names}
    assert len(styles) == len(names), "curves of two architectures look the same"


@pytest.mark.parametrize("name", EACH)
def test_every_architecture_is_built_saved_and_scales_once(name, tmp_path):
    """Gray or RGB, any dtype; pixels scaled as Keras' own preprocess_input does; weight files load; fused, the same scores."""
    code = f"""
import keras, numpy as np
from cxr.models.networks import architectures; from cxr.models.networks import model_surgery; from cxr.models.networks import pretrained_weights
from cxr.core.settings import TrainingSettings
settings = TrainingSettings(image_size=32)
model = architectures.build_model({name!r}, settings, None)
gray = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 1), dtype=np.uint8)
first = model.predict_on_batch(gray)
assert first.shape == (4, 1) and ((first >= 0) & (first <= 1)).all()
rgb = model.predict_on_batch(np.repeat(gray, 3, axis=-1).astype("float64"))
assert np.allclose(first, rgb, atol=1e-6)
module = {{"MobileNetV2": "mobilenet_v2", "VGG16": "vgg16", "DenseNet121": "densenet"}}[{name!r}]
scaled = keras.Model(model.inputs, model.get_layer("scaling").output).predict_on_batch(gray)
expected = getattr(keras.applications, module).preprocess_input(np.repeat(gray, 3, axis=-1).astype("float32"))
assert np.abs(scaled - expected).max() < 1e-4
assert not any(layer.trainable_variables for layer in model.layers if layer.name != "score")
model_surgery.unfreeze_top(model, {name!r})
cut = [layer.name for layer in model.layers].index(architectures.ARCHITECTURES[{name!r}].cut)
assert not any(layer.trainable_variables for layer in model.layers[: cut + 1])
released = [layer for layer in model.layers if layer.trainable_variables]
assert len(released) > 1
assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in released)
model.save({str(tmp_path / "m.keras")!r})
reloaded = keras.models.load_model({str(tmp_path / "m.keras")!r})
assert np.allclose(reloaded.predict_on_batch(gray), first, atol=1e-6)
norms = [layer for layer in reloaded.layers if isinstance(layer, keras.layers.BatchNormalization)]
rng = np.random.default_rng(1)
for norm in norms:
    width = norm.get_weights()[0].shape
    norm.set_weights([rng.uniform(0.5, 1.5, width), rng.normal(0, 0.1, width), rng.normal(0, 0.1, width), rng.uniform(0.5, 1.5, width)])
fused = model_surgery.fuse_batch_norm(reloaded)
assert np.allclose(fused.predict_on_batch(gray), reloaded.predict_on_batch(gray), atol=1e-5)
left = sum(isinstance(layer, keras.layers.BatchNormalization) for layer in fused.layers)
assert (len(norms), left) == {{"MobileNetV2": (52, 0), "VGG16": (0, 0), "DenseNet121": (121, 62)}}[{name!r}]
source = getattr(keras.applications, {name!r})(include_top=False, weights=None, input_shape=(32, 32, 3))
source.save_weights({str(tmp_path)!r} + "/{name.lower()}_test_notop.weights.h5")
path, digest = pretrained_weights.find_weights({name!r}, {str(tmp_path)!r})
loaded = architectures.build_model({name!r}, settings, path)
kernel = [layer for layer in source.layers if layer.weights][0]
assert np.array_equal(loaded.get_layer(kernel.name).get_weights()[0], kernel.get_weights()[0])
"""
    run_with_keras(code)


def test_weights_that_are_not_there_are_never_replaced(tmp_path):
    """A missing folder, a folder without the file, an unnamed architecture: errors that say what to do."""
    with pytest.raises(WeightsError, match="no such folder"):
        pretrained_weights.find_weights("VGG16", str(tmp_path / "no"))
    (tmp_path / "mobilenet_v2_notop.h5").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"mobilenet_v2_notop.h5\). Add the file"):
        pretrained_weights.find_weights("VGG16", str(tmp_path))
    mixed = f"MobileNetV2={tmp_path},VGG16=none"
    assert pretrained_weights.find_weights("VGG16", mixed) == (None, "")
    assert pretrained_weights.find_weights("MobileNetV2", mixed)[0].endswith(
        "mobilenet_v2_notop.h5"
    )
    with pytest.raises(WeightsError, match="says nothing for DenseNet121"):
        pretrained_weights.find_weights("DenseNet121", mixed)
