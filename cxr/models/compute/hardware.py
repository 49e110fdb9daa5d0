"""The NVIDIA GPUs of this machine, as their driver tells of them, and which training gets which.

Whether the Keras backend can use them is `backend`'s matter.
"""

import contextlib
import logging
import os
import shutil
import subprocess
from functools import cache

from cxr.core.errors import DeviceError

ANSWER_SECONDS = 10  # a driver in order answers within two
logger = logging.getLogger("cxr.hardware")


def visible_gpus() -> list[str]:
    """Return the ids of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES takes them.

    There are none, with a warning, where the driver is broken.

    Raises:
        DeviceError: The driver hangs, as TensorFlow then would.
    """
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return list(_installed_gpus())
    return [gpu for gpu in allowed.split(",") if gpu not in {"", "-1"}]


@cache
def _installed_gpus() -> tuple[str, ...]:
    """Return the indices of all GPUs."""
    try:
        return tuple(query_driver("index"))
    except DeviceError as error:
        if error.hangs:
            raise
        logger.warning("%s; computing on the cores", error)
        return ()


def query_driver(fields: str, *arguments: str) -> list[str]:
    """Ask nvidia-smi for properties of each GPU.

    Args:
        fields: The properties, as `nvidia-smi --query-gpu` takes them.
        *arguments: More arguments of nvidia-smi.

    Returns:
        A line for each GPU; [] where there is none, or no nvidia-smi.

    Raises:
        DeviceError: The driver fails or hangs.
    """
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, f"--query-gpu={fields}", "--format=csv,noheader", *arguments]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        output, errors = process.communicate(timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        # What is stuck in a driver does not end when it is killed: it is left behind.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=1)
        raise DeviceError(
            f"nvidia-smi did not answer in {ANSWER_SECONDS} s: look at the driver, "
            "or set CUDA_VISIBLE_DEVICES=-1 to compute on the cores",
            hangs=True,
        ) from None
    if "No devices were found" in output:
        return []
    if process.returncode:
        message = (errors or output).strip() or f"status {process.returncode}"
        raise DeviceError(f"nvidia-smi failed: {message}")
    return output.splitlines()


def smallest_value(field: str) -> float:
    """Return the smallest value of a property among the GPUs of this process.

    Args:
        field: compute_cap, or memory.free in MiB.

    Returns:
        The value; 0, with a warning, where the driver does not tell it, as old ones do not, nor
        those of a part of a GPU.

    Raises:
        DeviceError: The driver hangs.
    """
    try:
        lines = query_driver(field, f"--id={','.join(visible_gpus())}")
        return min(float(line.split()[0]) for line in lines)
    except (DeviceError, ValueError, IndexError) as error:
        if isinstance(error, DeviceError) and error.hangs:
            raise
        logger.warning("the driver does not tell %s: %s", field, error)
        return 0.0


def assign_gpus(
    gpus: list[str],
    trainings: int,
    slot: int,
) -> list[str]:
    """Return the GPUs of one of several trainings side by side: its own, or one shared in turn.

    Args:
        gpus: The ids of all GPUs.
        trainings: How many trainings there are side by side.
        slot: Which of them, from 0.

    >>> assign_gpus(["0", "1", "2", "3"], 2, 1)
    ['1', '3']
    >>> assign_gpus(["0"], 3, 2)
    ['0']
    """
    own = gpus[slot % trainings :: trainings]
    if own or not gpus:
        return own
    return [gpus[slot % len(gpus)]]
