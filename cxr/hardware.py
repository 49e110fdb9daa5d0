"""What this machine computes with: graphics processors for the trainings, and the precision that pays on it."""

import contextlib
import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from cxr.architectures import ARCHITECTURES
from cxr.errors import DeviceError
from cxr.settings import cores

ANSWER_SECONDS = 10  # a driver in order answers within two
logger = logging.getLogger("cxr.hardware")
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}  # as /proc/cpuinfo names them


def gpus() -> list[str]:
    """Return the ids of the NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES takes them; [] for none.

    Where the driver is broken that is none, with a warning; where it hangs, as TensorFlow then would, DeviceError.
    """
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [each for each in allowed.split(",") if each and each != "-1"]
    return list(_installed())


@cache
def _installed() -> tuple[str, ...]:
    try:
        return tuple(ask_driver("index"))
    except DeviceError as error:
        if error.hangs:
            raise
        logger.warning("%s; computing on the cores", error)
        return ()


def ask_driver(fields: str) -> list[str]:
    """Return nvidia-smi's `fields` of each GPU, a line each; [] where there is no GPU or no such tool. Raises DeviceError."""
    if not (tool := shutil.which("nvidia-smi")):
        return []
    query = [tool, f"--query-gpu={fields}", "--format=csv,noheader"]
    asked = subprocess.Popen(query, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said, complaint = asked.communicate(timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        asked.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # what is stuck in a driver does not end when it is killed
            asked.communicate(timeout=1)
        advice = "look at the driver, or set CUDA_VISIBLE_DEVICES=-1 to compute on the cores"
        raise DeviceError(f"nvidia-smi did not answer in {ANSWER_SECONDS} s: {advice}", hangs=True) from None
    if "No devices were found" in said:
        return []
    if asked.returncode:
        raise DeviceError(f"nvidia-smi failed: {(complaint or said).strip() or f'status {asked.returncode}'}")
    return said.splitlines()


def batch() -> int:
    """Return how many images go through a network at a time where nothing is learnt from them.

    On a processor so few that activations stay in its cache: see bench/streams.py.
    """
    return 32 if gpus() else 3


def streams() -> int:
    """Return how many batches are on their way at once: one for each core of this process, two for a GPU."""
    return 2 if gpus() else int(os.environ.get("CXR_THREADS", "0")) or cores()


def share(gpus: list[str], trainings: int, at: int) -> list[str]:
    """Return the GPUs of the training in slot `at` of `trainings` side by side: its own ones, or one shared in turn.

    >>> share(["0", "1", "2", "3"], 2, 1)
    ['1', '3']
    >>> share(["0"], 3, 2)
    ['0']
    """
    own = gpus[at % trainings :: trainings]
    return own or ([gpus[at % len(gpus)]] if gpus else [])


def scope() -> contextlib.AbstractContextManager[Any]:
    """Return the scope to build and train in: mirrored over this process' GPUs where there are several, else nothing."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow

        if len(tensorflow.config.list_logical_devices("GPU")) > 1:
            mirrored: contextlib.AbstractContextManager[Any] = tensorflow.distribute.MirroredStrategy().scope()
            return mirrored
    return contextlib.nullcontext()


def fed(batches: Callable[[], Iterator[tuple[Any, ...]]]) -> Any:
    """Return what `fit` takes for an epoch of these batches, tuples of arrays.

    From plain Python data Keras makes a TensorFlow dataset that tunes itself: a thread which sleeps ever longer, up to a
    minute, and is waited for when the epoch is over. This one does not.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        return batches()
    import tensorflow

    specs = tuple(tensorflow.TensorSpec((None, *each.shape[1:]), each.dtype) for each in next(batches()))
    options = tensorflow.data.Options()
    options.autotune.enabled = False
    return tensorflow.data.Dataset.from_generator(batches, output_signature=specs).prefetch(2).with_options(options)


def policy(architecture: str, info: Path = Path("/proc/cpuinfo")) -> str:
    """Return the Keras dtype policy for frozen features of train images here: half precision where it pays.

    On a GPU bfloat16 from compute capability 8, float16 from 7; on a processor bfloat16 where it has the instructions
    and the architecture gains by them. Called in a child that has TensorFlow; other backends get float32.
    """
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow

        if devices := tensorflow.config.list_physical_devices("GPU"):
            details = tensorflow.config.experimental.get_device_details(devices[0])
            major = (details.get("compute_capability") or (0, 0))[0]
            return "mixed_bfloat16" if major >= 8 else "mixed_float16" if major == 7 else "float32"
    if not ARCHITECTURES[architecture].bfloat16 or not info.is_file():
        return "float32"
    flags = next((line for line in info.read_text().splitlines() if line.startswith("flags")), "")
    return "mixed_bfloat16" if _BFLOAT16_FLAGS & set(flags.split()) else "float32"
