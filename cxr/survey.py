"""From a listing to what each file is used as: one data set found, its copies told from other data, nothing lost.

A survey reads names and sizes (and bytes only where two files may be copies of each other). What it
cannot decide it asks: `Survey.question` is the sentence with which a run stops.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd

from cxr import account, scanning
from cxr.account import Account, File
from cxr.errors import DataError
from cxr.layout import Layout, Reading, Unread, excluded_by, is_of_masks, paths, unused_words
from cxr.records import read_table, write_table
from cxr.scanning import Judged, Problem
from cxr.settings import LABEL_NAMES, FileSettings, ReadingSettings
from cxr.storage import Entry, LocalStorage, Storage
from cxr.text import printable

OWN_RECORDS = {"ingest.json", "clean_metadata.csv"}  # a folder that holds both is a work folder


class Image(NamedTuple):
    """A file that will be inspected, and what its folders say."""

    entry: Entry
    reading: Reading


class Survey(NamedTuple):
    """What a listing holds.

    Attributes:
        root: The folder below DATA that holds the one data set, "" for DATA itself.
        found: How many files were listed; a work folder inside DATA is no part of it.
        images: The images to inspect, by key.
        rejects: (key, reason, detail) of every other file, by key.
        files: Every file, as the account by folder wants it.
        account: What becomes of the files of each folder.
        question: Why a run stops here, in one sentence; "" where it does not.
        notes: Which of the given words and patterns fit nothing, in sentences.
    """

    root: str
    found: int
    images: tuple[Image, ...]
    rejects: tuple[tuple[str, str, str], ...]
    files: tuple[File, ...]
    account: Account
    question: str
    notes: tuple[str, ...]


def survey(storage: Storage, settings: ReadingSettings, memory: Path | None = None, own: str | None = None) -> Survey:
    """Return what is at `storage` and what a run would make of it; nothing is changed there.

    Args:
        storage: Where DATA is.
        settings: How it is read.
        memory: A folder for tables of what was found by looking into files; None to remember nothing.
        own: Key of the work folder where it lies inside DATA: its files are not data.
    """
    listed = [entry for entry in storage.list() if own is None or not f"{entry.key}/".startswith(f"{own}/")]
    judged = scanning.judge(storage, listed, settings, memory / "kinds.csv" if memory else None)
    judged = _without_work_folders(judged)
    layout = Layout(settings)
    read = [(one, layout.read(one.entry.key)) for one in judged]
    is_mask = _mask_judge(read, layout)
    root, beside = _choose_root(read, is_mask)
    verdicts = [_verdict(one, reading, layout, settings, is_mask) for one, reading in read]
    verdicts = _copies_told_apart(storage, verdicts, root, memory / "copies.csv" if memory else None)
    files = tuple(_file(one) for one in verdicts)
    found = account.by_folder(files, _empty_splits(storage, listed, settings, own))
    return Survey(
        root=root,
        found=len(listed),
        images=tuple(Image(one.judged.entry, one.reading) for one in verdicts if one.reading),
        rejects=tuple((one.judged.entry.key, *one.problem) for one in verdicts if one.problem),
        files=files,
        account=found,
        question=_question(storage.uri, judged, files, found, beside),
        notes=tuple(unused_words(layout, settings, [entry.key for entry in listed])),
    )


def _empty_splits(storage: Storage, listed: Sequence[Entry], settings: ReadingSettings, own: str | None) -> list[str]:
    """Return the split folders of a local DATA that hold no file at all: a copy that failed, perhaps."""
    if not isinstance(storage, LocalStorage):
        return []
    layout = Layout(settings)
    filled = {folder for entry in listed for folder in paths(entry.key)}
    folders = [path for pattern in ("*", "*/*") for path in storage.folder.glob(pattern) if path.is_dir()]
    keys = [path.relative_to(storage.folder).as_posix() for path in folders if not path.is_symlink()]
    empty = [key for key in keys if key not in filled and layout.split(key) in {"train", "val", "test"}]
    ours = f"{own}/" if own else None
    return sorted(
        key for key in empty if excluded_by(key, settings.exclude) is None and not (ours and f"{key}/".startswith(ours))
    )


class _Verdict(NamedTuple):
    """A judged file with either a reading (it is used) or a problem.

    `group` and `about` are as in `account.File`.
    """

    judged: Judged
    reading: Reading | None
    problem: Problem | None
    group: str = ""
    about: str = ""


def _without_work_folders(judged: Sequence[Judged]) -> list[Judged]:
    """Return the judged files, those of an earlier run's work folder marked as no data."""
    names: dict[str, set[str]] = {}
    for one in judged:
        folder, _, name = one.entry.key.rpartition("/")
        if name in OWN_RECORDS:
            names.setdefault(folder, set()).add(name)
    folders = tuple(f"{folder}/" for folder, found in names.items() if folder and found == OWN_RECORDS)
    ours = ("ignored", "output of an earlier run of cxr")
    return [one._replace(kind="system", problem=ours) if one.entry.key.startswith(folders) else one for one in judged]


