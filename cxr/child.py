"""Child processes for the work that imports Keras: a job goes in as JSON, events come back as JSON lines.

A child ends itself when its parent is gone (its standard input closes), so that a killed run leaves nothing
behind that still writes. Never forked: TensorFlow does not survive a fork.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cxr.errors import CxrError, TrainingError

Event = dict[str, Any]
_LAST_LINES = 12


def run(
    module: str,
    job: dict[str, Any],
    log: Path,
    threads: int,
    on_event: Callable[[Event], None],
    gpus: list[str] | None = None,
) -> None:
    """Run `python -m module` on a job to its end, passing on its events; what else it prints goes to `log`.

    `gpus` are the ids of those that it may use, all of them where None.
    Raises TrainingError with the child's own words where it fails, or the log's last lines where it died.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            env=_environment(threads, gpus), text=True, encoding="utf-8",
        )  # fmt: skip
        assert process.stdin and process.stdout
        failure = None
        try:
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                event = json.loads(line)
                failure = event.get("failure", failure)
                on_event(event)
        finally:
            process.stdin.close()  # the child ends itself
            process.stdout.close()
            status = process.wait(timeout=60)
    if status:
        raise TrainingError(failure or f"{module} ended with status {status}: {_tail(log)}")


def _environment(threads: int, gpus: list[str] | None = None) -> dict[str, str]:
    chosen = {} if gpus is None else {"CUDA_VISIBLE_DEVICES": ",".join(gpus)}
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1")}
    return (
        os.environ
        | quiet
        | chosen
        | {"CXR_THREADS": str(threads), "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    )


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()[-_LAST_LINES:]
    return f"see {log}; its last lines: " + " | ".join(lines)


def serve(work: Callable[[dict[str, Any], Callable[[Event], None]], None]) -> None:
    """In the child: read the job, do `work(job, emit)`, exit 0; on a CxrError emit its words and exit 1."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever libraries print goes to the log, not between the events
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def emit(event: Event) -> None:
        channel.write(json.dumps(event) + "\n")
        channel.flush()

    status = 0
    try:
        work(job, emit)
    except CxrError as error:
        emit({"failure": str(error)})
        status = 1
    # Everything is published; the interpreter's own way out takes TensorFlow seconds, during which the parent,
    # which sees the channel closed, would close the pipe that this process is watching.
    sys.stderr.flush()
    os._exit(status)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(3)


def limit_threads() -> None:
    """Give TensorFlow the threads this child was allotted, and make its operations repeatable."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow

    threads = int(os.environ.get("CXR_THREADS", "0"))
    tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    tensorflow.config.threading.set_inter_op_parallelism_threads(1 if threads == 1 else 2)
    tensorflow.config.experimental.enable_op_determinism()
    for device in tensorflow.config.list_physical_devices("GPU"):  # several trainings share one
        tensorflow.config.experimental.set_memory_growth(device, True)
