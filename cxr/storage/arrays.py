"""Arrays kept on disk by content: a row for each key, memory-mapped in segments; pixels and features live here.

A segment's list of keys is written after its array, both whole: what an interrupted process leaves is never read. What
is in the folder's name (the recipe) and in the key decides what a row is, so nothing in here is ever out of date.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from cxr.core.errors import StorageError
from cxr.core.files import atomic_write
from cxr.core.records import Record

SEGMENT_BYTES = 16 * 2**20  # a few copies of one are in memory while it is made
_MAPS = 4  # segments mapped at a time: more would let a process grow with what it has read
Array = np.ndarray[Any, Any]


class Recipe(Record):
    """recipe.json: what the rows are and how they were made; its digest names the folder."""

    kind: str
    made: dict[str, Any]
    shape: tuple[int, ...]
    dtype: str


class CacheEntry(Record):
    """One cache as `listing` tells of it; `used` is in seconds since 1970."""

    name: str
    kind: str
    made: dict[str, Any]
    rows: int
    size: int
    used: float


class Rows:
    """Rows of a cache in the order of the keys asked for: indexed by an int or by an array of positions."""

    def __init__(
        self, folder: Path, segments: Sequence[str], segment: Array, row: Array, recipe: Recipe
    ):
        self.name = folder.name
        self._paths = [str(folder / f"{name}.npy") for name in segments]
        self._segment, self._row = segment, row
        self.shape, self.dtype = (len(row), *recipe.shape), np.dtype(recipe.dtype)

    def __len__(self) -> int:
        return len(self._row)

    def __getitem__(self, at: Any) -> Array:
        """Return the row at an int, or the rows at positions (int array, bool mask or slice), copied."""
        if isinstance(at, int | np.integer):
            return np.array(_mapped(self._paths[self._segment[at]])[self._row[at]])
        segment, row = self._segment[at], self._row[at]
        out = np.empty((len(row), *self.shape[1:]), self.dtype)
        for number in np.unique(segment):
            here = segment == number
            out[here] = _mapped(self._paths[number])[row[here]]
        return out


Stored = Array | Rows


class Cache:
    """The rows below one folder; `name` shows its kind, for people who look at the disk."""

    def __init__(self, root: Path, recipe: Recipe):
        digest = hashlib.sha256(recipe.model_dump_json().encode()).hexdigest()[:16]
        self.recipe, self.folder = recipe, root / f"{recipe.kind}-{digest}"

    @classmethod
    def open(cls, folder: Path) -> "Cache":
        """Return the cache in `folder`; raises FileNotFoundError."""
        return cls(folder.parent, Recipe.read(folder / "recipe.json"))

    @property
    def row_bytes(self) -> int:
        """Return the bytes of one row."""
        return (
            int(np.prod(self.recipe.shape, dtype=np.int64)) * np.dtype(self.recipe.dtype).itemsize
        )

    @property
    def segment_rows(self) -> int:
        """Return how many rows make a segment: at least 1, of about SEGMENT_BYTES."""
        return max(1, SEGMENT_BYTES // self.row_bytes)

    def filling(self, keys: Iterable[str]) -> FileLock:
        """Return the lock of who adds these rows, so that two processes do not make the same ones; `with` it.

        Others may add other rows meanwhile: segments are published whole.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / f".lock-{_digest(keys)}")

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Return the keys that have no row yet, each once, in their order."""
        _, known = self._index()
        return [key for key in dict.fromkeys(keys) if key not in known]

    def require_space(self, rows: int) -> None:
        """Raise StorageError where the disk has no room for so many more rows."""
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if rows * self.row_bytes > free:
            raise _full(self.folder, rows * self.row_bytes, free)

    def add(self, keys: Sequence[str], rows: Array) -> None:
        """Publish one segment: its array, then its keys. Raises StorageError where the disk is full."""
        name = _digest(keys)
        if not (self.folder / "recipe.json").is_file():
            self.recipe.write(self.folder / "recipe.json")
        with atomic_write(self.folder / f"{name}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, np.ascontiguousarray(rows, self.recipe.dtype))
        with atomic_write(self.folder / f"{name}.keys") as temporary:
            temporary.write_text("".join(f"{key}\n" for key in keys))

    def rows(self, keys: Sequence[str]) -> Rows:
        """Return the rows of these keys, in their order; raises StorageError where one is missing."""
        segments, known = self._index()
        found = np.array([known.get(key, -1) for key in keys], dtype=np.int64)
        if len(found) and found.min() < 0:
            raise StorageError(
                f"{self.folder}: {int((found < 0).sum())} of {len(keys)} rows are missing: run again"
            )
        if len(found):
            os.utime(self.folder / "recipe.json")  # when it was last used, for `prune`
        return Rows(
            self.folder, segments, (found >> 32).astype(np.int32), found & 0xFFFFFFFF, self.recipe
        )

    def _index(self) -> tuple[list[str], dict[str, int]]:
        """Return the segments' names, and for each key the segment's number in the upper 32 bits, the row below."""
        names: list[str] = []
        known: dict[str, int] = {}
        for path in sorted(self.folder.glob("[!.]*.keys")):
            for row, key in enumerate(path.read_text().split()):
                known[key] = (len(names) << 32) | row
            names.append(path.stem)
        return names, known


def _digest(keys: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()[:16]


@lru_cache(maxsize=_MAPS)
def _mapped(path: str) -> Array:
    mapped: Array = np.load(path, mmap_mode="r")
    return mapped


def _full(folder: Path, needed: int, free: int) -> StorageError:
    return StorageError(
        f"{folder}: the disk is full: {needed / 1e9:.3g} GB more are needed, {free / 1e9:.3g} GB are free: make room, "
        f"for example with `cxr cache prune --out {folder.parent.parent}`, and run again: it goes on where it was"
    )


def list_caches(root: Path) -> list[CacheEntry]:
    """Return every cache below `root` (WORK/cache), the one used last first."""
    held = []
    for path in root.glob("*/recipe.json"):
        recipe, files = Recipe.read(path), [f for f in path.parent.iterdir() if f.is_file()]
        rows = sum(len(f.read_text().split()) for f in path.parent.glob("[!.]*.keys"))
        size = sum(f.stat().st_size for f in files)
        used = path.stat().st_mtime
        held.append(
            CacheEntry(
                name=path.parent.name,
                kind=recipe.kind,
                made=recipe.made,
                rows=rows,
                size=size,
                used=used,
            )
        )
    return sorted(held, key=lambda each: -each.used)


def prune_caches(
    root: Path, unused_days: float, most_bytes: float | None = None
) -> list[CacheEntry]:
    """Remove caches not used for so many days, then the longest unused until `most_bytes` hold; return the removed.

    They are made again when they are needed: it costs time, never results.
    """
    _mapped.cache_clear()
    kept, removed, oldest = 0.0, [], time.time() - unused_days * 86400
    for held in list_caches(root):
        if held.used < oldest or (most_bytes is not None and kept + held.size > most_bytes):
            (root / held.name / "recipe.json").unlink()  # without it nothing below is read
            shutil.rmtree(root / held.name)
            removed.append(held)
        else:
            kept += held.size
    return removed


def describe_recipe(made: dict[str, Any]) -> str:
    """Return how rows were made, in one line."""
    return ", ".join(
        f"{name} {value if isinstance(value, str) else json.dumps(value)}"
        for name, value in made.items()
    )
