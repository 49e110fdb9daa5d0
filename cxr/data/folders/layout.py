"""Read the split and the class of a file from the folders that it lies in.

A folder is a split if exactly one word of its name is a split word (`chest_xray_train`), above or
below the class folder. A class folder is one whose whole name is a class word. Whatever could be
read in two ways is not read: `Unread` says why, and the account by folder asks.
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


class _Folder(NamedTuple):
    """What the name of one folder above a file means.

    Attributes:
        depth: 0 at the top of DATA.
        path: Its path below DATA.
        label: 0 NORMAL, 1 PNEUMONIA, None where it is no class folder.
        split: train, val, test, UNCLEAR or "".
        is_given: Whether `--splits` says so.
    """

    depth: int
    path: str
    label: int | None
    split: str
    is_given: bool


class Layout:
    """How the folders of one data set are read: by known words, and by those that were given.

    Args:
        settings: The words given with `--splits` and `--classes`, and whether backslashes are
            folders.
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
        self._split_readings: dict[str, Reading | Unread] = {}

    def path(self, key: str) -> str:
        """Return a key with slashes between its folders, also where it has backslashes."""
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

    def read_split(self, key: str) -> Reading | Unread:
        """Return which split the folders of a file say, where a table says its class.

        The nearest given split folder counts, otherwise the nearest one. The label that is returned
        means nothing.
        """
        folder = self.folder(key)
        if folder not in self._split_readings:
            self._split_readings[folder] = self._read_split_folder(folder)
        return self._split_readings[folder]

    def _read_split_folder(self, folder: str) -> Reading | Unread:
        """Read the split in the names of a folder and of all folders above it."""
        paths = enumerate(parent_paths(folder))
        split_folders = [
            found
            for found in (self._describe_folder(depth, path) for depth, path in paths)
            if found.split
        ]
        given_folders = [found for found in split_folders if found.is_given]
        nearest = (given_folders or split_folders)[-1:]
        doubt = _doubt_about_split(nearest)
        if doubt:
            return doubt
        path = nearest[0].path if nearest else ""
        return Reading(
            root="",
            split=nearest[0].split if nearest else "",
            label=0,
            etiology="",
            group=path,
            class_folder=path,
            split_folder="" if nearest and nearest[0].is_given else path,
        )

    def _read_folder(self, folder: str) -> Reading | Unread:
        """Read the names of a folder and of all folders above it."""
        folders = [
            self._describe_folder(depth, path) for depth, path in enumerate(parent_paths(folder))
        ]
        split_above = _split_above_class(folders)
        class_folder = _first_class_below(folders, split_above)
        if class_folder is None:
            return Unread("no_class", folder)
        label = class_folder.label or 0
        class_and_below = folders[class_folder.depth :]
        for folder_below in class_and_below[1:]:
            if self._contradicts(_name(folder_below.path), label):
                return Unread("two_classes", folder_below.path)
        split_folders = [folder for folder in class_and_below if folder.split]
        if split_above:
            split_folders.insert(0, split_above)
        doubt = _doubt_about_split(split_folders)
        if doubt:
            return doubt
        top = split_above or class_folder
        lowest = max([class_folder, *split_folders], key=lambda folder: folder.depth)
        split = ""
        split_path = ""
        if split_folders:
            split = split_folders[0].split
            split_path = "" if split_folders[0].is_given else split_folders[0].path
        return Reading(
            root=top.path.rpartition("/")[0],
            split=split,
            label=label,
            etiology=_etiology(class_and_below),
            group=lowest.path,
            class_folder=class_folder.path,
            split_folder=split_path,
        )

    def _describe_folder(self, depth: int, path: str) -> _Folder:
        """Return what the last name of a path means; a class folder is a split only if given."""
        label = self.classes.get(normalise_name(_name(path)))
        given_split = self.given_split(path)
        split = given_split or ""
        if label is None and given_split is None:
            split = split_of(_name(path))
        return _Folder(
            depth=depth,
            path=path,
            label=label,
            split=split,
            is_given=given_split is not None,
        )

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


def _split_above_class(folders: Sequence[_Folder]) -> _Folder | None:
    """Return the split folder above a class folder: the nearest given one, else the nearest one."""
    class_depths = [folder.depth for folder in folders if folder.label is not None]
    if not class_depths:
        return None
    above = folders[: class_depths[-1]]
    split_folders = [folder for folder in above if folder.split and folder.label is None]
    given_folders = [folder for folder in split_folders if folder.is_given]
    nearest = (given_folders or split_folders)[-1:]
    return nearest[0] if nearest else None


def _first_class_below(
    folders: Sequence[_Folder],
    split_folder: _Folder | None,
) -> _Folder | None:
    """Return the topmost class folder below a split folder, None where there is none."""
    start = split_folder.depth + 1 if split_folder else 0
    for folder in folders[start:]:
        if folder.label is not None:
            return folder
    return None


def _doubt_about_split(split_folders: Sequence[_Folder]) -> Unread | None:
    """Return why the split cannot be read from these folders, None where it can."""
    for folder in split_folders:
        if folder.split == UNCLEAR:
            return Unread("unclear_split", folder.path)
    if len({folder.split for folder in split_folders}) > 1:
        return Unread("two_splits", split_folders[-1].path)
    return None


def _etiology(folders: Iterable[_Folder]) -> str:
    """Return bacteria or virus where the class folder, or one below it, names only one."""
    etiologies = set()
    for folder in folders:
        for word in name_words(_name(folder.path)):
            if word in _ETIOLOGIES:
                etiologies.add(_ETIOLOGIES[word])
    return etiologies.pop() if len(etiologies) == 1 else ""


def unused_settings(
    layout: Layout,
    settings: ReadingSettings,
    keys: Sequence[str],
    empty: Sequence[str],
) -> tuple[list[str], list[str]]:
    """Return which of the given words and patterns fit nothing, in sentences.

    A split or a pattern without wildcards that fits nothing is a misspelling: what it should have
    set aside would be used after all.

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
