"""The wheel: what is in it, and that it runs as a user installs it, without the checkout and the tools of development."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGES = ("cxr", "tasks", "flows")
DEVELOPMENT = (
    "pytest",
    "hypothesis",
    "moto",
    "flask",
    "ruff",
    "mypy",
    "importlinter",
    "distributed",
    "prefect_dask",
    "jax",
)


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run a command to its end and return what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=env)
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy: a build leaves files in its folder that the next one takes for its own."""
    source = tmp_path_factory.mktemp("source")
    for name in (*PACKAGES, "deployments", "bench", "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run(*command, "--wheel-dir", source / "wheels", source, cwd=source)
    return next((source / "wheels").glob("*.whl"))


def test_every_file_of_the_packages_is_in_the_wheel_and_nothing_else(wheel):
    """Modules and templates at any depth; no tests, no benches, no deployments."""
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert found == expected


def pins() -> dict[str, str]:
    """Return the lock's lines `name==version ; marker` by name, without hashes; a name may have several."""
    lines: dict[str, str] = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if pinned := re.match(r"([a-z0-9._-]+)==[^\\]+", line):
            lines[pinned[1]] = lines.get(pinned[1], "") + pinned[0].strip() + "\n"
    return lines


@pytest.fixture(scope="module")
def environment(wheel) -> Iterator[Path]:
    """A virtual environment with the wheel and what it needs to run, in the versions of the lock: 2.6 GB, then gone."""
    with tempfile.TemporaryDirectory(prefix="cxr-wheel-") as name:
        folder = Path(name)
        venv.create(folder / "venv", with_pip=False)
        (folder / "constraints.txt").write_text("".join(pins().values()))
        pip = [sys.executable, "-m", "pip", "--python", folder / "venv" / "bin" / "python"]
        run(
            *pip,
            "install",
            "--quiet",
            "--no-compile",
            "-c",
            folder / "constraints.txt",
            wheel,
            cwd=folder,
        )
        run(*pip, "check", cwd=folder)
        listed = json.loads(run(*pip, "list", "--format", "json", cwd=folder))
        names = {re.sub(r"[-_.]+", "-", each["name"]).lower() for each in listed}
        assert names - set(pins()) == {"cxr-pipeline"}, "what is installed and not in the lock"
        yield folder / "venv" / "bin"


@pytest.mark.slow
def test_the_installed_wheel_runs_a_demo_and_predicts(environment, tmp_path):
    """Nothing of development and no checkout in reach: the help is shown, a demo ends, its model scores images."""
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "PYTHON"))
    }
    own |= {"PREFECT_HOME": str(tmp_path / "prefect")}

    def call(program: str, *arguments: str | Path) -> str:
        return run(environment / program, *arguments, cwd=tmp_path, env=own)

    look = "import cxr, importlib.util as u, sys; print(cxr.__file__, *filter(u.find_spec, sys.argv[1:]))"
    assert call("python", "-c", look, *DEVELOPMENT).split() == [
        str(next(environment.parent.glob("lib/python*/site-packages")) / "cxr" / "__init__.py")
    ]
    assert "cxr demo" in call("cxr", "--help")
    call("cxr", "demo", "--images", "60", "--out", "work")
    (export,) = (tmp_path / "work" / "runs").glob("*/export")
    call("cxr", "predict", export, tmp_path / "work" / "phantom_images", "--out", "p.csv")
    with (tmp_path / "p.csv").open() as table:
        scored = [row["prediction"] for row in csv.DictReader(table) if row["status"] == "scored"]
    assert len(scored) >= 60 and set(scored) <= {"NORMAL", "PNEUMONIA"}
