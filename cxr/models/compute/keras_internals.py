"""Every use of what Keras, TensorFlow and scikit-learn do not promise, in one place.

Each function says what it relies on. CHECKED_VERSIONS are the releases that it was last checked on;
a test fails on any other one, so that an upgrade comes with a look at this file.
"""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Any

from cxr.models.compute import backend

CHECKED_VERSIONS = {"keras": "3.15", "tensorflow": "2.21", "scikit-learn": "1.9"}
_FAST_CONVOLUTION = {
    "kernel_size": (3, 3),
    "strides": (1, 1),
    "dilation_rate": (1, 1),
    "groups": 1,
    "padding": "same",
}


def import_keras() -> None:
    """Import Keras with its backend.

    Where JAX is installed TensorFlow imports it, for converters that nothing here calls: 0.4 s and
    120 MB of each process. It does without where JAX cannot be imported (checked on 2.21).
    """
    if backend.backend_name() == "tensorflow":
        with _jax_hidden():
            importlib.import_module("keras")
    else:
        importlib.import_module("keras")


@contextlib.contextmanager
def _jax_hidden() -> Iterator[None]:
    """Let `import jax` fail within the block, unless it was imported before."""
    if "jax" in sys.modules:
        yield
        return
    sys.modules["jax"] = None  # type: ignore[assignment]  # Python's own sign for "not importable"
    try:
        yield
    finally:
        del sys.modules["jax"]  # others would find None in place of a JAX that is there


def source_layer(tensor: Any) -> str:
    """Return the name of the layer that a symbolic tensor comes from.

    Keras has no public way to ask (checked on 3.15).
    """
    return str(tensor._keras_history.operation.name)  # noqa: SLF001 - see the docstring


def use_fast_conv_gradient(model: Any) -> Any:
    """Give TensorFlow's 3x3 convolutions a faster gradient, the same to rounding, on a processor.

    The gradient of a convolution's input is a convolution, too: of the output's gradient with the
    kernel rotated by half a turn (Dumoulin and Visin, "A guide to convolution arithmetic for deep
    learning", 2016, section 4). TensorFlow's convolution is faster than its operation for that
    gradient. A Conv2D layer of Keras calls its method `convolution_op` (checked on 3.15), which is
    replaced here; what is saved does not change.

    Args:
        model: A Keras model; its layers are changed in place.

    Returns:
        The same model.
    """
    if backend.backend_name() != "tensorflow" or backend.on_gpu():
        return model
    import keras
    import tensorflow

    @tensorflow.custom_gradient  # type: ignore[untyped-decorator]  # mypy skips TensorFlow
    def convolve(inputs: Any, kernel: Any) -> Any:
        def gradient(upstream: Any) -> tuple[Any, Any]:
            rotated = tensorflow.reverse(kernel, [0, 1])
            rotated = tensorflow.transpose(rotated, [0, 1, 3, 2])
            input_gradient = tensorflow.nn.conv2d(upstream, rotated, 1, "SAME")
            kernel_gradient = tensorflow.raw_ops.Conv2DBackpropFilter(
                input=inputs,
                filter_sizes=kernel.shape,
                out_backprop=upstream,
                strides=[1, 1, 1, 1],
                padding="SAME",
            )
            return input_gradient, kernel_gradient

        return tensorflow.nn.conv2d(inputs, kernel, 1, "SAME"), gradient

    def convolution_op(inputs: Any, kernel: Any) -> Any:
        # The copy is a tensor, where the kernel may be a variable: `custom_gradient` wants tensors.
        return convolve(inputs, tensorflow.identity(keras.ops.convert_to_tensor(kernel)))

    for layer in model.layers:
        is_plain = type(layer) is keras.layers.Conv2D  # subclasses convolve in other ways
        if is_plain and _FAST_CONVOLUTION.items() <= vars(layer).items():
            layer.convolution_op = convolution_op
    return model


def set_coefficients(
    model: Any,
    kernel: Any,
    bias: Any,
) -> None:
    """Let a scikit-learn LogisticRegression with `warm_start` begin its next fit at these weights.

    A fit begins where the attributes of an earlier fit are (checked on 1.9); setting them before
    the first fit is not documented.

    Args:
        model: The LogisticRegression.
        kernel: float32 (width, 1).
        bias: float32 (1,).
    """
    model.coef_ = kernel.T
    model.intercept_ = bias
