import re

import pytest

from cxr.core import environment
from cxr.core.errors import UsageError
from tests.conftest import ROOT


def test_variables_are_read_or_have_a_default(monkeypatch):
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
def test_an_invalid_number_is_an_error_that_names_the_variable(monkeypatch, name, read):
    """The error says which variable it is and what it holds."""
    monkeypatch.setenv(name, "many")
    with pytest.raises(UsageError, match=f"{name}: expected a number, found 'many'"):
        read()


def test_only_one_module_reads_the_variables():
    """No other file of the product reads a CXR_ variable from the environment."""
    reads = re.compile(r"""(environ(\.get)?|getenv)[(\[]\s*["']CXR_""")
    files = [path for room in ("cxr", "tasks", "flows") for path in (ROOT / room).rglob("*.py")]
    readers = [path.name for path in files if reads.search(path.read_text())]
    assert readers == ["environment.py"]
