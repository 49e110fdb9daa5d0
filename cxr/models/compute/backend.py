"""What differs between Keras' backends: TensorFlow, or JAX where KERAS_BACKEND=jax. All else is the same Keras code.

Called in child processes, which have the backend imported.
"""

import contextlib
import importlib
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from cxr.core.environment import allotted_threads
from cxr.core.errors import DeviceError
from cxr.core.parallel import usable_cores
from cxr.models.architectures import ARCHITECTURES
from cxr.models.compute import hardware
from cxr.storage import object_cache

_PACKAGES = {
    "tensorflow": "tensorflow[and-cuda]",
    "jax": "jax[cuda13]",
}  # what makes each use an NVIDIA GPU
_GPU_BATCH = 128
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}  # as /proc/cpuinfo names them
_RESIDENT_SHARE = 0.25  # of free GPU memory, and of the machine's: networks, gradients and the compiler want the rest
_DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
logger = logging.getLogger("cxr.models.compute.backend")


def backend_name() -> str:
    """Return the backend of this process' children: KERAS_BACKEND, or tensorflow. Raises DeviceError for another."""
    found = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if found not in _PACKAGES:
        raise DeviceError(
            f"KERAS_BACKEND={found}: expected one of {', '.join(_PACKAGES)}; set it to one, or unset it"
        )
    return found


def gpu_package() -> str:
    """Return what pip installs for the backend to use an NVIDIA GPU."""
    return _PACKAGES[backend_name()]


def child_environment(threads: int) -> dict[str, str]:
    """Return what a process with so many threads needs to have set before it imports the backend. Raises DeviceError."""
    common = {
        "KERAS_BACKEND": backend_name(),
        "CXR_THREADS": str(threads),
        "OMP_NUM_THREADS": str(threads),
        "PYTHONUNBUFFERED": "1",  # a child leaves without flushing
    }
    if backend_name() == "tensorflow":
        onednn = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1")
        return common | {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": onednn}
    return common | {
        # What one training has compiled the next ones find, on this machine.
        "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR")
        or str(object_cache.home() / "xla"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {_DETERMINISTIC}".strip(),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # several trainings share a GPU
    }


def import_keras() -> None:
    """Import Keras with its backend.

    TensorFlow imports JAX where it is installed, for converters that nothing here calls: 0.4 s and 120 MB of each process.
    """
    hidden = {"jax": None} if backend_name() == "tensorflow" and "jax" not in sys.modules else {}
    sys.modules.update(hidden)  # type: ignore[arg-type]
    try:
        importlib.import_module("keras")
    finally:
        for module in hidden:
            del sys.modules[module]  # others would take None for a JAX that is there


def configure() -> None:
    """Make the backend's operations repeatable, and exact in float32; give TensorFlow the threads of this process (JAX takes all cores).

    GPUs round the inputs of float32 products to 10 bits (TF32) where they are let; scores would then not be those of the
    same model on a processor.
    """
    if backend_name() == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "float32")
        return
    import tensorflow

    threads = allotted_threads()
    tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    tensorflow.config.threading.set_inter_op_parallelism_threads(1 if threads == 1 else 2)
    tensorflow.config.experimental.enable_op_determinism()
    tensorflow.config.experimental.enable_tensor_float_32_execution(False)
    for device in tensorflow.config.list_physical_devices("GPU"):  # several trainings share one
        tensorflow.config.experimental.set_memory_growth(device, True)


@cache
def on_gpu() -> bool:
    """Return whether the backend computes on a GPU. Where there is one that it cannot use, False and a warning.

    Raises DeviceError for a driver that hangs, and so do all below that ask it.
    """
    if not hardware.visible_gpus():
        return False
    import keras

    with contextlib.suppress(RuntimeError):  # JAX's for a kind of device that it does not know
        if keras.distribution.list_devices("gpu"):
            return True
    logger.warning(
        "computing on the cores: %s does not see the GPU; install %s", backend_name(), gpu_package()
    )
    return False


def inference_batch_size() -> int:
    """Return how many images go through a network at a time where nothing is learnt from them.

    On a processor so few that activations stay in its cache: see bench/streams.py.
    """
    return _GPU_BATCH if on_gpu() else 3 if backend_name() == "tensorflow" else 32


def thread_count() -> int:
    """Return how many threads this process was allotted, or has cores."""
    return allotted_threads() or usable_cores()


def parallel_batches() -> int:
    """Return how many batches are in a network at once: one for each thread on a processor, one on a GPU.

    One at a time, too, for other backends than TensorFlow: JAX gives a network's variables away while it computes.
    """
    return thread_count() if backend_name() == "tensorflow" and not on_gpu() else 1


@cache
def precision_policy(architecture: str, info: Path = Path("/proc/cpuinfo")) -> str:
    """Return the Keras dtype policy for frozen features of train images here: half precision where it pays.

    On a GPU bfloat16 from compute capability 8, float16 from 7; on a processor bfloat16 where it has the instructions
    and the architecture gains by them, with TensorFlow. Called in a child process.
    """
    if on_gpu():
        capability = hardware.smallest_value("compute_cap")
        return (
            "mixed_bfloat16"
            if capability >= 8
            else "mixed_float16"
            if capability >= 7
            else "float32"
        )
    if (
        backend_name() != "tensorflow"
        or not ARCHITECTURES[architecture].bfloat16
        or not info.is_file()
    ):
        return "float32"
    flags = next((line for line in info.read_text().splitlines() if line.startswith("flags")), "")
    return "mixed_bfloat16" if _BFLOAT16_FLAGS & set(flags.split()) else "float32"


