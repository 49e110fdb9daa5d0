"""Caches of arrays on disk, one row for each key, mapped in segments: pixels and features.

The list of a segment's keys is written after its array, both whole: what an interrupted process
leaves behind is never read. The folder's name (a digest of the recipe) and the key decide what a
row is, so no row is ever out of date.
"""

import hashlib
import json
import math
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

SEGMENT_BYTES = 16 * 2**20  # a few copies of a segment are in memory while it is written
_MAPPED_SEGMENTS = 4  # with more, a process would grow with what it has read
_ROW_BITS = 32  # an index entry holds the row in so many bits, the segment's number above them
_ROW_MASK = 2**_ROW_BITS - 1
_SECONDS_PER_DAY = 86_400
_RECIPE = "recipe.json"
_KEY_LISTS = "[!.]*.keys"
Array = np.ndarray[Any, Any]


class Recipe(Record):
    """recipe.json: what the rows are and how they were made. Its digest names the cache's folder.

    Attributes:
        kind: What the rows are, for people who look at the disk.
        made: The settings that decide a row, by name.
        shape: The shape of one row.
        dtype: NumPy's name of the rows' type.
    """

    kind: str
    made: dict[str, Any]
    shape: tuple[int, ...]
    dtype: str


class CacheEntry(Record):
    """One cache as it is listed.

    Attributes:
        name: The name of its folder.
        kind: What the rows are.
        made: How they were made.
        rows: Their number.
        size: Bytes on disk.
        used: When rows were last read, in seconds since 1970.
    """

    name: str
    kind: str
    made: dict[str, Any]
    rows: int
    size: int
    used: float


class Rows:
    """Rows of a cache in the order of the keys asked for, read from disk when they are indexed.

    Attributes:
        name: The name of the cache's folder.
        shape: Number of rows, then the shape of one row.
        dtype: The rows' type.
    """

    def __init__(
        self,
        folder: Path,
        segments: Sequence[str],
        segment_numbers: Array,
        row_numbers: Array,
        recipe: Recipe,
    ):
        """Describe the rows; none is read yet.

        Args:
            folder: The cache's folder.
            segments: The names of its segments.
            segment_numbers: For each row, the position of its segment in `segments`: int (n,).
            row_numbers: For each row, its position in its segment: int (n,).
            recipe: The cache's recipe.
        """
        self.name = folder.name
        self.shape = (len(row_numbers), *recipe.shape)
        self.dtype = np.dtype(recipe.dtype)
        self._paths = [str(folder / f"{segment}.npy") for segment in segments]
        self._segment_numbers = segment_numbers
        self._row_numbers = row_numbers

    def __len__(self) -> int:
        return len(self._row_numbers)

    def __getitem__(self, index: Any) -> Array:
        """Return a copy of some rows.

        Args:
            index: An int for one row without the first axis; positions (int array), a bool mask
                or a slice for several.
        """
        segment_numbers = self._segment_numbers[index]
        row_numbers = self._row_numbers[index]
        if isinstance(index, int | np.integer):
            segment = _map_segment(self._paths[segment_numbers])
            return np.array(segment[row_numbers])
        row_shape = self.shape[1:]
        rows = np.empty((len(row_numbers), *row_shape), self.dtype)
        for number in np.unique(segment_numbers):
            segment = _map_segment(self._paths[number])
            in_segment = segment_numbers == number
            rows[in_segment] = segment[row_numbers[in_segment]]
        return rows


Stored = Array | Rows


