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

from cxr.settings import LABEL_NAMES, FileSettings, ReadingSettings, given_class, given_split
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
MASK_WORDS = {
    "mask",
    "masks",
    "segmentation",
    "segmentations",
    "seg",
    "gt",
    "groundtruth",
    "groundtruths",
    "annotation",
    "annotations",
    "heatmap",
    "heatmaps",
    "gradcam",
}
# Words that say nothing of the class: "Normal_Images (1)" is usually NORMAL.
_FILLING = {
    "image",
    "images",
    "img",
    "imgs",
    "cxr",
    "xray",
    "xrays",
    "x",
    "ray",
    "rays",
    "cases",
    "patients",
    "class",
}
# What a folder of this name usually means. It is proposed in messages and never assumed.
USUAL_CLASSES = {
    "NORMAL": {"normal", "healthy", "no finding", "no pneumonia", "negative", "control", "non pneumonia", "0"},
    "PNEUMONIA": {
        "pneumonia", "bacteria", "bacterial", "virus", "viral", "opacity", "lung opacity", "positive",
        "bacterial pneumonia", "viral pneumonia", "pneumonia bacterial", "pneumonia viral", "1",
        "pneumonia bacteria", "pneumonia virus", "pneumonic",
    },
}  # fmt: skip
_SEPARATORS = re.compile(r"[\s_.\-()\[\],]+")
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
    nearly = any(_NEARLY.fullmatch(word) for word in words) or any(
        word in SPLIT_WORDS for word in humps
    )
    return UNCLEAR if meant or nearly else ""


def likely_split(name: str) -> str:
    """Return the split that a name suggests, for a message: test where it suggests none.

    >>> [likely_split(name) for name in ("TrainData", "val2", "site b")]
    ['train', 'val', 'test']
    """
    found = [
        (normal(name).find(word), split)
        for word, split in SPLIT_WORDS.items()
        if word in normal(name)
    ]
    return min(found)[1] if found else "test"


@lru_cache(maxsize=100_000)
def is_of_masks(name: str) -> bool:
    """Return whether a folder's name says that its pictures are masks.

    >>> [is_of_masks(name) for name in ("lung masks", "ManualMask", "mask1", "unmasked")]
    [True, True, True, False]
    """
    words = {word.rstrip("0123456789") for part in _HUMP.split(name) for word in words_of(part)}
    return not MASK_WORDS.isdisjoint(words)


def usual_class(name: str) -> str | None:
    """Return the class that a folder of this name usually means, None where nobody can say.

    >>> [usual_class(name) for name in ("Viral Pneumonia", "no_finding", "COVID19")]
    ['PNEUMONIA', 'NORMAL', None]
    """
    words = words_of(name)
    telling = [word for word in words if word not in _FILLING and not word.isdigit()]
    spelled = " ".join(telling if telling and len(words) > 1 else words)
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
            if fits(pattern, path):
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
        above_each = paths("/".join(folders))
        labels = [self.classes.get(normal(name)) for name in folders]
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
        if normal(name).isdigit():  # a patient's number, more likely than a class
            return False
        own = self.classes.get(normal(name))
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
    folders = {path for key in keys for path in paths("/".join(layout.folders(key)))} | set(empty)
    names = {normal(path.rpartition("/")[2]) for path in folders}
    unfit = [
        f"--splits {printable(item)} fits no folder"
        for item in settings.splits
        if not any(fits(given_split(item)[0], path) for path in folders)
    ]
    unfit += unfit_patterns(settings, [*keys, *empty])
    notes = [
        f"--classes {printable(item)}: there is no folder named {printable(word)}"
        for item in settings.classes
        for word in given_class(item)[1]
        if normal(word) not in names
    ]
    wild = [words for words in unfit if is_wild(words)]
    return [words for words in unfit if words not in wild], [*wild, *notes]


def unfit_patterns(settings: FileSettings, keys: Sequence[str]) -> list[str]:
    """Return a sentence for each `--exclude` pattern that fits none of these keys."""
    return [
        f"--exclude {printable(pattern)} fits no file"
        for pattern in settings.exclude
        if not any(excluded_by(key, (pattern,), settings.backslash_folders) for key in keys)
    ]


def is_wild(pattern: str) -> bool:
    """Return whether a pattern has wildcards, so that it may well fit nothing today."""
    return not set("*?[").isdisjoint(pattern)


def paths(folder: str) -> list[str]:
    """Return a path and those above it, from the top.

    >>> paths("train/NORMAL")
    ['train', 'train/NORMAL']
    """
    parts = folder.split("/") if folder else []
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


def fits(pattern: str, path: str) -> bool:
    """Return whether a pattern means the file or folder at the end of a path.

    Without a slash it is compared with the name, with one with the path from the top; a slash in front
    says that the name is at the top. Case, Unicode form and surrounding blanks do not matter.

    >>> [fits(pattern, "test/NORMAL") for pattern in ("normal", "test/*", "./Test/NORMAL", "/NORMAL")]
    [True, True, True, False]
    """
    wanted = pattern.replace("\\", "/").strip().rstrip("/")
    anchored = "/" in wanted
    given = _normal_path(path) if anchored else normal(path.rpartition("/")[2])
    wanted = _normal_path(wanted.removeprefix("./").lstrip("/"))
    return given == wanted or fnmatchcase(given, wanted)


def _normal_path(path: str) -> str:
    return "/".join(map(normal, path.split("/")))


def excluded_by(key: str, patterns: tuple[str, ...], backslash_folders: bool = False) -> str | None:
    """Return the first `--exclude` pattern that a key, or a folder above it, fits; None for none."""
    if not patterns:
        return None
    path = key.replace("\\", "/") if backslash_folders else key
    above = _excluded_folder(path.rpartition("/")[0], patterns)  # thousands of files share a folder
    return above or next((pattern for pattern in patterns if fits(pattern, path)), None)


@lru_cache(maxsize=100_000)
def _excluded_folder(folder: str, patterns: tuple[str, ...]) -> str | None:
    return next(
        (pattern for pattern in patterns if any(fits(pattern, path) for path in paths(folder))),
        None,
    )
