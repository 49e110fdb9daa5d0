"""Public names of the files of a data set with DICOM: what may be written of a name, and no more.

Hospitals call folders and files after patients. Where a data set holds DICOM, every file is called
`film-` and a pseudonym of its key. Of its folders those keep their names that say nothing but a
split, a class or masks, or that were given in a flag; the others are called `folder-` and a
pseudonym, followed by the word that makes them a split or a folder of masks. So a public name is
read as the real one is (`cxr.data.folders`), and nobody can tell who it is.
"""

import csv
import io
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from cxr.core.errors import UsageError
from cxr.core.settings import LABEL_NAMES, FileSettings, ReadingSettings, parse_class, parse_split
from cxr.data.folders.names import (
    MASK_WORDS,
    SPLIT_WORDS,
    UNCLEAR,
    USUAL_CLASSES,
    is_of_masks,
    likely_split,
    name_words,
    normalise_name,
    split_of,
)
from cxr.data.patients.pseudonyms import pseudonym, replace_secret, require_secret_place

_KEY_MAP_COLUMNS = ("image", "key")
_FILE_NAME = re.compile(r"film-([0-9a-f]{16})")
_ETIOLOGIES = {"bacteria", "bacterial", "virus", "viral"}
_USUAL_CLASS_WORDS = {
    word for phrases in USUAL_CLASSES.values() for phrase in phrases for word in phrase.split()
}
# A folder whose name has no other words than these is nobody's name. Numbers may be a patient's.
_HARMLESS_WORDS = {
    word
    for word in (
        *SPLIT_WORDS,
        *MASK_WORDS,
        *_USUAL_CLASS_WORDS,
        *map(normalise_name, LABEL_NAMES),
        *("chest", "xray", "xrays", "x", "ray", "rays", "cxr", "image", "images", "img", "imgs"),
        *("film", "films", "dicom", "data", "dataset", "set", "class"),
    )
    if not word.isdigit()
}


class PlainNames:
    """The names of a data set in which nothing has to be hidden: they are public as they are."""

    def key(self, key: str, is_folder: bool = False) -> str:
        """Return the public key of a file, or of what stands for a folder."""
        del is_folder
        return key

    def folder(self, path: str) -> str:
        """Return the public path of a folder."""
        return path

    def real_key(self, key: str) -> str:
        """Return the key behind a public one."""
        return key

    def real_folder(self, path: str) -> str:
        """Return the path behind the public one of a folder."""
        return path

    def hidden_keys(self) -> list[str]:
        """Return the real keys that have a public one beside them."""
        return []


class HiddenNames(PlainNames):
    """The public names of a data set with DICOM.

    Args:
        settings: How folders are read, and the names that were given with `--splits` and
            `--classes`.
        salt: The secret behind the pseudonyms.
    """

    def __init__(self, settings: FileSettings, salt: str):
        self._salt = salt
        self._backslash_folders = settings.backslash_folders
        self._given = _given_names(settings)
        self._public_names: dict[str, str] = {}  # thousands of files share a folder
        self._real_names: dict[str, str] = {}
        self._real_keys: dict[str, str] = {}

    def key(self, key: str, is_folder: bool = False) -> str:
        """Return the public key of a file, or of what stands for a folder, as a link to one does."""
        path = key.replace("\\", "/") if self._backslash_folders else key
        if is_folder:
            public = self.folder(path)
        else:
            folder, slash, _ = path.rpartition("/")
            public = self.folder(folder) + slash + hide_file(key, self._salt)
        self._real_keys[public] = key
        return public

    def folder(self, path: str) -> str:
        """Return the public path of a folder."""
        return "/".join(self._hide_folder(name) for name in path.split("/"))

    def real_key(self, key: str) -> str:
        """Return the key behind a public one that `key` has returned; any other as it is."""
        return self._real_keys.get(key, key)

    def real_folder(self, path: str) -> str:
        """Return the path behind a public one, as far as its names were hidden here."""
        return "/".join(self._real_names.get(name, name) for name in path.split("/"))

    def hidden_keys(self) -> list[str]:
        """Return the real keys that have a public one beside them."""
        return list(self._real_keys.values())

    def _hide_folder(self, name: str) -> str:
        """Return the public name of one folder."""
        if name not in self._public_names:
            public = self._public_name(name)
            self._public_names[name] = public
            self._real_names[public] = name
        return self._public_names[name]

    def _public_name(self, name: str) -> str:
        words = set(name_words(name))
        if words <= _HARMLESS_WORDS or self._is_given(name):
            return name
        endings = []
        if is_of_masks(name):
            endings.append("masks")
        split = split_of(name)
        if split == UNCLEAR:
            endings.append(f"{likely_split(name)}set")  # which is unclear as well
        elif split:
            endings.append(split)
        endings += sorted(words & _ETIOLOGIES)
        digest = pseudonym("folder", name, self._salt)
        return "-".join(["folder", digest, *endings])

    def _is_given(self, name: str) -> bool:
        """Return whether a person gave this name in a flag, perhaps with wildcards."""
        normal_name = normalise_name(name)
        return any(
            normal_name == pattern or fnmatchcase(normal_name, pattern) for pattern in self._given
        )


def _given_names(settings: FileSettings) -> set[str]:
    """Return the names in `--splits` and `--classes`, in the form in which names are compared."""
    if not isinstance(settings, ReadingSettings):
        return set()
    names = {spelling for item in settings.classes for spelling in parse_class(item)[1]}
    for item in settings.splits:
        pattern, _ = parse_split(item)
        names.update(pattern.replace("\\", "/").split("/"))
    # A name of wildcards alone would mean every folder.
    return {normalise_name(name) for name in names if name.strip("*?. ")}


def hide_file(key: str, salt: str) -> str:
    """Return the public name of a file.

    Args:
        key: Its real key below DATA.
        salt: The secret.
    """
    return f"film-{pseudonym('file', key, salt)}"


def is_hidden_key(key: str) -> bool:
    """Return whether a key is a public one.

    >>> [is_hidden_key(key) for key in ("train/NORMAL/film-0123456789abcdef", "train/film-1")]
    [True, False]
    """
    return hidden_name(key) != ""


def hidden_name(key: str) -> str:
    """Return the file's public name at the end of a public key, "" for any other key."""
    name = key.rpartition("/")[2]
    return name if _FILE_NAME.fullmatch(name) else ""


def require_key_map(path: str, work: Path | None = None) -> Path:
    """Return where a key map goes.

    Args:
        path: The file to write, on this machine.
        work: The folder of the work folder that is open.

    Raises:
        UsageError: It lies in a work folder, or another file is there.
    """
    place = require_secret_place(path, "the key map", work)
    header = ",".join(_KEY_MAP_COLUMNS).encode()
    if place.is_dir() or (place.is_file() and not place.read_bytes().startswith(header)):
        raise UsageError(
            f"{path}: expected nothing or an earlier key map there, found another file"
        )
    return place


def write_key_map(path: Path, rows: Iterable[tuple[str, str]]) -> None:
    """Write the table that says who is who; its owner alone may read it.

    Args:
        path: As `require_key_map` returns it.
        rows: The public name and the real one of each file.

    Raises:
        DataError: It cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_KEY_MAP_COLUMNS)
    writer.writerows(rows)
    # Names that are not UTF-8 keep their bytes.
    replace_secret(path, text.getvalue().encode("utf-8", "surrogateescape"))
