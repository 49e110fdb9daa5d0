"""Test of what `cxr registry list` shows of a version's scope."""

from datetime import UTC, datetime

import pytest

from cxr.serving.registry.records import Version
from flows.commands.listings import VERSION_METRICS, show_registry


def make_version(name: str, files: dict[str, str]) -> Version:
    return Version(
        name=name,
        run="r",
        architecture="MobileNetV2",
        model_sha256="",
        manifest_sha256="",
        files=files,
        bytes=1,
        seen=True,
        test=dict.fromkeys(VERSION_METRICS, 0.9) | {"n": 10},
        registered=datetime.now(UTC),
        who="me",
    )


def test_versions_say_whether_they_know_their_scope(capsys: pytest.CaptureFixture[str]):
    """Exports of earlier versions have no scope.json."""
    old = make_version("run-old", {"model.keras": ""})
    new = make_version("run-new", {"model.keras": "", "scope.json": "", "scope.npz": ""})
    show_registry([old, new], None, [])
    lines = capsys.readouterr().out.splitlines()
    assert "not known" in next(line for line in lines if "run-old" in line)
    row = next(line for line in lines if "run-new" in line)
    assert " known " in row
    assert "not known" not in row
