"""Find the images that a prediction was asked for."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from cxr.core.errors import DataError
from cxr.core.settings import FileSettings
from cxr.data.folders.names import is_of_masks
from cxr.data.folders.patterns import has_wildcard, unfit_patterns
from cxr.data.survey import file_kinds
from cxr.data.survey.file_kinds import JudgedFile
from cxr.storage.addresses import is_local, local_folder, open_storage
from cxr.storage.base import Entry, Storage
from cxr.storage.local import describe_missing


class ImageToScore(NamedTuple):
    """One image to score: where it is, at which version, and what it is called in the table."""

    storage: Storage
    key: str
    version: str | None
    name: str


class Inputs(NamedTuple):
    """What a person pointed at.

    `wanted` are the images, `rejects` the (name, reason, detail) of every other file, `judged` all.
    """

    wanted: list[ImageToScore]
    rejects: list[tuple[str, str, str]]
    judged: list[file_kinds.JudgedFile]


def find_images(data: Sequence[str], out: str, files: FileSettings) -> Inputs:
    """Return what is at the addresses `data`, judged as training judges it.

    Images at one address are called by their keys below it, those at several by address and key.

    Args:
        data: Images, folders or S3 prefixes.
        out: The table to be written, which is no data where it lies among the images.
        files: Which files are looked at.

    Returns:
        Every file, each once.

    Raises:
        DataError: Where there is nothing.
        StorageError: Where a place cannot be read.
    """
    found = Inputs([], [], [])
    names: set[str] = set()
    for address in data:
        storage, entries, prefix = _opened(address, files)
        own = [entry for entry in entries if not _is_at(storage, entry.key, out)]
        for one in _without_masks(file_kinds.judge_files(storage, own, files), files):
            name = prefix + one.entry.key if len(data) > 1 else one.entry.key
            if name in names:  # given twice
                continue
            names.add(name)
            found.judged.append(one)
            if one.problem:
                found.rejects.append((name, *one.problem))
            else:
                found.wanted.append(ImageToScore(storage, one.entry.key, one.entry.version, name))
    unfit = [words for words in unfit_patterns(files, sorted(names)) if not has_wildcard(words)]
    if unfit and found.judged:
        raise DataError(f"{'; '.join(unfit)}: correct it, or leave it out")
    if not found.judged:
        raise DataError(f"{', '.join(data)}: {file_kinds.explain_no_images([])}")
    found.wanted.sort(key=lambda one: one.name)
    return found


def _without_masks(judged: list[JudgedFile], files: FileSettings) -> list[JudgedFile]:
    """Return the judged files, those in folders of masks rejected, as in training."""
    out = []
    for one in judged:
        key = one.entry.key.replace("\\", "/") if files.backslash_folders else one.entry.key
        is_mask = one.problem is None and any(map(is_of_masks, key.split("/")[:-1]))
        out.append(one._replace(problem=("mask", "lies in a folder of masks")) if is_mask else one)
    return out


def _opened(address: str, files: FileSettings) -> tuple[Storage, list[Entry], str]:
    """Return the storage behind an address, its files, and what stands before their keys in it."""
    if is_local(address):
        path = local_folder(address)
        if not _is_folder(path):
            return _opened_file(address, str(path.parent), path.name, describe_missing(path))
        storage = open_storage(address, files.follow_links)
    else:
        storage = open_storage(address)
    entries = list(storage.list())
    parent, _, name = address.rpartition("/")
    if not entries and name and not is_local(parent):
        return _opened_file(address, parent, name, f"{address}: {file_kinds.explain_no_images([])}")
    return storage, entries, address.rstrip("/") + "/"


def _opened_file(
    address: str,
    parent: str,
    name: str,
    problem: str,
) -> tuple[Storage, list[Entry], str]:
    """Return the storage around one file; a link that a person names is followed."""
    storage = open_storage(parent, follow_links=True)
    entry = storage.find(name)
    if entry is None:
        is_pattern = any(sign in name for sign in "*?[")
        raise DataError(f"{address}: no file fits this pattern" if is_pattern else problem)
    above, slash, _ = address.rpartition("/")
    return storage, [entry], above + slash


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
