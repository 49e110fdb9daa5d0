"""What has to be asked before a run: in one sentence, with the flags that answer it.

Each function returns a sentence, or "" where there is nothing to ask.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from cxr.core.formatting import printable
from cxr.core.settings import LABEL_NAMES
from cxr.data.folders.layout import Reading
from cxr.data.folders.names import likely_split, normalise_name
from cxr.data.survey import file_kinds
from cxr.data.survey.account import Account, File, format_count
from cxr.data.survey.file_kinds import JudgedFile
from cxr.data.survey.remedies import format_flag
from cxr.storage.base import Entry

SHOWN = 6  # folders in one sentence


class Image(NamedTuple):
    """A file that will be inspected, what its folders say, and its key as they are read."""

    entry: Entry
    reading: Reading
    path: str


def find_question(
    judged: Sequence[JudgedFile],
    images: Sequence[Image],
    files: Sequence[File],
    account: Account,
    roots: dict[str, int],
    unfit: Sequence[str],
) -> str:
    """Return why a run stops, the cause that explains most first.

    Args:
        judged: Every file, as judged.
        images: The images that would be used.
        files: Every file, as the account wants it.
        account: The account by folder.
        roots: How many images each data set has, where there are several.
        unfit: Given words and patterns that fit nothing.
    """
    if unfit:
        return f"{'; '.join(unfit[:SHOWN])}: correct it, or leave it out"
    if roots:
        return ask_which_data_set(roots)
    if not images:
        return explain_nothing_used(judged, files, account)
    return (
        ask_about_unsplit_images(images)
        or ask_about_pooled_test_sets(images)
        or account.question()
        or explain_no_train(images)
    )


def ask_which_data_set(roots: dict[str, int]) -> str:
    """Ask which of several data sets is meant."""
    named = _listed(roots)
    example = format_flag(
        "--splits", [f"{PurePosixPath(name).name}={likely_split_of_site(name)}" for name in roots]
    )
    return (
        f"expected one data set, found several: {named}. Give the folder of one of them, say which split each is "
        f"({example}), or leave some out with --exclude"
    )


def likely_split_of_site(name: str) -> str:
    """Return the split proposed for one of several data sets: what its name suggests, else train."""
    suggested = likely_split(name)
    return (
        suggested
        if any(word in normalise_name(name) for word in ("test", "val", "eval", "hold"))
        else "train"
    )


def explain_nothing_used(
    judged: Sequence[JudgedFile], files: Sequence[File], account: Account
) -> str:
    """Say what was found instead of images below class folders."""
    asked = account.question()
    if not asked:
        return file_kinds.explain_no_images(judged)
    reasons = {one.reason for one in files if one.kind == "image"}
    if "unknown_split" in reasons and "unknown_class" not in reasons:
        return asked
    expected = " or ".join(LABEL_NAMES)
    hints = [
        f"no image lies below a folder named {expected} (expected train/NORMAL/x.jpeg, test/…)",
        asked,
    ]
    if "--exclude" in asked and "--classes" not in asked and "image" in {one.kind for one in files}:
        hints.append(
            "--classes NORMAL=A PNEUMONIA=B,C says what folders A, B and C are (file names are not read)"
        )
    tables = [printable(one.entry.key) for one in judged if one.kind == "table"]
    if tables:
        hints.append(
            f"labels in tables are not read (found {tables[0]}): sort the images into folders"
        )
    return "; ".join(hints)


def ask_about_unsplit_images(images: Sequence[Image]) -> str:
    """Ask about images in no split folder where others are in one: they would all become train."""
    with_split = [one.reading for one in images if one.reading.split]
    without = [one for one in images if not one.reading.split]
    if not with_split or not without:
        return ""
    classes = {reading.class_folder for reading in with_split}
    places = Counter(_unsplit_place(one, classes) for one in without)
    loose = [place for place in places if place in classes]
    named = [place if "/" in place else f"/{place}" for place in places if place not in loose]
    words = [f"some images lie in no split folder, others do: {_listed(places)}"]
    if named:
        words.append(
            f"{format_flag('--splits', [f'{name}=train' for name in named])} (or =test, =val) says which split they are"
        )
        words.append(f"{format_flag('--exclude', named)} leaves them out")
    if loose:
        words.append(
            f"move the images that lie in {', '.join(map(printable, loose))} itself into a split folder"
        )
    folders = sorted({reading.split_folder for reading in with_split if reading.split_folder})
    if folders:
        words.append(
            f"where a folder is no split: {format_flag('--splits', [f'{folder}=none' for folder in folders])}"
        )
    return "; ".join(words)


def _unsplit_place(one: Image, classes: set[str]) -> str:
    """Return the folder to name for an image without a split: its class folder, or the one below that is no split."""
    folder = one.reading.class_folder
    if folder not in classes:
        return folder
    below = one.path.removeprefix(f"{folder}/").split("/")
    return f"{folder}/{below[0]}" if len(below) > 1 else folder


def ask_about_pooled_test_sets(images: Sequence[Image]) -> str:
    """Ask about several folders that would become one test set."""
    folders = _split_folders(images, "test")
    if len({normalise_name(PurePosixPath(folder).name) for folder in folders}) < 2:
        return ""
    names = sorted({PurePosixPath(folder).name for folder in folders})
    return (
        f"several folders would become one test set: {_listed(folders)}. If that is meant, add "
        f"{format_flag('--splits', [f'{name}=test' for name in names])}; where one is no test set, {format_flag('--exclude', names[-1:])} "
        "leaves it out"
    )


def note_pooled_training_sets(images: Sequence[Image]) -> list[str]:
    """Return a note for train, and for val, where several folders become one."""
    notes = []
    for split in ("train", "val"):
        folders = _split_folders(images, split)
        if len({normalise_name(PurePosixPath(folder).name) for folder in folders}) > 1:
            notes.append(f"several folders are read as {split}: {_listed(folders)}")
    return notes


def _split_folders(images: Sequence[Image], split: str) -> Counter[str]:
    readings = (one.reading for one in images)
    return Counter(one.split_folder for one in readings if one.split == split and one.split_folder)


def explain_no_train(images: Sequence[Image]) -> str:
    """Say that there is nothing to learn from, where only other splits were found."""
    splits = Counter(one.reading.split for one in images)
    if splits["train"] or splits[""]:
        return ""
    return (
        f"there is no train: found {_listed(splits)} alone. Give the folder that holds train, too, or say which "
        "folder it is: --splits FOLDER=train"
    )


def _listed(counts: dict[str, int]) -> str:
    """Return names with their numbers of images, the first ones where there are many."""
    named = [
        f"{printable(name) or '.'} ({format_count(count, 'images')})"
        for name, count in sorted(counts.items())
    ]
    more = f" and {len(named) - SHOWN:,} more" if len(named) > SHOWN else ""
    return ", ".join(named[:SHOWN]) + more
