"""Candidates against the best one: paired tests on the same validation images, and a verdict."""

from pathlib import Path

import numpy as np
import pandas as pd

from cxr.core.errors import DataError
from cxr.core.files import read_table
from cxr.core.formatting import describe_p_value
from cxr.data.images.changes.stress_worlds import WORLDS
from cxr.models import stress
from cxr.models.selection.records import Versus
from cxr.models.training.records import Training
from cxr.stats import comparison
from cxr.stats.comparison import Difference, Disagreement

AUROC_MARGIN = 0.02
SIGNIFICANT = 0.05


def compare_with_best(
    best: Training,
    others: list[Training],
    run: Path,
) -> list[Versus]:
    """Return each other candidate against the best one, by both tests, corrected by Holm."""
    best_scores = _read_scores(best, run)
    differences = []
    stressed = []
    disagreements = []
    for other in others:
        scores = _read_scores(other, run)
        differences.append(_delong(best_scores, scores, ["raw_score"]))
        stressed.append(_compare_under_stress(best, other, run))
        disagreements.append(_mcnemar(best, best_scores, other, scores))
    stress_ps = comparison.holm([result.p if result else None for result in stressed])
    auroc_ps = comparison.holm([result.p if result else None for result in differences])
    decision_ps = comparison.holm([result.p for result in disagreements])

    versus = []
    for number, other in enumerate(others):
        auroc_p = auroc_ps[number]
        decisions_p = decision_ps[number]
        decisions = disagreements[number]
        stress_p = stress_ps[number]
        verdicts = (
            _verdict_on_auroc(best.val_metric("auroc"), other.val_metric("auroc"), auroc_p),
            _verdict_under_stress(best, other, stress_p),
            _verdict_on_decisions(decisions, decisions_p),
        )
        reasons = [verdict for verdict in verdicts if verdict]
        versus.append(
            Versus(
                name=other.name,
                auroc=differences[number],
                stress=stressed[number],
                stress_p=stress_p,
                decisions=decisions,
                auroc_p=auroc_p,
                decisions_p=decisions_p,
                verdict=reasons[0] if reasons else "",
            )
        )
    return versus


def _read_scores(training: Training, run: Path) -> pd.DataFrame:
    """Return the training's scores of validation."""
    return read_table(run / training.name / "scores_val.csv")


def _compare_under_stress(
    best: Training,
    other: Training,
    run: Path,
) -> Difference | None:
    """Return the difference of the mean AUROCs over the worlds, None where not measured."""
    best_scores = stress.read_world_scores(run / best.name / stress.VAL_SCORES)
    other_scores = stress.read_world_scores(run / other.name / stress.VAL_SCORES)
    if best_scores is None or other_scores is None:
        return None
    return _delong(best_scores, other_scores, list(WORLDS))


def _delong(
    best: pd.DataFrame,
    other: pd.DataFrame,
    columns: list[str],
) -> Difference | None:
    """Return the difference of the AUROCs, or of their means over several columns of scores.

    It is None where it is not estimable: with fewer than two patients of a class.
    """
    try:
        return comparison.delong(
            best["label"].to_numpy(),
            best[columns].to_numpy(np.float64),
            other[columns].to_numpy(np.float64),
            best["patient_id"].to_numpy(),
        )
    except DataError:
        return None


def _mcnemar(
    best: Training,
    best_scores: pd.DataFrame,
    other: Training,
    other_scores: pd.DataFrame,
) -> Disagreement:
    """Return where the decisions differ, each model's at its own threshold."""
    return comparison.mcnemar(
        best_scores["label"].to_numpy(),
        (best_scores["score"] >= best.threshold).to_numpy().astype(int),
        (other_scores["score"] >= other.threshold).to_numpy().astype(int),
    )


def _verdict_on_auroc(
    best: float,
    other: float,
    p: float | None,
    name: str = "AUROC",
) -> str:
    """Return why a candidate's AUROC is not as good as the best model's, "" if it is.

    A small validation set proves little, hence the margin beside the test.

    Args:
        best: The best model's.
        other: The candidate's.
        p: The corrected p-value of their difference.
        name: What it is called.
    """
    lower = best - other
    if p is not None and p < SIGNIFICANT and lower > 0:
        return f"{name} significantly lower ({describe_p_value(p)})"
    if lower > AUROC_MARGIN:
        return f"{name} lower by {lower:.3f}, more than {AUROC_MARGIN}"
    return ""


def _verdict_under_stress(
    best: Training,
    other: Training,
    p: float | None,
) -> str:
    """Return why a candidate is not as good in the stress worlds, "" if it is or is not known."""
    if best.stress_auroc is None or other.stress_auroc is None:
        return ""
    name = "AUROC in the stress worlds"
    return _verdict_on_auroc(best.stress_auroc, other.stress_auroc, p, name)


def _verdict_on_decisions(decisions: Disagreement, p: float | None) -> str:
    """Return why a candidate's decisions are not as good as the best model's, "" if they are."""
    is_worse = decisions.only_a > decisions.only_b
    if p is not None and p < SIGNIFICANT and is_worse:
        return f"decisions significantly worse ({describe_p_value(p)})"
    return ""
