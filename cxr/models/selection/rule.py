"""Which model is chosen: by a written rule, paired tests and metrics on validation alone."""

from pathlib import Path

import numpy as np
import pandas as pd

from cxr.core.errors import DataError, TrainingError
from cxr.core.files import read_table
from cxr.core.formatting import describe_p_value
from cxr.models.selection.records import Selection, Stability, Versus
from cxr.models.training.records import Failure, Training
from cxr.stats import comparison
from cxr.stats.comparison import Difference, Disagreement

AUROC_MARGIN = 0.02
MIN_SPECIFICITY = 0.5
SIGNIFICANT = 0.05
RULE = (
    "Compared with the model of the highest validation AUROC, on the same images: of those whose "
    f"AUROC is not significantly lower (DeLong by patient, Holm-corrected p >= {SIGNIFICANT}) nor "
    f"more than {AUROC_MARGIN} lower, whose decisions at the operating point are not significantly "
    "worse (McNemar, images as units, Holm-corrected), and whose specificity there is at least "
    f"{MIN_SPECIFICITY}: the one that takes least time to score an image. Of several seeds the "
    "first that could be trained stands for its architecture."
)


def select_model(
    trained: list[Training],
    failed: list[Failure],
    run: Path,
) -> Selection:
    """Choose a model by RULE.

    Where no candidate reaches MIN_SPECIFICITY, the one with the highest specificity is chosen, and
    the reason says so.

    Args:
        trained: The trainings that came to their end.
        failed: The others.
        run: The run's folder; scores_val.csv of each training is read from it.

    Raises:
        TrainingError: None was trained.
    """
    if not trained:
        reasons = "; ".join(f"{failure.name}: {failure.error}" for failure in failed)
        raise TrainingError("no architecture was trained: " + reasons)
    candidates = _first_seeds(trained)
    best = max(candidates, key=lambda training: (training.val_metric("auroc"), training.name))
    others = [training for training in candidates if training is not best]
    versus = _compare_with_best(best, others, run)

    as_good = {result.name for result in versus if not result.verdict}
    remaining = [best, *(training for training in candidates if training.name in as_good)]
    specific = [
        training for training in remaining if training.val_metric("specificity") >= MIN_SPECIFICITY
    ]
    if specific:
        eligible = sorted(specific, key=lambda training: (training.milliseconds, training.name))
    else:
        eligible = sorted(remaining, key=_by_specificity)
    chosen = eligible[0]
    return Selection(
        name=chosen.name,
        architecture=chosen.architecture,
        best=best.name,
        rule=RULE,
        threshold=chosen.threshold,
        reason=_reason(chosen, best, len(remaining), len(candidates), bool(specific)),
        eligible=tuple(training.name for training in eligible),
        versus=tuple(versus),
        stability=_stability(trained),
        failed={failure.name: failure.error for failure in failed},
    )


def _first_seeds(trained: list[Training]) -> list[Training]:
    """Return, of each architecture, the training with the first seed that could be trained."""
    first: dict[str, Training] = {}
    for training in trained:
        earlier = first.get(training.architecture)
        if earlier is None or training.seed < earlier.seed:
            first[training.architecture] = training
    return list(first.values())


def _by_specificity(training: Training) -> tuple[float, float, str]:
    """Return the sort key of the highest specificity, then the highest AUROC."""
    return -training.val_metric("specificity"), -training.val_metric("auroc"), training.name


def _reason(
    chosen: Training,
    best: Training,
    remaining: int,
    candidates: int,
    reaches_specificity: bool,
) -> str:
    """Return why a model was chosen, for a person to read.

    Args:
        chosen: The chosen model.
        best: The one with the highest validation AUROC.
        remaining: How many candidates are as good as it.
        candidates: How many there were.
        reaches_specificity: Whether any of these has MIN_SPECIFICITY.
    """
    text = f"{chosen.name}: validation AUROC {chosen.val_metric('auroc'):.4f}"
    if chosen is not best:
        text += f" against {best.val_metric('auroc'):.4f} of {best.name}, no significant difference"
    advantage = "its specificity is the highest"
    if reaches_specificity:
        advantage = "it takes the least time to score an image"
    choice = f"{remaining} of {candidates} candidates are as good by the rule, and {advantage}"
    if remaining == 1:
        choice = "no other candidate is as good by the rule"
    text += (
        f"; {choice}; at its operating point "
        f"sensitivity {chosen.val_metric('sensitivity'):.3f}, "
        f"specificity {chosen.val_metric('specificity'):.3f}, n = {chosen.val['n']}."
    )
    if not reaches_specificity:
        text += (
            f" No candidate reaches a specificity of {MIN_SPECIFICITY}: "
            "do not use it without review."
        )
    return text


