"""Progress of a long step outside a flow run, as `cxr predict` shows it."""

import subprocess
import sys

from tests.conftest import ROOT

COUNTED = """
import logging, sys
from tasks import progress
logging.basicConfig(level=logging.INFO, format="%(message)s")
with progress.following("images"):
    pass
with progress.following("images") as on_progress:
    on_progress("score images", 0, 40)
    on_progress("score images", 40, 40)
print("prefect" in sys.modules)
"""


def test_a_step_outside_a_flow_run_is_told_without_prefect():
    """One line in a file's worth of standard error; none for a step that never begins."""
    done = subprocess.run(
        [sys.executable, "-c", COUNTED], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "False"
    assert done.stderr.strip().startswith("score images: 40 of 40 images")
    assert len(done.stderr.splitlines()) == 1
