"""Where two records differ, and where counts and proportions do not fit together."""

import math
from collections.abc import Iterator
from typing import Any

import pydantic

from cxr.stats import metrics
from cxr.stats.metrics import Metrics

TOLERANCE = 1e-9
# Fields that hold a name, which is compared where other texts are not.
_NAME_FIELDS = {"name", "architecture", "best", "eligible", "method"}


def record_differences(
    stored: Any,
    recomputed: Any,
    texts: bool = True,
    path: str = "",
) -> Iterator[str]:
    """Yield a sentence for each place where two records differ.

    Numbers may differ by TOLERANCE.

    Args:
        stored: A record, or dictionaries and tuples of them.
        recomputed: What the scores give for it.
        texts: Whether texts that are no names are compared, too.
        path: The fields that lead to the two values.

    >>> list(record_differences({"test": {"auroc": 0.9}}, {"test": {"auroc": 0.8}}))
    ['test auroc is 0.9, the scores give 0.8']
    """
    stored = _as_plain(stored)
    recomputed = _as_plain(recomputed)
    parts = _matching_parts(stored, recomputed)
    if parts is not None:
        for name, stored_part, recomputed_part in parts:
            part_path = f"{path} {name}".strip()
            yield from record_differences(stored_part, recomputed_part, texts, part_path)
        return
    if not values_differ(stored, recomputed):
        return
    if texts or not _is_free_text(stored, path):
        yield f"{path} is {stored}, the scores give {recomputed}"


def count_misfits(test: Metrics) -> list[str]:
    """Return a sentence for each place where counts and proportions do not fit together.

    >>> count_misfits({"n": 4, "positives": 2, "tp": 2, "fp": 1, "tn": 1, "fn": 0,
    ...                "accuracy": 0.9, "sensitivity": 1.0, "specificity": 0.5,
    ...                "precision": 2 / 3, "npv": 1.0})
    ['accuracy is 0.9, its counts give 0.75']
    """
    n = _count(test, "n")
    positives = _count(test, "positives")
    tp = _count(test, "tp")
    fp = _count(test, "fp")
    tn = _count(test, "tn")
    fn = _count(test, "fn")
    misfits = []
    if tp + fp + tn + fn != n or tp + fn != positives:
        misfits.append(
            f"tp + fp + tn + fn = {tp + fp + tn + fn} and tp + fn = {tp + fn}, "
            f"not {n} and {positives}"
        )
    for name, (part, whole) in metrics.proportion_counts(tp, fp, tn, fn).items():
        expected = part / whole if whole else None
        if values_differ(test[name], expected):
            misfits.append(f"{name} is {test[name]}, its counts give {expected}")
    return misfits


def values_differ(stored: Any, recomputed: Any) -> bool:
    """Return whether two values differ, numbers by more than TOLERANCE."""
    if isinstance(stored, float | int) and isinstance(recomputed, float | int):
        return not math.isclose(stored, recomputed, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(stored != recomputed)


def _as_plain(value: Any) -> Any:
    """Return a record as a dictionary, anything else as it is."""
    if isinstance(value, pydantic.BaseModel):
        return value.model_dump()
    return value


def _matching_parts(stored: Any, recomputed: Any) -> list[tuple[str, Any, Any]] | None:
    """Return (name, stored, recomputed) of the parts of two values of the same layout.

    None where they have no parts, or not the same ones, and are compared as a whole.
    """
    if isinstance(stored, dict) and isinstance(recomputed, dict):
        if stored.keys() != recomputed.keys():
            return None
        return [(name, stored[name], recomputed[name]) for name in recomputed]
    if isinstance(stored, tuple | list) and isinstance(recomputed, tuple | list):
        if len(stored) != len(recomputed):
            return None
        pairs = zip(stored, recomputed, strict=True)
        return [(str(number), *pair) for number, pair in enumerate(pairs, start=1)]
    return None


def _is_free_text(value: Any, path: str) -> bool:
    """Return whether a value is a text that is no name."""
    return isinstance(value, str) and not _NAME_FIELDS.intersection(path.split())


def _count(test: Metrics, name: str) -> int:
    """Return a count; one that is missing counts as 0 and will not fit."""
    return int(test[name] or 0)
