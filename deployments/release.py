"""Make a release, or say what is missing for one.

    python -m deployments.release 0.3.0            # or: make release VERSION=0.3.0; checks and builds, changes nothing
    python -m deployments.release 0.3.0 --tag      # and tags the commit

Checks that nothing is uncommitted, that version, changelog and citation agree, and that a record of each kind is
kept for later versions. Then it builds the wheel and the sdist from a fresh clone of the commit, installs the wheel with the
versions of requirements.lock into a new environment for each Python that it is for and that is found here, and runs it there. What it
built, with the bill of materials, is left in build/release.
"""

import argparse
import ast
import datetime
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PYTHONS = ("3.11", "3.12", "3.13")
FORM = re.compile(r"\d+\.\d+\.\d+")
KEPT_RECORDS = "tests/results/test_model_card.py"
SMOKE = (
    ("cxr", "--version"),
    ("cxr", "--help"),
    ("cxr", "demo", "--images", "60", "--out", "work"),
    ("python", "-c", "import cxr; print(cxr.__version__)"),
)


class ReleaseError(Exception):
    """Something is missing for a release: what, and what to do."""


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Return what a command printed.

    Raises:
        ReleaseError: It failed; the message ends with its last lines.
    """
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        words = " ".join(str(word) for word in command)
        raise ReleaseError(f"{words} failed: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def problems(root: Path, version: str, today: datetime.date) -> Iterator[str]:
    """Yield what is not as a release of this version needs it, one sentence each.

    Args:
        root: The checkout.
        version: Such as 0.3.0.
        today: The day that the changelog has to name.
    """
    if not FORM.fullmatch(version):
        yield f"expected a version like 1.2.3, found {version!r}"
    if run("git", "status", "--porcelain", cwd=root):
        yield "expected nothing uncommitted, found changes: commit them (git status)"
    if run("git", "tag", "--list", f"v{version}", cwd=root):
        yield f"expected a new version, found the tag v{version}: take a higher one"
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if project["version"] != version:
        yield (
            f"pyproject.toml: expected version {version}, found {project['version']}: change it "
            "there; the library asks the installed package for it"
        )
    citation = (root / "CITATION.cff").read_text(encoding="utf-8")
    if f"\nversion: {version}\ndate-released: {today}\n" not in citation:
        yield f"CITATION.cff: expected version {version} and date-released {today}: change them there"
    yield from _changelog_problems(
        (root / "CHANGELOG.md").read_text(encoding="utf-8"), version, today
    )
    first = _first_kinds((root / KEPT_RECORDS).read_text(encoding="utf-8"))
    if first:
        yield (
            f"expected a record of each kind in tests/results/earlier, none of {', '.join(first)}: "
            f"run the pipeline on phantom images, keep one of each, empty FIRST in {KEPT_RECORDS}"
        )


def _changelog_problems(text: str, version: str, today: datetime.date) -> Iterator[str]:
    """Yield what is wrong with the sections of the changelog."""
    sections = re.findall(r"^## (.*)\n((?:(?!## ).*\n?)*)", text, re.M)
    titles = [title for title, _ in sections]
    expected = f"{version} ({today})"
    if len(sections) < 2 or titles[:2] != ["Unreleased", expected]:
        yield (
            f"CHANGELOG.md: expected the sections 'Unreleased' and '{expected}' on top, found "
            f"{titles[:2]}: give what is unreleased the version and the date"
        )
    elif sections[0][1].strip():
        yield "CHANGELOG.md: expected nothing under 'Unreleased': move it into the new version"
    elif not sections[1][1].strip():
        yield f"CHANGELOG.md: expected what is new under '{expected}', found nothing"


def _first_kinds(text: str) -> list[str]:
    """Return the kinds of records of which no file is kept yet."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FIRST":
            names = ast.unparse(node.value)
            return [] if names == "set()" else sorted(ast.literal_eval(names))
    raise ReleaseError(f"{KEPT_RECORDS}: expected FIRST, the kinds without a kept record")


