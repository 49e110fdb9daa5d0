"""An interpreter that has a few installed packages and what they require, and nothing else."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement


def make_interpreter(folder: Path, *packages: str) -> Path:
    """Make a virtual environment with links to packages of this one; return its interpreter.

    Nothing is downloaded.

    Args:
        folder: The folder to make.
        *packages: The distributions that it has, with those that they require.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in _required(packages):
        distribution = metadata.distribution(name)
        tops = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
        for top in tops:
            (site / top).symlink_to(str(distribution.locate_file(top)))
    return folder / "bin" / "python"


def _required(packages: tuple[str, ...]) -> set[str]:
    """Return distributions and all that they require, extras left out."""
    found: set[str] = set()
    waiting = list(packages)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for line in metadata.requires(name) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return found
