"""Which files of a work folder are published, and in which order.

Not published are caches, logs, checkpoints, trainings that have not ended, and the registry, which
has its own rules.
"""

from collections.abc import Iterable
from pathlib import Path

# In the order of publishing: each record describes only files that are there already.
RECORDS = (
    "ingest.json",
    "exploration.json",
    "run.json",
    "failure.json",
    "training.json",
    "selection.json",
    "evaluation.json",
    "export.json",
    "site.json",
)
_ENDS_OF_TRAINING = ("training.json", "failure.json")
_LOCAL_FOLDERS = ("cache", "registry")
_NOT_A_TRAINING = ("export", "data", "challenge")  # other folders in runs/<run_id>/


def shared_keys(folder: Path) -> set[str]:
    """Return the keys of all files in a work folder that are to be published."""
    keys = set()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            key = path.relative_to(folder).as_posix()
            if is_shared(key) and _is_finished(folder, key):
                keys.add(key)
    return keys


def is_shared(key: str) -> bool:
    """Return whether a file is published by its key alone.

    >>> keys = ("eda/eda.json", "cache/pixels.npy", "runs/a/M/training.log", ".lock")
    >>> [is_shared(key) for key in keys]
    [True, False, False, False]
    """
    parts = key.split("/")
    if parts[0] in _LOCAL_FOLDERS or key.endswith(".log"):
        return False
    return not any(part.startswith((".", "checkpoint-")) for part in parts)


def _is_finished(folder: Path, key: str) -> bool:
    """Return False for a file of a training that has not ended: nobody else can use it."""
    parts = key.split("/")
    if len(parts) < 4 or parts[0] != "runs":
        return True
    _, run_id, name, *_ = parts
    if name in _NOT_A_TRAINING:
        return True
    training = folder / "runs" / run_id / name
    return any((training / record).is_file() for record in _ENDS_OF_TRAINING)


def is_record(key: str) -> bool:
    """Return whether a file is a record: its presence means that a stage is complete."""
    return _name(key) in RECORDS


def in_publishing_order(keys: Iterable[str]) -> list[str]:
    """Return keys in the order in which they are published: records last, by stage."""
    return sorted(keys, key=_rank)


def in_removal_order(keys: Iterable[str]) -> list[str]:
    """Return keys in the order in which they are removed: records first, last stage first."""
    return sorted(keys, key=_rank, reverse=True)


def _rank(key: str) -> tuple[int, str]:
    """Return what keys are sorted by."""
    name = _name(key)
    position = RECORDS.index(name) if name in RECORDS else -1
    return position, key


def _name(key: str) -> str:
    """Return the name of a file."""
    return key.rpartition("/")[2]
