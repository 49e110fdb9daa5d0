"""Tables of what was found in files, so that an unchanged file is not looked into again."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from cxr.core.files import read_table, write_table

Question = tuple[str, ...]  # names and versions of the files that an answer is about


def read_answers(
    path: Path | None,
    columns: Sequence[str],
) -> dict[Question, str]:
    """Return the answers of an earlier run.

    Args:
        path: The table; None, or no file there, means that nothing is remembered.
        columns: Names of the columns: those of the question, then the one of the answer.

    Raises:
        DataError: The file is not such a table.
    """
    if path is None or not path.is_file():
        return {}
    table = read_table(path, columns)
    rows = table.itertuples(index=False, name=None)
    return {row[:-1]: row[-1] for row in rows}


def write_answers(
    path: Path,
    columns: Sequence[str],
    answers: Iterable[tuple[Question, str]],
) -> None:
    """Replace the table of answers."""
    rows = [(*question, answer) for question, answer in answers]
    write_table(pd.DataFrame(rows, columns=list(columns)), path)
