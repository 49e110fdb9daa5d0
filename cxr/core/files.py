"""Files that are published whole: written under a temporary name and renamed; tables and digests."""

import contextlib
import csv
import errno
import hashlib
import operator
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cxr.core.errors import DataError, StorageError
from cxr.core.formatting import printable as printable  # noqa: PLC0414 - others import it from here
from cxr.core.settings import LABEL_NAMES as LABEL_NAMES  # noqa: PLC0414 - others import it from here

_NUMBERS = {
    **dict.fromkeys(
        ("label", "width", "height", "bytes", "size", "icc", "exif", "bit_depth", "inverted"),
        "int64",
    ),
    **dict.fromkeys(("mean", "std", "score", "raw_score", "distance", "correlation"), "float64"),
}


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it there at the end, or remove it on an error.

    Raises StorageError where the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        # NumPy has no number for it, only "409600 requested and 388992 written".
        if error.errno not in {errno.ENOSPC, errno.EDQUOT} and not str(error).endswith(" written"):
            raise
        raise StorageError(
            f"{path}: No space left on device: the disk is full ({shutil.disk_usage(path.parent).free / 1e6:.0f} MB free): make "
            "room, for example with `cxr cache prune`, and run again: it goes on where it was"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Publish a table as CSV. File names that are not UTF-8 keep their bytes (surrogateescape)."""
    # csv in Python 3.11 leaves a lone carriage return unquoted, and would then read it as a line's end.
    texts = table.select_dtypes(exclude="number")
    odd = any("\r" in text for name in texts for text in texts[name] if isinstance(text, str))
    with atomic_write(path) as temporary:
        table.to_csv(
            temporary,
            index=False,
            encoding="utf-8",
            errors="surrogateescape",
            quoting=csv.QUOTE_NONNUMERIC if odd else csv.QUOTE_MINIMAL,
            lineterminator="\n",
            na_rep="nan",
        )


def read_table(path: Path, only: Sequence[str] | None = None) -> pd.DataFrame:
    """Return a table written by `write_table`: text stays text ("NA", "007", ""), known numbers are numbers.

    Args:
        path: The file.
        only: The columns to keep, in this order; all of them where it is None.

    Raises:
        FileNotFoundError: There is no such file.
        DataError: The file is empty, lacks a column, or has a cell that is no number where one is expected.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows: Iterator[Sequence[str]] = csv.reader(file)
        columns = list(next(rows, ()))
        if not columns:
            raise DataError(
                f"{path}: expected a table with a line of column names, found an empty file"
            )
        try:
            if only is not None:
                rows = map(operator.itemgetter(*map(columns.index, only)), rows)
                columns = list(only)
            # One object for all cells of the same word: most columns have few.
            known: dict[str, str] = {}
            cells = [
                [known.setdefault(cell, cell) if len(cell) < 16 else cell for cell in row]
                for row in rows
            ]
            table = pd.DataFrame(cells, columns=columns, dtype=object)
            return table.astype({name: kind for name, kind in _NUMBERS.items() if name in columns})
        except (ValueError, IndexError) as error:
            raise DataError(
                f"{path}: expected numbers and as many cells as columns in every row: {error}"
            ) from error


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_json(value: Any) -> Any:
    """Return `value` with NumPy numbers made plain, for JSON."""
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return value.item() if hasattr(value, "item") else value
