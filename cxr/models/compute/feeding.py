"""How training data reach the network: as a dataset, or as rows that stay on a GPU."""

import math
import os
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np

from cxr.models.compute import backend, hardware

# Of free GPU memory, and of the machine's: networks, gradients and the compiler want the rest.
_RESIDENT_SHARE = 0.25


def as_dataset(batches: Callable[[], Iterator[tuple[Any, ...]]]) -> Any:
    """Return what Keras' `fit` takes for an epoch of these batches.

    From plain Python data Keras makes a TensorFlow dataset that tunes itself: a thread which sleeps
    ever longer, up to a minute, and is waited for when the epoch is over. This one does not.

    Args:
        batches: Starts the epoch; its batches are tuples of arrays.
    """
    if backend.backend_name() != "tensorflow":
        return batches()
    import tensorflow

    example = next(batches())
    specs = tuple(tensorflow.TensorSpec((None, *array.shape[1:]), array.dtype) for array in example)
    options = tensorflow.data.Options()
    options.autotune.enabled = False
    dataset = tensorflow.data.Dataset.from_generator(batches, output_signature=specs)
    return dataset.prefetch(2).with_options(options)


@cache  # the first answer holds: later there is less memory free, because of these very rows
def fits_in_memory(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    trainings: int,
) -> bool:
    """Return whether such rows fit on a GPU, and in memory on their way there; False without a GPU.

    Args:
        shape: The shape of all rows.
        dtype: Their dtype.
        trainings: How many trainings, each with such rows, share both.

    Raises:
        DeviceError: The driver hangs.
    """
    if not backend.on_gpu():
        return False
    needed = math.prod(shape) * dtype.itemsize * trainings
    machine_memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    gpu_memory = hardware.smallest_value("memory.free") * 2**20
    return needed < _RESIDENT_SHARE * min(gpu_memory, machine_memory)


def keep_on_device(
    model: Any,
    shape: tuple[int, ...],
    dtype: str,
) -> tuple[Any, Any]:
    """Wrap a model so that its training data stay on the device.

    A training step then brings to the device a number for each image instead of its activations.

    Args:
        model: A compiled model that takes rows (n, ...).
        shape: The shape of all rows.
        dtype: Their dtype.

    Returns:
        A compiled model that takes row numbers, int32 (n,), and shares the layers and optimizer of
        `model`; and the variable that holds the rows, to which they are to be assigned before use.
    """
    import keras

    class Rows(keras.layers.Layer):  # type: ignore[misc]  # mypy skips Keras
        def build(self, _: Any) -> None:
            self.rows = self.add_weight(
                shape=shape,
                dtype=dtype,
                initializer="zeros",
                trainable=False,
                autocast=False,
            )

        def call(self, numbers: Any) -> Any:
            selected = keras.ops.take(self.rows, numbers, axis=0)
            return keras.ops.cast(selected, "float32")

    numbers = keras.Input((), dtype="int32", name="number")
    layer = Rows(name="rows")
    wrapped = keras.Model(numbers, model(layer(numbers)))
    wrapped.compile(model.optimizer, model.loss, jit_compile=backend.uses_xla())
    return wrapped, layer.rows
