"""The forms in which tables say what films show: those of five public collections, and any other.

A form names the columns that matter. Column names are compared without regard to case and blanks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from cxr.core.errors import DataError
from cxr.core.formatting import format_names
from cxr.core.settings.labels import COLLECTIONS, LabelSettings
from cxr.data.patients.image_tables import normalise_column

_SHOWN = 20  # columns in a message


def _as_it_is(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose columns already say everything."""
    return table


@dataclass(frozen=True)
class Form:
    """How a table says what its images show.

    Attributes:
        collection: nih, rsna, vindr, chexpert or mimic; csv for any other table.
        title: What the collection is called.
        known_by: The columns that tell the form.
        image: The column that names the image, or its folder.
        label: The column of the findings; "" where each finding has a column of its own, with 1 for
            present, 0 for absent, -1 for uncertain, and nothing where it is not mentioned.
        positive: Findings that are pneumonia; none where a person has to say.
        normal: The finding that stands for films without any.
        rule: How several rows, boxes or readers of one image are settled, in words.
        reader: The column that tells readers apart, whose majority counts.
        patient: The column of the patient.
        age: The column of the age.
        sex: The column of the sex.
        view: The column of the view.
        split: The column of the split.
        others: Further columns that are no findings.
        names_folder: Whether a row names a folder, all of whose images it is about.
        several_rows: Whether an image usually has several rows, one for each box or finding.
        any_positive: Whether one positive finding outweighs negative ones of the same image.
        prepare: Adds the columns that have to be read from others.
    """

    collection: str
    title: str
    known_by: tuple[str, ...]
    image: str
    label: str
    positive: tuple[str, ...]
    normal: str
    rule: str
    reader: str = ""
    patient: str = ""
    age: str = ""
    sex: str = ""
    view: str = ""
    split: str = ""
    others: tuple[str, ...] = ()
    names_folder: bool = False
    several_rows: bool = False
    any_positive: bool = False
    prepare: Callable[[pd.DataFrame], pd.DataFrame] = _as_it_is

    def named_columns(self) -> tuple[str, ...]:
        """Return the columns that a table of this form must have, without those of findings."""
        columns = (
            self.image,
            self.label,
            self.reader,
            self.patient,
            self.age,
            self.sex,
            self.view,
            self.split,
        )
        return tuple(column for column in columns if column)


def column_of(table: pd.DataFrame, name: str) -> "pd.Series[str]":
    """Return a column by its name in any spelling.

    Raises:
        DataError: There is none.
    """
    wanted = normalise_column(name)
    for column in table.columns:
        if normalise_column(str(column)) == wanted:
            return table[column]
    raise DataError(
        f"expected a column {name}, found {format_names([str(name) for name in table.columns], most=_SHOWN)}"
    )


