"""The worked examples in docstrings give what they say."""

import doctest
import importlib
import pkgutil

import pytest

import cxr

MODULES = [found.name for found in pkgutil.walk_packages(cxr.__path__, "cxr.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    """Each example of each module, run as a person would type it."""
    assert doctest.testmod(importlib.import_module(name)).failed == 0
