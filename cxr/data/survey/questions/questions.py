"""What has to be asked before a run: each question is one sentence with the flags that answer it.

A function that asks or explains returns "" where there is nothing to ask.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from cxr.core.formatting import NAMES_SHOWN, format_count, format_names, printable
from cxr.core.settings import LABEL_NAMES
from cxr.data.folders.layout import Reading
from cxr.data.folders.names import likely_split, normalise_name
from cxr.data.labels import choices
from cxr.data.labels.forms import Form
from cxr.data.labels.image_labels import ImageLabel
from cxr.data.survey import file_kinds
from cxr.data.survey.account import Account
from cxr.data.survey.files import File
from cxr.data.survey.questions.wording import format_flag
from cxr.storage.base import Entry


class Image(NamedTuple):
    """A file that will be inspected.

    Attributes:
        entry: As listed.
        reading: What its folders say.
        path: Its key as its folders are read, with slashes.
        listed: What a table of labels says of it, None where there is no row.
    """

    entry: Entry
    reading: Reading
    path: str
    listed: ImageLabel | None = None


class LabelTableFile(NamedTuple):
    """A table of a public collection that lies in DATA.

    Attributes:
        form: How it is written.
        address: What `--labels` takes to read it.
        shown_name: What it may be called in a message.
    """

    form: Form
    address: str
    shown_name: str


def find_question(
    unused: Sequence[File],
    images: Sequence[Image],
    account: Account,
    data_sets: Mapping[str, int],
    mistakes: Sequence[str],
    tables: Sequence[LabelTableFile] = (),
) -> str:
    """Return why a run stops, the cause that explains most first; "" where it does not stop.

    Args:
        unused: The files that would not be used.
        images: The images that would be.
        account: The account by folder.
        data_sets: How many images each data set has, where there are several.
        mistakes: A sentence for each given word or pattern that fits nothing.
        tables: The tables of labels in DATA that could be given.
    """
    if mistakes:
        return f"{'; '.join(mistakes[:NAMES_SHOWN])}: correct it, or leave it out"
    if data_sets:
        return ask_which_data_set(data_sets)
    if not images:
        return explain_nothing_used(unused, account, tables)
    return (
        ask_about_unsplit_images(images)
        or ask_about_pooled_test_sets(images)
        or account.question()
        or explain_no_train(images)
    )


def ask_which_data_set(data_sets: Mapping[str, int]) -> str:
    """Ask which of several data sets is meant.

    Args:
        data_sets: How many images each one has, by folder.
    """
    values = []
    for folder in data_sets:
        name = PurePosixPath(folder).name
        values.append(f"{name}={_likely_split_of_site(folder)}")
    return (
        f"expected one data set, found several: {_format_image_counts(data_sets)}. "
        "Give the folder of one of them, "
        f"say which split each is ({format_flag('--splits', values)}), "
        "or leave some out with --exclude"
    )


def _likely_split_of_site(name: str) -> str:
    """Return the split to propose for a data set: what its name suggests, else train."""
    normal_name = normalise_name(name)
    if any(word in normal_name for word in ("test", "val", "eval", "hold")):
        return likely_split(name)
    return "train"


def explain_nothing_used(
    files: Sequence[File],
    account: Account,
    tables: Sequence[LabelTableFile] = (),
) -> str:
    """Say what was found instead of images below class folders."""
    reasons = {file.reason for file in files if file.kind in {"image", "dicom"}}
    if tables and reasons:
        return explain_label_tables(tables)
    if "no_label" in reasons:
        return explain_no_label(files)
    question = account.question()
    if not question:
        judged = [
            file_kinds.JudgedFile(
                Entry(file.key, 0, ""),
                file.kind,
                (file.reason, ""),
            )
            for file in files
        ]
        return file_kinds.explain_no_images(judged)
    if "unknown_split" in reasons and "unknown_class" not in reasons:
        return question
    class_names = " or ".join(LABEL_NAMES)
    hints = [
        f"no image lies below a folder named {class_names} (expected train/NORMAL/x.jpeg, test/…)",
        question,
    ]
    if "--exclude" in question and "--classes" not in question and reasons:
        hints.append(
            "--classes NORMAL=A PNEUMONIA=B,C says what folders A, B and C are "
            "(file names are not read)"
        )
    for file in files:
        if file.kind == "table":
            hints.append(
                f"where a table has the labels (there is {printable(file.key)}), --labels csv:FILE "
                "with --image-column, --label-column, --positive and --negative reads it"
            )
            break
    return "; ".join(hints)


def explain_label_tables(tables: Sequence[LabelTableFile]) -> str:
    """Say by which flags the table of a public collection is read that lies in DATA."""
    sentences = [
        f"{table.shown_name} is the table of {table.form.title}: give "
        f"{choices.suggest_flags(table.form, table.address)}"
        for table in tables[:NAMES_SHOWN]
    ]
    return f"the labels are in a table, no class folders are needed: {'; '.join(sentences)}"


def explain_no_label(files: Sequence[File]) -> str:
    """Say that no image has a label although a table of labels was given."""
    counts = Counter(file.reason for file in files if file.kind in {"image", "dicom"})
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts.most_common())
    return (
        f"the table of labels gives no image a label that can be used ({reasons}): look at "
        "--positive, --negative, --uncertain and --views"
    )


def ask_about_unsplit_images(images: Sequence[Image]) -> str:
    """Ask about images in no split folder where others are in one: they would all become train."""
    readings = {image.reading for image in images}
    readings_with_split = [reading for reading in readings if reading.split]
    unsplit_images = [image for image in images if not image.reading.split]
    if not readings_with_split or not unsplit_images:
        return ""
    split_classes = {reading.class_folder for reading in readings_with_split}
    counts = Counter(_unsplit_folder(image, split_classes) for image in unsplit_images)
    shared_folders = [folder for folder in counts if folder in split_classes]
    own_folders = [folder for folder in counts if folder not in split_classes]
    sentences = [f"some images lie in no split folder, others do: {_format_image_counts(counts)}"]
    if own_folders:
        # A name alone would mean folders of that name elsewhere, too: a slash says that it is at
        # the top.
        names = [folder if "/" in folder else f"/{folder}" for folder in own_folders]
        splits_flag = format_flag("--splits", [f"{name}=train" for name in names])
        sentences.append(f"{splits_flag} (or =test, =val) says which split they are")
        sentences.append(f"{format_flag('--exclude', names)} leaves them out")
    if shared_folders:
        named = ", ".join(printable(folder) for folder in shared_folders)
        sentences.append(f"move the images that lie in {named} itself into a split folder")
    split_folders = {reading.split_folder for reading in readings_with_split}
    values = [f"{folder}=none" for folder in sorted(split_folders - {""})]
    if values:
        sentences.append(f"where a folder is no split: {format_flag('--splits', values)}")
    return "; ".join(sentences)


def _unsplit_folder(
    image: Image,
    split_classes: set[str],
) -> str:
    """Return the folder to name for an image without a split.

    It is the class folder, or the folder below it where other images of that class folder have a
    split.
    """
    class_folder = image.reading.class_folder
    if class_folder not in split_classes:
        return class_folder
    name, slash, _ = image.path.removeprefix(f"{class_folder}/").partition("/")
    return f"{class_folder}/{name}" if slash else class_folder


def ask_about_pooled_test_sets(images: Sequence[Image]) -> str:
    """Ask about several folders that would become one test set."""
    counts = _count_by_split_folder(images, "test")
    if not _has_several_names(counts):
        return ""
    names = sorted({PurePosixPath(folder).name for folder in counts})
    splits_flag = format_flag("--splits", [f"{name}=test" for name in names])
    exclude_flag = format_flag("--exclude", names[-1:])
    return (
        f"several folders would become one test set: {_format_image_counts(counts)}. "
        f"If that is meant, add {splits_flag}; "
        f"where one is no test set, {exclude_flag} leaves it out"
    )


def note_pooled_training_sets(images: Sequence[Image]) -> list[str]:
    """Return a note for train, and one for val, where several folders become one."""
    notes = []
    for split in ("train", "val"):
        counts = _count_by_split_folder(images, split)
        if _has_several_names(counts):
            notes.append(f"several folders are read as {split}: {_format_image_counts(counts)}")
    return notes


def _count_by_split_folder(
    images: Sequence[Image],
    split: str,
) -> Counter[str]:
    """Count the images of a split by those of its folders that a word in the name makes one."""
    readings = (image.reading for image in images)
    return Counter(
        reading.split_folder
        for reading in readings
        if reading.split == split and reading.split_folder
    )


def _has_several_names(folders: Mapping[str, int]) -> bool:
    """Return whether folders have more than one name: test below each class is one test set."""
    names = {normalise_name(PurePosixPath(folder).name) for folder in folders}
    return len(names) > 1


def explain_no_train(images: Sequence[Image]) -> str:
    """Say that there is nothing to learn from, where only other splits were found."""
    counts = Counter(image.reading.split for image in images)
    if counts["train"] or counts[""]:
        return ""
    return (
        f"there is no train: found {_format_image_counts(counts)} alone. "
        "Give the folder that holds train, too, or say which folder it is: --splits FOLDER=train"
    )


def _format_image_counts(counts: Mapping[str, int]) -> str:
    """Return folders with their numbers of images, sorted, the first ones where there are many."""
    named = [
        f"{printable(folder) or '.'} ({format_count(count, 'images')})"
        for folder, count in sorted(counts.items())
    ]
    return format_names(named)
