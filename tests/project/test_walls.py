"""The walls: what may be imported where, and what the command line costs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cxr.core import files, plotting, settings
from cxr.data.manifest import records
from cxr.results import evaluation
from cxr.results.verify.quoted_table import misquotes
from flows.commands.app import app
from flows.commands.flags import TrainingFlags, merge
from tests.conftest import ROOT


def check_contracts(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the packages in a folder, by the contracts of its pyproject.toml."""
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def test_the_contracts_of_imports_are_kept():
    """Imports go one way, cxr is usable without Prefect, one file talks to S3: as pyproject.toml says."""
    done = check_contracts(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("line", "contract"),
    [
        ("import prefect", "imports no Prefect"),
        ("from prefect_dask import DaskTaskRunner", "imports no Prefect"),
        ("from flows import names", "go one way"),
        ("from tasks import retries", "go one way"),
        ("import boto3", "talks to S3"),
        ("from obstore.store import S3Store", "talks to S3"),
    ],
)
def test_a_contract_is_broken_by_an_import_in_a_sub_package(line, contract, tmp_path):
    """A forbidden import is refused at any depth, inside a function, too."""
    for package in ("cxr", "tasks", "flows", "deployments"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    bad = tmp_path / "cxr" / "outer" / "inner" / "bad.py"
    bad.parent.mkdir(parents=True)
    for folder in (bad.parent, bad.parent.parent):
        (folder / "__init__.py").touch()
    bad.write_text(f"def late():\n    {line}\n")
    done = check_contracts(tmp_path)
    assert done.returncode == 1
    assert re.search(rf"{contract}.* BROKEN", done.stdout), done.stdout
    assert "cxr.outer.inner.bad" in done.stdout


@pytest.mark.parametrize(
    "module",
    [
        "flows.commands.app",
        "flows.pipeline",
        "cxr.models.training.trainer",
        "cxr.results.evaluation",
    ],
)
def test_no_import_brings_keras(module):
    """Listing, deploying or asking for help imports no TensorFlow; the command line no Prefect or pandas either."""
    slow = ("keras", "tensorflow", "prefect", "pandas")
    code = f"import sys, {module}; print([m for m in {slow} if m in sys.modules])"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    allowed = {"flows.commands.app": "[]", "flows.pipeline": "['prefect', 'pandas']"}
    assert out.strip() == allowed.get(module, "['pandas']")


def test_help_and_wrong_usage():
    """--help exits 0 and shows examples; a misspelt flag or an impossible value exits 2 and names it."""

    def call(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "flows.command", *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )

    shown = call("--help")
    assert shown.returncode == 0 and "cxr demo" in shown.stdout and "Examples" in shown.stdout
    assert "explore (eda)" in shown.stdout, "the older name is an alias, and shown as one"
    usage, options = call("eda", "--help").stdout.split("\n", 1)
    assert usage.startswith("Usage: cxr eda") and call("explore", "--help").stdout.endswith(options)
    one = call("verify", "--help")
    assert "Example: cxr verify" in one.stdout and "Examples" not in one.stdout, (
        "a command shows its own example alone"
    )
    for arguments, word in [
        (("run", "x", "--out", "y", "--epoch", "3"), "--epoch"),
        (("run", "x", "--out", "y", "--image-size", "7"), "32"),
        (("run", "x", "--out", "y", "--arch", "ResNet"), "ResNet"),
        (("run", "x"), "--out"),
    ]:
        done = call(*arguments)
        assert done.returncode == 2 and word in done.stdout + done.stderr, arguments


def test_presets_are_valid_and_flags_win():
    """Every preset builds; a field given beside it wins; a misspelt one is refused."""
    for name in settings.PRESETS:
        assert settings.training_settings(name, seed=7).seed == 7
    assert settings.training_settings("demo", image_size=96).image_size == 96
    with pytest.raises(ValueError, match="epoch_count"):
        settings.training_settings("demo", epoch_count=1)


def test_an_ensemble_of_seeds_trains_three_where_nobody_says_how_many():
    """As a setting and as a flag beside a preset; a number that is given wins; a single network is refused."""
    assert settings.TrainingSettings(ensemble="seeds").seeds == 3
    assert settings.TrainingSettings(ensemble="seeds", seeds=2).seeds == 2
    assert settings.TrainingSettings(ensemble="architectures").seeds == 1
    assert merge("demo", TrainingFlags(ensemble="seeds")).seeds == 3
    assert merge("demo", TrainingFlags(ensemble="epochs")).tuning_epochs() == 14
    for field in ({"ensemble": "seeds", "seeds": 1}, {"ensemble": "epochs", "epochs": 1}):
        with pytest.raises(ValueError, match="expected at least 2"):
            settings.TrainingSettings(**field)


def test_readme_names_what_exists():
    """Commands, targets, files and presets that the README names are there."""
    readme = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"make ([a-z][a-z-]+)", readme)) <= targets
    commands = set(app)
    assert set(re.findall(r"`?cxr ([a-z]+)\b", readme)) <= commands | {"is", "registry"}
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", readme):
        assert (ROOT / path).exists(), path
    for reason in records.REJECT_REASONS:
        assert reason in readme, reason
    for field in settings.PRESETS:
        assert f"`{field}`" in readme


def test_results_list_every_bench_and_make_bench_runs_them():
    """A reader of docs/results.md finds the command of each measurement, those that `make bench` runs among them."""
    table = (ROOT / "docs" / "results.md").read_text().partition("## ")[0]
    benches = {path.stem for path in (ROOT / "bench").glob("[a-z]*.py")}
    listed = re.findall(r"^\| `python -m bench\.(\w+)` \|", table, re.M)
    made = re.search(r"^BENCHES := (.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    assert set(listed) == benches
    by_hand = [
        "quality",
        "recipes",
        "threshold_rules",
        "notebook",
        "batch",
        "coverage",
        "site",
        "scope",
        "monitor",
        "label_review",
    ]
    assert sorted(listed) == sorted([*by_hand, *made])


def test_the_readme_s_figures_are_those_of_its_scores():
    """Each figure and interval in the README's table is computed again from the scores beside it."""
    readme = (ROOT / "README.md").read_text()
    threshold = float(re.search(r"threshold (0\.\d+), chosen on validation", readme)[1])
    found = evaluation.test_metrics(
        files.read_table(ROOT / "docs" / "scores" / "mobilenetv2_test.csv"), threshold
    )
    assert list(misquotes(readme, found["test"], found["intervals"])) == []
    assert len(re.findall(r"^\|.* to .*\|$", readme, re.M)) == 5


def test_no_address_or_machine_path_in_the_lock():
    """Exact versions with hashes, and no index address."""
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock and "--index" not in lock
    pinned = re.findall(r"^([a-z0-9][a-z0-9._-]*)==", lock, re.M)
    assert len(pinned) > 100 and lock.count("--hash=sha256:") > len(pinned)


def test_colours_name_both_classes():
    """One colour each, the same everywhere."""
    assert set(plotting.CLASS_COLOURS) == set(settings.LABEL_NAMES)
