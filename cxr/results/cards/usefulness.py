"""What acting on the model is worth: its decision curve, and what thresholds mean among 1,000 films."""

from pathlib import Path
from typing import NamedTuple

from cxr.core.files import read_table
from cxr.core.settings import Strict, TrainingSettings
from cxr.models.training.records import Training
from cxr.results.evaluation import Evaluation
from cxr.stats.calibration.consequences import (
    EVERY_FILM,
    NO_FILM,
    Consequences,
    Policy,
    measure_policy,
)
from cxr.stats.calibration.decision_curve import DecisionCurve, measure_decision_curve
from cxr.stats.thresholds import Rule, choose_operating_point

# Other places than the test set: a ward with many cases, a clinic, and films taken for other reasons.
STATED_PREVALENCES = (0.3, 0.1, 0.02)
# Thresholds beside the operating point: what a more and a less cautious reader would set.
OTHER_SENSITIVITIES = (0.99, 0.9)


class Prevalence(Strict):
    """How common PNEUMONIA is where films are from, and who says so."""

    value: float
    source: str


class CostRow(NamedTuple):
    """One row of the cost table."""

    policy: Policy
    consequences: Consequences


class Usefulness(Strict):
    """The decision curve of the test images, and the policies and prevalences of the cost table.

    Attributes:
        curve: Of the calibrated scores.
        policies: The operating point first, then other thresholds, then the policies without a model.
        prevalences: That of the test images first.
    """

    curve: DecisionCurve
    policies: tuple[Policy, ...]
    prevalences: tuple[Prevalence, ...]

    def cost_rows(self, prevalence: float) -> list[CostRow]:
        """Return what becomes of 1,000 films at one prevalence, by policy."""
        return [CostRow(policy, policy.per_thousand(prevalence)) for policy in self.policies]


def measure_usefulness(
    run: Path,
    settings: TrainingSettings,
    training: Training,
) -> Usefulness:
    """Return what acting on the selected model is worth, from the scores of a run.

    Args:
        run: The run's folder, with evaluation.json and scores_test.csv.
        settings: Of the run; their prevalence, where one was given, is that of the cost table.
        training: The record of the selected model, with scores_val.csv in its folder.

    Raises:
        DataError: A class is missing, or a score is not a number.
    """
    test = read_table(run / "scores_test.csv")
    labels = test["label"].to_numpy()
    scores = test["score"].to_numpy()
    patients = test["patient_id"].to_numpy()
    curve = measure_decision_curve(labels, scores, patients)
    evaluation = Evaluation.read(run / "evaluation.json")
    operating_point = Policy(
        name="operating point",
        threshold=evaluation.threshold,
        sensitivity=float(evaluation.test["sensitivity"] or 0.0),
        specificity=float(evaluation.test["specificity"] or 0.0),
        sensitivity_interval=evaluation.intervals["sensitivity"],
        specificity_interval=evaluation.intervals["specificity"],
    )
    policies = [operating_point]
    val = read_table(run / training.name / "scores_val.csv")
    for sensitivity in OTHER_SENSITIVITIES:
        point = choose_operating_point(
            val["label"].to_numpy(),
            val["score"].to_numpy(),
            Rule(name="sensitivity", min_sensitivity=sensitivity),
        )
        if all(point.threshold != policy.threshold for policy in policies):
            name = f"finds {100 * sensitivity:.0f} % on validation"
            policies.append(measure_policy(name, labels, scores, patients, point.threshold))
    return Usefulness(
        curve=curve,
        policies=(*policies, EVERY_FILM, NO_FILM),
        prevalences=_prevalences(curve.prevalence, settings.prevalence),
    )


def _prevalences(of_test: float, given: float | None) -> tuple[Prevalence, ...]:
    """Return the prevalences of the cost table: that of test, then the given one or stated ones."""
    of_test_set = Prevalence(value=of_test, source="as in the test set")
    if given is not None:
        return of_test_set, Prevalence(value=given, source="as given by --prevalence")
    examples = [
        Prevalence(value=value, source="an example, none was given") for value in STATED_PREVALENCES
    ]
    return of_test_set, *examples
