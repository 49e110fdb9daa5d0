"""What becomes of one file, by what it is and by what its folders mean."""

import sys
from pathlib import PurePosixPath
from typing import NamedTuple

from cxr.core.settings import LABEL_NAMES
from cxr.data.folders.layout import Layout, Reading, Unread
from cxr.data.folders.names import is_of_masks, parent_paths
from cxr.data.labels.image_labels import ImageLabel
from cxr.data.survey.file_kinds import JudgedFile, Problem
from cxr.storage.base import Entry

_MASK_PROBLEM = ("mask", "lies in a folder of masks")


class Verdict(NamedTuple):
    """A listed file with either a reading (it is used) or a problem (it is rejected).

    Attributes:
        entry: As listed.
        kind: As in `file_kinds.JudgedFile`.
        reading: What its folders say, None where it is rejected.
        problem: Reject reason and detail, None where it is used.
        group: As in `files.File`.
        about: As in `files.File`.
        listed: What a table of labels says of it, None where there is no row.
    """

    entry: Entry
    kind: str
    reading: Reading | None
    problem: Problem | None
    group: str = ""
    about: str = ""
    listed: ImageLabel | None = None


class MaskFolders:
    """Finds the folders of masks in a data set.

    The folders above the data set say nothing: it may lie in one that is called xrays_and_masks.
    `--splits FOLDER=none` says that a folder of such a name holds films.

    Args:
        layout: How the folders are read.
        root: Folder of the data set.
    """

    def __init__(self, layout: Layout, root: str):
        self._layout = layout
        self._paths_above = set(parent_paths(root))
        self._known: dict[str, str] = {}  # thousands of files share a folder

    def find(self, key: str) -> str:
        """Return the topmost folder of masks that a file lies in, "" for none."""
        folder = self._layout.folder(key)
        if folder not in self._known:
            self._known[folder] = self._find_above(folder)
        return self._known[folder]

    def _find_above(self, folder: str) -> str:
        """Return the topmost folder of masks among a folder and those above it."""
        for path in parent_paths(folder):
            if path in self._paths_above or self._layout.given_split(path) is not None:
                continue
            if is_of_masks(PurePosixPath(path).name):
                return path
        return ""


def judge_by_folders(
    judged: JudgedFile,
    layout: Layout,
    mask_folders: MaskFolders,
) -> Verdict:
    """Decide what becomes of a file.

    An image of another data set below the root keeps its reading until copies are told apart.

    Args:
        judged: The file.
        layout: How the folders are read.
        mask_folders: Where the masks are.
    """
    key = judged.entry.key
    reading = layout.read(key)
    if isinstance(reading, Unread):
        return _judge_unread(judged, reading, layout, mask_folders)
    if judged.problem:
        return reject(judged, judged.problem, reading.group)
    mask_folder = mask_folders.find(key)
    if mask_folder:
        return reject(judged, _MASK_PROBLEM, reading.group, mask_folder)
    return Verdict(
        entry=judged.entry,
        kind=judged.kind,
        reading=reading,
        problem=None,
        group=reading.group,
    )


def _judge_unread(
    judged: JudgedFile,
    unread: Unread,
    layout: Layout,
    mask_folders: MaskFolders,
) -> Verdict:
    """Decide why a file is rejected whose folders cannot be read."""
    key = judged.entry.key
    if judged.kind == "linked_folder" and judged.problem:
        return reject(judged, judged.problem)  # a question is about the link, not about a folder
    if judged.problem:
        return reject(judged, judged.problem, about=_likely_class_folder(layout, key))
    mask_folder = mask_folders.find(key)
    if mask_folder:
        return reject(judged, _MASK_PROBLEM, about=mask_folder)
    about = unread.folder
    if unread.why == "no_class":
        about = _likely_class_folder(layout, key)
    has_unread_backslash = "\\" in key and not layout.backslash_folders
    problem = problem_of_unread(unread, has_unread_backslash)
    return reject(judged, problem, about=about)


def reject(
    judged: JudgedFile,
    problem: Problem,
    group: str = "",
    about: str = "",
) -> Verdict:
    """Return the verdict on a file that is not used."""
    return Verdict(
        entry=judged.entry,
        kind=judged.kind,
        reading=None,
        problem=problem,
        group=group,
        about=about,
    )


def problem_of_unread(unread: Unread, has_unread_backslash: bool) -> Problem:
    """Return why a file is rejected whose folders cannot be read."""
    name = PurePosixPath(unread.folder).name
    if unread.why == "no_class":
        class_names = " or ".join(LABEL_NAMES)
        hint = "; its name holds backslashes" if has_unread_backslash else ""
        return "unknown_class", f"not below one folder named {class_names}{hint}"
    if unread.why == "two_classes":
        return "unknown_class", f"below folders of both classes: {unread.folder}"
    if unread.why == "unclear_split":
        return "unknown_split", f"{name}: its name does not say which split it is"
    return "unknown_split", f"{name}: below folders of two splits"


def _likely_class_folder(layout: Layout, key: str) -> str:
    """Return the folder that is most likely meant as a class: the first one that is no split.

    Where there are split folders alone, it is the last of them.
    """
    paths = parent_paths(layout.folder(key))
    for path in paths:
        if not layout.split(path):
            return sys.intern(path)  # one text for thousands of files
    return sys.intern(paths[-1]) if paths else ""
