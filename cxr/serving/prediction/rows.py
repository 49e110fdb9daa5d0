"""The rows of predictions.csv, and of the measurements behind them."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cxr.core.files import PART_ROWS, read_parts, write_parts, write_table
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


def write_tables(
    batches: Iterable[list[Row]],
    rejects: Iterable[tuple[str, str, str]],
    card: Card,
    path: Path,
    measured_path: Path | None = None,
    measurements: Sequence[str] = (),
) -> None:
    """Write the table of predictions, sorted by image, and what was measured of the images.

    Of an image that is asked for, only what stands in the table of predictions is kept in memory
    until the last one is scored: what was measured are some thirty numbers more.

    Args:
        batches: The rows of the images that a network is asked for, as they come.
        rejects: Name, reason and detail of each other file.
        card: The model's card, with the threshold that is used.
        path: Where the table of predictions goes; it has instances where there is DICOM.
        measured_path: Where the measurements of the images that have a score go, in their order;
            None to write none.
        measurements: The names of what is measured of them.
    """
    shown: list[pd.DataFrame] = []
    columns = [*MEASURED_COLUMNS, *measurements]

    def measured_parts() -> Iterator[pd.DataFrame]:
        yield pd.DataFrame(columns=columns)
        for rows in _gather(batches):
            shown.append(_shown_table(rows))
            with_score = [row for row in rows if row["status"] != "rejected"]
            yield pd.DataFrame(with_score, columns=columns)

    if measured_path is None:
        shown += [_shown_table(rows) for rows in _gather(batches)]
    else:
        write_parts(measured_parts(), measured_path)
    rejected = [
        rejected_row(name, Reject(reason, detail), card) for name, reason, detail in rejects
    ]
    table = pd.concat([*shown, _shown_table(rejected)], ignore_index=True)
    if table[INSTANCE].isna().all():
        table = table[COLUMNS]
    write_table(table.sort_values("image"), path)


def _gather(batches: Iterable[list[Row]]) -> Iterator[list[Row]]:
    """Yield the rows of many batches at a time, at least PART_ROWS but for the last ones."""
    rows: list[Row] = []
    for batch in batches:
        rows += batch
        if len(rows) >= PART_ROWS:
            yield rows
            rows = []
    if rows:
        yield rows


def _shown_table(rows: list[Row]) -> pd.DataFrame:
    """Return what stands in predictions.csv of some rows."""
    return pd.DataFrame(rows, columns=[*COLUMNS, INSTANCE], dtype=object)


def read_measurements(path: Path) -> pd.DataFrame:
    """Return the measurements that `write_tables` wrote: texts, and all else as float64.

    `scope_p` is NaN where the model has no scope.
    """
    parts = []
    for part in read_parts(path):
        columns = {name: _as_measured(str(name), part[name]) for name in part}
        # Copied, or the texts of all numbers would be kept with those that stay texts.
        parts.append(pd.DataFrame(columns, copy=True))
    return pd.concat(parts, ignore_index=True)


def _as_measured(name: str, cells: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return the cells of a column: texts as they are, and all else as float64."""
    return cells if name in _TEXTS else pd.to_numeric(cells).astype("float64")