def build(root: Path, folder: Path) -> tuple[Path, Path]:
    """Build the wheel and the sdist of the last commit.

    Args:
        root: The checkout.
        folder: Where they go.

    Returns:
        Their paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "source"
        run("git", "clone", "--quiet", "--no-hardlinks", root, source, cwd=root)
        for kind in ("sdist", "wheel"):
            call = f"import setuptools.build_meta as b, sys; b.build_{kind}(sys.argv[1])"
            run(sys.executable, "-c", call, folder, cwd=source)
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


def find_python(version: str) -> Path | None:
    """Return an interpreter of this version (3.12), from PATH or of pyenv; None if there is none."""
    found = shutil.which(f"python{version}")
    places = [Path(found)] if found else []
    places += sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for place in places:
        ask = [
            str(place),
            "-c",
            "import sys, ensurepip, venv; print(*sys.version_info[:2], sep='.')",
        ]
        done = subprocess.run(ask, capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.strip() == version:
            return place
    return None


def smoke_test(wheel: Path, python: Path, version: str) -> None:
    """Install a wheel into a new environment and run it there, away from the checkout.

    Args:
        wheel: The wheel.
        python: The interpreter.
        version: That `cxr --version` has to say.

    Raises:
        ReleaseError: It could not be installed, or a command failed.
    """
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pins = re.findall(r"^[a-z0-9._-]+==[^\\\n]+", lock, re.M)
    with tempfile.TemporaryDirectory(prefix="cxr-smoke-") as name:
        folder = Path(name)
        (folder / "constraints.txt").write_text("\n".join(pins) + "\n", encoding="utf-8")
        run(python, "-m", "venv", folder / "venv", cwd=folder)
        programs = folder / "venv" / "bin"
        install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile")
        run(programs / "python", *install, "-c", "constraints.txt", wheel, cwd=folder)
        own = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        own["CXR_CACHE"] = str(folder / "cache")
        for program, *arguments in SMOKE:
            printed = run(programs / program, *arguments, cwd=folder, env=own)
            if arguments == ["--version"] and printed.strip() != version:
                raise ReleaseError(f"expected cxr --version to say {version}, found {printed!r}")


def release(root: Path, version: str, tag: bool, smoke: bool = True) -> None:
    """Check, build, try, and where it is asked for tag.

    Args:
        root: The checkout.
        version: Of the release.
        tag: Whether to tag the commit.
        smoke: Whether to install and run the wheel; a tag needs it.

    Raises:
        ReleaseError: Something is missing.
    """
    today = datetime.datetime.now(datetime.UTC).date()
    found = list(problems(root, version, today))
    if found:
        raise ReleaseError("\n".join(found))
    folder = root / "build" / "release"
    shutil.rmtree(folder, ignore_errors=True)
    wheel, sdist = build(root, folder)
    _say(f"built {wheel.name} and {sdist.name} in {folder}")
    run(sys.executable, "-m", "deployments.sbom", folder / "sbom.json", cwd=root)
    _say("wrote sbom.json")
    tried = []
    for python_version in PYTHONS if smoke else ():
        python = find_python(python_version)
        if python is None:
            _say(f"Python {python_version}: no interpreter here, not tried")
            continue
        smoke_test(wheel, python, version)
        tried.append(python_version)
        _say(f"Python {python_version}: installed, and ran {len(SMOKE)} commands")
    if tag and not tried:
        raise ReleaseError("expected the wheel to be tried before a tag, no Python was found")
    if tag:
        run("git", "tag", "--annotate", f"v{version}", "--message", f"Version {version}", cwd=root)
        _say(f"tagged v{version}: push it once CI has passed on this commit")
    else:
        _say("nothing was tagged: give --tag once CI (.ci/run) has passed on this commit")


def _say(sentence: str) -> None:
    print(sentence, flush=True)  # noqa: T201


def main(arguments: list[str] | None = None) -> int:
    """Run the script; exit status 1 where something is missing."""
    parser = argparse.ArgumentParser(description="Make a release, or say what is missing for one.")
    parser.add_argument("version", help="such as 0.3.0")
    parser.add_argument("--tag", action="store_true", help="tag the commit; else nothing changes")
    parser.add_argument("--no-smoke", action="store_true", help="do not install and run the wheel")
    given = parser.parse_args(arguments)
    try:
        release(ROOT, given.version, given.tag, smoke=not given.no_smoke)
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
