"""The scores of one training on one set, as the pictures need them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cxr.core.files import read_table
from cxr.stats.metrics import Vector


@dataclass(frozen=True)
class ScoredSet:
    """The scores of one training on one set, and its operating point.

    Attributes:
        name: Of the training.
        labels: 0 or 1, (n,).
        scores: Calibrated scores from 0 to 1, (n,).
        threshold: The lowest score that counts as positive.
    """

    name: str
    labels: Vector
    scores: Vector
    threshold: float

    @classmethod
    def read(cls, path: Path, name: str, threshold: float) -> Self:
        """Return the scores of scores_val.csv or scores_test.csv."""
        table = read_table(path)
        return cls(
            name=name,
            labels=table["label"].to_numpy(),
            scores=table["score"].to_numpy(),
            threshold=threshold,
        )

    @property
    def predicted_positive(self) -> Vector:
        """Which images are predicted positive, bool (n,)."""
        return self.scores >= self.threshold

    @property
    def false_positive_rate(self) -> float:
        """1 - specificity at the operating point."""
        return float(self.predicted_positive[self.labels == 0].mean())

    @property
    def sensitivity(self) -> float:
        """Sensitivity at the operating point."""
        return float(self.predicted_positive[self.labels == 1].mean())
