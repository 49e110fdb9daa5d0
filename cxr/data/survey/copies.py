"""A copy of the data set inside itself, as archives often hold one: told by its bytes, never by names alone."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cxr.core.errors import ConflictError, DataError
from cxr.core.files import read_table, write_table
from cxr.storage.base import Entry, Storage
from cxr.storage.local import LocalStorage

_COLUMNS = ["image", "version", "twin", "twin_version", "same"]
_Names = tuple[str, str, str, str]


def find_same_bytes(
    storage: Storage, pairs: Sequence[tuple[Entry, Entry]], memory: Path | None
) -> set[str]:
    """Return the keys of those first files whose bytes are the second's.

    Args:
        storage: Where the files are.
        pairs: Files of equal size.
        memory: A table in which what was compared is remembered; None to remember nothing.
    """
    known = _remembered(memory)
    if not isinstance(storage, LocalStorage):  # equal ETags of equal sizes are equal bytes
        known |= {_names(*pair): "1" for pair in pairs if pair[0].version == pair[1].version}
    wanted = [pair for pair in pairs if _names(*pair) not in known]
    answers = storage.read_many([(one.key, one.version) for pair in wanted for one in pair])
    digests = (_digest(answer) for _, answer in answers)
    for pair, first, second in zip(wanted, digests, digests, strict=True):
        known[_names(*pair)] = str(int(first is not None and first == second))
    if memory and wanted:
        rows = [(*_names(*pair), known[_names(*pair)]) for pair in pairs]
        write_table(pd.DataFrame(rows, columns=_COLUMNS), memory)
    return {pair[0].key for pair in pairs if known[_names(*pair)] == "1"}


def _remembered(memory: Path | None) -> dict[_Names, str]:
    if memory is None or not memory.is_file():
        return {}
    rows = read_table(memory)[_COLUMNS].itertuples(index=False, name=None)
    return {
        (key, version, twin, twin_version): same for key, version, twin, twin_version, same in rows
    }


def _names(one: Entry, other: Entry) -> _Names:
    return one.key, one.version, other.key, other.version


def _digest(answer: bytes | Exception) -> bytes | None:
    """Return the SHA-256 of a file's bytes, None where it cannot be read."""
    if isinstance(answer, bytes):
        return hashlib.sha256(answer).digest()
    if isinstance(answer, OSError | DataError | ConflictError):
        return None
    raise answer