def _choose_root(
    read: Sequence[tuple[Judged, Reading | Unread]], is_mask: Callable[[str], bool]
) -> tuple[str, dict[str, int]]:
    """Return the folder of the data set, and the number of images of each data set where there are several.

    The data set is the shallowest folder that holds split or class folders; copies lie below it.
    """
    counts = Counter(
        reading.root
        for one, reading in read
        if one.problem is None and isinstance(reading, Reading) and not is_mask(one.entry.key)
    )
    if not counts:
        return "", {}
    root = min(counts, key=lambda name: (len(PurePosixPath(name).parts), name))
    beside = {name: counts[name] for name in sorted(counts) if not _is_below(name, root)}
    return root, {root: counts[root], **beside} if beside else {}


def _is_below(name: str, root: str) -> bool:
    return not root or name == root or name.startswith(f"{root}/")


def _mask_judge(read: Sequence[tuple[Judged, Reading | Unread]], layout: Layout) -> Callable[[str], bool]:
    """Return a function that tells whether a key lies in a folder of masks.

    Folders that all images share say nothing: DATA may lie below one that is called xrays_and_masks.
    """
    folders = [layout.folders(one.entry.key) for one, _ in read if one.problem is None]
    shared = 0
    while folders and all(len(own) > shared and own[shared] == folders[0][shared] for own in folders):
        shared += 1

    def is_mask(key: str) -> bool:
        return any(is_of_masks(name) for name in layout.folders(key)[shared:])

    return is_mask


def _verdict(
    judged: Judged,
    reading: Reading | Unread,
    layout: Layout,
    settings: FileSettings,
    is_mask: Callable[[str], bool],
) -> _Verdict:
    """Return what becomes of one file; an image of another data set below `root` keeps its reading for now."""
    key = judged.entry.key
    about = _class_folder(layout, key) if isinstance(reading, Unread) else ""
    group = reading.group if isinstance(reading, Reading) else ""
    if judged.problem:
        return _Verdict(judged, None, judged.problem, group, "" if judged.kind == "linked_folder" else about)
    if is_mask(key):
        return _Verdict(judged, None, ("mask", "lies in a folder of masks"), group)
    if isinstance(reading, Reading):
        return _Verdict(judged, reading, None, group)
    return _unread(judged, reading, about, settings)


def _unread(judged: Judged, reading: Unread, about: str, settings: FileSettings) -> _Verdict:
    folder = PurePosixPath(reading.folder).name
    if reading.why == "no_class":
        hint = "; its name holds backslashes" if "\\" in judged.entry.key and not settings.backslash_folders else ""
        names = " or ".join(LABEL_NAMES)
        return _Verdict(judged, None, ("unknown_class", f"not below one folder named {names}{hint}"), about=about)
    if reading.why == "two_classes":
        return _Verdict(
            judged, None, ("unknown_class", f"below folders of both classes: {reading.folder}"), reading.folder
        )
    words = "which split it is, is not clear" if reading.why == "unclear_split" else "below folders of two splits"
    return _Verdict(judged, None, ("unknown_split", f"{folder}: {words}"), about=reading.folder)


def _class_folder(layout: Layout, key: str) -> str:
    """Return the folder that is most likely meant as a class: the first one below the split, or at the top.

    Where there is none but the split folder, that one.
    """
    folders = layout.folders(key)
    splits = [i for i in range(len(folders)) if layout.split("/".join(folders[: i + 1]))]
    start = splits[-1] + 1 if splits else 0
    return "/".join(folders[: start + 1])


