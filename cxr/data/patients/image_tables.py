"""Tables that other people made and that name images: read whatever the spreadsheet saved, matched to the images.

Left out: what the columns mean (`patients`).
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
    """Return a table of texts, its column names in lower case with `_` between the words.

    UTF-8, with or without a byte order mark, and UTF-16 are read; commas, semicolons, tabs and bars
    separate columns.

    Args:
        uri: A path, `file://…` or `s3://bucket/key`.

    Raises:
        DataError: There is no such file, or it is no table in one of these encodings.
    """
    text = _text(uri, _bytes(uri))
    if text.lower().startswith("sep="):  # a spreadsheet's own hint, in a line of its own
        text = text.partition("\n")[2]
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
    try:
        header, *rows = [row for row in lines if any(cell.strip() for cell in row)] or [[]]
    except csv.Error as error:
        raise DataError(f"{uri}: expected a CSV file: {error}") from None
    if not header:
        raise DataError(f"{uri}: expected a table with a line of column names, found an empty file")
    uneven = next((number for number, row in enumerate(rows, 2) if len(row) != len(header)), None)
    if uneven is not None:
        raise DataError(
            f"{uri}: expected {len(header)} cells in every row, found {len(rows[uneven - 2])} in row {uneven}"
        )
    columns = ["_".join(name.strip().lower().replace("_", " ").split()) for name in header]
    twice = next((name for at, name in enumerate(columns) if name in columns[:at]), None)
    if twice is not None:
        raise DataError(f"{uri}: expected each column once, found two named {twice}")
    return pd.DataFrame(rows, columns=columns, dtype=object)


def _bytes(uri: str) -> bytes:
    parent, _, name = uri.rpartition("/")
    try:
        return open_storage(parent or ("." if not uri.startswith("/") else "/")).read(name)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        words = getattr(error, "strerror", None) or error
        raise DataError(
            f"{printable(uri)}: expected a CSV file, cannot read it: {words}"
        ) from error


def _text(uri: str, data: bytes) -> str:
    if data[:4] == b"PK\3\4" or data[:8] == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1":
        raise DataError(f"{uri}: expected a CSV file, found a spreadsheet: {_SAVE_AS}")
    if data[:2] == b"\x1f\x8b":
        raise DataError(f"{uri}: expected a CSV file, found a compressed one: unpack it")
    encoding = "utf-16" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig"
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


def _delimiter(text: str) -> str:
    """Return the delimiter that occurs most often in the first line."""
    first = text.lstrip().partition("\n")[0]
    return max(_DELIMITERS, key=first.count)


def match(named: Sequence[str], keys: Iterable[str], data: str, root: str = "") -> Match:
    """Return which row names which image.

    Separators, `./`, the path of DATA, Unicode form and surrounding blanks do not matter; case does
    not where that leaves one image. A bare file name counts where one image has it.

    Args:
        named: The table's image names, by row.
        keys: The images' keys below DATA.
        data: DATA, as it was given.
        root: The folder of the data set below DATA.
    """
    plain_keys = [(_plain(key), key) for key in keys]
    index = _unique(plain_keys)
    lower = _unique((plain.casefold(), key) for plain, key in plain_keys)
    names = _unique((PurePosixPath(plain).name, key) for plain, key in plain_keys)
    prefixes = _prefixes(data, root)
    found = [_find(_plain(name), index, lower, names, prefixes) for name in named]
    return Match(
        images=tuple(key or "" for key in found),
        unused=tuple(row for row, key in enumerate(found) if key is None),
        ambiguous=tuple(row for row, key in enumerate(found) if key == ""),
    )


def _find(
    plain: str,
    index: dict[str, str],
    lower: dict[str, str],
    names: dict[str, str],
    prefixes: Sequence[str],
) -> str | None:
    """Return the key that a plain name means, "" where it means several, None where it means none."""
    forms = [
        plain,
        *(plain.removeprefix(prefix) for prefix in prefixes if plain.startswith(prefix)),
    ]
    forms.append(prefixes[-1] + plain)  # as seen from the folder of the data set
    parts = plain.split("/")
    # As seen from another machine, or another folder: what is left must be a whole key, folder and all.
    forms += ["/".join(parts[start:]) for start in range(1, len(parts) - 1)]
    for form in forms:
        if form in index:
            return index[form]
    for form in forms:
        if form.casefold() in lower:
            return lower[form.casefold()]
    return names.get(plain)


def _plain(name: str) -> str:
    r"""Return a path as paths are compared.

    >>> _plain(r" .\train\NORMAL//a.jpeg ")
    'train/NORMAL/a.jpeg'
    """
    parts = unicodedata.normalize("NFC", name).strip().replace("\\", "/").split("/")
    kept = [part for part in parts if part not in {"", "."}]
    return "/".join(kept)


def _prefixes(data: str, root: str) -> list[str]:
    """Return what may stand before a key in a table: DATA as given, absolute, resolved, by its name; at last the root."""
    places = [data]
    if "://" not in data:
        folder = Path(data).expanduser()
        places += [str(folder.absolute()), str(folder.resolve()), folder.absolute().name]
    else:
        places += [data.partition("://")[2], data.rstrip("/").rpartition("/")[2]]
    plain = [f"{_plain(place)}/" for place in places if _plain(place)]
    return [*sorted(set(plain), key=len, reverse=True), f"{_plain(root)}/" if root else ""]


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return a dict of the pairs, "" as the value where a key occurs with several."""
    found: dict[str, str] = {}
    for name, key in pairs:
        found[name] = "" if name in found else key
    return found


def examples(named: Sequence[str], keys: Sequence[str]) -> str:
    """Return one name of the table and one image, for an error that shows both sides."""
    row = f"its first row names {printable(named[0])}" if named else "it has no rows"
    return f"{row}, the first image is {printable(keys[0])}"
