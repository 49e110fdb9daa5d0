"""Operating points: the threshold, the rule that chose it and what it costs.

A threshold is chosen on validation images only. The metrics at that threshold on other images are
in `metrics`, their intervals in `intervals`.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from cxr.core.errors import DataError
from cxr.core.settings import Strict, TrainingSettings
from cxr.stats.metrics import Vector, check_scores

RuleName = Literal["sensitivity", "youden", "fixed", "cost"]
# The field that each rule needs; 'youden' needs none.
_NUMBER_FIELDS = {
    "sensitivity": "min_sensitivity",
    "fixed": "threshold",
    "cost": "cost_ratio",
}


class Rule(Strict):
    """How an operating point is chosen: a rule by name, and the number that it needs."""

    name: RuleName = Field("sensitivity", description="How the threshold is chosen on val.")
    min_sensitivity: float = Field(
        0.95,
        gt=0,
        le=1,
        description="For 'sensitivity': the lowest sensitivity allowed.",
    )
    threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="For 'fixed': the threshold itself.",
    )
    cost_ratio: float | None = Field(
        None,
        gt=0,
        description="For 'cost': how many false positives cost as much as one missed.",
    )
    prevalence: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="For 'cost': the prevalence where the model is used; None: that of val.",
    )

    @model_validator(mode="after")
    def _has_its_number(self) -> Self:
        field = _NUMBER_FIELDS.get(self.name)
        if field and getattr(self, field) is None:
            raise ValueError(
                f"the rule {self.name!r} needs a {field}, which has no default: give one"
            )
        return self

    def number(self) -> float:
        """Return the rule's own number, or 1 for 'youden', which has none."""
        field = _NUMBER_FIELDS.get(self.name)
        return float(getattr(self, field)) if field else 1.0


def rule_from_settings(settings: TrainingSettings) -> Rule:
    """Return the rule that the settings name, with its number."""
    return Rule(
        name=settings.operating_point,
        min_sensitivity=settings.min_sensitivity,
        threshold=settings.fixed_threshold,
        cost_ratio=settings.cost_ratio,
        prevalence=settings.prevalence,
    )


