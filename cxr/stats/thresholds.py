"""Operating points by name: the threshold, its rule in words and what it costs. To be chosen on validation only.

Left out: the figures at that threshold on other images (cxr.stats.metrics), and their intervals (cxr.stats.intervals).
"""

import math
from fractions import Fraction
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from cxr.core.errors import DataError
from cxr.core.settings import Strict, TrainingSettings
from cxr.stats.intervals import check_scores
from cxr.stats.metrics import Vector

RuleName = Literal["sensitivity", "youden", "fixed", "cost"]
_NUMBER = {"sensitivity": "min_sensitivity", "fixed": "threshold", "cost": "cost_ratio"}


class Rule(Strict):
    """What an operating point has to satisfy: a rule by name, and the number that it needs."""

    name: RuleName = Field("sensitivity", description="How the threshold is chosen on val.")
    min_sensitivity: float = Field(
        0.95, gt=0, le=1, description="For 'sensitivity': at least this much."
    )
    threshold: float | None = Field(
        None, ge=0, le=1, description="For 'fixed': the threshold itself."
    )
    cost_ratio: float | None = Field(
        None, gt=0, description="For 'cost': one missed counts as so many false alarms."
    )
    prevalence: float | None = Field(
        None, gt=0, lt=1, description="For 'cost': that of its use; None: that of val."
    )

    @model_validator(mode="after")
    def _has_its_number(self) -> Self:
        wanted = _NUMBER.get(self.name)
        if wanted and getattr(self, wanted) is None:
            raise ValueError(
                f"the rule {self.name!r} needs a {wanted}, which has no default: give one"
            )
        return self

    def number(self) -> float:
        """Return the rule's own number: min_sensitivity, threshold or cost_ratio; 1 for 'youden', which has none."""
        return float(getattr(self, _NUMBER[self.name])) if self.name in _NUMBER else 1.0


class OperatingPoint(Strict):
    """A threshold, the rule behind it in one sentence, and sensitivity and specificity where it was chosen.

    Numbers of other rules are None; sensitivity or specificity is None where the set had no image of that class.
    """

    rule: RuleName
    words: str
    threshold: float
    min_sensitivity: float | None = None
    cost_ratio: float | None = None
    prevalence: float | None = None
    sensitivity: float | None
    specificity: float | None
    images: int
    positives: int


def choose_operating_point(
    labels: Vector, scores: Vector, rule: Rule | None = None
) -> OperatingPoint:
    """Return the operating point that `rule` asks for (default: sensitivity of at least 0.95), on validation images.

    `labels` (n,) 0 or 1, `scores` (n,) 0..1; a prediction is PNEUMONIA where score >= threshold. Thresholds lie
    half-way between neighbouring scores, so that a score's last bit decides nothing. Rules: 'sensitivity', the highest
    specificity that keeps min_sensitivity; 'youden', the highest sensitivity + specificity - 1 (Youden 1950); 'cost',
    the fewest cost_ratio * missed + false alarms at `prevalence`; 'fixed'. Among equals, the one that misses fewest.
    Raises DataError "not estimable (n = ...)" for one class (but for 'fixed') or none, and for scores that are no
    numbers or outside 0..1.
    """
    rule = rule or Rule()
    labels, scores = check_scores(labels, scores)
    images, positives = len(labels), int(labels.sum())
    if len(np.unique(labels)) < (1 if rule.name == "fixed" else 2):
        raise DataError(
            f"not estimable (n = {images}): expected both classes, found {positives} ill"
        )
    share = positives / images
    threshold = (
        rule.number()
        if rule.name == "fixed"
        else _threshold(labels, scores, rule, rule.prevalence or share)
    )
    called = scores >= threshold
    return OperatingPoint(
        rule=rule.name,
        words=f"{_words(rule)}, on {images} validation images (prevalence {share:.3f}).",
        threshold=threshold,
        min_sensitivity=rule.min_sensitivity if rule.name == "sensitivity" else None,
        cost_ratio=rule.cost_ratio if rule.name == "cost" else None,
        prevalence=rule.prevalence or share if rule.name == "cost" else None,
        sensitivity=_mean(called[labels == 1]),
        specificity=_mean(~called[labels == 0]),
        images=images,
        positives=positives,
    )


def _words(rule: Rule) -> str:
    at = f"a prevalence of {rule.prevalence:g}" if rule.prevalence else "the prevalence of this set"
    return {
        "sensitivity": f"Highest specificity that keeps a sensitivity of at least {rule.number():g}",
        "youden": "Highest sensitivity + specificity - 1 (Youden)",
        "fixed": f"Given in advance ({rule.number():g})",
        "cost": f"Lowest cost where one missed counts as {rule.number():g} false alarms, at {at}",
    }[rule.name]


def _mean(marks: Vector) -> float | None:
    return float(marks.mean()) if len(marks) else None


def _threshold(labels: Vector, scores: Vector, rule: Rule, prevalence: float) -> float:
    thresholds, tp, fp = _candidates(labels, scores)
    ill, healthy = int(tp[-1]), int(fp[-1])
    if rule.name == "sensitivity":  # as a fraction: 0.95 of 20 is 19, whatever binary makes of 0.95
        enough = tp >= math.ceil(Fraction(repr(rule.number())) * ill)
        costs = np.where(enough, fp, healthy + 1)
    elif rule.name == "youden":
        costs = fp * ill - tp * healthy
    else:
        costs = rule.number() * prevalence * (ill - tp) / ill + (1 - prevalence) * fp / healthy
    least = float(costs.min())
    return float(thresholds[np.flatnonzero(costs <= least + 1e-12 * max(1.0, abs(least)))[-1]])


def _candidates(labels: Vector, scores: Vector) -> tuple[Vector, Vector, Vector]:
    """Return every distinct choice, strictest first: thresholds float64 (k,), tp and fp int64 (k,), (0, 0) first."""
    values, place = np.unique(-scores, return_inverse=True)
    values = -values
    ill = np.bincount(place, labels, len(values)).astype(np.int64)
    tp, fp = np.cumsum(ill), np.cumsum(np.bincount(place, minlength=len(values)) - ill)
    none = np.nextafter(max(values[0], 1.0), 2) if values[0] >= 1 else (values[0] + 1) / 2
    between = (values[:-1] + values[1:]) / 2
    between = np.where(
        between > values[1:], between, values[:-1]
    )  # neighbours that no float lies between
    return np.concatenate([[none], between, values[-1:]]), np.append(0, tp), np.append(0, fp)


def rule_from_settings(settings: TrainingSettings) -> Rule:
    """Return the rule that the settings name, with its number."""
    return Rule(
        name=settings.operating_point,
        min_sensitivity=settings.min_sensitivity,
        threshold=settings.fixed_threshold,
        cost_ratio=settings.cost_ratio,
        prevalence=settings.prevalence,
    )
