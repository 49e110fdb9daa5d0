"""comparison.csv: the trainings of a run side by side."""

from pathlib import Path
from typing import Any

import pandas as pd

from cxr.core.files import write_table
from cxr.models.training.records import Failure, Training
from cxr.stats.metrics import PROPORTIONS


def write_comparison(
    trained: list[Training],
    failed: list[Failure],
    run: Path,
) -> pd.DataFrame:
    """Write comparison.csv into the run's folder and return it; see `comparison_table`."""
    table = comparison_table(trained, failed)
    write_table(table, run / "comparison.csv")
    return table


def comparison_table(trained: list[Training], failed: list[Failure]) -> pd.DataFrame:
    """Return one row for each training: the best validation score first, failed trainings last.

    Where a run has ensembles, the last column names their members.
    """
    ordered = sorted(trained, key=lambda training: (-training.validation_score, training.name))
    rows = [_comparison_row(training) for training in ordered]
    rows += [_failure_row(failure) for failure in failed]
    table = pd.DataFrame(rows)
    if any(training.members for training in ordered):
        members = [_member_names(training) for training in ordered]
        table["members"] = members + [""] * len(failed)
    return table


def _member_names(training: Training) -> str:
    """Return the names of the networks that an ensemble averages, "" for a single network."""
    return ", ".join(member.name for member in training.members)


def _comparison_row(training: Training) -> dict[str, Any]:
    """Return the row of comparison.csv for a training that came to its end."""
    learned = not training.members  # an ensemble had no epochs of its own
    row: dict[str, Any] = {
        "name": training.name,
        "architecture": training.architecture,
        "status": "trained",
        "weights": training.weights,
        "seed": training.seed,
        "epochs": training.epochs if learned else None,
        "best_epoch": training.best_epoch if learned else None,
        "threshold": training.threshold,
    }
    for name, value in training.val.items():
        row[f"val_{name}"] = value
    for name in (*PROPORTIONS, "auroc", "auprc"):
        interval = training.val_intervals.get(name)
        row[f"val_{name}_low"] = interval.low if interval else None
        row[f"val_{name}_high"] = interval.high if interval else None
    if training.robustness:
        worst = training.robustness.worst
        row |= {
            "validation_score": training.validation_score,
            "stress_auroc": training.stress_auroc,
            "stress_worst_auroc": worst.auroc,
            "stress_worst_world": worst.world,
        }
    return row | {
        "calibration": training.calibration.method,
        "val_brier": training.calibration_quality.brier_after,
        "val_ece": training.calibration_quality.ece_after,
        "milliseconds": training.milliseconds,
        "seconds": training.seconds,
        "images_per_second": training.images_per_second,
        "error": "",
    }


def _failure_row(failure: Failure) -> dict[str, Any]:
    """Return the row of comparison.csv for a training that failed; its other columns are empty."""
    return {
        "name": failure.name,
        "architecture": failure.architecture,
        "status": "failed",
        "error": failure.error,
    }
