"""Score images and judge whether they are in a model's scope, in one pass through the network."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cxr.models import scoring
from cxr.models.scope.opened_model import OpenedModel
from cxr.models.scope.reference import Scope
from cxr.models.scope.verdicts import Judgement
from cxr.stats.metrics import Vector
from cxr.storage.arrays import Stored

_BLOCK = 256  # images whose pixels and features are in memory at a time


class Judged(NamedTuple):
    """Images that were scored and judged.

    Attributes:
        raw: Their raw scores, float64 (n,).
        judgements: Whether each is in scope.
    """

    raw: Vector
    judgements: list[Judgement]


def score_and_judge(
    scope: Scope,
    opened: OpenedModel,
    images: Stored,
    rate: float,
    on_images: Callable[[int], None] = lambda _: None,
) -> Judged:
    """Score images and judge them.

    Args:
        scope: That of the model.
        opened: The model with its features.
        images: uint8 (n, side, side), at least one.
        rate: The share of images like those of training that may be called out of scope.
        on_images: Told how many more images are done.
    """
    scores = []
    judgements: list[Judgement] = []
    for start in range(0, len(images), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(images)))
        batches = list(scoring.model_outputs(opened.model, images, block, on_images=on_images))
        features = np.concatenate([part.astype(np.float32) for part, _ in batches])
        scores += [output.astype(np.float64).reshape(-1) for _, output in batches]
        judgements += scope.judge(scope.measure(features, images[block]), rate)
    return Judged(np.concatenate(scores), judgements)
