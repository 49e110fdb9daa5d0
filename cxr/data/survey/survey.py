"""Decide from a listing what each file is used as.

The one data set is found, its copies are told from other data, and no file is lost in silence.

A survey reads names and sizes, and bytes only of files that have no telling name or may be copies.
What it cannot decide is asked: `Survey.question` is the sentence with which a run stops.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeVar

from cxr.core.settings import LABEL_NAMES, ReadingSettings
from cxr.data.folders.layout import Layout, unused_settings
from cxr.data.folders.names import parent_paths
from cxr.data.patients.hidden_names import PlainNames
from cxr.data.patients.hidden_storage import DataStorage, hide_storage
from cxr.data.survey import file_kinds
from cxr.data.survey.account import Account, account_by_folder
from cxr.data.survey.file_kinds import JudgedFile
from cxr.data.survey.files import File
from cxr.data.survey.questions import questions
from cxr.data.survey.questions.places import is_hidden, misplaced_containers
from cxr.data.survey.questions.questions import Image
from cxr.data.survey.verdicts.copies import reject_nested_copies
from cxr.data.survey.verdicts.data_sets import choose_root
from cxr.data.survey.verdicts.hiding import hide_names
from cxr.data.survey.verdicts.links import reject_links_to_unused_folders
from cxr.data.survey.verdicts.table_verdicts import (
    TableVerdicts,
    find_label_tables,
    judge_by_table,
)
from cxr.data.survey.verdicts.verdict import MaskFolders, Verdict, judge_by_folders
from cxr.storage.base import Entry, Storage
from cxr.storage.local import LocalStorage

_Item = TypeVar("_Item")
_HIDDEN_HINT = "names are hidden, as there is DICOM: --key-map FILE tells which is which"
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
    "label_rows.csv",
}


class Survey(NamedTuple):
    """What a listing holds.

    Attributes:
        root: The folder below DATA that holds the one data set, "" for DATA itself.
        found: How many files were listed; a work folder inside DATA is no part of it.
        images: The images to inspect, by key.
        unused: Every other file, by key.
        rejects: (key, reason, detail) of every other file, by key.
        account: What becomes of the files of each folder.
        question: Why a run stops here, in one sentence; "" where it does not.
        notes: Which of the given words and patterns fit nothing, in sentences.
        names: The real names behind the public ones, for a key map and tables that name images.
        labels: What became of a table of labels; None where there is none. Its verdicts are empty.
    """

    root: str
    found: int
    images: tuple[Image, ...]
    unused: tuple[File, ...]
    rejects: tuple[tuple[str, str, str], ...]
    account: Account
    question: str
    notes: tuple[str, ...]
    names: PlainNames
    labels: TableVerdicts | None = None

    def files(self) -> Iterator[File]:
        """Yield every file as the account by folder wants it, by key."""
        return _merge_files(self.images, self.unused)


def survey_folders(
    storage: Storage,
    settings: ReadingSettings,
    memory: Path | None = None,
    own: str | None = None,
) -> Survey:
    """Find out what is at `storage` and what a run would make of it; nothing is changed there.

    Args:
        storage: Where DATA is. If there is DICOM in it, all names in the survey are public ones.
        settings: How it is read.
        memory: A folder for tables of what was found by looking into files; None to remember
            nothing.
        own: Key of the work folder where it lies inside DATA: its files are not data.

    Raises:
        UsageError: There is DICOM, and no salt is set.
        DataError: There is no such folder, a table of `memory` is damaged, or a table of labels
            cannot be used, or something about it has to be chosen first.
        StorageError: The files cannot be listed or looked into.
    """
    kinds_table = memory / "kinds.csv" if memory else None
    copies_table = memory / "copies.csv" if memory else None
    layout = Layout(settings)
    storage = hide_storage(storage)
    entries = _list_data(storage, own)
    judged = file_kinds.judge_files(storage, entries, settings, kinds_table)
    _ignore_work_folders(judged)
    names = hide_names(storage, judged, settings)
    by_table = None
    root, data_sets = ("", {}) if settings.labels else choose_root(judged, layout)
    if settings.labels:
        by_table = judge_by_table(judged, settings, layout, names, storage.uri)
        judged.clear()
        verdicts = list(_take_all(by_table.verdicts))
    else:
        mask_folders = MaskFolders(layout, root)
        verdicts = [judge_by_folders(file, layout, mask_folders) for file in _take_all(judged)]
        verdicts = reject_nested_copies(storage, verdicts, root, layout, names, copies_table)
    verdicts = reject_links_to_unused_folders(storage, verdicts, names)
    rejects = tuple(_rejects(verdicts))
    images, unused = _divide(verdicts, layout)

    def files() -> Iterator[File]:
        return _merge_files(images, unused)

    empty = _empty_folders(storage, files(), root, own, names)
    places = misplaced_containers(
        files(),
        images,
        empty,
        root,
        layout,
        settings,
    )
    account = account_by_folder(files(), places)
    keys = [*(file.key for file in files()), *names.hidden_keys()]
    mistakes, notes = unused_settings(layout, settings, keys, empty)
    question = questions.find_question(
        unused,
        images,
        account,
        data_sets,
        mistakes,
        find_label_tables(storage, unused, names) if not (images or settings.labels) else (),
    )
    if question and names.hidden_keys():
        question = f"{question}; {_HIDDEN_HINT}"
    return Survey(
        root=root,
        found=len(images) + len(unused),
        images=images,
        unused=unused,
        rejects=rejects,
        account=account,
        question=f"{storage.uri}: {question}" if question else "",
        notes=(
            *notes,
            *questions.note_pooled_training_sets(images),
            *(by_table.books.notes() if by_table else ()),
        ),
        names=names,
        labels=by_table,
    )


def _list_data(
    storage: Storage,
    own: str | None,
) -> Iterator[Entry]:
    """Yield every file that is listed, except those of the work folder `own`."""
    for entry in storage.list():
        if own is None or not f"{entry.key}/".startswith(f"{own}/"):
            yield entry


def _ignore_work_folders(judged: list[JudgedFile]) -> None:
    """Mark what an earlier run wrote into a work folder as no data, in place."""
    record_names: dict[str, set[str]] = {}
    for file in judged:
        folder, _, name = file.entry.key.rpartition("/")
        if name in OWN_RECORDS:
            record_names.setdefault(folder, set()).add(name)
    work_folders = {folder for folder, names in record_names.items() if names == OWN_RECORDS}
    if not work_folders:
        return
    problem = ("ignored", "output of an earlier run of cxr")
    for place, file in enumerate(judged):
        if _is_own_output(file.entry.key, work_folders):
            judged[place] = file._replace(kind="system", problem=problem)


def _is_own_output(
    key: str,
    work_folders: Iterable[str],
) -> bool:
    """Return whether a file is one that a run writes into one of the work folders."""
    for folder in work_folders:
        prefix = f"{folder}/" if folder else ""
        if key.startswith(prefix):
            name = key.removeprefix(prefix).partition("/")[0]
            if name in OWN_NAMES:
                return True
    return False


def _divide(
    verdicts: list[Verdict],
    layout: Layout,
) -> tuple[tuple[Image, ...], tuple[File, ...]]:
    """Return the files that are used and the others; no verdict is left."""
    images = []
    unused = []
    for verdict in _take_all(verdicts):
        path = layout.path(verdict.entry.key)
        if verdict.reading:
            images.append(Image(verdict.entry, verdict.reading, path, verdict.listed))
        else:
            unused.append(_describe_unused(verdict, path))
    return tuple(images), tuple(unused)


def _take_all(items: list[_Item]) -> Iterator[_Item]:
    """Yield the items of a list in their order, and empty it.

    Of hundreds of thousands of files, nothing is kept longer than it is needed.
    """
    items.reverse()
    while items:
        yield items.pop()


def _merge_files(images: Iterable[Image], unused: Iterable[File]) -> Iterator[File]:
    """Yield used and other files by key, as the account by folder wants them."""
    used = (_describe_image(image) for image in images)
    return heapq.merge(used, unused, key=lambda file: file.key)


def _describe_image(image: Image) -> File:
    """Return a file that is used; only images are."""
    reading = image.reading
    return File(
        key=image.entry.key,
        kind="image",
        used_as=describe_use(reading.split, reading.label),
        group=reading.group,
        path=image.path,
    )


def _describe_unused(verdict: Verdict, path: str) -> File:
    """Return a file that is not used."""
    return File(
        key=verdict.entry.key,
        kind=verdict.kind,
        reason=verdict.problem[0] if verdict.problem else "",
        group=verdict.group,
        about=verdict.about,
        path=path,
    )


@lru_cache(maxsize=16)  # one text for all images that are used alike
def describe_use(split: str, label: int) -> str:
    """Return what an image is used as, in the words of the account.

    An image without a split may be carved into any.

    >>> describe_use("test", 1)
    'test PNEUMONIA'
    """
    return f"{split} {LABEL_NAMES[label]}".strip()


def _rejects(verdicts: Iterable[Verdict]) -> Iterator[tuple[str, str, str]]:
    """Yield key, reason and detail of the files that are not used."""
    for verdict in verdicts:
        if verdict.problem:
            yield verdict.entry.key, *verdict.problem


def _empty_folders(
    storage: DataStorage,
    files: Iterable[File],
    root: str,
    own: str | None,
    names: PlainNames,
) -> list[str]:
    """Return the folders at the top of a local data set that hold no file at all.

    A copy may have failed.
    """
    if not isinstance(storage.plain, LocalStorage):
        return []
    folders_of_files = {file.key.rpartition("/")[0] for file in files}
    filled = {path for folder in folders_of_files for path in parent_paths(folder)}
    empty = []
    for folder in _folders_at_top(storage.plain.folder, names.real_folder(root)):
        is_own = own is not None and f"{folder}/".startswith(f"{own}/")
        public_folder = names.folder(folder)
        if public_folder not in filled and not is_hidden(folder) and not is_own:
            empty.append(public_folder)
    return empty


def _folders_at_top(
    data: Path,
    root: str,
) -> Sequence[str]:
    """Return the keys of the folders in `root`, and of those in them, sorted; links are none."""
    top = data / root
    paths = [*top.glob("*"), *top.glob("*/*")]
    folders = [path for path in paths if path.is_dir() and not path.is_symlink()]
    return sorted(path.relative_to(data).as_posix() for path in folders)
