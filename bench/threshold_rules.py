"""Rules for the threshold, judged in stress worlds that they did not see.

    python -m bench.threshold_rules TRAINING [TRAINING ...]

TRAINING is the folder of a training with scores_val_worlds.csv (`cxr train`, or `python -m bench.recipes`). Each rule
chooses a threshold that is to keep a sensitivity of 0.95, from the validation images as they are and in the worlds of
all kinds but one (stretch, frame, gray, detail); sensitivity and specificity are those in the worlds of that kind. The
line of a rule is the mean over trainings and worlds, and the lowest of the means over trainings. The images are the same in
all worlds, so the comparison is fair and its level a little optimistic. Test is not looked at.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from cxr.core.files import read_table
from cxr.data.images.changes.stress_worlds import CLEAN, WORLDS
from cxr.models import stress
from cxr.stats.thresholds import Rule, choose_operating_point

Array = np.ndarray[Any, Any]
YOUDEN = Rule(name="youden")


def choose(
    labels: Array, scores: Array, rule: Rule | None = None, kinds: list[str] | None = None
) -> float:
    """Return the threshold that a rule chooses on images scored in some worlds, (n, worlds)."""
    return choose_operating_point(labels, scores, rule, kinds=kinds).threshold


def choose_each(labels: Array, scores: Array) -> Array:
    """Return the threshold of each world alone."""
    return np.array([choose(labels, column) for column in scores.T])


def halfway(labels: Array, scores: Array) -> float:
    """Return the middle, in logits, of the threshold of clean images and that of all worlds."""
    clean = choose(labels, scores[:, 0])
    stressed = choose(labels, scores[:, 1:])
    return float(expit((logit(clean) + logit(stressed)) / 2))


RULES: dict[str, Callable[[Array, Array, list[str]], float]] = {
    "clean images alone": lambda labels, scores, _: choose(labels, scores[:, 0]),
    "all alike": lambda labels, scores, _: choose(labels, scores),
    "half clean, half worlds": lambda labels, scores, _: halfway(labels, scores),
    "median of the worlds": lambda labels, scores, _: float(np.median(choose_each(labels, scores))),
    "every kind": lambda labels, scores, kinds: choose(labels, scores, kinds=kinds),
    "every world": lambda labels, scores, _: float(choose_each(labels, scores).min()),
    "all alike, Youden": lambda labels, scores, _: choose(labels, scores, YOUDEN),
}


def held_out(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return sensitivity and specificity of a rule in each world, whose kind it did not see."""
    labels = table["label"].to_numpy(int)
    rows = []
    for world in WORLDS.values():
        seen = [other for other in WORLDS.values() if other.kind != world.kind]
        columns = [CLEAN, *(other.name for other in seen)]
        kinds = [CLEAN, *(other.kind for other in seen)]
        scores = np.clip(table[columns].to_numpy(float), 1e-9, 1 - 1e-9)
        is_positive = table[world.name].to_numpy(float) >= RULES[name](labels, scores, kinds)
        rows.append(
            {
                "world": world.name,
                "sensitivity": is_positive[labels == 1].mean(),
                "specificity": 1 - is_positive[labels == 0].mean(),
            }
        )
    return pd.DataFrame(rows).set_index("world")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trainings", nargs="+", type=Path)
    given = parser.parse_args()
    tables = [read_table(folder / stress.VAL_SCORES) for folder in given.trainings]
    print(
        f"{'rule':26}{'sensitivity (lowest)':>22}{'specificity (lowest)':>22}{'their sum - 1':>15}"
    )
    for name in RULES:
        found = pd.concat([held_out(table, name) for table in tables]).groupby("world").mean()
        cells = [f"{found[metric].mean():.3f} ({found[metric].min():.3f})" for metric in found]
        youden = found.sum(axis=1).mean() - 1
        print(f"{name:26}{cells[0]:>22}{cells[1]:>22}{youden:>15.3f}")


if __name__ == "__main__":
    main()
