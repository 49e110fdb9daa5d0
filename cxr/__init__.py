"""Chest X-ray pneumonia classification: the library, usable from a notebook without Prefect.

    import cxr

    ingest = cxr.preprocess("chest_xray", "work")
    cxr.explore("work", settings)
    training = cxr.train("work", "MobileNetV2", settings)
    exported = cxr.export("work")
    predictions = cxr.predict(exported.model, "new_images", "predictions.csv")

The folders, in the order of the pipeline; each imports only those above it:

core         errors, settings, records, files, text, figures, parallel work, timing
stats        metrics and intervals, comparison of models, calibration, thresholds, subgroups
storage      local folders and S3 behind the same verbs, caches, work folders
data         files become the manifest: survey, decoding, inspection, leakage, patients, splits
exploration  pictures of the data, non-clinical baselines, distribution shift
models       architectures, features, training, scoring, selection of a model
results      test, Grad-CAM, pictures, model card, report, verification
serving      prediction, registry, challenges, retraining
stages       the five calls above, and the steps that Prefect tasks share with them
"""

import importlib
from typing import TYPE_CHECKING, Any

from cxr.core import __version__

if TYPE_CHECKING:
    from cxr.stages.calls import explore, export, predict, preprocess, train

__all__ = ["__version__", "explore", "export", "predict", "preprocess", "train"]


def __getattr__(name: str) -> Any:
    """Import a call when it is first asked for: pandas and scikit-learn take a second."""
    if name not in __all__:
        raise AttributeError(f"module 'cxr' has no attribute {name!r}")
    return getattr(importlib.import_module("cxr.stages.calls"), name)


def __dir__() -> list[str]:
    """Return the names that completion offers."""
    return sorted(__all__)