def uses_xla() -> bool:
    """Return whether training steps are compiled by XLA: JAX without it would run them operation by operation.

    TensorFlow's are slower for it on processors, and Keras leaves it out where operations are deterministic.
    """
    return backend_name() == "jax"


def call_in_training_mode(model: Any, inputs: Any) -> None:
    """Call a model once in training mode, for what that leaves in its layers."""
    if backend_name() != "jax":
        model(inputs, training=True)
        return
    import jax  # operation by operation it would compile each one by itself

    def called(trained: Any, other: Any, given: Any) -> Any:
        return model.stateless_call(trained, other, given, training=True)[1]

    values = [
        [each.value for each in held]
        for held in (model.trainable_variables, model.non_trainable_variables)
    ]
    for variable, value in zip(
        model.non_trainable_variables, jax.jit(called)(*values, inputs), strict=True
    ):
        variable.assign(value)


def use_fast_conv_gradient(model: Any) -> Any:
    """Return the model ready to learn: on a processor TensorFlow's 3x3 convolutions get a faster gradient, the same to rounding.

    The gradient of a convolution's input is a convolution, too, of the output's gradient with the kernel turned round (Dumoulin
    and Visin, "A guide to convolution arithmetic for deep learning", 2016, section 4), and TensorFlow's convolution is faster
    than its operation for that gradient.
    """
    if backend_name() != "tensorflow" or on_gpu():
        return model
    import keras
    import tensorflow

    @tensorflow.custom_gradient  # type: ignore[untyped-decorator]
    def same(inputs: Any, kernel: Any) -> Any:
        def gradient(outer: Any) -> tuple[Any, Any]:
            turned = tensorflow.transpose(tensorflow.reverse(kernel, [0, 1]), [0, 1, 3, 2])
            of_kernel = tensorflow.raw_ops.Conv2DBackpropFilter(
                input=inputs,
                filter_sizes=kernel.shape,
                out_backprop=outer,
                strides=[1] * 4,
                padding="SAME",
            )
            return tensorflow.nn.conv2d(outer, turned, 1, "SAME"), of_kernel

        return tensorflow.nn.conv2d(inputs, kernel, 1, "SAME"), gradient

    plain = {
        "kernel_size": (3, 3),
        "strides": (1, 1),
        "dilation_rate": (1, 1),
        "groups": 1,
        "padding": "same",
    }
    for layer in model.layers:
        if type(layer) is keras.layers.Conv2D and plain.items() <= vars(layer).items():
            layer.convolution_op = lambda inputs, kernel: same(
                inputs, tensorflow.identity(keras.ops.convert_to_tensor(kernel))
            )
    return model


def device_scope() -> contextlib.AbstractContextManager[Any]:
    """Return the scope to build and train in: mirrored over this process' GPUs where TensorFlow has several, else nothing."""
    if backend_name() == "tensorflow":
        import tensorflow

        if len(tensorflow.config.list_logical_devices("GPU")) > 1:
            mirrored: contextlib.AbstractContextManager[Any] = (
                tensorflow.distribute.MirroredStrategy().scope()
            )
            return mirrored
    return contextlib.nullcontext()


def as_dataset(batches: Callable[[], Iterator[tuple[Any, ...]]]) -> Any:
    """Return what `fit` takes for an epoch of these batches, tuples of arrays.

    From plain Python data Keras makes a TensorFlow dataset that tunes itself: a thread which sleeps ever longer, up to a
    minute, and is waited for when the epoch is over. This one does not.
    """
    if backend_name() != "tensorflow":
        return batches()
    import tensorflow

    specs = tuple(
        tensorflow.TensorSpec((None, *each.shape[1:]), each.dtype) for each in next(batches())
    )
    options = tensorflow.data.Options()
    options.autotune.enabled = False
    return (
        tensorflow.data.Dataset.from_generator(batches, output_signature=specs)
        .prefetch(2)
        .with_options(options)
    )


@cache  # the first answer holds: later there is less memory free, by these very rows
def fits_in_memory(shape: tuple[int, ...], dtype: np.dtype[Any], trainings: int) -> bool:
    """Return whether such rows fit on a GPU beside all else, and in memory on their way there, so many trainings sharing both.

    False without a GPU. Raises DeviceError for a driver that hangs.
    """
    if not on_gpu():
        return False
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    room = _RESIDENT_SHARE * min(hardware.smallest_value("memory.free") * 2**20, memory)
    return math.prod(shape) * dtype.itemsize * trainings < room


def keep_on_device(model: Any, shape: tuple[int, ...], dtype: str) -> tuple[Any, Any]:
    """Return (a model of row numbers, the variable that holds the rows): `model` on rows (n, …) that stay on the device.

    It shares `model`'s layers and optimizer; a training step brings to the device a number for each image instead of its
    activations. Assign the rows before use.
    """
    import keras

    class Rows(keras.layers.Layer):  # type: ignore[misc]
        def build(self, _: Any) -> None:
            self.rows = self.add_weight(
                shape=shape, dtype=dtype, initializer="zeros", trainable=False, autocast=False
            )

        def call(self, numbers: Any) -> Any:
            return keras.ops.cast(keras.ops.take(self.rows, numbers, axis=0), "float32")

    numbers, layer = keras.Input((), dtype="int32", name="number"), Rows(name="rows")
    whole = keras.Model(numbers, model(layer(numbers)))
    whole.compile(model.optimizer, model.loss, jit_compile=uses_xla())
    return whole, layer.rows


def backend_version() -> dict[str, str]:
    """Return the backend's name and version."""
    return {backend_name(): metadata.version(backend_name())}
