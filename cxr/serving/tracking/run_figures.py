"""What a tracking server gets to know of a run: names and values, from the records of its folder.

Names with a slash are grouped by what stands before it. A metric that is not estimable is left out.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from cxr.core.files import read_table
from cxr.data.manifest.records import Leakage
from cxr.models.stress import Robustness
from cxr.models.training.records import Training
from cxr.results.evaluation import Evaluation, StressTest
from cxr.stats.calibration.reliability import Quality
from cxr.stats.intervals import Interval
from cxr.stats.metrics import Metrics

HEAD = "head"  # before the columns of history.csv that tell of fitting the head
MOST_CHARACTERS = 500  # of a parameter: older servers refuse longer ones
_ABOUT_AN_EPOCH = ("epoch", "phase")


class Point(NamedTuple):
    """One value of a metric.

    Attributes:
        name: The metric.
        value: Its value.
        step: The epoch; 0 where there is one value only.
    """

    name: str
    value: float
    step: int = 0


def settings_params(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return settings as parameters.

    Args:
        settings: As JSON has them.
        prefix: What stands before their names.

    >>> settings_params({"arch": ["VGG16", "ResNet50"], "stop": {"after": 6}, "init": None})
    {'arch': 'VGG16, ResNet50', 'stop.after': '6', 'init': 'none'}
    """
    params: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            params |= settings_params(value, f"{prefix}{name}.")
        else:
            params[prefix + name] = _shown(value)[:MOST_CHARACTERS]
    return params


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)


def metric_points(
    group: str,
    metrics: Metrics,
    intervals: Mapping[str, Interval | None],
    quality: Quality,
) -> list[Point]:
    """Return metrics, and the ends of their 95 % intervals as NAME_low and NAME_high.

    Args:
        group: What they were measured on.
        metrics: By name.
        intervals: By name.
        quality: How far the scores are from probabilities; sent of the calibrated ones.
    """
    points = [
        Point(f"{group}/ece", quality.ece_after),
        Point(f"{group}/ece_chance", quality.ece_chance),
    ]
    for name, value in {**metrics, "brier": quality.brier_after}.items():
        points += _estimate(f"{group}/{name}", value, intervals.get(name))
    return points


def _estimate(
    name: str,
    value: float | None,
    interval: Interval | None,
) -> Iterator[Point]:
    """Yield a metric and the ends of its interval, as far as they are estimable."""
    if value is None or math.isnan(value):
        return
    yield Point(name, float(value))
    if interval is not None:
        yield Point(f"{name}_low", interval.low)
        yield Point(f"{name}_high", interval.high)


def world_points(group: str, robustness: Robustness) -> list[Point]:
    """Return the metrics in each stress world, and the mean AUROC over them.

    Args:
        group: What stands before the name of a world.
        robustness: The record.
    """
    points = [Point(f"{group}/mean_auroc", robustness.mean_auroc)]
    for world in (robustness.clean, *robustness.worlds):
        name = f"{group}/{world.world}"
        points += _estimate(f"{name}/auroc", world.auroc, world.auroc_interval)
        points += _estimate(f"{name}/sensitivity", world.sensitivity, world.sensitivity_interval)
        points += _estimate(f"{name}/specificity", world.specificity, world.specificity_interval)
    return points


def history_points(folder: Path) -> list[Point]:
    """Return history.csv of a training: a value for each epoch, and for each penalty of the head.

    Args:
        folder: The training's.
    """
    path = folder / "history.csv"
    if not path.is_file():  # an ensemble has none
        return []
    points = []
    heads = 0
    for row in read_table(path).to_dict("records"):
        is_head = row["phase"] == "frozen"
        step = heads if is_head else int(row["epoch"])
        heads += is_head
        for name, text in row.items():
            value = pd.to_numeric(text, errors="coerce")
            if name not in _ABOUT_AN_EPOCH and not math.isnan(value):
                points.append(Point(f"{HEAD}/{name}" if is_head else str(name), float(value), step))
    return points


def training_points(training: Training) -> list[Point]:
    """Return the metrics of a training on validation, clean and in the stress worlds."""
    points = metric_points(
        "val", training.val, training.val_intervals, training.calibration_quality
    )
    if training.robustness is not None:
        points += world_points("val_worlds", training.robustness)
    points += [
        Point("threshold", training.threshold),
        Point("seconds", training.seconds),
        Point("milliseconds_an_image", training.milliseconds),
    ]
    return points


def evaluation_points(evaluation: Evaluation, stress_test: StressTest | None) -> list[Point]:
    """Return the metrics of the chosen model on test, clean, in the stress worlds, behind masks."""
    points = metric_points(
        "test", evaluation.test, evaluation.intervals, evaluation.calibration_quality
    )
    points.append(Point("threshold", evaluation.threshold))
    if stress_test is not None:
        points += world_points("test_worlds", stress_test.worlds)
        for mask in stress_test.masks:
            points += _estimate(f"test_masks/{mask.mask}/auroc", mask.auroc, mask.auroc_interval)
    return points


def gate_points(leakage: Leakage) -> list[Point]:
    """Return what the leakage gate counted."""
    names = (
        "near_pairs",
        "source_pairs",
        "removed",
        "excluded",
        "within_split",
        "pairs_left",
        "patients_left",
        "without_patient",
    )
    return [Point(f"gate/{name}", float(getattr(leakage, name))) for name in names]


def gate_verdict(leakage: Leakage) -> str:
    """Return in words whether the gate let the data pass.

    Args:
        leakage: What it counted.
    """
    if leakage.clean:
        return "passed"
    return (
        f"{leakage.pairs_left} pairs and {leakage.patients_left} patients in two splits, "
        "allowed by --allow-leakage"
    )
