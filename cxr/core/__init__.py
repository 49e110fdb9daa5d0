"""The foundation: errors, settings, records, files, text, figures, parallel work, timing."""

from importlib.metadata import version

__version__ = version("cxr-pipeline")
