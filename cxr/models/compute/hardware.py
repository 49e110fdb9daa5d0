"""The graphics processors of this machine, as their driver tells of them, and which training gets which.

Left out: whether the Keras backend can use them, and how (`backend`).
"""

import contextlib
import logging
import os
import shutil
import subprocess
from functools import cache

from cxr.core.errors import DeviceError

ANSWER_SECONDS = 10  # a driver in order answers within two
logger = logging.getLogger("cxr.models.compute.hardware")


def visible_gpus() -> list[str]:
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
        return tuple(query_driver("index"))
    except DeviceError as error:
        if error.hangs:
            raise
        logger.warning("%s; computing on the cores", error)
        return ()


def query_driver(fields: str, *more: str) -> list[str]:
    """Return nvidia-smi's `fields` of each GPU, a line each; [] where there is no GPU or no such tool. Raises DeviceError.

    `more` are further arguments of nvidia-smi.
    """
    if not (tool := shutil.which("nvidia-smi")):
        return []
    query = [tool, f"--query-gpu={fields}", "--format=csv,noheader", *more]
    asked = subprocess.Popen(query, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said, complaint = asked.communicate(timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        asked.kill()
        with contextlib.suppress(
            subprocess.TimeoutExpired
        ):  # what is stuck in a driver does not end when it is killed
            asked.communicate(timeout=1)
        advice = "look at the driver, or set CUDA_VISIBLE_DEVICES=-1 to compute on the cores"
        raise DeviceError(
            f"nvidia-smi did not answer in {ANSWER_SECONDS} s: {advice}", hangs=True
        ) from None
    if "No devices were found" in said:
        return []
    if asked.returncode:
        raise DeviceError(
            f"nvidia-smi failed: {(complaint or said).strip() or f'status {asked.returncode}'}"
        )
    return said.splitlines()


def smallest_value(field: str) -> float:
    """Return the smallest that the driver tells of this process' GPUs: compute_cap, or memory.free in MiB; 0 where it does not.

    Raises DeviceError for a driver that hangs.
    """
    try:
        return min(
            float(said.split()[0])
            for said in query_driver(field, f"--id={','.join(visible_gpus())}")
        )
    except (
        DeviceError,
        ValueError,
        IndexError,
    ) as error:  # an old driver, or a part of a GPU, has no such figure
        if getattr(error, "hangs", False):
            raise
        logger.warning("the driver does not tell %s: %s", field, error)
        return 0.0


def assign_gpus(gpus: list[str], trainings: int, at: int) -> list[str]:
    """Return the GPUs of the training in slot `at` of `trainings` side by side: its own ones, or one shared in turn.

    >>> assign_gpus(["0", "1", "2", "3"], 2, 1)
    ['1', '3']
    >>> assign_gpus(["0"], 3, 2)
    ['0']
    """
    own = gpus[at % trainings :: trainings]
    return own or ([gpus[at % len(gpus)]] if gpus else [])
