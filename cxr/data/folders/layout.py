"""Read the split and the class of a file from the folders that it lies in.

A folder is a split if exactly one word of its name is a split word (`chest_xray_train`), above or below
the class folder. A class folder is one whose whole name is a class word. Whatever could be read in two
ways is not read: `Unread` says why, and the account by folder asks.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cxr.core.formatting import printable
from cxr.core.settings import LABEL_NAMES, ReadingSettings, parse_class, parse_split
from cxr.data.folders.names import (
    UNCLEAR,
    name_words,
    normalise_name,
    parent_paths,
    split_of,
    usual_class,
)
from cxr.data.folders.patterns import has_wildcard, matches_pattern, unfit_patterns

_ETIOLOGIES = {"bacteria": "bacteria", "bacterial": "bacteria", "virus": "virus", "viral": "virus"}


class Reading(NamedTuple):
    """What the folders of a file say.

    Attributes:
        root: Folder that holds the split or class folders, "" for DATA itself.
        split: train, val, test, or "" where no folder names one.
        label: 0 NORMAL, 1 PNEUMONIA.
        etiology: bacteria, virus or "".
        group: Folder that the account names: the lower one of split and class folder.
        class_folder: Path of the class folder.
        split_folder: Path of the split folder, "" where there is none or `--splits` named it.
    """

    root: str
    split: str
    label: int
    etiology: str
    group: str
    class_folder: str
    split_folder: str


class Unread(NamedTuple):
    """Why the folders of a file cannot be read.

    Attributes:
        why: no_class, two_classes, two_splits or unclear_split.
        folder: Path of the folder that this is about.
    """

    why: str
    folder: str


class Layout:
    """How the folders of one data set are read: by the words known, and by those that a person gave.

    Args:
        settings: The words given with `--splits` and `--classes`, and whether backslashes are folders.
    """

    def __init__(self, settings: ReadingSettings):
        self.backslash_folders = settings.backslash_folders
        self.classes = {normalise_name(name): label for label, name in enumerate(LABEL_NAMES)}
        for item in settings.classes:
            label_name, spellings = parse_class(item)
            label = LABEL_NAMES.index(label_name)
            self.classes |= {normalise_name(spelling): label for spelling in spellings}
        self._given_splits = [parse_split(item) for item in settings.splits]
        # Thousands of files share a folder: each is read once, and they share its Reading.
        self._readings: dict[str, Reading | Unread] = {}

    def path(self, key: str) -> str:
        """Return a key as its folders are read: with slashes, also where backslashes are folders."""
        return key.replace("\\", "/") if self.backslash_folders else key

    def folder(self, key: str) -> str:
        """Return the path of the folder that a file lies in, "" for DATA itself.

        Empty names, as `//` in an S3 key leaves them, count as folders.
        """
        return self.path(key).rpartition("/")[0]

    def split(self, path: str) -> str:
        """Return the split that a folder means: train, val, test, UNCLEAR or "" for none.

        What a person gave wins over the folder's name.
        """
        given_split = self.given_split(path)
        return split_of(_name(path)) if given_split is None else given_split

    def given_split(self, path: str) -> str | None:
        """Return what `--splits` says of a folder ("" for =none), None where it says nothing."""
        for pattern, split in self._given_splits:
            if matches_pattern(pattern, path):
                return split
        return None

    def read(self, key: str) -> Reading | Unread:
        """Return what the folders of a file say, or why they cannot be read.

        The nearest split folder above the class folder counts, otherwise one below it.
        """
        folder = self.folder(key)
        if folder not in self._readings:
            self._readings[folder] = self._read_folder(folder)
        return self._readings[folder]

    def _read_folder(self, folder: str) -> Reading | Unread:
        """Read the names of a folder and of all folders above it."""
        paths = parent_paths(folder)
        labels = [self.classes.get(normalise_name(_name(path))) for path in paths]
        splits = [
            self._folder_split(path, label) for path, label in zip(paths, labels, strict=True)
        ]
        split_places = self._split_place_above_class(paths, labels, splits)
        class_place = _first_class(labels, start=split_places[0] + 1 if split_places else 0)
        if class_place is None:
            return Unread("no_class", folder)
        label = labels[class_place] or 0
        for path in paths[class_place + 1 :]:
            if self._contradicts(_name(path), label):
                return Unread("two_classes", path)
        split_places += [place for place in range(class_place, len(paths)) if splits[place]]
        doubt = _doubt_about_split(paths, splits, split_places)
        if doubt:
            return doubt
        top_place = min([*split_places[:1], class_place])
        group_place = max([*split_places, class_place])
        split_path = paths[split_places[0]] if split_places else ""
        named_by_word = bool(split_places) and self.given_split(split_path) is None
        return Reading(
            root=paths[top_place].rpartition("/")[0],
            split=splits[split_places[0]] if split_places else "",
            label=label,
            etiology=_etiology(paths[class_place:]),
            group=paths[group_place],
            class_folder=paths[class_place],
            split_folder=split_path if named_by_word else "",
        )

    def _folder_split(
        self,
        path: str,
        label: int | None,
    ) -> str:
        """Return the split that a folder means; a class folder means one only where that was given."""
        if label is None:
            return self.split(path)
        return self.given_split(path) or ""

    def _split_place_above_class(
        self, paths: Sequence[str], labels: Sequence[int | None], splits: Sequence[str]
    ) -> list[int]:
        """Return the place of the split folder above a class folder, as a list of one, or none.

        Of several, the nearest one that was given counts, otherwise the nearest one.
        """
        class_places = [place for place, label in enumerate(labels) if label is not None]
        if not class_places:
            return []
        places = [
            place for place in range(class_places[-1]) if splits[place] and labels[place] is None
        ]
        given_places = [place for place in places if self.given_split(paths[place])]
        return (given_places or places)[-1:]

    def _contradicts(
        self,
        name: str,
        label: int,
    ) -> bool:
        """Return whether a folder below a class folder names the other class."""
        normal_name = normalise_name(name)
        if normal_name.isdigit():  # a patient's number, more likely than a class
            return False
        if normal_name in self.classes:
            return self.classes[normal_name] != label
        label_name = usual_class(name)
        return label_name is not None and label_name != LABEL_NAMES[label]


def _name(path: str) -> str:
    """Return the last part of a path."""
    return path.rpartition("/")[2]


def _first_class(
    labels: Sequence[int | None],
    start: int,
) -> int | None:
    """Return the place of the first class folder at or below `start`, None where there is none."""
    for place in range(start, len(labels)):
        if labels[place] is not None:
            return place
    return None


def _doubt_about_split(
    paths: Sequence[str], splits: Sequence[str], split_places: Sequence[int]
) -> Unread | None:
    """Return why the split cannot be read, None where it can."""
    for place in split_places:
        if splits[place] == UNCLEAR:
            return Unread("unclear_split", paths[place])
    if len({splits[place] for place in split_places}) > 1:
        return Unread("two_splits", paths[split_places[-1]])
    return None


def _etiology(paths: Iterable[str]) -> str:
    """Return bacteria or virus where the class folder, or one below it, names one of the two alone."""
    etiologies = set()
    for path in paths:
        for word in name_words(_name(path)):
            if word in _ETIOLOGIES:
                etiologies.add(_ETIOLOGIES[word])
    return etiologies.pop() if len(etiologies) == 1 else ""


def unused_settings(
    layout: Layout, settings: ReadingSettings, keys: Sequence[str], empty: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return which of the given words and patterns fit nothing, in sentences.

    A split or a pattern without wildcards that fits nothing is a misspelling: what it should have set
    aside would be used after all.

    Args:
        layout: How the folders are read.
        settings: What was given.
        keys: The keys of all files that were listed.
        empty: Split folders without files.

    Returns:
        The sentences that must be corrected, and those that are a note.
    """
    folders = {layout.folder(key) for key in keys}
    paths = {path for folder in folders for path in parent_paths(folder)}
    paths.update(empty)
    unfit = _unfit_splits(settings, paths)
    unfit += unfit_patterns(settings, [*keys, *empty])
    mistakes = [sentence for sentence in unfit if not has_wildcard(sentence)]
    notes = [sentence for sentence in unfit if has_wildcard(sentence)]
    return mistakes, notes + _unfit_classes(settings, paths)


def _unfit_splits(
    settings: ReadingSettings,
    paths: Iterable[str],
) -> list[str]:
    """Return a sentence for each `--splits` item that fits no folder."""
    sentences = []
    for item in settings.splits:
        pattern, _ = parse_split(item)
        if not any(matches_pattern(pattern, path) for path in paths):
            sentences.append(f"--splits {printable(item)} fits no folder")
    return sentences


def _unfit_classes(
    settings: ReadingSettings,
    paths: Iterable[str],
) -> list[str]:
    """Return a sentence for each spelling of `--classes` that no folder has."""
    names = {normalise_name(_name(path)) for path in paths}
    sentences = []
    for item in settings.classes:
        _, spellings = parse_class(item)
        for spelling in spellings:
            if normalise_name(spelling) not in names:
                missing = f"there is no folder named {printable(spelling)}"
                sentences.append(f"--classes {printable(item)}: {missing}")
    return sentences
