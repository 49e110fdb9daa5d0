"""The record of a choice: the chosen model, and what the others were like."""

from pydantic import Field

from cxr.core.records import Record
from cxr.core.settings import Strict
from cxr.stats.comparison import Difference, Disagreement


class Versus(Strict):
    """A candidate against the model with the best validation score, tested on the same images.

    Attributes:
        name: The candidate.
        auroc: The best model's AUROC minus the candidate's; None where not estimable.
        stress: The same for the mean AUROC over the stress worlds; None where not measured either.
        decisions: Where the two models' decisions differ at their operating points.
        auroc_p: The p-value of `auroc`, corrected for the number of candidates (Holm); None where
            not estimable.
        stress_p: The p-value of `stress`, corrected likewise.
        decisions_p: The p-value of `decisions`, corrected likewise.
        verdict: Why the candidate is not eligible, "" if it is.
    """

    name: str
    auroc: Difference | None
    stress: Difference | None = None
    decisions: Disagreement
    auroc_p: float | None
    stress_p: float | None = None
    decisions_p: float | None
    verdict: str


class CandidateScore(Strict):
    """What a candidate is ranked by.

    Attributes:
        name: The candidate.
        clean: Its AUROC on validation images as they are.
        stress: Its mean AUROC over the stress worlds; None if that was not measured.
        score: The mean of both, with the weights of the choice.
    """

    name: str
    clean: float
    stress: float | None
    score: float


class Stability(Strict):
    """The validation AUROC of one architecture over several seeds.

    Attributes:
        architecture: Which one.
        auroc: The AUROC for each seed.
        mean: Their mean.
        std: Their standard deviation, None for a single seed.
        ranks: For each seed the rank among the architectures trained with it, from 1.
    """

    architecture: str
    auroc: tuple[float, ...]
    mean: float
    std: float | None
    ranks: tuple[int, ...]


class Selection(Record):
    """selection.json: the chosen model.

    Attributes:
        name: The chosen training.
        architecture: Its architecture.
        best: The training with the highest validation score among the candidates.
        rule: The rule of the choice.
        reason: Why this one, in a sentence.
        threshold: Its threshold.
        weights: How much clean validation and the stress worlds weigh in the score.
        scores: What the candidates are ranked by, the best first.
        eligible: The candidates that the rule leaves, the chosen one first.
        versus: The other candidates against `best`.
        stability: All architectures over their seeds.
        failed: Why trainings failed, by their name.
    """

    name: str
    architecture: str
    best: str
    rule: str
    reason: str
    threshold: float
    weights: dict[str, float] = Field(default_factory=dict)
    scores: tuple[CandidateScore, ...] = ()
    eligible: tuple[str, ...]
    versus: tuple[Versus, ...]
    stability: tuple[Stability, ...]
    failed: dict[str, str]
