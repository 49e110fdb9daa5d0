"""Draw all pictures of a run's results from its files; each picture has a file of its own here."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cxr.core import plotting
from cxr.core.files import read_table
from cxr.models.training.records import Training
from cxr.results.cards.model_card import read_card
from cxr.results.evaluation import Evaluation, read_stress_test
from cxr.results.evaluation.abstention.measurement import read_abstention
from cxr.results.evaluation.abstention.risk_plot import draw_risk_coverage
from cxr.results.evaluation.stress_plot import draw_stress
from cxr.results.plots import (
    calibration,
    confusion_matrix,
    histories,
    score_histograms,
    style,
)
from cxr.results.plots.curves import decision_curve, precision_recall, roc
from cxr.results.plots.histories import History
from cxr.results.plots.scored_set import ScoredSet

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_comparison(run: Path, names: Sequence[str]) -> list[Path]:
    """Draw how the trainings compare on validation.

    Args:
        run: The run's folder; each training has training.json, scores_val.csv and, unless it is an
            ensemble, history.csv.
        names: The trainings, at least one of them no ensemble.

    Returns:
        The paths of roc_val.png and histories.png.

    Raises:
        FileNotFoundError: A file of a training is missing.
    """
    scored_sets = []
    history_of = {}
    for name in names:
        training = Training.read(run / name / "training.json")
        scores = run / name / "scores_val.csv"
        scored_sets.append(ScoredSet.read(scores, name, training.threshold))
        if not training.members:
            history_of[name] = _read_history(run / name / "history.csv", training.best_epoch)
    title = f"ROC on validation, {_set_size(scored_sets[0])}"
    figures = {
        "roc_val": roc.draw_roc(scored_sets, title),
        "histories": histories.draw_histories(history_of),
    }
    return _save(figures, run)


def draw_evaluation(run: Path) -> list[Path]:
    """Draw how the selected model does on the test set.

    Args:
        run: The run's folder, with evaluation.json, selection.json, the scores and the card;
            robustness.json if it has one.

    Returns:
        The paths of confusion_matrix.png, roc_test.png, precision_recall_test.png, scores_test.png
        and reliability.png, of decision_curve_test.png if the card has a decision curve, of
        stress.png if the run was tested in the stress worlds, and of risk_coverage.png if it was
        judged which test images are in scope.

    Raises:
        FileNotFoundError: One of these files is missing.
    """
    evaluation = Evaluation.read(run / "evaluation.json")
    scored = ScoredSet.read(run / "scores_test.csv", evaluation.architecture, evaluation.threshold)
    figures = {
        "confusion_matrix": confusion_matrix.draw_confusion_matrix(evaluation),
        "roc_test": roc.draw_roc([scored], f"ROC on test, {_set_size(scored)}"),
        "precision_recall_test": precision_recall.draw_precision_recall(scored),
        "scores_test": score_histograms.draw_score_histograms(scored),
        "reliability": calibration.draw_calibration(run),
    }
    usefulness = read_card(run / "export").usefulness
    if usefulness:
        figures["decision_curve_test"] = decision_curve.draw_decision_curve(
            usefulness.curve, evaluation.threshold
        )
    stress_test = read_stress_test(run)
    if stress_test:
        figures["stress"] = draw_stress(stress_test.worlds)
    abstention = read_abstention(run)
    if abstention:
        figures["risk_coverage"] = draw_risk_coverage(run, abstention)
    return _save(figures, run)


def _save(figures: "Mapping[str, Figure]", run: Path) -> list[Path]:
    """Publish each figure as a PNG file of its name in the run's folder; return the paths."""
    paths = []
    for name, figure in figures.items():
        path = plotting.save_png(figure, run / f"{name}.png")
        paths.append(path)
    return paths


def _set_size(scored: ScoredSet) -> str:
    """Return how many images a set has, in all and by class."""
    return f"n = {len(scored.labels)} images ({style.class_counts(scored.labels)})"


def _read_history(path: Path, kept_epoch: int) -> History:
    """Return history.csv with its columns of numbers as floats."""
    table = read_table(path)
    numbers = table.columns.drop("phase")
    table = table.astype(dict.fromkeys(numbers, "float64"))
    return History(table, kept_epoch)
