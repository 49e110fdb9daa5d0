"""Read the split and the class of a file from the folders that it lies in.

Names are compared without case, surrounding blanks and differences of Unicode form. A folder is a
split if exactly one word of its name is a split word (`chest_xray_train`), above or below the class
folder; a class folder is one whose whole name is a class word. Whatever could be read in two ways is
not read: `Unread` says why, and the account by folder (`account`) asks.
"""

from collections.abc import Sequence
from typing import NamedTuple

from cxr.core.formatting import printable
from cxr.core.settings import LABEL_NAMES, ReadingSettings, parse_class, parse_split
from cxr.data.folders.names import (
    UNCLEAR,
    normalise_name,
    parent_paths,
    split_of,
    usual_class,
    words_of,
)
from cxr.data.folders.patterns import has_wildcard, matches_pattern, unfit_patterns

_ETIOLOGIES = {"bacteria": "bacteria", "bacterial": "bacteria", "virus": "virus", "viral": "virus"}


class Reading(NamedTuple):
    """What the folders of one file say.

    `root` is the folder that holds the split or class folders, "" for DATA itself; `split` is train,
    val, test or ""; `group` is the folder that the account names: the lower one of split and class.
    `class_folder` and `split_folder` are those two, the second "" where no folder names a split or a
    person named it with `--splits`.
    """

    root: str
    split: str
    label: int
    etiology: str
    group: str
    class_folder: str
    split_folder: str


class Unread(NamedTuple):
    """Why the folders of a file cannot be read, and which folder that is about.

    `why` is no_class, two_classes, two_splits or unclear_split.
    """

    why: str
    folder: str


class Layout:
    """How the folders of one data set are read, by the words known and those that were given."""

    def __init__(self, settings: ReadingSettings):
        self.backslash_folders = settings.backslash_folders
        self._given_splits = [parse_split(item) for item in settings.splits]
        self._known: dict[tuple[str, ...], Reading | Unread] = {}
        self.classes = {normalise_name(name): label for label, name in enumerate(LABEL_NAMES)}
        for item in settings.classes:
            name, spellings = parse_class(item)
            self.classes |= {normalise_name(word): LABEL_NAMES.index(name) for word in spellings}

    def folders(self, key: str) -> list[str]:
        """Return the folders of a key from the top; blank ones, as `//` in an S3 key leaves, count too."""
        return self.path(key).split("/")[:-1]

    def path(self, key: str) -> str:
        """Return a key as its folders are read: with slashes, where backslashes are folders, too."""
        return key.replace("\\", "/") if self.backslash_folders else key

    def split(self, path: str) -> str:
        """Return what the last folder of a path means as a split: a given word wins."""
        given = self.given(path)
        return split_of(path.rpartition("/")[2]) if given is None else given

    def given(self, path: str) -> str | None:
        """Return what `--splits` says of the last folder of a path ("" for none), None where it says nothing."""
        for pattern, split in self._given_splits:
            if matches_pattern(pattern, path):
                return split
        return None

    def read(self, key: str) -> Reading | Unread:
        """Return what a key's folders say, or why that cannot be said.

        The nearest split folder above the class folder counts, else one below it.
        """
        folders = tuple(self.folders(key))
        if folders not in self._known:  # thousands of files share a folder
            self._known[folders] = self._read_folders(folders)
        return self._known[folders]

    def _read_folders(self, folders: tuple[str, ...]) -> Reading | Unread:
        above_each = parent_paths("/".join(folders))
        labels = [self.classes.get(normalise_name(name)) for name in folders]
        splits = [self._split_at(path, labels[i]) for i, path in enumerate(above_each)]
        above = self._above(above_each, splits, labels)
        classes = [i for i in range(above + 1, len(folders)) if labels[i] is not None]
        if not classes:
            return Unread("no_class", "/".join(folders))
        contrary = [
            i
            for i in range(classes[0] + 1, len(folders))
            if self._contradicts(folders[i], labels[classes[0]])
        ]
        if contrary:
            return Unread("two_classes", above_each[contrary[0]])
        named = [i for i in (above, *range(classes[0], len(folders))) if i >= 0 and splits[i]]
        unclear = [i for i in named if splits[i] == UNCLEAR]
        if unclear:
            return Unread("unclear_split", above_each[unclear[0]])
        if len({splits[i] for i in named}) > 1:
            return Unread("two_splits", above_each[named[-1]])
        by_word = bool(named) and self.given(above_each[named[0]]) is None
        return Reading(
            root="/".join(folders[: above if above >= 0 else classes[0]]),
            split=splits[named[0]] if named else "",
            label=labels[classes[0]] or 0,
            etiology=self._etiology(folders, classes),
            group=above_each[max([*named, classes[0]])],
            class_folder=above_each[classes[0]],
            split_folder=above_each[named[0]] if by_word else "",
        )

    def _split_at(self, path: str, label: int | None) -> str:
        """Return the split that a folder means; a class folder means one only where that was given."""
        return self.split(path) if label is None else self.given(path) or ""

    def _above(self, above_each: list[str], splits: list[str], labels: list[int | None]) -> int:
        """Return the place of the split folder above the class folder, -1 for none: a given one, else the nearest."""
        last = max((i for i, label in enumerate(labels) if label is not None), default=-1)
        named = [i for i in range(last) if splits[i] and labels[i] is None]
        given = [i for i in named if self.given(above_each[i])]
        return max(given or named, default=-1)

    def _contradicts(self, name: str, label: int | None) -> bool:
        """Return whether a folder below a class folder names the other class."""
        if normalise_name(name).isdigit():  # a patient's number, more likely than a class
            return False
        own = self.classes.get(normalise_name(name))
        if own is None:
            usual = usual_class(name)
            own = None if usual is None else LABEL_NAMES.index(usual)
        return own is not None and own != label

    def _etiology(self, folders: tuple[str, ...], classes: list[int]) -> str:
        """Return bacteria or virus where a class folder, or one below it, names one of the two."""
        words = {word for name in folders[classes[0] :] for word in words_of(name)}
        found = {_ETIOLOGIES[word] for word in words if word in _ETIOLOGIES}
        return found.pop() if len(found) == 1 else ""


def unused_words(
    layout: Layout, settings: ReadingSettings, keys: Sequence[str], empty: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return which given words fit nothing: those that must be corrected, and those that are a note.

    A split or a pattern without wildcards that fits nothing is a misspelling, and what it means would be
    used after all.

    Args:
        layout: How the folders are read.
        settings: What was given.
        keys: Every key that was listed.
        empty: Split folders without files.
    """
    folders = {path for key in keys for path in parent_paths("/".join(layout.folders(key)))} | set(
        empty
    )
    names = {normalise_name(path.rpartition("/")[2]) for path in folders}
    unfit = [
        f"--splits {printable(item)} fits no folder"
        for item in settings.splits
        if not any(matches_pattern(parse_split(item)[0], path) for path in folders)
    ]
    unfit += unfit_patterns(settings, [*keys, *empty])
    notes = [
        f"--classes {printable(item)}: there is no folder named {printable(word)}"
        for item in settings.classes
        for word in parse_class(item)[1]
        if normalise_name(word) not in names
    ]
    wild = [words for words in unfit if has_wildcard(words)]
    return [words for words in unfit if words not in wild], [*wild, *notes]
