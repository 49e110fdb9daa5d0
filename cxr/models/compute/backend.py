"""What differs between Keras' backends: TensorFlow, or JAX where KERAS_BACKEND=jax.

All else is the same Keras code. Most of this is called in worker processes, which have the backend
imported.
"""

import contextlib
import logging
import os
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from cxr.core.environment import allotted_threads
from cxr.core.errors import DeviceError
from cxr.core.parallel import usable_cores
from cxr.models.compute import hardware
from cxr.models.networks.architectures import ARCHITECTURES
from cxr.storage import object_cache

# What pip installs for each backend to use an NVIDIA GPU.
_GPU_PACKAGES = {"tensorflow": "tensorflow[and-cuda]", "jax": "jax[cuda13]"}
_GPU_BATCH = 128
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}  # as /proc/cpuinfo names them
_DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
logger = logging.getLogger("cxr.backend")


def backend_name() -> str:
    """Return the backend of this process and its workers: KERAS_BACKEND, or tensorflow.

    Raises:
        DeviceError: KERAS_BACKEND names another one.
    """
    name = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if name not in _GPU_PACKAGES:
        raise DeviceError(
            f"KERAS_BACKEND={name}: expected one of {', '.join(_GPU_PACKAGES)}; "
            "set it to one, or unset it"
        )
    return name


def backend_version() -> dict[str, str]:
    """Return the backend's name and version."""
    return {backend_name(): metadata.version(backend_name())}


def gpu_package() -> str:
    """Return what pip installs for the backend to use an NVIDIA GPU."""
    return _GPU_PACKAGES[backend_name()]


def child_environment(threads: int) -> dict[str, str]:
    """Return the variables that a worker process needs before it imports the backend.

    Args:
        threads: How many threads it computes with.

    Raises:
        DeviceError: KERAS_BACKEND names no backend.
    """
    common = {
        "KERAS_BACKEND": backend_name(),
        "CXR_THREADS": str(threads),
        "OMP_NUM_THREADS": str(threads),
        "PYTHONUNBUFFERED": "1",  # a worker process leaves without flushing
    }
    if backend_name() == "tensorflow":
        onednn = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1")
        return common | {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": onednn}
    cache_folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(object_cache.home() / "xla")
    flags = os.environ.get("XLA_FLAGS", "")
    return common | {
        # What one training has compiled the next ones find, on this machine.
        "JAX_COMPILATION_CACHE_DIR": cache_folder,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_FLAGS": f"{flags} {_DETERMINISTIC}".strip(),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # several trainings share a GPU
    }


def configure() -> None:
    """Make the backend's operations repeatable, and exact in float32; set TensorFlow's threads.

    GPUs round the inputs of float32 products to 10 bits (TF32) where they are let; scores would
    then not be those of the same model on a processor. JAX takes all cores.
    """
    if backend_name() == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "float32")
        return
    import tensorflow

    threads = allotted_threads()
    inter_op_threads = 1 if threads == 1 else 2
    tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    tensorflow.config.threading.set_inter_op_parallelism_threads(inter_op_threads)
    tensorflow.config.experimental.enable_op_determinism()
    tensorflow.config.experimental.enable_tensor_float_32_execution(False)
    for device in tensorflow.config.list_physical_devices("GPU"):
        # Several trainings share a GPU.
        tensorflow.config.experimental.set_memory_growth(device, True)


@cache
def on_gpu() -> bool:
    """Return whether the backend computes on a GPU.

    If there is one that it cannot use, the answer is False, with a warning.

    Raises:
        DeviceError: The driver hangs. So do all functions below that ask this one.
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
    """Return how many images go through a network at a time where nothing is learned from them.

    On a processor they are so few that activations stay in its cache (bench/streams.py).
    """
    if on_gpu():
        return _GPU_BATCH
    return 3 if backend_name() == "tensorflow" else 32


def thread_count() -> int:
    """Return how many threads this process was allotted, or has cores."""
    return allotted_threads() or usable_cores()


def parallel_batches() -> int:
    """Return how many batches are in a network at once: one per thread on a processor, else one.

    With JAX it is always one: JAX gives a network's variables away while it computes.
    """
    if backend_name() == "tensorflow" and not on_gpu():
        return thread_count()
    return 1


@cache
def precision_policy(architecture: str, cpu_info: Path = Path("/proc/cpuinfo")) -> str:
    """Return the Keras dtype policy for features of train images: half precision where it pays.

    On a GPU it is bfloat16 from compute capability 8, float16 from 7; on a processor, with
    TensorFlow, bfloat16 where it has the instructions and the architecture gains by them.

    Args:
        architecture: Which network.
        cpu_info: Where the processor's instructions are listed.
    """
    if on_gpu():
        return _gpu_policy(hardware.smallest_value("compute_cap"))
    gains = ARCHITECTURES[architecture].bfloat16
    if backend_name() == "tensorflow" and gains and _has_bfloat16(cpu_info):
        return "mixed_bfloat16"
    return "float32"


def _gpu_policy(compute_capability: float) -> str:
    """Return the Keras dtype policy for a GPU."""
    if compute_capability >= 8:
        return "mixed_bfloat16"
    if compute_capability >= 7:
        return "mixed_float16"
    return "float32"


def _has_bfloat16(cpu_info: Path) -> bool:
    """Return whether the processor computes in bfloat16."""
    if not cpu_info.is_file():
        return False
    for line in cpu_info.read_text().splitlines():
        if line.startswith("flags"):
            return bool(_BFLOAT16_FLAGS & set(line.split()))
    return False


def uses_xla() -> bool:
    """Return whether XLA compiles training steps.

    Without it JAX would run each operation by itself. TensorFlow's steps are slower for it on
    processors, and Keras leaves it out where operations are deterministic.
    """
    return backend_name() == "jax"


def call_in_training_mode(model: Any, inputs: Any) -> None:
    """Call a model once in training mode, for what that leaves in its layers."""
    if backend_name() != "jax":
        model(inputs, training=True)
        return
    import jax

    def updated_variables(trainable: Any, non_trainable: Any, pixels: Any) -> Any:
        return model.stateless_call(trainable, non_trainable, pixels, training=True)[1]

    trainable = [variable.value for variable in model.trainable_variables]
    non_trainable = [variable.value for variable in model.non_trainable_variables]
    # Compiled as one: called plainly, JAX would compile each operation by itself.
    updated = jax.jit(updated_variables)(trainable, non_trainable, inputs)
    for variable, value in zip(model.non_trainable_variables, updated, strict=True):
        variable.assign(value)


def device_scope() -> contextlib.AbstractContextManager[Any]:
    """Return the scope to build and train in.

    Where TensorFlow has several GPUs the model is mirrored over them; else the scope does nothing.
    """
    if backend_name() == "tensorflow":
        import tensorflow

        if len(tensorflow.config.list_logical_devices("GPU")) > 1:
            strategy = tensorflow.distribute.MirroredStrategy()
            scope: contextlib.AbstractContextManager[Any] = strategy.scope()
            return scope
    return contextlib.nullcontext()
