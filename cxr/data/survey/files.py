"""A found file as the account by folder sees it: what it is, and what becomes of it."""

import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple, Self

from cxr.data.folders.names import split_of, usual_class

# Kinds of files that a person may have meant to be used. System files and READMEs stay quiet.
KINDS = {
    "image": "images",
    "gif": "GIF pictures",
    "dicom": "DICOM files",
    "link": "links",
    "linked_folder": "linked folders",
    "folder": "unreadable folders",
    "table": "tables",
    "archive": "archives",
    "foreign": "pictures of other kinds",
}
# Reject reasons that come from how the data are laid out: a flag can change them.
_LAYOUT_REASONS = {"unknown_class", "unknown_split", "outside_root"}
# Kinds whose files can be used in another form, or with a flag.
_CONVERTIBLE_KINDS = {"dicom", "foreign", "link", "folder"}
# Reject reasons of images whose class and view a table says, not folders.
TABLE_REASONS = {"no_label", "other_view"}
# Reasons by which nothing is lost: the picture is kept elsewhere, or a person left it out.
_HARMLESS_REASONS = {
    "duplicate",
    "near_duplicate",
    "nested_copy",
    "excluded",
    "ignored",
    "mask",
    "negative",
    *TABLE_REASONS,
}


class File(NamedTuple):
    """One found file.

    Attributes:
        key: Its key below DATA.
        kind: As in `file_kinds.JudgedFile`.
        used_as: What it is used as ("train NORMAL"), "" where it is not used.
        reason: Its reject reason, "" where it is used.
        group: The lower one of its split and class folders, "" where they cannot be read.
        about: The folder that a question would be about, "" for none.
        path: The key as its folders are read, with slashes.
    """

    key: str
    kind: str
    used_as: str = ""
    reason: str = ""
    group: str = ""
    about: str = ""
    path: str = ""

    @classmethod
    def from_cells(cls, cells: Iterable[str]) -> Self:
        """Return a file from its fields as a table holds them.

        Texts that thousands of files have in common are shared, which a table does not do.
        """
        file = cls(*cells)
        return file._replace(
            kind=sys.intern(file.kind),
            used_as=sys.intern(file.used_as),
            reason=sys.intern(file.reason),
            group=sys.intern(file.group),
            about=sys.intern(file.about),
            path=file.key if file.path == file.key else file.path,
        )

    @property
    def folder(self) -> str:
        """Return the folder that the file lies in, or the one that it is."""
        if self.kind in {"linked_folder", "folder"}:
            return self.path.rstrip("/")
        return self.path.rpartition("/")[0]

    @property
    def asks(self) -> bool:
        """Return whether a flag, or another form of this file, would let it be used."""
        if self.used_as or self.reason in _HARMLESS_REASONS:
            return False
        return self.reason in _LAYOUT_REASONS or self.kind in _CONVERTIBLE_KINDS

    @property
    def asks_alone(self) -> bool:
        """Return whether this file alone stops a run.

        A linked folder does: it stands for any number of images.
        """
        if self.kind != "linked_folder" or self.reason == "excluded":
            return False
        if self.reason == "outside_root":
            return True
        name = PurePosixPath(self.path).name
        return bool(split_of(name)) or usual_class(name) is not None

    @property
    def is_lost(self) -> bool:
        """Return whether this is an image that is not used, and its picture is nowhere else."""
        if self.used_as or self.reason in _HARMLESS_REASONS:
            return False
        return self.kind in {"image", "dicom", "gif"}


def count_alike(files: Iterable[File]) -> Counter[File]:
    """Count the files that are alike: of used ones in one folder, the account needs no names."""
    return Counter(
        file._replace(key="", path=f"{file.folder}/") if file.used_as else file for file in files
    )
