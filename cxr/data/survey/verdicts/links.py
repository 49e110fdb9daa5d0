"""Links to folders of DATA: harmless where their files are used at their own place."""

import os
from collections.abc import Sequence

from cxr.data.folders.names import parent_paths
from cxr.data.patients.hidden_names import PlainNames
from cxr.data.patients.hidden_storage import DataStorage
from cxr.data.survey.verdicts.verdict import Verdict
from cxr.storage.local import FOLDER_LINK, LocalStorage


def reject_links_to_unused_folders(
    storage: DataStorage,
    verdicts: Sequence[Verdict],
    names: PlainNames,
) -> list[Verdict]:
    """Mark links to folders of DATA whose files are not used as links that are not followed.

    Args:
        storage: Where the files are; only a local folder has links.
        verdicts: One for each file.
        names: The real names, by which links are followed.

    Returns:
        One verdict for each file, in the same order.
    """
    links = [verdict for verdict in verdicts if verdict.problem == ("ignored", FOLDER_LINK)]
    folder = storage.plain
    if not links or not isinstance(folder, LocalStorage):
        return list(verdicts)
    used_folders = _used_folders(verdicts)
    top = os.path.realpath(folder.folder)
    unused = set()
    for link in links:
        target = os.path.realpath(folder.folder / names.real_key(link.entry.key))
        if names.folder(os.path.relpath(target, top)) not in used_folders:
            unused.add(link.entry.key)
    problem = ("outside_root", "link to a folder whose files are not used")
    return [
        verdict._replace(problem=problem) if verdict.entry.key in unused else verdict
        for verdict in verdicts
    ]


def _used_folders(verdicts: Sequence[Verdict]) -> set[str]:
    """Return the folders in which images are used, or below which: as paths relative to DATA."""
    folders = set()
    for verdict in verdicts:
        if verdict.reading:
            folders.add(verdict.entry.key.rpartition("/")[0])
    used_folders = {"."}  # DATA itself
    for folder in folders:
        used_folders.update(parent_paths(folder))
    return used_folders
