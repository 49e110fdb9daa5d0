"""The registry: versions of exported models, one of them the champion."""

from cxr.serving.registry.versions import Registry, find_model

__all__ = ["Registry", "find_model"]
