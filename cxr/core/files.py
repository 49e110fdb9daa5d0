"""Files that appear whole or not at all, tables as CSV, and digests."""

import contextlib
import csv
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from cxr.core.errors import DataError, StorageError

# Columns of numbers in any of our tables; every other column is text.
_INTEGERS = (
    "label",
    "width",
    "height",
    "bytes",
    "size",
    "icc",
    "exif",
    "bit_depth",
    "inverted",
)
_FLOATS = ("mean", "std", "score", "raw_score", "distance", "correlation")
_NUMBERS = dict.fromkeys(_INTEGERS, "int64") | dict.fromkeys(_FLOATS, "float64")
PART_ROWS = 5_000  # of a table that is read or written in parts
_SHORT = 32  # cells shorter than this are stored once for the rows of a part


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to, whose file becomes `path` when the block is done.

    Readers see the old file or the new one, never a part of it. If the block raises, the old file
    stays.

    Args:
        path: The file. Its folder is made if it is not there.

    Yields:
        A path in the same folder with the same suffix.

    Raises:
        StorageError: The disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)  # mkstemp lets the owner alone read
        temporary.replace(path)
    except OSError as error:
        if not _is_disk_full(error):
            raise
        free = shutil.disk_usage(path.parent).free / 1e6
        raise StorageError(
            f"{path}: No space left on device: the disk is full ({free:.0f} MB free): make room, "
            "for example with `cxr cache prune`, and run again: it goes on where it was"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _is_disk_full(error: OSError) -> bool:
    """Return whether an error says that there is no space left."""
    # NumPy raises an error without a number: "409600 requested and 388992 written".
    return error.errno in {errno.ENOSPC, errno.EDQUOT} or str(error).endswith(" written")


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, which appears whole or not at all.

    File names that are not UTF-8 keep their bytes (surrogateescape).

    Args:
        table: The table; its index is not written.
        path: The file.
    """
    write_parts([table], path)


def write_parts(parts: Iterable[pd.DataFrame], path: Path) -> int:
    """Write the parts of a table below each other, as `write_table` would write all of it.

    Args:
        parts: At least one, with the same columns; few are in memory at a time.
        path: The file.

    Returns:
        The number of rows.
    """
    rows = 0
    with atomic_write(path) as temporary:
        for number, part in enumerate(parts):
            part.to_csv(
                temporary,
                mode="a",
                header=number == 0,
                index=False,
                encoding="utf-8",
                errors="surrogateescape",
                quoting=csv.QUOTE_NONNUMERIC if _has_carriage_return(part) else csv.QUOTE_MINIMAL,
                lineterminator="\n",
                na_rep="nan",
            )
            rows += len(part)
    return rows


def _has_carriage_return(table: pd.DataFrame) -> bool:
    """Return whether any text of a table holds a carriage return.

    Python 3.11's csv does not quote a lone one, and then reads it as the end of a line.
    """
    texts = table.select_dtypes(exclude="number")
    for name in texts:
        if any(isinstance(text, str) and "\r" in text for text in texts[name]):
            return True
    return False


def read_table(path: Path, only: Sequence[str] | None = None) -> pd.DataFrame:
    """Return a table written by `write_table`.

    Text stays text ("NA", "007", ""), and known columns of numbers are numbers.

    Args:
        path: The file.
        only: The columns to keep, in this order; None keeps all of them.

    Raises:
        FileNotFoundError: There is no such file.
        DataError: The file is empty, lacks a column, or has a cell that is not a number where one
            is expected.
    """
    parts = list(read_parts(path, only))
    return parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)


def read_parts(path: Path, only: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
    """Yield a table as `read_table` returns it, PART_ROWS rows at a time.

    Args:
        path: The file.
        only: The columns to keep, in this order; None keeps all of them.

    Yields:
        At least one part, which has no rows where the table has none.

    Raises:
        FileNotFoundError: There is no such file.
        DataError: As `read_table`.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows: Iterator[Sequence[str]] = csv.reader(file)
        columns = list(next(rows, ()))
        if not columns:
            raise DataError(
                f"{path}: expected a table with a line of column names, found an empty file"
            )
        is_first = True
        try:
            if only is not None:
                places = [columns.index(name) for name in only]
                rows = ([row[place] for place in places] for row in rows)
                columns = list(only)
            while True:
                known: dict[str, str] = {}
                part = [_share_short_cells(row, known) for row in islice(rows, PART_ROWS)]
                if part or is_first:
                    yield _table_of_cells(part, columns)
                if len(part) < PART_ROWS:
                    return
                is_first = False
        except (ValueError, IndexError) as error:
            raise DataError(
                f"{path}: expected numbers and as many cells as columns in every row: {error}"
            ) from error


def _table_of_cells(cells: list[list[str]], columns: list[str]) -> pd.DataFrame:
    """Return rows of texts as a table whose known columns of numbers are numbers."""
    table = pd.DataFrame(cells, columns=columns, dtype=object)
    numbers = {name: dtype for name, dtype in _NUMBERS.items() if name in columns}
    return table.astype(numbers)


def _share_short_cells(row: Sequence[str], known: dict[str, str]) -> list[str]:
    """Return the cells of a row, short ones as the same objects as in the rows before.

    Most columns hold few different words, so this saves most of a large table's memory.
    """
    return [known.setdefault(cell, cell) if len(cell) < _SHORT else cell for cell in row]


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_json(value: Any) -> Any:
    """Return a value with its NumPy numbers as Python's, ready for JSON."""
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if hasattr(value, "item"):
        return value.item()
    return value