class Cache:
    """The rows in one folder.

    Attributes:
        recipe: What the rows are.
        folder: Where they are; named after the recipe's kind and digest.
    """

    def __init__(self, root: Path, recipe: Recipe):
        """Describe the cache; nothing is made on disk yet.

        Args:
            root: The folder of all caches.
            recipe: What the rows are.
        """
        digest = _digest(recipe.model_dump_json())
        self.recipe = recipe
        self.folder = root / f"{recipe.kind}-{digest}"

    @classmethod
    def open(cls, folder: Path) -> "Cache":
        """Return the cache in a folder.

        Raises:
            FileNotFoundError: There is none.
        """
        return cls(folder.parent, Recipe.read(folder / _RECIPE))

    @property
    def row_bytes(self) -> int:
        """The bytes of one row."""
        dtype = np.dtype(self.recipe.dtype)
        return math.prod(self.recipe.shape) * dtype.itemsize

    @property
    def segment_rows(self) -> int:
        """How many rows make a segment: about SEGMENT_BYTES, and at least one row."""
        return max(1, SEGMENT_BYTES // self.row_bytes)

    def filling(self, keys: Iterable[str]) -> FileLock:
        """Return the lock of the process that adds the rows of these keys.

        It keeps two processes from making the same rows. Other rows may be added meanwhile, because
        segments are published whole.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        name = _digest_keys(keys)
        return FileLock(self.folder / f".lock-{name}")

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Return the keys that have no row yet, each once, in their order."""
        missing = dict.fromkeys(keys)
        for path in self.folder.glob(_KEY_LISTS):
            for key in path.read_text().split():
                missing.pop(key, None)
        return list(missing)

    def require_space(self, rows: int) -> None:
        """Raise StorageError if the disk has no room for so many more rows."""
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        needed = rows * self.row_bytes
        if needed > free:
            raise StorageError(
                f"{self.folder}: the disk is full: {needed / 1e9:.3g} GB more are needed, "
                f"{free / 1e9:.3g} GB are free: make room, for example with "
                f"`cxr cache prune --out {self.folder.parent.parent}`, and run again: "
                "it goes on where it was"
            )

    def add(self, keys: Sequence[str], rows: Array) -> None:
        """Publish one segment: its array, then its keys.

        Args:
            keys: The rows' keys.
            rows: One row for each key, (n, *shape).

        Raises:
            StorageError: The disk is full.
        """
        segment = _digest_keys(keys)
        recipe_path = self.folder / _RECIPE
        if not recipe_path.is_file():
            self.recipe.write(recipe_path)
        array = np.ascontiguousarray(rows, self.recipe.dtype)
        array_path = self.folder / f"{segment}.npy"
        keys_path = self.folder / f"{segment}.keys"
        with atomic_write(array_path) as temporary, temporary.open("wb") as file:
            np.save(file, array)
        with atomic_write(keys_path) as temporary:
            temporary.write_text("".join(f"{key}\n" for key in keys))

    def rows(self, keys: Sequence[str]) -> Rows:
        """Return the rows of these keys, in their order.

        Raises:
            StorageError: A row is missing.
        """
        segments, index = self._read_index()
        found = [index.get(key, -1) for key in keys]
        entries = np.array(found, dtype=np.int64)
        missing = found.count(-1)
        if missing:
            raise StorageError(
                f"{self.folder}: {missing} of {len(keys)} rows are missing: run again"
            )
        if len(entries):
            os.utime(self.folder / _RECIPE)  # the time of last use, for `prune_caches`
        segment_numbers = (entries >> _ROW_BITS).astype(np.int32)
        row_numbers = entries & _ROW_MASK
        return Rows(self.folder, segments, segment_numbers, row_numbers, self.recipe)

    def _read_index(self) -> tuple[list[str], dict[str, int]]:
        """Return the segments' names, and by key where its row is (see _ROW_BITS).

        One int a key takes less memory than a pair.
        """
        segments: list[str] = []
        index: dict[str, int] = {}
        for path in sorted(self.folder.glob(_KEY_LISTS)):
            first = len(segments) << _ROW_BITS
            keys = path.read_text().split()
            for row, key in enumerate(keys):
                index[key] = first | row
            segments.append(path.stem)
        return segments, index


def _digest_keys(keys: Iterable[str]) -> str:
    """Return a name for a sequence of keys."""
    return _digest("\n".join(keys))


def _digest(text: str) -> str:
    """Return a name for a text: the beginning of its SHA-256."""
    sha256 = hashlib.sha256(text.encode())
    return sha256.hexdigest()[:16]


@lru_cache(maxsize=_MAPPED_SEGMENTS)
def _map_segment(path: str) -> Array:
    """Return a segment's array, mapped into memory."""
    segment: Array = np.load(path, mmap_mode="r")
    return segment


def list_caches(root: Path) -> list[CacheEntry]:
    """Return every cache below a folder (WORK/cache), the last used first."""
    recipes = root.glob(f"*/{_RECIPE}")
    entries = [_describe_cache(path.parent) for path in recipes]
    return sorted(entries, key=lambda entry: entry.used, reverse=True)


def _describe_cache(folder: Path) -> CacheEntry:
    """Return the entry of one cache."""
    recipe_path = folder / _RECIPE
    recipe = Recipe.read(recipe_path)
    size = 0
    for path in folder.iterdir():
        if path.is_file():
            size += path.stat().st_size
    rows = 0
    for path in folder.glob(_KEY_LISTS):
        keys = path.read_text().split()
        rows += len(keys)
    return CacheEntry(
        name=folder.name,
        kind=recipe.kind,
        made=recipe.made,
        rows=rows,
        size=size,
        used=recipe_path.stat().st_mtime,
    )


def prune_caches(
    root: Path, unused_days: float, most_bytes: float | None = None
) -> list[CacheEntry]:
    """Remove caches that were not used for long, then the longest unused of those that are left.

    They are made again when they are needed: pruning costs time, never results.

    Args:
        root: The folder of all caches.
        unused_days: Caches not used for so many days are removed.
        most_bytes: Remove more until no more than this is left; None for no limit.

    Returns:
        The removed caches.
    """
    _map_segment.cache_clear()
    oldest_use = time.time() - unused_days * _SECONDS_PER_DAY
    kept_bytes = 0
    removed: list[CacheEntry] = []
    for entry in list_caches(root):
        is_old = entry.used < oldest_use
        is_too_much = most_bytes is not None and kept_bytes + entry.size > most_bytes
        if is_old or is_too_much:
            _remove_cache(root / entry.name)
            removed.append(entry)
        else:
            kept_bytes += entry.size
    return removed


def _remove_cache(folder: Path) -> None:
    """Remove a cache, its recipe first: without it nothing in the folder is read any more."""
    (folder / _RECIPE).unlink()
    shutil.rmtree(folder)


def describe_recipe(made: dict[str, Any]) -> str:
    """Return how rows were made, in one line."""
    settings = []
    for name, value in made.items():
        text = value if isinstance(value, str) else json.dumps(value)
        settings.append(f"{name} {text}")
    return ", ".join(settings)
