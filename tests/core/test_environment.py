import re

import pytest

from cxr.core import environment
from cxr.core.errors import UsageError
from tests.conftest import ROOT


def test_what_is_set_is_read_and_what_is_not_has_a_default(monkeypatch):
    """Each variable, set and not set; CXR_S3_CONNECTIONS is at least 1."""
    for name in ("CACHE", "CACHE_GB", "S3_CONNECTIONS", "S3_PATH_STYLE", "THREADS"):
        monkeypatch.delenv(f"CXR_{name}", raising=False)
    assert environment.cache_folder() == ""
    assert environment.cache_limit() == 10 * environment.GIB
    assert environment.s3_connections() == 16
    assert environment.s3_path_style() is None
    assert environment.allotted_threads() == 0
    for name, value in {
        "CACHE": "/somewhere",
        "CACHE_GB": "0.5",
        "S3_CONNECTIONS": "0",
        "S3_PATH_STYLE": "0",
        "THREADS": "3",
    }.items():
        monkeypatch.setenv(f"CXR_{name}", value)
    assert environment.cache_folder() == "/somewhere"
    assert environment.cache_limit() == environment.GIB // 2
    assert environment.s3_connections() == 1
    assert environment.s3_path_style() is False
    assert environment.allotted_threads() == 3


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("CXR_CACHE_GB", environment.cache_limit),
        ("CXR_S3_CONNECTIONS", environment.s3_connections),
    ],
)
def test_a_variable_that_is_no_number_is_named(monkeypatch, name, read):
    """Which one, and what it is."""
    monkeypatch.setenv(name, "many")
    with pytest.raises(UsageError, match=f"{name}: expected a number, found 'many'"):
        read()


def test_only_one_module_reads_them():
    """No other file of the product asks the environment for a CXR_ variable."""
    asks = re.compile(r"""(environ(\.get)?|getenv)[(\[]\s*["']CXR_""")
    files = [path for room in ("cxr", "tasks", "flows") for path in (ROOT / room).rglob("*.py")]
    asking = [path.name for path in files if asks.search(path.read_text())]
    assert asking == ["environment.py"]
