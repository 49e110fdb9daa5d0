"""Find out which image a name in a table means.

Tables name images by whole paths, by paths of other machines or folders, by bare names, and by
names without an ending.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from cxr.core.formatting import printable
from cxr.data.images.decoding import formats

_ENDINGS = {*formats.KNOWN_SUFFIXES, ".dcm", ".dicom"}


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


def match_images(
    names: Sequence[str],
    keys: Iterable[str],
    data: str,
    root: str = "",
) -> Match:
    """Find out which row of a table names which image.

    Separators, `./`, the path of DATA, Unicode form and surrounding blanks do not matter; case does
    not where that leaves one image. A bare file name counts where one image has it, and so does the
    end of a path. The ending of an image file (.png, .dcm) may be another one, or missing.

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
        self._paths: list[tuple[str, str]] = []
        self._by_path: dict[str, str] = {}
        self._by_lower_path: dict[str, str] = {}
        self._by_name: dict[str, str] = {}
        self._by_stem_path: dict[str, str] = {}
        self._by_stem: dict[str, str] = {}
        # By the number of its last parts: the images by the ends of their paths.
        self._by_end: dict[int, dict[str, str]] = {}
        for key in keys:
            path = _normalise_path(key)
            stem_path = _without_ending(path)
            self._paths.append((stem_path, key))
            _add_unique(self._by_path, path, key)
            _add_unique(self._by_lower_path, path.casefold(), key)
            _add_unique(self._by_name, _last_part(path), key)
            _add_unique(self._by_stem_path, stem_path, key)
            _add_unique(self._by_stem, _last_part(stem_path), key)
        self._prefixes = _data_prefixes(data)
        self._root_prefix = f"{_normalise_path(root)}/" if root else ""

    def find(self, name: str) -> str | None:
        """Return the key of the image that a name means, "" for several, None for none."""
        path = _normalise_path(name)
        if not path:
            return None
        paths = self._candidate_paths(path)
        stem_path = _without_ending(path)
        lookups = (
            (self._by_path, paths),
            (self._by_lower_path, [candidate.casefold() for candidate in paths]),
            (self._by_name, [path]),
            (self._by_stem_path, [_without_ending(candidate) for candidate in paths]),
            (self._by_stem, [stem_path]),
        )
        for index, candidates in lookups:
            for candidate in candidates:
                if candidate in index:
                    return index[candidate]
        return self._find_by_end(stem_path)

    def _find_by_end(self, stem_path: str) -> str | None:
        """Return the key of the image whose path ends so; a table may start below DATA."""
        parts = stem_path.count("/") + 1
        if parts == 1:
            return None
        if parts not in self._by_end:
            ends: dict[str, str] = {}
            for path, key in self._paths:
                _add_unique(ends, "/".join(path.split("/")[-parts:]), key)
            self._by_end[parts] = ends
        return self._by_end[parts].get(stem_path)

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


def _last_part(path: str) -> str:
    """Return the name at the end of a path."""
    return path.rpartition("/")[2]


def _without_ending(path: str) -> str:
    """Return a path without the ending of an image file.

    >>> [_without_ending(path) for path in ("a/1.2.png", "a/1.2", "a/1.DCM")]
    ['a/1.2', 'a/1.2', 'a/1']
    """
    stem, dot, ending = path.rpartition(".")
    is_image = f".{ending.lower()}" in _ENDINGS
    return stem if dot and is_image and _last_part(stem) else path


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
