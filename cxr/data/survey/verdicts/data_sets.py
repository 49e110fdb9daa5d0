"""Find the one data set among the folders of DATA."""

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

from cxr.data.folders.layout import Layout, Reading
from cxr.data.folders.names import is_of_masks
from cxr.data.survey.file_kinds import JudgedFile


def choose_root(
    judged: Iterable[JudgedFile],
    layout: Layout,
) -> tuple[str, dict[str, int]]:
    """Choose the folder of the data set: the shallowest one that holds split or class folders.

    Copies lie below it. Folders of masks hold no data set, unless all of them are called so.

    Returns:
        The folder, and the number of images of each data set where there are several.
    """
    counts: Counter[str] = Counter()
    for file in judged:
        reading = layout.read(file.entry.key)
        if file.problem is None and isinstance(reading, Reading):
            counts[reading.root] += 1
    films = {folder: count for folder, count in counts.items() if not _is_below_masks(folder)}
    image_counts = films or dict(counts)
    if not image_counts:
        return "", {}
    root = min(image_counts, key=lambda folder: (len(PurePosixPath(folder).parts), folder))
    others = sorted(folder for folder in image_counts if not _is_below(folder, root))
    if not others:
        return root, {}
    return root, {folder: image_counts[folder] for folder in (root, *others)}


def _is_below_masks(folder: str) -> bool:
    """Return whether a folder, or one above it, is called like one of masks."""
    return any(is_of_masks(name) for name in folder.split("/"))


def _is_below(folder: str, root: str) -> bool:
    """Return whether a folder is `root` or lies in it."""
    return not root or folder == root or folder.startswith(f"{root}/")
