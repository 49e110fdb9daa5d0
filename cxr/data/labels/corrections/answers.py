"""Read tables of corrected labels, as `cxr labels` writes them and a reader fills them in."""

import logging
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from cxr.core.errors import DataError
from cxr.core.formatting import format_count, format_names, printable
from cxr.data.folders.names import normalise_name, usual_class
from cxr.data.patients import image_tables

ROWS_SHOWN = 3  # in a message
EXCLUDE = "exclude"  # what a reader writes of a film that is to be left out
_COLUMNS = ("image", "pixel_sha256", "corrected_label", "reader", "date")
_EXCLUDE_WORDS = {"exclude", "excluded"}
_ISO_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_DOTTED_DAY = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})")
_FIRST_YEAR = 1990  # before, nobody labelled digital films
logger = logging.getLogger("cxr.preprocess")


class Answer(NamedTuple):
    """What a reader says of one film.

    Attributes:
        table: The file that says so.
        row: Which of its rows, as a spreadsheet counts them: the line of column names is row 1.
        image: What the row calls the image.
        pixel_sha256: The SHA-256 of the picture that was read, 64 hex digits.
        label: NORMAL, PNEUMONIA, or EXCLUDE.
        reader: Who read it.
        day: When.
    """

    table: str
    row: int
    image: str
    pixel_sha256: str
    label: str
    reader: str
    day: date

    @property
    def place(self) -> str:
        """Return where the answer stands, as in "review.csv row 3"."""
        return f"{self.table} row {self.row}"


def read_answers(tables: Sequence[str]) -> list[Answer]:
    """Read the answers of tables of corrected labels; rows without a corrected label are no answers.

    Args:
        tables: Paths, `file://…` or `s3://bucket/key`.

    Returns:
        The answers, in the order of the tables and rows.

    Raises:
        DataError: A table cannot be read, lacks a column or has no answer, or an answer has an
            unknown label, no reader, or no date on which a film can have been read.
    """
    answers = []
    for uri in tables:
        answers += _read_table(uri)
    return answers


def _read_table(uri: str) -> list[Answer]:
    """Read the answers of one table."""
    table = image_tables.read_image_table(uri)
    missing = [name for name in _COLUMNS if name not in table]
    if missing:
        raise DataError(
            f"{uri}: expected the columns {', '.join(_COLUMNS)}, found no {' and no '.join(missing)}"
            ": fill in labels/label_review.csv as `cxr labels` wrote it"
        )
    answers = []
    problems = []
    unanswered = 0
    rows = zip(*(table[name] for name in _COLUMNS), strict=True)
    for number, cells in enumerate(rows, start=2):
        image, digest, word, reader, day = (cell.strip() for cell in cells)
        if not word:
            unanswered += bool(reader or day)
            continue
        label = _label_of(word)
        read_on = parse_day(day)
        if label is None:
            problem = f"{printable(word)[:40]} in place of NORMAL, PNEUMONIA or exclude"
        elif not reader:
            problem = "no reader"
        elif read_on is None:
            problem = f"{printable(day)[:40] or 'nothing'} in place of a date such as 2026-03-31"
        elif not _is_possible(read_on):
            problem = f"the date {read_on}, on which nobody can have read the film"
        else:
            answers.append(Answer(uri, number, image, digest.lower(), label, reader, read_on))
            continue
        problems.append(f"{problem} in row {number} ({printable(image)[:80]})")
    _require_none(uri, problems)
    if unanswered:
        logger.warning(
            "%s: %s with a reader or a date and no corrected_label, which change nothing: where the "
            "label is right, write it again",
            uri,
            format_count(unanswered, "rows"),
        )
    if not answers:
        raise DataError(
            f"{uri}: expected a corrected_label in some row, found none in {len(table):,}: "
            "write NORMAL, PNEUMONIA or exclude there, with reader and date"
        )
    return answers


def _label_of(word: str) -> str | None:
    """Return the label that a reader's word means, None where nobody can say.

    >>> [_label_of(word) for word in ("pneumonia", "no finding", "Exclude", "maybe")]
    ['PNEUMONIA', 'NORMAL', 'exclude', None]
    """
    if normalise_name(word) in _EXCLUDE_WORDS:
        return EXCLUDE
    return usual_class(word)


def parse_day(text: str) -> date | None:
    """Return a day as it is written, or as a spreadsheet may have rewritten it; None for no day.

    3/4/2026 is none: it is in March or in April.

    >>> [str(parse_day(text)) for text in ("2026-03-31", "31.3.2026", "3/4/2026", "2026-02-30")]
    ['2026-03-31', '2026-03-31', 'None', 'None']
    """
    dotted = _DOTTED_DAY.fullmatch(text)
    if dotted:
        day, month, year = dotted.groups()
        text = f"{year}-{month:0>2}-{day:0>2}"
    if not _ISO_DAY.fullmatch(text):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _is_possible(day: date) -> bool:
    """Return whether a film can have been read on a day: not in the future, wherever that was."""
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    return day.year >= _FIRST_YEAR and day <= tomorrow


def _require_none(uri: str, problems: Sequence[str]) -> None:
    """Raise DataError where rows cannot be used: what a reader wrote must not be lost."""
    if problems:
        raise DataError(
            f"{uri}: expected a label, a reader and a date in each row with a corrected_label, "
            f"found {format_names(problems, most=ROWS_SHOWN)}: correct the rows"
        )
