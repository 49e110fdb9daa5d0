"""Read the split and the class of a file from the folders that it lies in.

Names are compared without case, surrounding blanks and differences of Unicode form. A folder is a
split if exactly one word of its name is a split word (`chest_xray_train`), above or below the class
folder; a class folder is one whose whole name is a class word. Whatever could be read in two ways is
not read: `Unread` says why, and the account by folder (`account`) asks.
"""

import re
import unicodedata
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple

from cxr.settings import LABEL_NAMES, ReadingSettings, given_class, given_split
from cxr.text import printable

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "holdout": "test",
    "eval": "test",
    "evaluation": "test",
}
MASK_WORDS = {"mask", "masks", "segmentation", "segmentations"}
# What a folder of this name usually means. It is proposed in messages and never assumed.
USUAL_CLASSES = {
    "NORMAL": {"normal", "healthy", "no finding", "no pneumonia", "negative", "control", "non pneumonia", "0"},
    "PNEUMONIA": {
        "pneumonia", "bacteria", "bacterial", "virus", "viral", "opacity", "lung opacity", "positive",
        "bacterial pneumonia", "viral pneumonia", "pneumonia bacterial", "pneumonia viral", "1",
        "pneumonia bacteria", "pneumonia virus", "pneumonic",
    },
}  # fmt: skip
_SEPARATORS = re.compile(r"[\s_.\-]+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
# Words that hold a split word and something more: testset, train2017, holdout2024.
_NEARLY = re.compile(
    rf"(?:{'|'.join(SPLIT_WORDS)})(?:set|sets|data|images|imgs|split|fold|part)?\d*"
    rf"|(?:train(?:ing)?|val(?:id(?:ation)?)?|test(?:ing)?){{2,}}"
)
UNCLEAR = "?"
_ETIOLOGIES = {"bacteria": "bacteria", "bacterial": "bacteria", "virus": "virus", "viral": "virus"}


class Reading(NamedTuple):
    """What the folders of one file say.

    `root` is the folder that holds the split or class folders, "" for DATA itself; `split` is train,
    val, test or ""; `group` is the folder that the account names: the lower one of split and class.
    """

    root: str
    split: str
    label: int
    etiology: str
    group: str


class Unread(NamedTuple):
    """Why the folders of a file cannot be read, and which folder that is about.

    `why` is no_class, two_classes, two_splits or unclear_split.
    """

    why: str
    folder: str


def normal(name: str) -> str:
    """Return a name as names are compared: NFC, without surrounding blanks, case folded."""
    return unicodedata.normalize("NFC", name).strip().casefold()


def words_of(name: str) -> list[str]:
    """Return the words of a folder's name; "hold-out" is one word.

    >>> words_of("Chest_X-ray.hold-out")
    ['chest', 'x', 'ray', 'holdout']
    """
    words = [word for word in _SEPARATORS.split(normal(name)) if word]
    joined = " ".join(words)
    return re.sub(r"\bhold out\b", "holdout", joined).split()


@lru_cache(maxsize=100_000)
def split_of(name: str) -> str:
    """Return the split that a folder's name means, "" for none, UNCLEAR where it has to be asked.

    >>> [split_of(name) for name in ("chest_xray_train", "hold-out", "ward 3", "train_test", "testset")]
    ['train', 'test', '', '?', '?']
    """
    words = words_of(name)
    meant = [SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS]
    if len(meant) == 1:
        return meant[0]
    humps = [word for part in _HUMP.split(name) for word in words_of(part)]
    nearly = any(_NEARLY.fullmatch(word) for word in words) or any(word in SPLIT_WORDS for word in humps)
    return UNCLEAR if meant or nearly else ""


@lru_cache(maxsize=100_000)
def is_of_masks(name: str) -> bool:
    """Return whether a folder's name says that its pictures are masks."""
    return not MASK_WORDS.isdisjoint(words_of(name))


def usual_class(name: str) -> str | None:
    """Return the class that a folder of this name usually means, None where nobody can say.

    >>> [usual_class(name) for name in ("Viral Pneumonia", "no_finding", "COVID19")]
    ['PNEUMONIA', 'NORMAL', None]
    """
    spelled = " ".join(words_of(name))
    return next((label for label, names in USUAL_CLASSES.items() if spelled in names), None)


class Layout:
    """How the folders of one data set are read, by the words known and those that were given."""

    def __init__(self, settings: ReadingSettings):
        self.backslash_folders = settings.backslash_folders
        self._given_splits = [given_split(item) for item in settings.splits]
        self._known: dict[tuple[str, ...], Reading | Unread] = {}
        self.classes = {normal(name): label for label, name in enumerate(LABEL_NAMES)}
        for item in settings.classes:
            name, spellings = given_class(item)
            self.classes |= {normal(word): LABEL_NAMES.index(name) for word in spellings}

    def folders(self, key: str) -> list[str]:
        """Return the folders of a key from the top; blank ones, as `//` in an S3 key leaves, count too."""
        if self.backslash_folders:
            key = key.replace("\\", "/")
        return key.split("/")[:-1]

    def split(self, path: str) -> str:
        """Return what the last folder of a path means as a split: a given word wins."""
        name = path.rpartition("/")[2]
        for pattern, split in self._given_splits:
            if _fits(normal(pattern), path, name):
                return split
        return split_of(name)

    def read(self, key: str) -> Reading | Unread:
        """Return what a key's folders say, or why that cannot be said.

        The nearest split folder above the class folder counts, else one below it.
        """
        folders = tuple(self.folders(key))
        if folders not in self._known:  # thousands of files share a folder
            self._known[folders] = self._read_folders(folders)
        return self._known[folders]

    def _read_folders(self, folders: tuple[str, ...]) -> Reading | Unread:
        above_each = paths("/".join(folders))
        splits = [self.split(path) for path in above_each]
        labels = [self.classes.get(normal(name)) for name in folders]
        last = max((i for i, label in enumerate(labels) if label is not None), default=-1)
        above = max((i for i in range(last) if splits[i] and labels[i] is None), default=-1)
        classes = [i for i in range(above + 1, len(folders)) if labels[i] is not None]
        if not classes:
            return Unread("no_class", "/".join(folders))
        if len({labels[i] for i in classes}) > 1:
            return Unread("two_classes", above_each[classes[-1]])
        below = [i for i in range(classes[0] + 1, len(folders)) if splits[i]]
        named = [i for i in (above, *below) if i >= 0]
        unclear = [i for i in named if splits[i] == UNCLEAR]
        if unclear:
            return Unread("unclear_split", above_each[unclear[0]])
        if len({splits[i] for i in named}) > 1:
            return Unread("two_splits", above_each[below[-1]])
        return Reading(
            root="/".join(folders[: above if above >= 0 else classes[0]]),
            split=splits[named[0]] if named else "",
            label=labels[classes[0]] or 0,
            etiology=self._etiology(folders, classes),
            group=above_each[max([*named, classes[-1]])],
        )

    def _etiology(self, folders: tuple[str, ...], classes: list[int]) -> str:
        """Return bacteria or virus where a class folder, or one below it, names one of the two."""
        words = {word for name in folders[classes[0] :] for word in words_of(name)}
        found = {_ETIOLOGIES[word] for word in words if word in _ETIOLOGIES}
        return found.pop() if len(found) == 1 else ""


def unused_words(layout: Layout, settings: ReadingSettings, keys: Sequence[str]) -> list[str]:
    """Return a sentence for each given split, class word and pattern that fits nothing among these keys."""
    folders = {path for key in keys for path in paths("/".join(layout.folders(key)))}
    names = {normal(path.rpartition("/")[2]) for path in folders}
    notes = []
    for item in settings.splits:
        pattern, _ = given_split(item)
        if not any(_fits(normal(pattern), path, path.rpartition("/")[2]) for path in folders):
            notes.append(f"--splits {printable(item)} fits no folder")
    for item in settings.classes:
        _, spellings = given_class(item)
        missing = [word for word in spellings if normal(word) not in names]
        notes += [f"--classes {printable(item)}: there is no folder named {printable(word)}" for word in missing]
    for pattern in settings.exclude:
        if not any(excluded_by(key, (pattern,), settings.backslash_folders) for key in keys):
            notes.append(f"--exclude {printable(pattern)} fits no file")
    return notes


def paths(folder: str) -> list[str]:
    """Return a path and those above it, from the top.

    >>> paths("train/NORMAL")
    ['train', 'train/NORMAL']
    """
    parts = folder.split("/") if folder else []
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


def _fits(pattern: str, path: str, name: str) -> bool:
    """Return whether a given pattern means this folder: by its name, or by its path where it has a slash."""
    given = normal(path if "/" in pattern else name)
    return given == pattern or fnmatchcase(given, pattern)


def excluded_by(key: str, patterns: tuple[str, ...], backslash_folders: bool = False) -> str | None:
    """Return the first `--exclude` pattern that a key fits, None for none.

    A pattern without a slash is compared with the name of the file and of each folder above it, one
    with a slash with the path of the file and of each folder above it, from the top.
    """
    if not patterns:
        return None
    if backslash_folders:
        key = key.replace("\\", "/")
    key = unicodedata.normalize("NFC", key)
    parts = key.split("/")
    for pattern in patterns:
        wanted = unicodedata.normalize("NFC", pattern).strip("/")
        names = paths(key) if "/" in wanted else parts
        if any(name == wanted or fnmatchcase(name, wanted) for name in names):
            return pattern
    return None
