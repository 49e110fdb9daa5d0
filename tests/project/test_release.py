"""Releases: what the script asks for, the bill of materials, the licences, the citation, the lock."""

import datetime
import json
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
import yaml
from cyclonedx.output.json import JsonV1Dot6
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from deployments import licenses, release, sbom
from tests.conftest import ROOT

TODAY = datetime.date(2026, 12, 1)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONTAINER = (ROOT / "deployments" / "Dockerfile").read_text(encoding="utf-8")
CHANGELOG = (
    "# Changelog\n\n## Unreleased\n\n## 1.2.0 (2026-12-01)\n\n- A thing.\n\n## 1.1.0 (2026-11-01)\n"
)


def git(folder: Path, *arguments: str) -> None:
    """Run git as somebody who has no settings."""
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def ready(tmp_path) -> Path:
    """A small checkout that is ready for version 1.2.0."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "1.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    (tmp_path / "CITATION.cff").write_text("x\nversion: 1.2.0\ndate-released: 2026-12-01\n")
    records = tmp_path / release.KEPT_RECORDS
    records.parent.mkdir(parents=True)
    records.write_text("FIRST = set()\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "Version 1.2.0")
    return tmp_path


def test_nothing_is_missing_where_all_agree(ready):
    """Version, changelog, citation and kept records are those of the release."""
    assert list(release.problems(ready, "1.2.0", TODAY)) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("pyproject.toml", "1.2.0", "1.1.0", "pyproject.toml: expected version 1.2.0, found 1.1.0"),
        ("CHANGELOG.md", "2026-12-01", "2026-11-30", "expected the sections 'Unreleased' and"),
        (
            "CHANGELOG.md",
            "## Unreleased\n",
            "## Unreleased\n- More.\n",
            "nothing under 'Unreleased'",
        ),
        ("CHANGELOG.md", "- A thing.\n", "", "expected what is new under"),
        ("CITATION.cff", "1.2.0", "1.1.0", "CITATION.cff: expected version 1.2.0"),
        (release.KEPT_RECORDS, "set()", '{"Site", "Batch"}', "none of Batch, Site"),
    ],
)
def test_what_is_missing_is_said(name, old, new, words, ready):
    """One sentence for what does not fit, and one for what is uncommitted."""
    path = ready / name
    path.write_text(path.read_text().replace(old, new))
    uncommitted, found = release.problems(ready, "1.2.0", TODAY)
    assert "uncommitted" in uncommitted
    assert words in found


def test_a_version_is_tagged_once(ready):
    """A tag that is there, and what is no version, are refused."""
    git(ready, "tag", "v1.2.0")
    assert "found the tag v1.2.0" in "\n".join(release.problems(ready, "1.2.0", TODAY))
    assert "expected a version like 1.2.3" in "\n".join(release.problems(ready, "next", TODAY))


def test_an_interpreter_that_does_not_start_is_passed_over(tmp_path, monkeypatch):
    """A stand-in on PATH without its Python, as pyenv has them, is not taken for one."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    broken = tmp_path / "python3.12"
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(0o755)
    (tmp_path / "python3.11").symlink_to(sys.executable)
    assert release.find_python("3.12") is None
    expected = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert (release.find_python("3.11") is not None) == (expected == "3.11")


@pytest.mark.slow
def test_a_release_is_built_from_the_commit_alone(tmp_path):
    """In a scratch clone: wheel, sdist and bill of materials of the version, and no tag without --tag."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    today = datetime.datetime.now(datetime.UTC).date()
    changed = {
        "pyproject.toml": (rf'^version = "{PROJECT["version"]}"$', 'version = "9.9.9"'),
        "CITATION.cff": (
            r"^version: .*\ndate-released: .*$",
            f"version: 9.9.9\ndate-released: {today}",
        ),
        "CHANGELOG.md": (r"^## Unreleased$", f"## Unreleased\n\n## 9.9.9 ({today})"),
        release.KEPT_RECORDS: (r"^FIRST = \{[^}]*\}", "FIRST = set()"),
    }
    for name, (pattern, words) in changed.items():
        path = clone / name
        path.write_text(re.sub(pattern, words, path.read_text(), count=1, flags=re.M))
    git(clone, "commit", "--all", "--quiet", "--message", "Version 9.9.9")
    (clone / "build").mkdir()
    release.release(clone, "9.9.9", tag=False, smoke=False)
    with pytest.raises(release.ReleaseError, match="to be tried before a tag"):
        release.release(clone, "9.9.9", tag=True, smoke=False)
    tags = subprocess.run(["git", "tag"], cwd=clone, capture_output=True, text=True, check=True)
    assert "v9.9.9" not in tags.stdout
    made = {path.name for path in (clone / "build" / "release").iterdir()}
    archive = "cxr_pipeline-9.9.9"
    assert made == {f"{archive}-py3-none-any.whl", f"{archive}.tar.gz", "sbom.json"}
    listed = subprocess.run(
        ["git", "ls-files"], cwd=clone, capture_output=True, text=True, check=True
    ).stdout.split()
    with tarfile.open(clone / "build" / "release" / f"{archive}.tar.gz") as sdist:
        held = {name.partition("/")[2] for name in sdist.getnames()}
    assert {name for name in listed if not name.startswith(".")} - held == set()


def test_the_bill_of_materials_has_every_package_of_the_lock():
    """Exact versions with the SHA-256 of their files, what needs what, and no address of an index."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    bom = sbom.make_bom(lock, {"numpy": "BSD-3-Clause"})
    pinned = re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", lock, re.M)
    assert sorted((part.name, part.version) for part in bom.components) == sorted(pinned)
    assert sum(len(part.hashes) for part in bom.components) == lock.count("--hash=sha256:")
    text = JsonV1Dot6(bom).output_as_string()
    assert set(re.findall(r"\w+://[^\"]*", text)) == {
        "http://cyclonedx.org/schema/bom-1.6.schema.json"
    }
    found = json.loads(text)
    needs = {each["ref"]: each.get("dependsOn", []) for each in found["dependencies"]}
    assert any(each.startswith("keras@") for each in needs["cxr-pipeline"])
    keras = next(ref for ref in needs if ref.startswith("keras@"))
    assert any(each.startswith("numpy@") for each in needs[keras])


