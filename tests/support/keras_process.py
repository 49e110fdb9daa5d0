"""Code of a test that imports Keras, run in a process of its own.

Importing Keras takes a core for seconds. One process does it for all tests of a session, and is
forked for each of them: nothing has touched a model in it, as in a fresh process.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from cxr.models.compute import backend, worker
from tests.conftest import ROOT

_TENSORFLOW = {"KERAS_BACKEND": "tensorflow"}
_DO = """
import sys
from cxr.models.compute import backend, worker
backend.configure()
worker._job_type(sys.argv[1]).model_validate_json(sys.argv[2]).work(lambda told: None)
"""


@cache
def _forks() -> "subprocess.Popen[str]":
    """Start the process that imports Keras; it ends with this one, which closes the pipe."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.keras_forks"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | _TENSORFLOW | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    _status(process)
    return process


def _status(process: "subprocess.Popen[str]") -> int:
    """Return the next exit status that it tells; if a test ends sooner, end it with its fork."""
    assert process.stdout
    try:
        return int(process.stdout.readline())
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        _forks.cache_clear()
        raise


def run_with_keras(code: str, *arguments: object, **environment: str) -> str:
    """Run code where Keras is imported on TensorFlow; fail with its last words if it fails.

    Args:
        code: What to run.
        *arguments: What it finds in sys.argv from 1 on.
        **environment: More environment variables; too late for those that TensorFlow reads when
            it is imported.

    Returns:
        What it wrote to standard output and standard error.
    """
    process = _forks()
    assert process.stdin
    with tempfile.NamedTemporaryFile() as log:
        order = {
            "code": code,
            "arguments": [str(each) for each in arguments],
            "environment": os.environ | environment | _TENSORFLOW,
            "log": log.name,
        }
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        status = _status(process)
        said = Path(log.name).read_text(errors="replace")
    assert status == 0, said[-3000:]
    return said


def do_with_keras(job: worker.Job) -> None:
    """Do a job as a worker process of one thread does it; fail with its last words if it fails."""
    run_with_keras(_DO, job.kind(), job.model_dump_json(), **backend.child_environment(1))


def run_afresh(code: str, **environment: str) -> None:
    """Run code in a process that has imported nothing; fail with its last words if it fails.

    Args:
        code: What to run.
        **environment: More environment variables.
    """
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