def _compare_with_best(
    best: Training,
    others: list[Training],
    run: Path,
) -> list[Versus]:
    """Return each other candidate against the best one, by both tests, corrected by Holm."""
    best_scores = _read_scores(best, run)
    differences = []
    disagreements = []
    for other in others:
        scores = _read_scores(other, run)
        differences.append(_delong(best_scores, scores))
        disagreements.append(_mcnemar(best, best_scores, other, scores))
    auroc_ps = comparison.holm([result.p if result else None for result in differences])
    decision_ps = comparison.holm([result.p for result in disagreements])

    versus = []
    for number, other in enumerate(others):
        auroc_p = auroc_ps[number]
        decisions_p = decision_ps[number]
        decisions = disagreements[number]
        lower = best.val_metric("auroc") - other.val_metric("auroc")
        versus.append(
            Versus(
                name=other.name,
                auroc=differences[number],
                decisions=decisions,
                auroc_p=auroc_p,
                decisions_p=decisions_p,
                verdict=_verdict(lower, decisions, auroc_p, decisions_p),
            )
        )
    return versus


def _read_scores(training: Training, run: Path) -> pd.DataFrame:
    """Return the training's scores of validation."""
    return read_table(run / training.name / "scores_val.csv")


def _delong(best: pd.DataFrame, other: pd.DataFrame) -> Difference | None:
    """Return the difference of the AUROCs.

    It is None where it is not estimable: with fewer than two patients of a class.
    """
    try:
        return comparison.delong(
            best["label"].to_numpy(),
            best["raw_score"].to_numpy(),
            other["raw_score"].to_numpy(),
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


def _verdict(
    lower: float,
    decisions: Disagreement,
    auroc_p: float | None,
    decisions_p: float | None,
) -> str:
    """Return why a candidate is not as good as the best model, "" if it is.

    A small validation set proves little, hence the margin beside the tests.

    Args:
        lower: By how much its AUROC is lower.
        decisions: Where its decisions differ from the best model's.
        auroc_p: The corrected p-value of the former.
        decisions_p: The corrected p-value of the latter.
    """
    if auroc_p is not None and auroc_p < SIGNIFICANT and lower > 0:
        return f"AUROC significantly lower ({describe_p_value(auroc_p)})"
    if lower > AUROC_MARGIN:
        return f"AUROC lower by {lower:.3f}, more than {AUROC_MARGIN}"
    is_worse = decisions.only_a > decisions.only_b
    if decisions_p is not None and decisions_p < SIGNIFICANT and is_worse:
        return f"decisions significantly worse ({describe_p_value(decisions_p)})"
    return ""


def _stability(trained: list[Training]) -> tuple[Stability, ...]:
    """Return each architecture over its seeds, the best mean first."""
    table = pd.DataFrame(
        {
            "architecture": [training.architecture for training in trained],
            "seed": [training.seed for training in trained],
            "auroc": [training.val_metric("auroc") for training in trained],
        }
    )
    by_seed = table.pivot(
        index="architecture",
        columns="seed",
        values="auroc",
    )
    ranks = by_seed.rank(ascending=False, method="min")
    best_first = by_seed.mean(axis=1).sort_values(ascending=False, kind="stable")
    return tuple(
        _architecture_stability(str(name), by_seed.loc[name].dropna(), ranks.loc[name].dropna())
        for name in best_first.index
    )


def _architecture_stability(
    name: str,
    aurocs: "pd.Series[float]",
    ranks: "pd.Series[float]",
) -> Stability:
    """Return one architecture over its seeds."""
    values = aurocs.to_numpy()
    return Stability(
        architecture=name,
        auroc=tuple(float(value) for value in values),
        mean=float(values.mean()),
        std=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        ranks=tuple(int(rank) for rank in ranks),
    )
