"""The sentences and tables of the report that need more than a look into a record."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from cxr.core.files import read_table
from cxr.core.formatting import printable
from cxr.core.settings import LABEL_NAMES, training_settings
from cxr.core.timing import Stage, read_timings
from cxr.data.images.changes.stress_worlds import CLEAN, WORLDS
from cxr.models.stress import EPOCH_IMAGES
from cxr.models.training.records import Training
from cxr.results.cards.model_card import Card
from cxr.results.report.captions import STAGES

_STEP_COST = 3  # of learning from an image, in times of scoring it
_TEXT_COLUMNS = {
    "name",
    "architecture",
    "status",
    "weights",
    "calibration",
    "error",
    "stress_worst_world",
    "members",
}


class StageRow(NamedTuple):
    """One row of the table of time and memory."""

    name: str
    stage: Stage


class SettingRow(NamedTuple):
    """One row of the table of settings."""

    name: str
    value: Any
    meaning: str


class CauseRow(NamedTuple):
    """The false negatives among the test images of one cause of pneumonia."""

    cause: str
    false_negatives: int
    images: int


def thorough_seconds(card: Card) -> float | None:
    """Return what the preset `thorough` would take, in seconds, None where all layers learned here.

    To learn from an image takes about three times as long as to score it: the way back through a
    network has two products where the way there has one. After each epoch validation is scored.
    """
    if card.settings.learns == "whole":
        return None
    thorough = training_settings("thorough")
    train = sum(card.data.splits["train"].values())
    val = sum(card.data.splits["val"].values())
    stressed = len(WORLDS) * min(val, EPOCH_IMAGES)
    passes = (_STEP_COST * train + val + stressed) * thorough.tuning_epochs()
    size = (thorough.image_size / card.image_size) ** 2
    return passes * size * card.training.milliseconds / 1000


def interval_methods(card: Card) -> str:
    """Return in words how the intervals of the test metrics were computed."""
    of_accuracy = card.evaluation.intervals["accuracy"]
    if of_accuracy is None:
        methods = "none estimable"
    else:
        patients = f"({of_accuracy.patients} patients)"
        methods = f"patients drawn with replacement, 2,000 times {patients}"
    intervals = card.evaluation.intervals.values()
    if any(interval and interval.method == "Wilson" for interval in intervals):
        methods += "; Wilson's for proportions of exactly 0 or 1, which takes images as independent"
    return methods


def baseline_sentence(card: Card) -> str:
    """Return how the network's test AUROC compares with that of the highest baseline."""
    baselines = [floor for floor in card.audit.floors if floor.test.auroc is not None]
    if not baselines:
        return "No baseline could be estimated on test."
    highest = max(baselines, key=lambda baseline: baseline.test.auroc or 0.0)
    baseline_auroc = highest.test.auroc or 0.0
    network_auroc = card.evaluation.test["auroc"] or 0.0
    aurocs = (
        f"The {highest.signal} alone reaches AUROC {baseline_auroc:.3f} on test; "
        f"{card.architecture} reaches {network_auroc:.3f}"
    )
    if network_auroc <= baseline_auroc:
        return f"{aurocs}: the network does not exceed that baseline."
    network_interval = card.evaluation.intervals["auroc"]
    baseline_interval = highest.test.interval
    if (
        network_interval is None
        or baseline_interval is None
        or network_interval.low <= baseline_interval.high
    ):
        return f"{aurocs}: above that baseline, but their intervals overlap."
    return f"{aurocs}: clearly above that baseline, their intervals do not overlap."


def world_descriptions() -> dict[str, str]:
    """Return what each world changes, by its name, that of clean images included."""
    descriptions = {CLEAN: "nothing"}
    for world in WORLDS.values():
        descriptions[world.name] = world.description
    return descriptions


def val_world_aurocs(card: Card) -> dict[str, float]:
    """Return the validation AUROC in each world, by its name; empty where it was not measured."""
    robustness = card.training.robustness
    if robustness is None:
        return {}
    return {world.world: world.auroc for world in (robustness.clean, *robustness.worlds)}


def comparison_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of comparison.csv, numbers as floats, NaN where there is none."""
    rows = []
    for record in read_table(path).to_dict("records"):
        row: dict[str, Any] = {"members": ""}  # a column of runs with ensembles alone
        for column, value in record.items():
            name = str(column)
            row[name] = value if name in _TEXT_COLUMNS else float(value)
        rows.append(row)
    return rows


def stage_rows(run: Path, selected: str) -> list[StageRow]:
    """Return every stage with its time: of the data, of each training, of the test.

    Args:
        run: The run's folder.
        selected: The selected training, which comes first.
    """
    order = list(STAGES)
    data_stages = read_timings(run / "data")
    data_stages.sort(key=lambda stage: order.index(stage.name))
    rows = _named_stages(data_stages)
    trainings = [Training.read(path) for path in sorted(run.glob("*/training.json"))]
    trainings.sort(key=lambda training: training.name != selected)
    for training in trainings:
        rows += _named_stages(training.stages, f"{training.name}: ")
    return rows + _named_stages(read_timings(run))


def _named_stages(stages: Iterable[Stage], prefix: str = "") -> list[StageRow]:
    """Return stages with what they do."""
    return [StageRow(prefix + STAGES[stage.name], stage) for stage in stages]


def false_negatives_by_cause(path: Path, threshold: float) -> list[CauseRow]:
    """Return the false negatives by the cause of pneumonia that the file names give.

    Args:
        path: scores_test.csv.
        threshold: The lowest score that counts as positive.
    """
    scores = read_table(path)
    is_positive = scores["label"] == LABEL_NAMES.index("PNEUMONIA")
    has_cause = scores["etiology"] != ""
    rows = []
    for cause, images in scores[is_positive & has_cause].groupby("etiology"):
        is_missed = images["score"] < threshold
        rows.append(CauseRow(str(cause), int(is_missed.sum()), len(images)))
    return rows


def class_weights(path: Path) -> dict[str, float]:
    """Return the loss weight of each class by its name; empty if the file is missing."""
    if not path.is_file():
        return {}
    weights = {}
    for label, weight in json.loads(path.read_text()).items():
        weights[LABEL_NAMES[int(label)]] = float(weight)
    return weights


def setting_rows(card: Card) -> list[SettingRow]:
    """Return every setting with its value and its meaning, those of the augmentation last."""
    rows = [row for row in _fields(card.settings) if row.name != "augmentation"]
    return rows + _fields(card.settings.augmentation, "augmentation.")


def _fields(settings: BaseModel, prefix: str = "") -> list[SettingRow]:
    """Return the fields of one group of settings."""
    return [
        SettingRow(prefix + name, getattr(settings, name), field.description or "")
        for name, field in type(settings).model_fields.items()
    ]


def reject_rows(path: Path, most: int) -> tuple[list[dict[str, str]], int]:
    """Return the first rows of rejects.csv, made printable, and the number of all rows."""
    table = read_table(path)
    rows = [
        {str(column): printable(str(value)) for column, value in record.items()}
        for record in table.head(most).to_dict("records")
    ]
    return rows, len(table)
