"""What training shows: the models compared on validation, and which one was chosen."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from cxr.core.files import read_table
from cxr.core.formatting import format_metric
from cxr.models.selection import Selection
from cxr.models.training.records import Failure, Training
from cxr.results.metric_table import format_interval
from tasks.pages import pictures


def show_comparison(
    outcomes: Sequence[Training | Failure],
    folder: Path,
) -> None:
    """Show a row for each model, in the order of comparison.csv, failed ones last.

    Args:
        outcomes: Every training of the run, or why it has no model; at least one has one.
        folder: The run's folder.
    """
    order = list(read_table(folder / "comparison.csv")["name"])
    trained = [outcome for outcome in outcomes if isinstance(outcome, Training)]
    trained.sort(key=lambda training: order.index(training.name))
    rows = [_row(training) for training in trained]
    for outcome in outcomes:
        if isinstance(outcome, Failure):
            reason = f"failed, not compared: {outcome.error}"
            rows.append({"model": outcome.name, "weights": reason})
    create_table_artifact(
        rows,
        key="comparison",
        description=(
            "Validation metrics, each model at its own operating point, "
            f"n = {trained[0].val['n']}; AUROC with 95 % interval"
        ),
    )


def show_selection(
    selection: Selection,
    figures: Sequence[Path],
) -> None:
    """Show which model was chosen and why, with the pictures of the comparison."""
    blocks = [
        f"# {selection.name} was chosen",
        selection.reason,
        f"*Rule:* {selection.rule}",
        *(pictures.to_markdown(figure) for figure in figures),
    ]
    create_markdown_artifact(
        "\n\n".join(blocks),
        key="selection",
        description="Which model was chosen, by which rule, on validation alone",
    )


def _row(training: Training) -> dict[str, Any]:
    """Return a model's row as a person wants to read it."""
    auroc = format_metric(training.val["auroc"])
    interval = training.val_intervals["auroc"]
    if interval:
        auroc += f" ({format_interval(interval)})"
    return {
        "model": training.name,
        "weights": training.weights,
        "AUROC": auroc,
        "sensitivity": format_metric(training.val["sensitivity"]),
        "specificity": format_metric(training.val["specificity"]),
        "accuracy": format_metric(training.val["accuracy"]),
        "precision": format_metric(training.val["precision"]),
        "threshold": format_metric(training.threshold, 4),
        "minutes": format_metric(training.seconds / 60, 1),
        "ms an image": format_metric(training.milliseconds, 1),
    }
