"""Chest X-ray pneumonia classification: the library, usable from a notebook. Knows nothing of Prefect."""

from importlib.metadata import version

__version__ = version("cxr-pipeline")
