"""Code of a test that imports Keras, run in a process of its own."""

import os
import subprocess
import sys

from tests.conftest import ROOT


def run_with_keras(code: str, **environment: str) -> str:
    """Run code in a fresh Python process; fail with its last words if it fails.

    Args:
        code: What to run.
        **environment: More environment variables.

    Returns:
        What it wrote to standard error.
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
    return done.stderr
