"""Find the images that a prediction was asked for."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from cxr.core.errors import DataError
from cxr.core.settings import FileSettings
from cxr.data.folders.names import is_of_masks
from cxr.data.folders.patterns import has_wildcard, unfit_patterns
from cxr.data.patients import hidden_names
from cxr.data.patients.hidden_storage import DataStorage, open_data
from cxr.data.survey import file_kinds
from cxr.data.survey.file_kinds import JudgedFile
from cxr.data.survey.verdicts.hiding import hide_names
from cxr.serving.prediction.predictions import summary_address
from cxr.storage.addresses import is_local, local_folder
from cxr.storage.base import Entry, Storage
from cxr.storage.local import describe_missing


class ImageToScore(NamedTuple):
    """One image to score.

    Attributes:
        storage: Where it is.
        key: Its real key there.
        version: Its version there, None where the storage has none.
        name: What it is called in the table: a public name where there is DICOM at its address.
    """

    storage: Storage
    key: str
    version: str | None
    name: str


class Inputs(NamedTuple):
    """What a person pointed at.

    Attributes:
        wanted: The images to score.
        rejects: Name, reason and detail of every other file.
        judged: All files, as they were judged, by the names that may be shown.
    """

    wanted: list[ImageToScore]
    rejects: list[tuple[str, str, str]]
    judged: list[JudgedFile]


class _Place(NamedTuple):
    """The files behind one address, and what stands before their keys in it."""

    storage: DataStorage
    entries: list[Entry]
    prefix: str


def find_images(
    data: Sequence[str],
    out: str,
    files: FileSettings,
    key_map: str | None = None,
) -> Inputs:
    """Find what is at the addresses `data`, judged as training judges it.

    Images at one address are called by their keys below it, those at several by address and key.
    Where there is DICOM, all names are public ones.

    Args:
        data: Images, folders or S3 prefixes.
        out: The table to be written, which is no input where it lies among the images.
        files: Which files are looked at.
        key_map: A file for the real names behind the public ones; None to write none.

    Returns:
        Every file, each once.

    Raises:
        UsageError: There is DICOM and no salt is set, or the key map may not be where it shall be.
        DataError: There is nothing, or a pattern of `files` fits nothing.
        StorageError: A place cannot be read.
    """
    map_path = hidden_names.require_key_map(key_map) if key_map else None
    inputs = Inputs([], [], [])
    shown_names: dict[str, str] = {}  # by the real ones
    for address in data:
        place = _open_place(address, files)
        judged = _judge(place, out, files)
        names = hide_names(place.storage, judged, files)
        prefix = place.prefix if len(data) > 1 else ""
        for file in judged:
            key = names.real_key(file.entry.key)
            if prefix + key in shown_names:  # given twice
                continue
            name = names.folder(prefix) + file.entry.key
            shown_names[prefix + key] = name
            inputs.judged.append(file)
            if file.problem:
                inputs.rejects.append((name, *file.problem))
            else:
                image = ImageToScore(place.storage, key, file.entry.version, name)
                inputs.wanted.append(image)
    if not inputs.judged:
        raise DataError(f"{', '.join(data)}: {file_kinds.explain_no_images([])}")
    if map_path:
        rows = ((name, real_name) for real_name, name in shown_names.items())
        hidden_names.write_key_map(map_path, rows)
    _require_fitting_patterns(files, {*shown_names, *shown_names.values()})
    inputs.wanted.sort(key=lambda image: image.name)
    return inputs


def _require_fitting_patterns(
    files: FileSettings,
    names: set[str],
) -> None:
    """Raise DataError where a setting names a file that is not there."""
    unfit = unfit_patterns(files, sorted(names))
    # A pattern with a wildcard may well fit nothing here: it was written for the whole data set.
    missing = [sentence for sentence in unfit if not has_wildcard(sentence)]
    if missing:
        raise DataError(f"{'; '.join(missing)}: correct it, or leave it out")


def _judge(
    place: _Place,
    out: str,
    files: FileSettings,
) -> list[JudgedFile]:
    """Judge the files at a place; as in training, those in folders of masks are rejected."""
    outputs = (out, summary_address(out))
    entries = [
        entry
        for entry in place.entries
        if not any(_is_at(place.storage, entry.key, output) for output in outputs)
    ]
    judged = []
    for file in file_kinds.judge_files(place.storage, entries, files):
        if file.problem is None and _is_in_mask_folder(file, files):
            judged.append(file._replace(problem=("mask", "lies in a folder of masks")))
        else:
            judged.append(file)
    return judged


def _is_in_mask_folder(
    file: JudgedFile,
    files: FileSettings,
) -> bool:
    """Return whether one of the folders above a file is one of masks."""
    key = file.entry.key
    if files.backslash_folders:
        key = key.replace("\\", "/")
    folders = key.split("/")[:-1]
    return any(map(is_of_masks, folders))


def _open_place(
    address: str,
    files: FileSettings,
) -> _Place:
    """Open a folder, a prefix or a single file."""
    if is_local(address):
        path = local_folder(address)
        if not _is_folder(path):
            return _open_file(address, str(path.parent), path.name, describe_missing(path))
        storage = open_data(address, files.follow_links)
    else:
        storage = open_data(address)
    entries = list(storage.list())
    parent, _, name = address.rpartition("/")
    if not entries and name and not is_local(parent):
        problem = f"{address}: {file_kinds.explain_no_images([])}"
        return _open_file(address, parent, name, problem)
    return _Place(storage, entries, address.rstrip("/") + "/")


def _open_file(
    address: str,
    parent: str,
    name: str,
    problem: str,
) -> _Place:
    """Open the folder around one file; a link that a person names is followed.

    Raises:
        DataError: There is no such file; with `problem`, or a word on patterns.
    """
    storage = open_data(parent, follow_links=True)
    entry = storage.find(name)
    if entry is None:
        is_pattern = any(sign in name for sign in "*?[")
        raise DataError(f"{address}: no file fits this pattern" if is_pattern else problem)
    above, slash, _ = address.rpartition("/")
    return _Place(storage, [entry], above + slash)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # what it is shows when it is opened
        return False


def _is_at(storage: Storage, key: str, out: str) -> bool:
    """Return whether a file is the one at the address `out`."""
    if PurePosixPath(key).name != PurePosixPath(out).name:
        return False
    if not is_local(out):
        return f"{storage.uri}/{key}".partition("://")[2] == out.partition("://")[2]
    return os.path.realpath(f"{storage.uri}/{key}") == os.path.realpath(local_folder(out))
