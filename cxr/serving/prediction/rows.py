"""The rows of predictions.csv, and of the measurements behind them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from cxr.core.files import read_table, write_table
from cxr.results.cards.model_card import Card
from cxr.serving.prediction.decoding import Reject

COLUMNS = ["image", "score", "prediction", "threshold", "status", "reason", "scope_p"]
INSTANCE = "instance"  # the last column, where a DICOM film was scored
# What stands before the components and the signals in the table of measurements.
MEASURED_COLUMNS = ["image", "score", "prediction", "status", "scope_p", "device", "day"]
_TEXTS = ["image", "prediction", "status", "device", "day"]
Row = dict[str, Any]


def scored_row(name: str, score: float, card: Card) -> Row:
    """Return the row of an image that is scored.

    Args:
        name: What it is called.
        score: Its calibrated score, 0 to 1.
        card: The model's card, with the threshold that is used.
    """
    return {
        "image": name,
        "score": score,
        "prediction": card.labels[int(score >= card.threshold)],
        "threshold": card.threshold,
        "status": "scored",
        "reason": "",
        "scope_p": "",
    }


def abstain(row: Row, reason: str) -> Row:
    """Return the row of an image whose score is kept, and whose prediction is not.

    Args:
        row: Its row as a scored image.
        reason: Why there is no prediction.
    """
    return row | {"prediction": "", "status": "abstained", "reason": reason}


def rejected_row(name: str, reject: Reject, card: Card) -> Row:
    """Return the row of an image that is not scored."""
    return {
        "image": name,
        "score": "nan",
        "prediction": "",
        "threshold": card.threshold,
        "status": "rejected",
        "reason": f"{reject.reason}: {reject.detail}",
        "scope_p": "",
    }


def write_predictions(
    rows: list[Row],
    rejects: Iterable[tuple[str, str, str]],
    card: Card,
    path: Path,
) -> None:
    """Write the table of predictions, sorted by image; with instances where there is DICOM.

    Args:
        rows: The rows of the images that a network was asked for.
        rejects: Name, reason and detail of each other file.
        card: The model's card, with the threshold that is used.
        path: Where the table goes.
    """
    rejected = [
        rejected_row(name, Reject(reason, detail), card) for name, reason, detail in rejects
    ]
    has_instances = any(INSTANCE in row for row in rows)
    columns = [*COLUMNS, INSTANCE] if has_instances else COLUMNS
    table = pd.DataFrame([*rows, *rejected], columns=columns)
    write_table(table.sort_values("image"), path)


def write_measurements(
    rows: list[Row],
    measurements: list[str],
    path: Path,
) -> None:
    """Write what was measured of the images that have a score, in their order.

    Args:
        rows: The rows of the images that a network was asked for.
        measurements: The names of what was measured of them.
        path: Where the table goes.
    """
    with_score = [row for row in rows if row["status"] != "rejected"]
    write_table(pd.DataFrame(with_score, columns=[*MEASURED_COLUMNS, *measurements]), path)


def read_measurements(path: Path) -> pd.DataFrame:
    """Return what `write_measurements` wrote: texts, and all else as float64.

    `scope_p` is NaN where the model has no scope.
    """
    table = read_table(path)
    for name in table.columns.difference(_TEXTS):
        table[name] = pd.to_numeric(table[name]).astype("float64")
    return table
