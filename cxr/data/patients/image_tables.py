"""Read tables that other people made and that name images, and match their rows to the images.

Whatever a spreadsheet or a script saves as CSV is read. What the columns mean is in
`patient_table`.
"""

import csv
import io
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd

from cxr.core.errors import DataError
from cxr.core.formatting import printable
from cxr.storage.addresses import open_storage

_DELIMITERS = ",;\t|"
_SPREADSHEET_STARTS = (b"PK\3\4", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")  # .xlsx and .ods; .xls
_GZIP_START = b"\x1f\x8b"
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_SAVE_AS = 'save it as "CSV UTF-8" (in a spreadsheet: File, Save as)'


class Match(NamedTuple):
    """Which row of a table names which image.

    Attributes:
        images: The image key that each row names, "" where it names none, or several.
        unused: Positions of rows that name no image.
        ambiguous: Positions of rows that name several images, so that none is taken.
    """

    images: tuple[str, ...]
    unused: tuple[int, ...]
    ambiguous: tuple[int, ...]


def read_image_table(uri: str) -> pd.DataFrame:
    """Read a table of texts.

    UTF-8, with or without a byte order mark, and UTF-16 are read; commas, semicolons, tabs and bars
    separate columns.

    Args:
        uri: A path, `file://…` or `s3://bucket/key`.

    Returns:
        The table, its column names in lower case with `_` between the words.

    Raises:
        DataError: There is no such file, or it is no table in one of these encodings.
    """
    text = _decode(uri, _read_bytes(uri))
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
    columns = [_normalise_column(name) for name in header]
    for place, column in enumerate(columns):
        if column in columns[:place]:
            raise DataError(f"{uri}: expected each column once, found two named {column}")
    return pd.DataFrame(cells, columns=columns, dtype=object)


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


def _decode(uri: str, data: bytes) -> str:
    """Return the text of a table; DataError where its encoding would have to be guessed."""
    if data.startswith(_SPREADSHEET_STARTS):
        raise DataError(f"{uri}: expected a CSV file, found a spreadsheet: {_SAVE_AS}")
    if data.startswith(_GZIP_START):
        raise DataError(f"{uri}: expected a CSV file, found a compressed one: unpack it")
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
    try:
        return [row for row in rows if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DataError(f"{uri}: expected a CSV file: {error}") from None


def _delimiter(text: str) -> str:
    """Return the delimiter that occurs most often in the first line."""
    first_line, _, _ = text.lstrip().partition("\n")
    return max(_DELIMITERS, key=first_line.count)


def _normalise_column(name: str) -> str:
    """Return a column's name in lower case, with `_` between the words.

    >>> _normalise_column(" Patient ID ")
    'patient_id'
    """
    words = name.strip().lower().replace("_", " ").split()
    return "_".join(words)


def match_images(
    names: Sequence[str],
    keys: Iterable[str],
    data: str,
    root: str = "",
) -> Match:
    """Find out which row of a table names which image.

    Separators, `./`, the path of DATA, Unicode form and surrounding blanks do not matter; case does
    not where that leaves one image. A bare file name counts where one image has it.

    Args:
        names: The table's image names, by row.
        keys: The images' keys below DATA.
        data: DATA, as it was given.
        root: The folder of the data set below DATA.
    """
    index = _ImageIndex(keys, data, root)
    images = [index.find(name) for name in names]
    return Match(
        images=tuple(key or "" for key in images),
        unused=tuple(row for row, key in enumerate(images) if key is None),
        ambiguous=tuple(row for row, key in enumerate(images) if key == ""),
    )


class _ImageIndex:
    """The images below DATA, to be found by whatever a table calls them.

    Args:
        keys: The images' keys below DATA.
        data: DATA, as it was given.
        root: The folder of the data set below DATA.
    """

    def __init__(
        self,
        keys: Iterable[str],
        data: str,
        root: str,
    ):
        self._by_path: dict[str, str] = {}
        self._by_lower_path: dict[str, str] = {}
        self._by_name: dict[str, str] = {}
        for key in keys:
            path = _normalise_path(key)
            _add_unique(self._by_path, path, key)
            _add_unique(self._by_lower_path, path.casefold(), key)
            _add_unique(self._by_name, PurePosixPath(path).name, key)
        self._prefixes = _data_prefixes(data)
        self._root_prefix = f"{_normalise_path(root)}/" if root else ""

    def find(self, name: str) -> str | None:
        """Return the key of the image that a name means, "" for several, None for none."""
        path = _normalise_path(name)
        candidates = self._candidate_paths(path)
        for candidate in candidates:
            if candidate in self._by_path:
                return self._by_path[candidate]
        for candidate in candidates:
            if candidate.casefold() in self._by_lower_path:
                return self._by_lower_path[candidate.casefold()]
        return self._by_name.get(path)

    def _candidate_paths(self, path: str) -> list[str]:
        """Return the keys that a path in a table may mean, the most likely one first."""
        prefixes = [*self._prefixes, self._root_prefix]
        parts = path.split("/")
        return [
            path,
            *(path.removeprefix(prefix) for prefix in prefixes if path.startswith(prefix)),
            # As seen from the folder of the data set.
            self._root_prefix + path,
            # As seen from another machine or folder: what is left must be a whole key, folder and
            # all.
            *("/".join(parts[start:]) for start in range(1, len(parts) - 1)),
        ]


def _normalise_path(name: str) -> str:
    r"""Return a path in the form in which paths are compared.

    >>> _normalise_path(r" .\train\NORMAL//a.jpeg ")
    'train/NORMAL/a.jpeg'
    """
    path = unicodedata.normalize("NFC", name).strip().replace("\\", "/")
    parts = [part for part in path.split("/") if part not in {"", "."}]
    return "/".join(parts)


def _data_prefixes(data: str) -> list[str]:
    """Return what may stand before a key in a table, the longest first.

    DATA may be written as given, absolute, resolved or by its name alone.
    """
    places = [data]
    if "://" in data:
        _, _, bucket_and_prefix = data.partition("://")
        _, _, name = data.rstrip("/").rpartition("/")
        places += [bucket_and_prefix, name]
    else:
        folder = Path(data).expanduser()
        absolute = folder.absolute()
        places += [str(absolute), str(folder.resolve()), absolute.name]
    paths = {_normalise_path(place) for place in places}
    prefixes = {f"{path}/" for path in paths if path}
    return sorted(prefixes, key=len, reverse=True)


def _add_unique(
    index: dict[str, str],
    name: str,
    key: str,
) -> None:
    """Add a name to an index, with "" in place of the key where several images have it."""
    index[name] = "" if name in index else key


def describe_mismatch(
    names: Sequence[str],
    keys: Sequence[str],
) -> str:
    """Return one name of the table and one image, for an error that shows both sides."""
    row = f"its first row names {printable(names[0])}" if names else "it has no rows"
    return f"{row}, the first image is {printable(keys[0])}"
