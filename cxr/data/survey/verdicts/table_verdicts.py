"""What becomes of each file where a table says what the images show.

The table is right where it speaks: of the class, the split and the view. Where it has no row for an
image, the folders say its class, if they do.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pandas as pd

from cxr.core.settings import LABEL_NAMES, ReadingSettings
from cxr.data.folders.layout import Layout, Reading, Unread
from cxr.data.labels import choices, forms, image_labels
from cxr.data.labels.books import ROW_COLUMNS, LabelBooks
from cxr.data.labels.image_labels import ImageLabel, ImageLabels, NamedImages
from cxr.data.labels.label_table import read_label_table
from cxr.data.patients import image_tables
from cxr.data.patients.hidden_names import PlainNames
from cxr.data.patients.pseudonyms import find_salt, pseudonym
from cxr.data.survey.file_kinds import JudgedFile, Problem
from cxr.data.survey.files import File
from cxr.data.survey.questions.questions import LabelTableFile
from cxr.data.survey.verdicts.verdict import (
    MaskFolders,
    Verdict,
    judge_by_folders,
    problem_of_unread,
    reject,
)
from cxr.storage.base import Storage

# Folders at the top of DATA have a row each in the account where there are no more of them.
_MOST_GROUPS = 40
_NO_READING = Reading("", "", 0, "", "", "", "")
_HEADER_BYTES = 20_000
NO_ROW = "no row in the table of labels, and no folder says the class"


class TableVerdicts(NamedTuple):
    """The verdicts by a table of labels.

    Attributes:
        verdicts: One for each file, in their order.
        books: What became of the table's rows and of the images.
        rows: The rows that label no image alone, or not as the folders say: ROW_COLUMNS.
    """

    verdicts: list[Verdict]
    books: LabelBooks
    rows: pd.DataFrame


def judge_by_table(
    judged: Sequence[JudgedFile],
    settings: ReadingSettings,
    layout: Layout,
    names: PlainNames,
    data: str,
) -> TableVerdicts:
    """Decide what becomes of each file by a table of labels, and by folders where it says nothing.

    Args:
        judged: The files.
        settings: Where the table is, what it means, and which views are used.
        layout: How the folders are read.
        names: The real names, by which the table knows the images.
        data: DATA, as it was given.

    Raises:
        DataError: The table cannot be used, or something about it has to be chosen first.
    """
    table = read_label_table(settings)
    mapping = choices.require_choices(table, settings)
    mask_folders = MaskFolders(layout, "")
    candidates = [
        file.entry.key
        for file in judged
        if file.problem is None and not mask_folders.find(file.entry.key)
    ]
    labels = image_labels.label_images(
        table,
        mapping,
        _named_images(candidates, names, data),
    )
    judge = _Judge(settings, layout, mask_folders, labels, candidates)
    verdicts = [judge.judge(file) for file in judged]
    conflicts = _conflicts(verdicts, layout)
    books = labels.books.model_copy(
        update={"conflicts": len(conflicts), "notes_of_table": (*table.notes, *mapping.notes)}
    )
    return TableVerdicts(
        verdicts=verdicts,
        books=books,
        rows=pd.concat([labels.rows, conflicts], ignore_index=True),
    )


def _named_images(
    keys: Sequence[str],
    names: PlainNames,
    data: str,
) -> NamedImages:
    """Return the images as a table may name them; where names are hidden, so are the table's."""
    if not names.hidden_keys():
        return NamedImages(keys, keys, data, str, str)
    salt = find_salt()
    return NamedImages(
        keys=keys,
        real_keys=[names.real_key(key) for key in keys],
        data=data,
        hide=lambda name: f"film-{pseudonym('file', name, salt)}",
        hide_patient=lambda patient: pseudonym("patient", patient, salt),
    )


