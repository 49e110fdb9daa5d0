"""Find folders, links and archives that stand where a split or a class is looked for."""

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from cxr.core.settings import FileSettings
from cxr.data.folders.layout import Layout
from cxr.data.folders.names import UNCLEAR, likely_split, normalise_name, parent_paths, split_of
from cxr.data.folders.patterns import excluded_by
from cxr.data.survey.files import File
from cxr.data.survey.questions.questions import Image

_CONTAINER_KINDS = {"archive", "foreign", "link", "linked_folder", "folder"}


def is_hidden(key: str) -> bool:
    """Return whether a file lies in a hidden folder or in one that macOS makes."""
    return any(part.startswith(".") or part == "__MACOSX" for part in key.split("/"))


def misplaced_containers(
    files: Iterable[File],
    images: Sequence[Image],
    empty: Sequence[str],
    root: str,
    layout: Layout,
    settings: FileSettings,
) -> list[str]:
    """Find folders, links and archives that are called like a split or class and may hold one.

    They are at the top of the data set, or one below a split or class folder there. An empty val
    does no harm: val is carved from train.

    Args:
        files: Every file.
        images: Those that would be used.
        empty: Folders without files.
        root: Folder of the data set.
        layout: How its folders are read.
        settings: What is left out.

    Returns:
        Their paths, sorted.
    """
    folders = _folders_to_look_at(files, images)
    folders.update(folder for folder in empty if excluded_by(folder, settings.exclude) is None)
    places: set[str] = set()
    for folder in folders:
        places.update(_places_on_path(folder, root, layout))
    return sorted(places)


def _folders_to_look_at(
    files: Iterable[File],
    images: Sequence[Image],
) -> set[str]:
    """Return the folders of all files, and the files that could stand for a folder themselves."""
    groups = {image.reading.group for image in images}
    used_folders = {path for group in groups for path in parent_paths(group)}
    splits = {image.reading.split for image in images}
    folders = set()
    for file in files:
        if file.reason == "excluded":
            continue
        path = file.path.rstrip("/")
        folder = path.rpartition("/")[0]
        stands_for_folder = _is_container(file)
        if stands_for_folder and file.kind != "linked_folder":
            stands_for_folder = not _is_unpacked(file.path, used_folders, splits)
        folders.add(path if stands_for_folder else folder)
    return folders


def _is_container(file: File) -> bool:
    """Return whether a file may hold images: an archive, an array, a link, a bare name."""
    is_bare_name = file.kind == "other" and not PurePosixPath(file.key).suffix
    return is_bare_name or file.kind in _CONTAINER_KINDS


def _is_unpacked(
    path: str,
    used_folders: set[str],
    splits: set[str],
) -> bool:
    """Return whether an archive is no loss: what it was unpacked to, or its split, is used."""
    stem = _stem(path)
    unpacked_folder = f"{path.rpartition('/')[0]}/{stem}".lstrip("/")
    if unpacked_folder in used_folders:
        return True
    return split_of(stem) != "" and likely_split(stem) in splits


def _places_on_path(
    path: str,
    root: str,
    layout: Layout,
) -> Iterable[str]:
    """Yield the first two folders of a path below `root`, if called like a split or class."""
    if root and not path.startswith(f"{root}/"):
        return
    parts = path.removeprefix(f"{root}/" if root else "").split("/")
    if not path or is_hidden("/".join(parts[:2])):
        return
    first = f"{root}/{parts[0]}".lstrip("/")
    first_split, first_is_class = _meaning(first, layout)
    if _is_needed(first_split) or first_is_class:
        yield first
    if len(parts) == 1 or not (first_split or first_is_class):
        return
    second = f"{first}/{parts[1]}"
    second_split, second_is_class = _meaning(second, layout)
    is_split_of_class = first_is_class and _is_needed(second_split)
    is_class_of_split = second_is_class and first_split not in {"", "val"}
    if is_split_of_class or is_class_of_split:
        yield second


def _is_needed(split: str) -> bool:
    """Return whether this split has to be there: val is carved from train if it is not."""
    return split in {"train", "test", UNCLEAR}


def _meaning(
    path: str,
    layout: Layout,
) -> tuple[str, bool]:
    """Return the split that a place is called like, and whether it is called like a class."""
    stem = _stem(path)
    split = layout.given_split(path)
    if split is None:
        split = layout.split(stem)
    return split, normalise_name(stem) in layout.classes


def _stem(path: str) -> str:
    """Return the name at the end of a path without its suffixes.

    >>> _stem("data/test.tar.gz")
    'test'
    """
    name = PurePosixPath(path).name
    return name.split(".")[0] if "." in name.strip(".") else name
