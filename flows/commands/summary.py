"""What the terminal shows at the end of a run: comparison, choice, test metrics, paths."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cxr.core.files import read_table
from cxr.core.formatting import format_metric
from cxr.models import runs
from cxr.models.selection import Selection
from cxr.results.evaluation import Evaluation, read_stress_test
from cxr.results.exporting import Export
from cxr.results.metric_table import metric_rows

if TYPE_CHECKING:
    from cxr.serving.retraining.challenge import Challenge

COMPARISON_METRICS = ("auroc", "sensitivity", "specificity", "accuracy", "precision")
TEST_METRICS = ("sensitivity", "specificity", "auroc", "accuracy", "precision")
CHALLENGE_METRICS = ("auroc", "sensitivity", "specificity", "accuracy")
MOST_ERROR_CHARACTERS = 60
MOST_WEIGHTS_CHARACTERS = 24


def open_console(width: int) -> Console:
    """Return a console on standard output, of a fixed width where that is no terminal."""
    return Console() if sys.stdout.isatty() else Console(width=width)


def show_run(work: Path) -> None:
    """Print the newest run's comparison, choice, test metrics and paths."""
    folder = runs.latest_run(work).folder(work)
    selection = Selection.read(folder / "selection.json")
    evaluation = Evaluation.read(folder / "evaluation.json")
    export = Export.read(folder / "export.json")
    console = open_console(width=110)
    console.print(_comparison_table(folder))
    console.print(f"[bold]Chosen:[/] {selection.reason}", highlight=False)
    console.print(_test_table(evaluation))
    stress_test = read_stress_test(folder)
    if stress_test and stress_test.warning:
        sentence = escape(stress_test.warning.partition(". ")[0])
        console.print(f"[bold]Warning:[/] {sentence}. The report says more.", highlight=False)
    paths = {"model": export.model, "card": export.card, "report": export.report}
    for name, path in paths.items():
        console.print(f"{name:<7}{path}", highlight=False, soft_wrap=True)


def _comparison_table(folder: Path) -> Table:
    """Return the validation metrics of every model of a run."""
    table = Table(title="Validation metrics, each model at its own operating point")
    table.add_column("model")
    table.add_column("weights")
    for title in ("epochs", *COMPARISON_METRICS, "minutes"):
        table.add_column(title, justify="right")
    for row in read_table(folder / "comparison.csv").to_dict("records"):
        if row["status"] == "failed":
            error = str(row["error"])[:MOST_ERROR_CHARACTERS]
            table.add_row(str(row["name"]), f"[red]failed:[/] {error}")
            continue
        table.add_row(
            str(row["name"]),
            str(row["weights"])[:MOST_WEIGHTS_CHARACTERS],
            "" if row.get("members") else str(row["epochs"]).split(".")[0],
            *(format_metric(float(row[f"val_{name}"])) for name in COMPARISON_METRICS),
            f"{float(row['seconds']) / 60:.1f}",
        )
    return table


def _test_table(evaluation: Evaluation) -> Table:
    """Return the test metrics of the chosen model."""
    test = evaluation.test
    table = Table(
        title=(
            f"{evaluation.architecture} on the hold-out test set, n = {test['n']}, "
            f"threshold {evaluation.threshold:.4f}"
        )
    )
    for title in ("metric", "test", "95 % interval"):
        table.add_column(title)
    for row in metric_rows(test, evaluation.intervals, TEST_METRICS):
        table.add_row(row.name, row.value, row.interval)
    missed = f"{test['fn']} of {test['positives']}"
    table.add_row("False negatives (missed pneumonia)", missed, "")
    return table


def show_retraining(state: Any) -> None:
    """Print how a retraining ended; raises its error if it failed.

    Args:
        state: The final state of the flow run.
    """
    retraining = state.result()
    console = open_console(width=110)
    if retraining is None:
        console.print(state.message, highlight=False)
        return
    why = escape(retraining.why)
    console.print(_challenge_table(retraining.challenge))
    console.print(f"[bold]{retraining.outcome.capitalize()}:[/] {why}", highlight=False)
    console.print(f"[bold]Rule:[/] {retraining.challenge.rule}", highlight=False)
    console.print(f"[bold]Champion now:[/] {retraining.champion or 'none'}", highlight=False)


def _challenge_table(challenge: "Challenge") -> Table:
    """Return the metrics of challenger and champion."""
    table = Table(
        title=f"Challenger and champion on the same {challenge.compared} test images",
    )
    table.add_column("")
    table.add_column("version")
    for title in CHALLENGE_METRICS:
        table.add_column(title, justify="right")
    sides = [("challenger", challenge.challenger, challenge.challenger_figures)]
    if challenge.champion and challenge.champion_figures:
        sides.append(("champion", challenge.champion, challenge.champion_figures))
    for title, version, metrics in sides:
        cells = [format_metric(metrics[name]) for name in CHALLENGE_METRICS]
        table.add_row(title, version, *cells)
    return table