class OperatingPoint(Strict):
    """A threshold, the rule that chose it, and its metrics where it was chosen.

    Attributes:
        rule: The rule by name.
        words: The rule in one sentence, with the number of images.
        threshold: The lowest score that counts as positive.
        min_sensitivity: The number of the rule 'sensitivity'; None for other rules.
        cost_ratio: The number of the rule 'cost'; None for other rules.
        prevalence: The prevalence that the rule 'cost' assumed; None for other rules.
        sensitivity: Sensitivity on these images; None if none is positive.
        specificity: Specificity on these images; None if none is negative.
        images: How many images it was chosen on.
        positives: How many of them are positive.
        worlds: In how many stress worlds they were scored, beside as they are.
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
    worlds: int = 0


def choose_operating_point(
    labels: Vector,
    scores: Vector,
    rule: Rule | None = None,
    prevalence: float | None = None,
    kinds: Sequence[str] | None = None,
) -> OperatingPoint:
    """Return the operating point that a rule chooses on validation images.

    Thresholds lie half-way between neighbouring scores, so that the last bit of a score decides
    nothing. The rules are:

    - 'sensitivity': the highest specificity with at least `min_sensitivity`.
    - 'youden': the highest sensitivity + specificity - 1 (Youden 1950).
    - 'cost': the lowest expected cost at `prevalence`, where a false negative costs `cost_ratio`
      times as much as a false positive (Metz 1978).
    - 'fixed': the threshold that is given.

    Of equally good thresholds, the one with the fewest false negatives is chosen.

    With several sets of scores of the same images, as they are and in stress worlds, all sets count
    alike, but for 'sensitivity': it keeps its promise over the sets of each kind, so that one kind
    in which scores rise does not pay for another in which they fall.

    Args:
        labels: 0 or 1, (n,).
        scores: 0 to 1, (n,), or (n, sets).
        rule: The rule; by default 'sensitivity' with 0.95.
        prevalence: Of validation, where these images are a balanced sample; theirs if not given.
        kinds: The kind of each set; all are of one kind if not given.

    Raises:
        DataError: Not estimable, because a class is missing ('fixed' needs one image only), or a
            score is not a number from 0 to 1.
    """
    rule = rule or Rule()
    sets = np.asarray(scores, np.float64)
    if sets.ndim == 1:
        sets = sets[:, np.newaxis]
    images = len(sets)
    worlds = sets.shape[1] - 1
    kind_of_set = np.array(kinds if kinds is not None else [""] * (worlds + 1))
    labels, scores = check_scores(np.repeat(labels, worlds + 1), sets.ravel())
    positives = int(labels.sum()) // (worlds + 1)
    classes_needed = 1 if rule.name == "fixed" else 2
    if len(np.unique(labels)) < classes_needed:
        raise DataError(
            f"not estimable (n = {images}): expected both classes, found {positives} positive"
        )
    val_prevalence = prevalence or positives / images
    prevalence = rule.prevalence or val_prevalence
    if rule.name == "fixed":
        threshold = rule.number()
    elif rule.name == "sensitivity":
        kind_of_score = np.tile(kind_of_set, images)
        threshold = min(
            _best_threshold(labels[is_kind], scores[is_kind], rule, prevalence)
            for is_kind in (kind_of_score == kind for kind in np.unique(kind_of_set))
        )
    else:
        threshold = _best_threshold(labels, scores, rule, prevalence)
    called_positive = scores >= threshold
    return OperatingPoint(
        rule=rule.name,
        words=(
            f"{_describe(rule)}, "
            f"{_describe_images(images, worlds, _other_kinds(rule, kind_of_set), val_prevalence)}."
        ),
        threshold=threshold,
        min_sensitivity=rule.min_sensitivity if rule.name == "sensitivity" else None,
        cost_ratio=rule.cost_ratio if rule.name == "cost" else None,
        prevalence=prevalence if rule.name == "cost" else None,
        sensitivity=_share(called_positive[labels == 1]),
        specificity=_share(~called_positive[labels == 0]),
        images=images,
        positives=positives,
        worlds=worlds,
    )


def _other_kinds(rule: Rule, kind_of_set: Vector) -> list[str]:
    """Return the kinds of sets beside the first in each of which the rule keeps its promise."""
    if rule.name != "sensitivity":
        return []
    return [kind for kind in dict.fromkeys(kind_of_set.tolist()) if kind != kind_of_set[0]]


def _describe_images(
    images: int,
    worlds: int,
    kinds: list[str],
    prevalence: float,
) -> str:
    """Return on what a threshold was chosen, without a full stop."""
    text = f"on {images} validation images"
    if worlds:
        text += f", as they are and in {worlds} stress worlds"
        text += f", over those of each kind ({', '.join(kinds)})" if kinds else " alike"
        return f"{text} (prevalence of all validation images {prevalence:.3f})"
    return f"{text} (prevalence {prevalence:.3f})"


def _describe(rule: Rule) -> str:
    """Return the rule in words, without a full stop."""
    number = f"{rule.number():g}"
    if rule.name == "sensitivity":
        return f"Highest specificity that keeps a sensitivity of at least {number}"
    if rule.name == "youden":
        return "Highest sensitivity + specificity - 1 (Youden)"
    if rule.name == "fixed":
        return f"Given in advance ({number})"
    prevalence = "the prevalence of this set"
    if rule.prevalence:
        prevalence = f"a prevalence of {rule.prevalence:g}"
    return (
        f"Lowest cost where one false negative counts as {number} false positives, at {prevalence}"
    )


def _share(marks: Vector) -> float | None:
    """Return the share of True, or None if there are no marks."""
    return float(marks.mean()) if len(marks) else None


class _Candidates(NamedTuple):
    """Every threshold that makes a difference, strictest first: the first calls nothing positive.

    Attributes:
        thresholds: float64 (k,), falling.
        tp: True positives at each threshold, int64 (k,).
        fp: False positives at each threshold, int64 (k,).
    """

    thresholds: Vector
    tp: Vector
    fp: Vector


def _best_threshold(
    labels: Vector,
    scores: Vector,
    rule: Rule,
    prevalence: float,
) -> float:
    """Return the threshold of the lowest cost by the rule; of equals, the lowest threshold."""
    thresholds, tp, fp = _find_candidates(labels, scores)
    positives = int(tp[-1])
    negatives = int(fp[-1])
    if rule.name == "sensitivity":
        # As a fraction: 0.95 of 20 images is exactly 19, which it is not in binary floats.
        tp_needed = math.ceil(Fraction(repr(rule.number())) * positives)
        costs = np.where(tp >= tp_needed, fp, negatives + 1)
    elif rule.name == "youden":
        costs = fp * positives - tp * negatives  # -(J * positives * negatives), whole numbers
    else:
        missed_share = (positives - tp) / positives
        costs = rule.number() * prevalence * missed_share + (1 - prevalence) * fp / negatives
    lowest = float(costs.min())
    rounding = 1e-12 * max(1.0, abs(lowest))
    equally_good = np.flatnonzero(costs <= lowest + rounding)
    return float(thresholds[equally_good[-1]])


def _find_candidates(labels: Vector, scores: Vector) -> _Candidates:
    """Return a threshold above all scores, one between any two neighbours, and the lowest score."""
    falling, place = np.unique(-scores, return_inverse=True)
    values = -falling
    images = np.bincount(place, minlength=len(values))
    positives = np.bincount(place, labels, len(values)).astype(np.int64)
    tp = np.cumsum(positives)
    fp = np.cumsum(images - positives)
    # The strictest threshold lies above all scores, of which none exceeds 1.
    highest = values[0]
    above_all = (highest + 1) / 2 if highest < 1 else np.nextafter(highest, 2)
    between = (values[:-1] + values[1:]) / 2
    # Where no float lies between two neighbours, the higher of them is the threshold.
    between = np.where(between > values[1:], between, values[:-1])
    return _Candidates(
        thresholds=np.concatenate([[above_all], between, values[-1:]]),
        tp=np.append(0, tp),
        fp=np.append(0, fp),
    )
