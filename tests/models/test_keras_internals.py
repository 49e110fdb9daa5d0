"""What libraries do not promise: still true of the releases that are installed."""

from importlib import metadata

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from cxr.models.compute import keras_internals
from tests.support.keras_process import run_with_keras


@pytest.mark.parametrize("package", keras_internals.CHECKED_VERSIONS)
def test_internals_were_checked_on_the_installed_release(package):
    """After an upgrade: see whether each function of keras_internals.py is still right, then raise the version there."""
    major, minor, *_ = metadata.version(package).split(".")
    assert keras_internals.CHECKED_VERSIONS[package] == f"{major}.{minor}"


def test_the_layer_that_a_tensor_comes_from_is_known():
    """It is the layer that computed the tensor, by its name; for an input the input layer."""
    code = """
import keras
from cxr.models.compute import keras_internals
inputs = keras.Input((3,), name="first")
outputs = keras.layers.Dense(2, name="second")(inputs)
assert keras_internals.source_layer(inputs) == "first"
assert keras_internals.source_layer(outputs) == "second"
"""
    run_with_keras(code)


def test_a_fit_begins_at_the_coefficients_that_were_set():
    """A single step from the solution stays there; a single step from nowhere does not come to it."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 5))
    labels = (features[:, 0] > 0.3).astype(int)
    solved = LogisticRegression(max_iter=1000, tol=1e-8).fit(features, labels)

    def distance_after_a_step(model):
        with pytest.warns(UserWarning, match="iteration"):
            model.fit(features, labels)
        return np.abs(model.coef_ - solved.coef_).max()

    started = LogisticRegression(max_iter=1, warm_start=True, tol=1e-12)
    keras_internals.set_coefficients(started, solved.coef_.T, solved.intercept_)
    assert distance_after_a_step(started) < 1e-3
    assert distance_after_a_step(LogisticRegression(max_iter=1, tol=1e-12)) > 0.1


def test_convolutions_with_the_fast_gradient_learn_the_same(tmp_path):
    """Each 3x3 convolution of stride 1 has the forward results of before and the gradients to rounding; others are left alone."""
    code = """
import keras, numpy as np, tensorflow as tf
from cxr.models.compute import keras_internals
keras.utils.set_random_seed(0)
layers = keras.layers
model = keras.Sequential([
    keras.Input((7, 9, 3)), layers.Conv2D(5, 3, padding="same", activation="relu"), layers.Conv2D(4, 3, padding="same", use_bias=False),
    layers.Conv2D(4, 3), layers.Conv2D(4, 3, strides=2, padding="same"), layers.DepthwiseConv2D(3, padding="same"), layers.Conv2D(2, 1),
])
def run():
    with tf.GradientTape() as tape:
        inputs = tf.constant(np.random.default_rng(1).normal(size=(6, 7, 9, 3)).astype("f4"))
        tape.watch(inputs)
        found = model(inputs)
        loss = tf.reduce_mean(found**2)
    return [found, *tape.gradient(loss, [inputs, *model.trainable_variables])]
before = run()
assert keras_internals.use_fast_conv_gradient(model) is model
assert ["convolution_op" in vars(layer) for layer in model.layers] == [True, True, False, False, False, False]
after = run()
assert (before[0].numpy() == after[0].numpy()).all()
for old, new in zip(before, after, strict=True):
    assert np.abs(old.numpy() - new.numpy()).max() < 1e-6 * max(1, np.abs(old.numpy()).max())
model.compile("adam", "mse")
model.save("MODEL.keras")
assert np.allclose(keras.models.load_model("MODEL.keras").predict(np.ones((1, 7, 9, 3)), verbose=0), model.predict(np.ones((1, 7, 9, 3)), verbose=0))
"""
    run_with_keras(code.replace("MODEL", f"{tmp_path}/model"))


def test_tensorflow_comes_without_jax_which_is_there_for_whoever_asks():
    """Loading Keras on TensorFlow imports no JAX; afterwards it can be imported, and nothing takes it for imported before."""
    code = """
import sys
from cxr.models.compute import keras_internals
keras_internals.import_keras()
assert "keras" in sys.modules and "tensorflow" in sys.modules and "jax" not in sys.modules
import jax
"""
    run_with_keras(code, KERAS_BACKEND="tensorflow")
