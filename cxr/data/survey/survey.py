"""From a listing to what each file is used as: one data set found, its copies told from other data, nothing lost.

A survey reads names and sizes (and bytes only where two files may be copies of each other). What it
cannot decide is asked (`questions`): `Survey.question` is the sentence with which a run stops.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from cxr.core.settings import LABEL_NAMES, FileSettings, ReadingSettings
from cxr.data.folders.layout import Layout, Reading, Unread, unused_words
from cxr.data.folders.names import (
    is_of_masks,
    parent_paths,
)
from cxr.data.survey import account, file_kinds, questions
from cxr.data.survey.account import Account, File
from cxr.data.survey.copies import find_same_bytes
from cxr.data.survey.file_kinds import JudgedFile, Problem
from cxr.data.survey.places import is_hidden, misplaced_containers
from cxr.data.survey.questions import Image
from cxr.storage.base import Entry, Storage
from cxr.storage.local import FOLDER_LINK, LocalStorage

OWN_RECORDS = {"ingest.json", "clean_metadata.csv"}  # a folder that holds both is a work folder
OWN_NAMES = {
    *OWN_RECORDS,
    "rejects.csv",
    "exploration.json",
    "leakage",
    "eda",
    "runs",
    "registry",
    "cache",
    "inspection",
    "timings",
    "retrainings",
}
_READ = Sequence[tuple[JudgedFile, Reading | Unread]]


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


def survey_folders(
    storage: Storage, settings: ReadingSettings, memory: Path | None = None, own: str | None = None
) -> Survey:
    """Return what is at `storage` and what a run would make of it; nothing is changed there.

    Args:
        storage: Where DATA is.
        settings: How it is read.
        memory: A folder for tables of what was found by looking into files; None to remember nothing.
        own: Key of the work folder where it lies inside DATA: its files are not data.
    """
    listed = [
        entry
        for entry in storage.list()
        if own is None or not f"{entry.key}/".startswith(f"{own}/")
    ]
    judged = file_kinds.judge_files(
        storage, listed, settings, memory / "kinds.csv" if memory else None
    )
    judged = _without_work_folders(judged)
    layout = Layout(settings)
    read = [(one, layout.read(one.entry.key)) for one in judged]
    root, roots = _choose_root(read)
    mask_folder = _mask_finder(layout, root)
    verdicts = [_verdict(one, reading, layout, settings, mask_folder) for one, reading in read]
    verdicts = _copies_told_apart(
        storage, verdicts, root, layout, memory / "copies.csv" if memory else None
    )
    verdicts = _links_told_apart(storage, verdicts)
    files = tuple(_file(one, layout) for one in verdicts)
    images = tuple(
        Image(one.judged.entry, one.reading, layout.path(one.judged.entry.key))
        for one in verdicts
        if one.reading
    )
    empty = _empty_folders(storage, listed, root, own)
    places = misplaced_containers(judged, images, empty, root, layout, settings)
    found = account.account_by_folder(files, places)
    unfit, notes = unused_words(layout, settings, [entry.key for entry in listed], empty)
    asked = questions.find_question(judged, images, files, found, roots, unfit)
    return Survey(
        root=root,
        found=len(listed),
        images=images,
        rejects=tuple((one.judged.entry.key, *one.problem) for one in verdicts if one.problem),
        files=files,
        account=found,
        question=f"{storage.uri}: {asked}" if asked else "",
        notes=(*notes, *questions.note_pooled_training_sets(images)),
    )


def _empty_folders(
    storage: Storage, listed: Sequence[Entry], root: str, own: str | None
) -> list[str]:
    """Return the folders at the top of a local data set that hold no file at all: copies that failed, perhaps."""
    if not isinstance(storage, LocalStorage):
        return []
    filled = {folder for entry in listed for folder in parent_paths(entry.key)}
    top = storage.folder / root
    folders = [
        path
        for pattern in ("*", "*/*")
        for path in top.glob(pattern)
        if path.is_dir() and not path.is_symlink()
    ]
    keys = sorted(path.relative_to(storage.folder).as_posix() for path in folders)
    ours = f"{own}/" if own else None
    empty = [key for key in keys if key not in filled and not is_hidden(key)]
    return [key for key in empty if ours is None or not f"{key}/".startswith(ours)]


class _Verdict(NamedTuple):
    """A judged file with either a reading (it is used) or a problem.

    `group` and `about` are as in `account.File`.
    """

    judged: JudgedFile
    reading: Reading | None
    problem: Problem | None
    group: str = ""
    about: str = ""


def _without_work_folders(judged: Sequence[JudgedFile]) -> list[JudgedFile]:
    """Return the judged files, what an earlier run wrote into a work folder marked as no data."""
    names: dict[str, set[str]] = {}
    for one in judged:
        folder, _, name = one.entry.key.rpartition("/")
        if name in OWN_RECORDS:
            names.setdefault(folder, set()).add(name)
    folders = {folder for folder, found in names.items() if found == OWN_RECORDS}
    if not folders:
        return list(judged)
    ours = ("ignored", "output of an earlier run of cxr")
    return [
        one._replace(kind="system", problem=ours) if _is_own_output(one.entry.key, folders) else one
        for one in judged
    ]


def _is_own_output(key: str, folders: set[str]) -> bool:
    return any(
        key.removeprefix(f"{folder}/" if folder else "").partition("/")[0] in OWN_NAMES
        for folder in folders
        if not folder or key.startswith(f"{folder}/")
    )


def _choose_root(read: _READ) -> tuple[str, dict[str, int]]:
    """Return the folder of the data set, and the number of images of each data set where there are several.

    The data set is the shallowest folder that holds split or class folders; copies lie below it. Folders of
    masks are none, unless all of them are called so.
    """
    counts = Counter(
        reading.root
        for one, reading in read
        if one.problem is None and isinstance(reading, Reading)
    )
    without_masks = {
        name: count for name, count in counts.items() if not any(map(is_of_masks, name.split("/")))
    }
    counts = Counter(without_masks or counts)
    if not counts:
        return "", {}
    root = min(counts, key=lambda name: (len(PurePosixPath(name).parts), name))
    beside = {name: counts[name] for name in sorted(counts) if not _is_below(name, root)}
    return root, {root: counts[root], **beside} if beside else {}


def _is_below(name: str, root: str) -> bool:
    return not root or name == root or name.startswith(f"{root}/")


def _mask_finder(layout: Layout, root: str) -> Callable[[str], str]:
    """Return a function that gives the folder of masks that a key lies in, "" for none.

    The folders above the data set say nothing: it may lie in one that is called xrays_and_masks.
    `--splits FOLDER=none` says that a folder of such a name holds films.
    """
    spared = set(parent_paths(root))

    def find(key: str) -> str:
        above = (path for path in parent_paths("/".join(layout.folders(key))) if path not in spared)
        masks = (
            path
            for path in above
            if is_of_masks(PurePosixPath(path).name) and layout.given(path) is None
        )
        return next(masks, "")

    return find


def _verdict(
    judged: JudgedFile,
    reading: Reading | Unread,
    layout: Layout,
    settings: FileSettings,
    mask_folder: Callable[[str], str],
) -> _Verdict:
    """Return what becomes of one file; an image of another data set below `root` keeps its reading for now."""
    key = judged.entry.key
    about = _class_folder(layout, key) if isinstance(reading, Unread) else ""
    group = reading.group if isinstance(reading, Reading) else ""
    if judged.problem:
        return _Verdict(
            judged, None, judged.problem, group, "" if judged.kind == "linked_folder" else about
        )
    masks = mask_folder(key)
    if masks:
        return _Verdict(judged, None, ("mask", "lies in a folder of masks"), group, masks)
    if isinstance(reading, Reading):
        return _Verdict(judged, reading, None, group)
    return _unread(judged, reading, about, settings)


def _unread(judged: JudgedFile, reading: Unread, about: str, settings: FileSettings) -> _Verdict:
    folder = PurePosixPath(reading.folder).name
    if reading.why == "no_class":
        hint = (
            "; its name holds backslashes"
            if "\\" in judged.entry.key and not settings.backslash_folders
            else ""
        )
        names = " or ".join(LABEL_NAMES)
        return _Verdict(
            judged,
            None,
            ("unknown_class", f"not below one folder named {names}{hint}"),
            about=about,
        )
    if reading.why == "two_classes":
        return _Verdict(
            judged,
            None,
            ("unknown_class", f"below folders of both classes: {reading.folder}"),
            about=reading.folder,
        )
    words = (
        "its name does not say which split it is"
        if reading.why == "unclear_split"
        else "below folders of two splits"
    )
    return _Verdict(judged, None, ("unknown_split", f"{folder}: {words}"), about=reading.folder)


def _class_folder(layout: Layout, key: str) -> str:
    """Return the folder that is most likely meant as a class: the first one that is no split.

    Where there are split folders alone, the last of them.
    """
    above = parent_paths("/".join(layout.folders(key)))
    return next((path for path in above if not layout.split(path)), above[-1] if above else "")


def _copies_told_apart(
    storage: Storage, verdicts: Sequence[_Verdict], root: str, layout: Layout, memory: Path | None
) -> list[_Verdict]:
    """Return the verdicts, images of other data sets below `root` rejected: as copies, or as of an unknown split.

    A copy has a twin at the same place of the data set, with the same bytes.
    """
    prefix = f"{root}/" if root else ""
    entries = {
        layout.path(one.judged.entry.key): one.judged.entry for one in verdicts if one.reading
    }
    twins: dict[str, Entry] = {}
    for one in verdicts:
        if one.reading and one.reading.root != root:
            entry = one.judged.entry
            twin = entries.get(prefix + layout.path(entry.key)[len(one.reading.root) :].lstrip("/"))
            if twin and twin.size == entry.size:
                twins[entry.key] = twin
    pairs = [
        (one.judged.entry, twins[one.judged.entry.key])
        for one in verdicts
        if one.judged.entry.key in twins
    ]
    same = find_same_bytes(storage, pairs, memory)
    out = []
    for one in verdicts:
        key = one.judged.entry.key
        if one.reading is None or one.reading.root == root:
            out.append(one)
        elif key in same:
            out.append(
                one._replace(reading=None, problem=("nested_copy", f"copy of {twins[key].key}"))
            )
        else:
            out.append(_of_unknown_split(one, one.reading, prefix, layout))
    return out


def _of_unknown_split(one: _Verdict, reading: Reading, prefix: str, layout: Layout) -> _Verdict:
    """Return the verdict on an image of a folder beside the split folders, or below two of them."""
    above = [
        path
        for path in parent_paths(reading.root)
        if path.startswith(prefix) and path != prefix.rstrip("/")
    ]
    if reading.split_folder and any(layout.split(path) for path in above):
        words = f"{reading.split_folder}: below folders of two splits"
        return one._replace(
            reading=None, problem=("unknown_split", words), about=reading.split_folder
        )
    about = above[0] if above else reading.root
    words = f"{PurePosixPath(about).name}: neither train, val nor test, and no copy of the data set beside it"
    return one._replace(reading=None, problem=("unknown_split", words), about=about)


def _links_told_apart(storage: Storage, verdicts: Sequence[_Verdict]) -> list[_Verdict]:
    """Return the verdicts, links to folders of DATA whose files are not used marked as links that are not followed."""
    linked = [one for one in verdicts if one.problem == ("ignored", FOLDER_LINK)]
    if not linked or not isinstance(storage, LocalStorage):
        return list(verdicts)
    used = {
        ".",
        *(path for one in verdicts if one.reading for path in parent_paths(one.judged.entry.key)),
    }
    top = os.path.realpath(storage.folder)
    problem = ("outside_root", "link to a folder whose files are not used")
    lost = {
        one.judged.entry.key
        for one in linked
        if os.path.relpath(os.path.realpath(storage.folder / one.judged.entry.key), top) not in used
    }
    return [
        one._replace(problem=problem) if one.judged.entry.key in lost else one for one in verdicts
    ]


def _file(one: _Verdict, layout: Layout) -> File:
    key = one.judged.entry.key
    return File(
        key=key,
        kind=one.judged.kind,
        used_as=describe_use(one.reading.split, one.reading.label) if one.reading else "",
        reason=one.problem[0] if one.problem else "",
        group=one.group,
        about=one.about,
        path=layout.path(key),
    )


def describe_use(split: str, label: int) -> str:
    """Return what an image is used as, in the words of the account; without a split it may be carved into any.

    >>> describe_use("test", 1)
    'test PNEUMONIA'
    """
    return f"{split} {LABEL_NAMES[label]}".strip()
