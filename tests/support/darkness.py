"""A made-up model for prediction without Keras and without a worker process."""

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxr.models.compute import worker
from cxr.models.compute.worker import Job
from cxr.models.networks import model_surgery


class Darkness:
    """A model whose score is the mean of an image over 255."""

    def predict_on_batch(self, batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the scores, (n, 1)."""
        scores: np.ndarray[Any, Any] = batch.astype(np.float64).mean(axis=(1, 2, 3)) / 255
        return scores[:, np.newaxis]


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let prediction score with it, in this process; its jobs are still made of text and back."""
    loader = types.SimpleNamespace(models=types.SimpleNamespace(load_model=lambda _: Darkness()))
    monkeypatch.setitem(sys.modules, "keras", loader)
    monkeypatch.setattr(model_surgery, "fuse_batch_norm", lambda model: model)

    def in_this_process(
        job: Job, _log: Path, _threads: int, on_progress: Callable[..., None]
    ) -> None:
        type(job).model_validate_json(job.model_dump_json()).work(on_progress)

    monkeypatch.setattr(worker, "run_job", in_this_process)
