"""Labels that arrive late: real figures of the images whose predictions are at hand."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.core.errors import DataError
from cxr.core.files import read_table
from cxr.core.formatting import format_count, format_percent
from cxr.core.settings import LABEL_NAMES, Strict
from cxr.stats.drift.expected import Estimate, expect_performance, sum_called
from cxr.stats.intervals import Interval, bootstrap_intervals
from cxr.stats.metrics import proportion_counts

METRICS = ("sensitivity", "specificity", "precision", "npv", "accuracy")
_COLUMNS = ("image", "score", "prediction", "status")
_LABELS = {"0": 0, "1": 1} | {name: label for label, name in enumerate(LABEL_NAMES)}


class Proportion(Strict):
    """One figure of labelled images, beside what their scores let expect.

    Attributes:
        right: The numerator, such as the true positives.
        images: The denominator, such as the positives.
        interval: The 95 % interval; None where not estimable.
        expected: What the scores of the very same images let expect; None where nothing.
    """

    right: int
    images: int
    interval: Interval | None
    expected: Estimate | None

    @property
    def value(self) -> float | None:
        """The proportion, None of no image."""
        return self.right / self.images if self.images else None


class RealFigures(Strict):
    """The figures of the images that have both a label and a prediction.

    Attributes:
        labels: How many labels were given.
        images: How many of them are of images with a prediction.
        abstained: How many are of images that the model abstained from.
        metrics: Of the images with a prediction, by name.
        notes: What was not used, a sentence each.
    """

    labels: int
    images: int
    abstained: int
    metrics: dict[str, Proportion]
    notes: tuple[str, ...]

    def sentence(self) -> str:
        """Return the real sensitivity and specificity in one sentence."""
        parts = []
        for name in ("sensitivity", "specificity"):
            metric = self.metrics[name]
            text = f"{name} {format_percent(metric.value)} ({metric.right} of {metric.images}"
            if metric.interval:
                low = format_percent(metric.interval.low)
                text += f", {low} to {format_percent(metric.interval.high)}"
            if metric.expected:
                text += f"; its scores let expect {format_percent(metric.expected.value)}"
            parts.append(f"{text})")
        return f"{format_count(self.images, 'images')} with a label: {'; '.join(parts)}"


def compare_labels(labels: Path, predictions: Sequence[Path]) -> RealFigures:
    """Return the real figures of images whose labels arrived after they were predicted.

    Labels and predictions are joined by the column image. The store has no names, so the tables of
    predictions are needed.

    Args:
        labels: A CSV with the columns image and label (0, 1, NORMAL or PNEUMONIA), and patient where
            images of one patient are to count as a group.
        predictions: The tables that `predict` wrote. An image in several of them counts once, as
            in the first.

    Raises:
        DataError: A table lacks a column, two labels of an image differ, a label is none of these,
            or no image has both.
    """
    given = _read_labels(labels)
    parts = [_read_predictions(path) for path in predictions]
    table = pd.concat(parts, ignore_index=True)
    notes = []
    repeated = int(table["image"].duplicated().sum())
    if repeated:
        notes.append(
            f"{format_count(repeated, 'predictions')} of an image predicted before: left out."
        )
    table = table.drop_duplicates("image")
    joined = table.merge(given, on="image", how="inner")
    without = len(given) - len(joined)
    if without:
        notes.append(
            f"{format_count(without, 'labels')} of images that no table of predictions has."
        )
    is_called = joined["prediction"] != ""
    called = joined[is_called]
    is_rejected = joined["status"] == "rejected"
    if is_rejected.any():
        notes.append(f"{format_count(int(is_rejected.sum()), 'labels')} of rejected files.")
    if called.empty:
        raise DataError(
            f"{labels}: expected labels of images with a prediction, found none among "
            f"{format_count(len(given), 'labels')}: are its image names those of the tables?"
        )
    return _measure(called, len(given), int((~is_called & ~is_rejected).sum()), notes)


def _measure(
    called: pd.DataFrame,
    labels: int,
    abstained: int,
    notes: list[str],
) -> RealFigures:
    """Return the figures of the images with a label and a prediction."""
    truth = called["label"].to_numpy(np.int64)
    scores = called["score"].to_numpy(np.float64)
    is_positive = (called["prediction"] == LABEL_NAMES[1]).to_numpy(bool)
    # Tables of two sites may have two thresholds: the predictions stand, not one of these.
    decisions = is_positive.astype(np.float64)
    intervals = bootstrap_intervals(truth, decisions, called["patient"].to_numpy(), 0.5)
    expected = expect_performance(sum_called(scores[is_positive]), sum_called(scores[~is_positive]))
    counts = proportion_counts(
        tp=int((is_positive & (truth == 1)).sum()),
        fp=int((is_positive & (truth == 0)).sum()),
        tn=int((~is_positive & (truth == 0)).sum()),
        fn=int((~is_positive & (truth == 1)).sum()),
    )
    metrics = {}
    for name in METRICS:
        right, images = counts[name]
        metrics[name] = Proportion(
            right=right,
            images=images,
            interval=intervals[name],
            expected=expected.get(name),
        )
    return RealFigures(
        labels=labels,
        images=len(called),
        abstained=abstained,
        metrics=metrics,
        notes=tuple(notes),
    )


def _read_predictions(path: Path) -> pd.DataFrame:
    """Return the columns of a table of predictions that are needed here."""
    return read_table(path, only=_COLUMNS)


def _read_labels(path: Path) -> pd.DataFrame:
    """Return the table of labels with columns image, label (0 or 1) and patient, a row for each image."""
    try:
        table = pd.read_csv(
            path,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            encoding_errors="surrogateescape",
        )
    except ValueError as error:
        raise DataError(
            f"{path}: expected a table with columns image and label: {error}"
        ) from error
    missing = {"image", "label"} - set(table)
    if missing:
        raise DataError(
            f"{path}: expected the columns image and label, found {', '.join(map(str, table))}"
        )
    texts = table["label"].str.strip().str.upper()
    unknown = sorted(set(texts) - set(_LABELS))
    if unknown:
        raise DataError(
            f"{path}: expected the labels 0, 1, {LABEL_NAMES[0]} or {LABEL_NAMES[1]}, "
            f"found {', '.join(map(repr, unknown[:5]))}"
        )
    if "patient" not in table:
        table["patient"] = ""
    rows = pd.DataFrame(
        {
            "image": table["image"],
            "label": texts.map(_LABELS),
            "patient": table["patient"],
        }
    ).drop_duplicates()
    doubtful = rows["image"][rows["image"].duplicated()]
    if len(doubtful):
        raise DataError(
            f"{path}: expected one label and patient for each image, found two for "
            f"{doubtful.iloc[0]!r} and {len(doubtful) - 1} more"
        )
    return rows
