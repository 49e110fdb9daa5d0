"""Folders, links and archives that stand where a split or a class is looked for."""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from cxr.core.settings import FileSettings
from cxr.data.folders.layout import Layout
from cxr.data.folders.names import UNCLEAR, likely_split, normalise_name, parent_paths, split_of
from cxr.data.folders.patterns import excluded_by
from cxr.data.survey.file_kinds import JudgedFile
from cxr.data.survey.questions import Image


def is_hidden(key: str) -> bool:
    """Return whether a file lies in a hidden folder or in one that macOS makes."""
    return any(part.startswith(".") or part == "__MACOSX" for part in key.split("/"))


def misplaced_containers(
    judged: Sequence[JudgedFile],
    images: Sequence[Image],
    empty: Sequence[str],
    root: str,
    layout: Layout,
    settings: FileSettings,
) -> list[str]:
    """Return the folders, links and archives that stand where a split or a class is looked for, and are called so.

    Those are at the top of the data set, or one below a split or class folder there. A val that is empty
    does no harm: val is carved from train.
    """
    found: dict[str, None] = {}
    used = {path for image in images for path in parent_paths(image.reading.group)}
    splits = {image.reading.split for image in images}
    for one in judged:
        key = layout.path(one.entry.key)
        # An archive beside the folder that it was unpacked to, or of a split that is there, is no loss.
        stem = _stem(key)
        unpacked = f"{key.rpartition('/')[0]}/{stem}".lstrip("/") in used
        unpacked = unpacked or (split_of(stem) != "" and likely_split(stem) in splits)
        if not (one.problem and one.problem[0] == "excluded"):
            whole = _is_container(one) and (one.kind == "linked_folder" or not unpacked)
            found |= dict.fromkeys(_called_like_one(key, whole, root, layout))
    for folder in empty:
        if excluded_by(folder, settings.exclude) is None:
            found |= dict.fromkeys(_called_like_one(folder, True, root, layout))
    return sorted(found)


def _is_container(one: JudgedFile) -> bool:
    """Return whether a file could stand for a folder of images: an archive, an array, a link, a name alone."""
    bare = one.kind == "other" and not PurePosixPath(one.entry.key).suffix
    return bare or one.kind in {"archive", "foreign", "link", "linked_folder", "folder"}


def _called_like_one(key: str, whole: bool, root: str, layout: Layout) -> Iterator[str]:
    """Yield the path of a key's first one or two parts below `root` where they are called like a split or class.

    The last part of a key counts only where `whole` says that it can stand for a folder.
    """
    if root and not key.startswith(f"{root}/"):
        return
    below = key.removeprefix(f"{root}/" if root else "").rstrip("/").split("/")
    parts = below if whole else below[:-1]
    if not parts or is_hidden("/".join(parts[:2])):
        return
    first = f"{root}/{parts[0]}".lstrip("/")
    split, is_class = _meaning(first, layout)
    if split in {"train", "test", UNCLEAR} or is_class:
        yield first
    if len(parts) > 1 and (split or is_class):
        second = f"{first}/{parts[1]}"
        deeper, is_class_below = _meaning(second, layout)
        if (is_class and deeper in {"train", "test", UNCLEAR}) or (
            split not in {"", "val"} and is_class_below
        ):
            yield second


def _meaning(path: str, layout: Layout) -> tuple[str, bool]:
    """Return the split that a folder or archive is called like, and whether it is called like a class."""
    given = layout.given(path)
    stem = _stem(path)
    return layout.split(stem) if given is None else given, normalise_name(stem) in layout.classes


def _stem(path: str) -> str:
    """Return the name at the end of a path without its endings.

    >>> _stem("data/test.tar.gz")
    'test'
    """
    name = PurePosixPath(path).name
    return name.split(".")[0] if "." in name.strip(".") else name
