"""Read tables that other people made and that name images.

Whatever a spreadsheet or a script saves as CSV is read. What the columns mean is in `patient_table`
and `data/labels`, which rows are whose in `image_names`.
"""

import csv
import gzip
import io
import zlib

import pandas as pd

from cxr.core.errors import DataError
from cxr.core.formatting import printable
from cxr.storage.addresses import open_storage

_DELIMITERS = ",;\t|"
_SPREADSHEET_STARTS = (b"PK\3\4", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")  # .xlsx and .ods; .xls
_GZIP_START = b"\x1f\x8b"
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
# What a compressed table may unpack to: forty times the largest table of a public collection.
_MOST_BYTES = 2_000_000_000
_SAVE_AS = 'save it as "CSV UTF-8" (in a spreadsheet: File, Save as)'


def read_image_table(uri: str) -> pd.DataFrame:
    """Read a table of texts, as `read_texts` does.

    Returns:
        The table, its column names in lower case with `_` between the words.
    """
    table = read_texts(uri)
    return table.set_axis([normalise_column(name) for name in table.columns], axis=1)


def read_texts(uri: str) -> pd.DataFrame:
    """Read a table of texts.

    UTF-8, with or without a byte order mark, and UTF-16 are read, compressed with gzip or not;
    commas, semicolons, tabs and bars separate columns.

    Args:
        uri: A path, `file://…` or `s3://bucket/key`.

    Returns:
        The table, its columns named as in the file; no two names differ by case and blanks alone.

    Raises:
        DataError: There is no such file, or it is no table in one of these encodings.
    """
    text = _decode(uri, _unpack(uri, _read_bytes(uri)))
    if text.lower().startswith("sep="):  # a spreadsheet's own hint, in a line of its own
        _, _, text = text.partition("\n")
    rows = _parse_rows(uri, text)
    if not rows:
        raise DataError(f"{uri}: expected a table with a line of column names, found an empty file")
    header = rows[0]
    cells = rows[1:]
    for number, row in enumerate(cells, start=2):
        if len(row) != len(header):
            raise DataError(
                f"{uri}: expected {len(header)} cells in every row, "
                f"found {len(row)} in row {number}"
            )
    columns = [normalise_column(name) for name in header]
    for place, column in enumerate(columns):
        if column in columns[:place]:
            raise DataError(f"{uri}: expected each column once, found two named {column}")
    return pd.DataFrame(cells, columns=header, dtype=object)


def read_header(start: bytes) -> list[str]:
    """Return the names of the columns of a table, an empty list where they cannot be read.

    Args:
        start: The first bytes of the file, compressed with gzip or not.
    """
    if start.startswith(_GZIP_START):
        try:
            start = zlib.decompressobj(wbits=31).decompress(start, 1_000_000)
        except zlib.error:
            return []
    encoding = "utf-16" if start.startswith(_UTF_16_MARKS) else "utf-8-sig"
    text = start.decode(encoding, "ignore")
    first_line = text.lstrip().partition("\n")[0]
    if not first_line:
        return []
    try:
        return next(csv.reader([first_line], delimiter=_delimiter(first_line)))
    except csv.Error:
        return []


def _read_bytes(uri: str) -> bytes:
    """Return the bytes of a file on this machine or in a bucket."""
    parent, _, name = uri.rpartition("/")
    if not parent:
        parent = "/" if uri.startswith("/") else "."
    try:
        return open_storage(parent).read(name)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{printable(uri)}: expected a CSV file, cannot read it: {reason}"
        ) from error


def _unpack(uri: str, data: bytes) -> bytes:
    """Return the bytes of a table that may be compressed with gzip."""
    if not data.startswith(_GZIP_START):
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            unpacked = file.read(_MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{uri}: expected a table compressed with gzip, cannot unpack it: {error}: "
            "copy the file again"
        ) from None
    if len(unpacked) > _MOST_BYTES:
        raise DataError(
            f"{uri}: expected a table of at most {_MOST_BYTES / 1e9:.0f} GB, found a larger one: "
            "keep the rows of your images alone"
        )
    return unpacked


def _decode(uri: str, data: bytes) -> str:
    """Return the text of a table; DataError where its encoding would have to be guessed."""
    if data.startswith(_SPREADSHEET_STARTS):
        raise DataError(f"{uri}: expected a CSV file, found a spreadsheet: {_SAVE_AS}")
    encoding = "utf-16" if data.startswith(_UTF_16_MARKS) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{uri}: expected UTF-8 or UTF-16, found other bytes in line {line}: {_SAVE_AS}"
        ) from None
    if "\0" in text:
        raise DataError(f"{uri}: expected UTF-8 or UTF-16, found zero bytes: {_SAVE_AS}")
    return text


def _parse_rows(
    uri: str,
    text: str,
) -> list[list[str]]:
    """Return the rows that are not blank, the one of column names first."""
    lines = io.StringIO(text, newline="")
    rows = csv.reader(lines, delimiter=_delimiter(text))
    known: dict[str, str] = {}  # most cells of a large table hold one of a few texts
    try:
        return [
            [known.setdefault(cell, cell) for cell in row]
            for row in rows
            if any(cell.strip() for cell in row)
        ]
    except csv.Error as error:
        raise DataError(f"{uri}: expected a CSV file: {error}") from None


def _delimiter(text: str) -> str:
    """Return the delimiter that occurs most often in the first line."""
    first_line, _, _ = text.lstrip().partition("\n")
    return max(_DELIMITERS, key=first_line.count)


def normalise_column(name: str) -> str:
    """Return a column's name in lower case, with `_` between the words.

    >>> normalise_column(" Patient ID ")
    'patient_id'
    """
    words = name.strip().lower().replace("_", " ").split()
    return "_".join(words)