class _Judge:
    """Judges one file after the other.

    Args:
        settings: Which views are used.
        layout: How the folders are read.
        mask_folders: Where the masks are.
        labels: What the table says.
        keys: The keys of all candidates.
    """

    def __init__(
        self,
        settings: ReadingSettings,
        layout: Layout,
        mask_folders: MaskFolders,
        labels: ImageLabels,
        keys: Iterable[str],
    ):
        self._views = settings.views
        self._layout = layout
        self._mask_folders = mask_folders
        self._labels = labels.by_image
        tops = {layout.path(key).partition("/")[0] for key in keys if "/" in layout.path(key)}
        self._tops = tops if len(tops) <= _MOST_GROUPS else set()
        self._known: dict[tuple[Reading, str, int, str], Reading] = {}

    def judge(self, file: JudgedFile) -> Verdict:
        """Return the verdict on one file."""
        label = self._labels.get(file.entry.key)
        if label is None or file.problem is not None:
            return self._judge_unlisted(file)
        return self._judge_listed(file, label)

    def _judge_unlisted(self, file: JudgedFile) -> Verdict:
        """Return the verdict on a file that the table says nothing of."""
        verdict = judge_by_folders(file, self._layout, self._mask_folders)
        if verdict.reading:
            return verdict._replace(reading=verdict.reading._replace(root=""))
        if verdict.problem and verdict.problem[0] == "unknown_class":
            return reject(file, ("no_label", NO_ROW), self._group(file.entry.key, ""))
        return verdict

    def _judge_listed(self, file: JudgedFile, label: ImageLabel) -> Verdict:
        """Return the verdict on an image that has a row."""
        key = file.entry.key
        reading = self._layout.read(key)
        if isinstance(reading, Unread):
            reading = self._layout.read_split(key)
        if isinstance(reading, Unread):
            if not label.split:
                problem = problem_of_unread(reading, has_unread_backslash=False)
                return reject(file, problem, about=reading.folder)
            reading = _NO_READING
        group = self._group(key, reading.group)
        problem_of_label = self._problem(label)
        if problem_of_label:
            return reject(file, problem_of_label, group)
        return Verdict(
            entry=file.entry,
            kind=file.kind,
            reading=self._reading(reading, group, label),
            problem=None,
            group=group,
            listed=label,
        )

    def _problem(self, label: ImageLabel) -> Problem | None:
        """Return why an image is not used by what the table says of it."""
        if label.label is None:
            return "no_label", label.problem
        if label.view and label.view not in self._views:
            return "other_view", f"view {label.view} in the table of labels"
        return None

    def _group(self, key: str, folder: str) -> str:
        """Return the folder by which the account counts an image: a split's, a class's or a top one."""
        if folder:
            return folder
        top, slash, _ = self._layout.path(key).partition("/")
        return top if slash and top in self._tops else ""

    def _reading(
        self,
        reading: Reading,
        group: str,
        label: ImageLabel,
    ) -> Reading:
        """Return what folders and table say together; thousands of images share it."""
        question = (reading, group, label.label or 0, label.split)
        if question not in self._known:
            self._known[question] = reading._replace(
                root="",
                split=label.split or reading.split,
                label=label.label or 0,
                # A folder of bacterial pneumonias says nothing of a film that has none.
                etiology=reading.etiology if reading.label == label.label else "",
                group=group,
                class_folder=group,
                split_folder="" if label.split else reading.split_folder,
            )
        return self._known[question]


def _conflicts(verdicts: Iterable[Verdict], layout: Layout) -> pd.DataFrame:
    """Return the images that lie in a folder of the other class, in ROW_COLUMNS."""
    rows = []
    for verdict in verdicts:
        by_class = layout.read(verdict.entry.key)
        if verdict.reading is None or verdict.listed is None or isinstance(by_class, Unread):
            continue
        if by_class.label != verdict.reading.label:
            detail = (
                f"{LABEL_NAMES[verdict.reading.label]} in the table, "
                f"{LABEL_NAMES[by_class.label]} by its folder: the table is right"
            )
            rows.append(("", verdict.entry.key, "conflict", detail))
    return pd.DataFrame(rows, columns=ROW_COLUMNS)


def find_label_tables(
    storage: Storage,
    files: Iterable[File],
    names: PlainNames,
) -> list[LabelTableFile]:
    """Find the tables of public collections among files that are not used, by their columns.

    Args:
        storage: Where the files are.
        files: The files that are not used.
        names: The real names; where names are hidden, a message names no table.
    """
    keys = [file.key for file in files if _may_be_table(file, names)]
    found = []
    for key, answer in storage.peek_many([(key, None) for key in keys], _HEADER_BYTES):
        if isinstance(answer, Exception):
            continue
        form = forms.recognise(image_tables.read_header(answer))
        if form is not None:
            is_hidden = bool(names.hidden_keys())
            address = "FILE" if is_hidden else f"{storage.uri}/{key}"
            found.append(LabelTableFile(form, address, "one of the files" if is_hidden else key))
    return found


def _may_be_table(file: File, names: PlainNames) -> bool:
    """Return whether a file may hold a table of labels, by its real name."""
    name = names.real_key(file.key).lower()
    return file.kind in {"table", "archive"} and name.endswith((".csv", ".csv.gz", ".tsv"))