def _copies_told_apart(
    storage: Storage, verdicts: Sequence[_Verdict], root: str, memory: Path | None
) -> list[_Verdict]:
    """Return the verdicts, images of other data sets below `root` rejected: as copies, or as of an unknown split.

    A copy has a twin at the same place of the data set, with the same bytes.
    """
    prefix = f"{root}/" if root else ""
    entries = {one.judged.entry.key: one.judged.entry for one in verdicts if one.reading}
    twins: dict[str, Entry] = {}
    for one in verdicts:
        if one.reading and one.reading.root != root:
            key = one.judged.entry.key
            twin = entries.get(prefix + key[len(one.reading.root) :].lstrip("/"))
            if twin and twin.size == entries[key].size:
                twins[key] = twin
    same = _same_bytes(storage, [(entries[key], twin) for key, twin in twins.items()], memory)
    out = []
    for one in verdicts:
        key = one.judged.entry.key
        if one.reading is None or one.reading.root == root:
            out.append(one)
        elif key in same:
            out.append(one._replace(reading=None, problem=("nested_copy", f"copy of {twins[key].key}")))
        else:
            start = prefix if one.reading.root.startswith(prefix) else ""
            name = one.reading.root[len(start) :].partition("/")[0]
            words = "neither train, val nor test, and no copy of the data set beside it"
            out.append(one._replace(reading=None, problem=("unknown_split", f"{name}: {words}"), about=start + name))
    return out


def _same_bytes(storage: Storage, pairs: Sequence[tuple[Entry, Entry]], memory: Path | None) -> set[str]:
    """Return the keys of those first files whose bytes are the second's; what was compared is remembered."""
    columns = ["image", "version", "twin", "twin_version", "same"]
    known: dict[tuple[str, ...], str] = {}
    if memory and memory.is_file():
        known = {tuple(row[:4]): row[4] for row in read_table(memory)[columns].itertuples(index=False, name=None)}
    if not isinstance(storage, LocalStorage):  # equal ETags of equal sizes are equal bytes
        known |= {_names(*pair): "1" for pair in pairs if pair[0].version == pair[1].version}
    wanted = [pair for pair in pairs if _names(*pair) not in known]
    answers = storage.read_many([(one.key, one.version) for pair in wanted for one in pair])
    digests = (_digest(answer) for _, answer in answers)
    for pair, first, second in zip(wanted, digests, digests, strict=True):
        known[_names(*pair)] = str(int(first is not None and first == second))
    if memory and wanted:
        rows = [(*_names(*pair), known[_names(*pair)]) for pair in pairs]
        write_table(pd.DataFrame(rows, columns=columns), memory)
    return {pair[0].key for pair in pairs if known[_names(*pair)] == "1"}


def _names(one: Entry, other: Entry) -> tuple[str, ...]:
    return one.key, one.version, other.key, other.version


def _digest(answer: bytes | Exception) -> bytes | None:
    """Return the SHA-256 of a file's bytes, None where it cannot be read."""
    if isinstance(answer, bytes):
        return hashlib.sha256(answer).digest()
    if isinstance(answer, OSError | DataError):
        return None
    raise answer


def _file(one: _Verdict) -> File:
    key, kind = one.judged.entry.key, one.judged.kind
    if one.reading:
        return File(key, kind, used_as(one.reading.split, one.reading.label), "", one.group)
    return File(key, kind, "", one.problem[0] if one.problem else "", one.group, one.about)


def used_as(split: str, label: int) -> str:
    """Return what an image is used as, in the words of the account; without a split it may be carved into any.

    >>> used_as("test", 1)
    'test PNEUMONIA'
    """
    return f"{split} {LABEL_NAMES[label]}".strip()


def _question(
    uri: str,
    judged: Sequence[Judged],
    files: Sequence[File],
    found: Account,
    beside: dict[str, int],
) -> str:
    if beside:
        named = ", ".join(f"{name or '.'} ({count} images)" for name, count in beside.items())
        example = " ".join(f"{PurePosixPath(name).name}=train" for name in beside)
        return (
            f"{uri}: expected one data set, found several: {named}. Give the folder of one of them, say which split "
            f"each is (--splits {example}), or leave some out with --exclude"
        )
    asked = found.question()
    if any(one.used_as for one in files):
        return f"{uri}: {asked}" if asked else ""
    if not asked:
        return scanning.explain_nothing(judged, uri)
    expected = " or ".join(LABEL_NAMES)
    hints = [f"{uri}: no image lies below a folder named {expected} (expected train/NORMAL/x.jpeg, test/…)", asked]
    if "--exclude" in asked and "--classes" not in asked and any(one.kind == "image" for one in files):
        hints.append("--classes NORMAL=A PNEUMONIA=B,C says what folders A, B and C are")
    tables = [printable(one.entry.key) for one in judged if one.kind == "table"]
    if tables:
        hints.append(f"labels in tables are not read (found {tables[0]}): sort the images into folders")
    return "; ".join(hints)