def test_a_lock_that_cannot_be_read_is_refused():
    """A line of another form is named with its number."""
    with pytest.raises(ValueError, match="line 2: expected a package, a hash or a comment"):
        sbom.read_lock("numpy==2.0\n--index-url=x\n")


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("Apache-2.0 OR BSD-3-Clause", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("Apache Software License; MIT License", True),
        ("GPL-3.0-only", False),
        ("MIT AND AGPL-3.0-or-later", False),
        ("MIT License; GNU General Public License v3 (GPLv3)", False),
        ("UNKNOWN", False),
        ("", False),
    ],
)
def test_a_licence_is_allowed_by_name_alone(licence, allowed):
    """Every part of an expression has to be on the list; what nobody knows is not."""
    assert licenses.is_allowed(licence) == allowed
    judged, refused = licenses.judge([licenses.Package("some", "1", licence)])
    assert (len(judged), len(refused)) == (allowed, not allowed)


@pytest.mark.slow
def test_every_dependency_has_an_allowed_licence():
    """Of all that is installed here; one that needed a person is still installed."""
    packages = licenses.installed()
    judged, refused = licenses.judge(packages)
    assert refused == []
    assert len(judged) > 200
    assert set(licenses.REVIEWED) <= {package.name for package in packages}


def test_the_citation_has_what_a_reader_needs():
    """Version, licence and title of this project, and who made it."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["message"] and citation["title"]
    assert citation["authors"] == [{"name": "The cxr-pipeline developers"}]
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {citation['version']} ({citation['date-released']})" in changelog


def test_every_extra_is_installed_from_the_lock():
    """Each requirement of the project and of its extras is there in a version that it admits."""
    pins = {}
    for pin in sbom.read_lock((ROOT / "requirements.lock").read_text(encoding="utf-8")):
        pins.setdefault(canonicalize_name(pin.name), []).append(Version(pin.version))
    extras = PROJECT["optional-dependencies"] | {"": PROJECT["dependencies"]}
    missing = []
    for extra, requirements in extras.items():
        for each in map(Requirement, requirements):
            if each.name == PROJECT["name"]:
                assert each.extras <= set(extras)
                continue
            versions = pins.get(canonicalize_name(each.name), [])
            if not any(each.specifier.contains(version) for version in versions):
                missing.append(f"{extra}: {each}")
    assert missing == []


def test_the_container_is_that_of_this_project():
    """Its Python is one that the project is for, what it copies is there, what it starts is a command."""
    base = re.search(r"^ARG BASE=python:(\d+\.\d+)-slim$", CONTAINER, re.M)[1]
    assert base in release.PYTHONS
    copied = re.findall(r"^COPY (.+) \S+$", CONTAINER, re.M)
    names = {name for line in copied for name in line.split()}
    assert [name for name in names if not (ROOT / name).exists()] == []
    kept = (ROOT / "deployments" / "Dockerfile.dockerignore").read_text(encoding="utf-8")
    assert set(re.findall(r"^!(.+)$", kept, re.M)) == names
    assert set(release.PYTHONS) <= set(re.findall(r"3\.\d+", (ROOT / "README.md").read_text()))
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {pattern.removesuffix("*") for pattern in packages["packages"]["find"]["include"]}
    assert found <= names
    worker = re.search(r"^CMD (.+)$", CONTAINER, re.M)[1]
    assert json.loads(worker)[:4] == ["prefect", "worker", "start", "--pool"]
