"""Which model is chosen: by a written rule, paired tests and metrics on validation alone."""

from pathlib import Path

from cxr.core.errors import TrainingError
from cxr.models.selection.records import CandidateScore, Selection
from cxr.models.selection.stability import measure_stability
from cxr.models.selection.versus import AUROC_MARGIN, SIGNIFICANT, compare_with_best
from cxr.models.training.records import Failure, Training

MIN_SPECIFICITY = 0.5
WEIGHTS = {"clean": 0.5, "stress": 0.5}
RULE = (
    "A model's validation score is the mean of its AUROC on validation images as they are and of "
    "its mean AUROC in the stress worlds. Compared with the model of the highest score, on the same "
    "images: of those of which neither AUROC is significantly lower (DeLong by patient, "
    f"Holm-corrected p >= {SIGNIFICANT}) nor more than {AUROC_MARGIN} lower, whose decisions at the "
    "operating point are not significantly worse (McNemar, images as units, Holm-corrected), and "
    f"whose specificity there is at least {MIN_SPECIFICITY}: the one that takes least time to score "
    "an image. Of several seeds the first that could be trained stands for its architecture. Where "
    "an ensemble was asked for, ensembles alone are candidates: averaging lowers the spread between "
    "seeds, which validation cannot rank."
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
    ensembles = [training for training in trained if training.members]
    single_networks = [training for training in trained if not training.members]
    candidates = _first_seeds(ensembles or single_networks)
    best = max(candidates, key=lambda training: (training.validation_score, training.name))
    others = [training for training in candidates if training is not best]
    versus = compare_with_best(best, others, run)

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
    # An earlier version measured nothing in the worlds, weighed nothing and listed no scores.
    measured = all(training.robustness for training in candidates)
    return Selection(
        name=chosen.name,
        architecture=chosen.architecture,
        best=best.name,
        rule=RULE,
        threshold=chosen.threshold,
        reason=_reason(chosen, best, len(remaining), len(candidates), bool(specific)),
        weights=WEIGHTS if measured else {},
        scores=_scores(candidates) if measured else (),
        eligible=tuple(training.name for training in eligible),
        versus=tuple(versus),
        stability=measure_stability(single_networks),
        failed={failure.name: failure.error for failure in failed},
    )


def _first_seeds(trained: list[Training]) -> list[Training]:
    """Return, of each architecture, the training with the first seed that could be trained.

    They are in the order of the architectures' names, whichever came to its end first.
    """
    first: dict[str, Training] = {}
    for training in trained:
        earlier = first.get(training.architecture)
        if earlier is None or training.seed < earlier.seed:
            first[training.architecture] = training
    return [first[architecture] for architecture in sorted(first)]


def _scores(candidates: list[Training]) -> tuple[CandidateScore, ...]:
    """Return what the candidates are ranked by, the best first."""
    ordered = sorted(candidates, key=lambda training: (-training.validation_score, training.name))
    return tuple(
        CandidateScore(
            name=training.name,
            clean=training.val_metric("auroc"),
            stress=training.stress_auroc,
            score=training.validation_score,
        )
        for training in ordered
    )


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
        best: The one with the highest validation score.
        remaining: How many candidates are as good as it.
        candidates: How many there were.
        reaches_specificity: Whether any of these has MIN_SPECIFICITY.
    """
    text = f"{chosen.name}: {_describe_aurocs(chosen)}"
    if chosen is not best:
        text += f" against {_describe_aurocs(best)} of {best.name}, no significant difference"
    advantage = "its specificity is the highest"
    if reaches_specificity:
        advantage = "it takes the least time to score an image"
    choice = f"{remaining} of {candidates} candidates are as good by the rule, and {advantage}"
    if remaining == 1:
        choice = "no other candidate is as good by the rule"
    if candidates == 1:
        choice = "it is the only candidate"
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


def _describe_aurocs(training: Training) -> str:
    """Return e.g. "validation AUROC 0.9970 (in the stress worlds 0.9910)"."""
    text = f"validation AUROC {training.val_metric('auroc'):.4f}"
    if training.stress_auroc is not None:
        text += f" (in the stress worlds {training.stress_auroc:.4f})"
    return text