def _with_chexpert_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Add patient and view to a table of CheXpert, in which both stand in pieces."""
    path = column_of(table, "Path")
    side = column_of(table, "Frontal/Lateral").str.strip().str.upper()
    view = column_of(table, "AP/PA")
    return table.assign(
        table_patient=path.str.extract(r"(patient\d+)", expand=False).fillna(""),
        table_view=view.mask(side == "LATERAL", "LATERAL"),
    )


def _with_mimic_folder(table: pd.DataFrame) -> pd.DataFrame:
    """Add the folder of the study to a table of MIMIC-CXR, which has its numbers alone."""
    subject = column_of(table, "subject_id").str.strip()
    study = column_of(table, "study_id").str.strip()
    folder = "p" + subject.str[:2] + "/p" + subject + "/s" + study
    return table.assign(study_folder=folder)


_ONE_ROW = (
    "all rows of an image count together: it is PNEUMONIA if one of them has a positive finding, "
    "NORMAL if one has a negative one, and set aside if both are there"
)
_CHEXPERT = Form(
    collection="chexpert",
    title="CheXpert",
    known_by=("path", "frontal/lateral", "no_finding", "pneumonia"),
    image="Path",
    label="",
    positive=("Pneumonia",),
    normal="No Finding",
    rule=_ONE_ROW + "; blank and 0 are absent, -1 is uncertain",
    patient="table_patient",
    age="Age",
    sex="Sex",
    view="table_view",
    others=("Frontal/Lateral", "AP/PA"),
    prepare=_with_chexpert_columns,
)
_MAJORITY = (
    "what more than half of an image's readers say counts: PNEUMONIA for a reader who has a "
    "positive finding, NORMAL for one who has a negative one; without a majority the image is set "
    "aside"
)
FORMS: tuple[Form, ...] = (
    Form(
        collection="nih",
        title="NIH ChestX-ray14",
        known_by=("image_index", "finding_labels"),
        image="Image Index",
        label="Finding Labels",
        positive=("Pneumonia",),
        normal="No Finding",
        rule=_ONE_ROW,
        patient="Patient ID",
        age="Patient Age",
        sex="Patient Gender",
        view="View Position",
    ),
    Form(
        collection="rsna",
        title="RSNA Pneumonia Detection Challenge",
        known_by=("patientid", "target"),
        image="patientId",
        label="Target",
        positive=("1",),
        normal="0",
        rule="all boxes of an image count together: one with Target 1 makes it PNEUMONIA",
        several_rows=True,
        any_positive=True,
    ),
    Form(
        collection="rsna",
        title="RSNA Pneumonia Detection Challenge (detailed classes)",
        known_by=("patientid", "class"),
        image="patientId",
        label="class",
        positive=("Lung Opacity",),
        normal="Normal",
        rule=_ONE_ROW,
        several_rows=True,
    ),
    Form(
        collection="vindr",
        title="VinDr-CXR (VinBigData)",
        known_by=("image_id", "class_name"),
        image="image_id",
        label="class_name",
        positive=(),
        normal="No finding",
        rule=_MAJORITY,
        reader="rad_id",
        several_rows=True,
    ),
    Form(
        collection="vindr",
        title="VinDr-CXR (labels of images)",
        known_by=("image_id", "no_finding", "pneumonia"),
        image="image_id",
        label="",
        positive=("Pneumonia",),
        normal="No finding",
        rule=_MAJORITY,
        reader="rad_id",
    ),
    _CHEXPERT,
    Form(
        collection="mimic",
        title="MIMIC-CXR",
        known_by=("subject_id", "study_id", "no_finding", "pneumonia"),
        image="study_folder",
        label="",
        positive=("Pneumonia",),
        normal="No Finding",
        rule="a study's findings are those of each of its images; blank and 0 are absent, -1 is "
        "uncertain",
        patient="subject_id",
        others=("study_id",),
        names_folder=True,
        prepare=_with_mimic_folder,
    ),
)


def recognise(columns: Sequence[str]) -> Form | None:
    """Return the form of a public collection that a table with these columns has."""
    known = {normalise_column(column) for column in columns}
    for form in FORMS:
        if known.issuperset(form.known_by):
            return form
    return None


def form_of(table: pd.DataFrame, settings: LabelSettings) -> Form:
    """Return the form of the table that `--labels` names, with the columns that were given.

    Raises:
        DataError: The table is not of that collection, or lacks a column.
    """
    collection, _, uri = settings.labels.partition(":")
    columns = [str(column) for column in table.columns]
    form = recognise(columns)
    if collection not in COLLECTIONS:
        form = Form(
            collection="csv",
            title="a table of labels",
            known_by=(),
            image="image",
            label="label",
            positive=(),
            normal="",
            rule=_ONE_ROW,
        )
    elif form is None or form.collection != collection:
        raise DataError(_describe_other_form(uri, collection, form, columns))
    form = _without_missing_reader(form, columns)
    form = replace(
        form,
        image=settings.image_column or form.image,
        label=settings.label_column or form.label,
        patient=settings.patient_column or form.patient,
        age=settings.age_column or form.age,
        sex=settings.sex_column or form.sex,
        view=settings.view_column or form.view,
        split=settings.split_column or form.split,
    )
    if settings.image_column:
        form = replace(form, names_folder=False)
    _require_columns(form, form.prepare(table.head(0)), uri)
    return form


def _without_missing_reader(form: Form, columns: Sequence[str]) -> Form:
    """Return a form for a table without readers, as those of agreed labels are."""
    if form.reader and form.reader not in {normalise_column(column) for column in columns}:
        return replace(form, reader="", rule=_ONE_ROW)
    return form


def _require_columns(form: Form, table: pd.DataFrame, uri: str) -> None:
    """Raise DataError where a table lacks a column that its form or a flag names."""
    columns = [str(column) for column in table.columns]
    known = {normalise_column(column) for column in columns}
    missing = [name for name in form.named_columns() if normalise_column(name) not in known]
    if not missing:
        return
    sentence = (
        f"{uri}: expected the column {missing[0]}, found {format_names(columns, most=_SHOWN)}"
    )
    if form.collection == "csv":
        other = recognise(columns)
        sentence += ": name the columns with --image-column and --label-column"
        if other:
            sentence += f", or read it as {other.title} with --labels {other.collection}:{uri}"
    raise DataError(sentence)


def _describe_other_form(
    uri: str,
    collection: str,
    found: Form | None,
    columns: Sequence[str],
) -> str:
    """Return what is wrong where a table is not of the collection that was named."""
    expected = [form for form in FORMS if form.collection == collection]
    known_by = " or ".join(", ".join(form.known_by) for form in expected)
    sentence = (
        f"{uri}: expected the table of {expected[0].title} with the columns {known_by}, "
        f"found {format_names(columns, most=_SHOWN)}"
    )
    if found:
        return f"{sentence}: it is the table of {found.title}: --labels {found.collection}:{uri}"
    return f"{sentence}: name its columns with --labels csv:{uri} --image-column --label-column"
