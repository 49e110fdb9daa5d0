"""Read a table of labels: what its rows say, before it is known whose images they are."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cxr.core.errors import DataError
from cxr.core.formatting import printable
from cxr.core.settings.labels import LabelSettings
from cxr.data.labels import attributes, mimic
from cxr.data.labels.forms import Form, column_of, form_of
from cxr.data.patients import image_tables
from cxr.data.patients.image_tables import normalise_column

Array = np.ndarray[Any, Any]

_PRESENT = 1
_ABSENT = 0
_UNCERTAIN = -1
ATTRIBUTES = ("patient", "age", "sex", "view", "split")


class Mentions(NamedTuple):
    """Which rows name which findings: one element for each mention.

    Attributes:
        row: Position of the row, int (m,).
        finding: Position of the finding in `LabelTable.findings`, int (m,).
        uncertain: Whether the finding is uncertain there, bool (m,).
    """

    row: Array
    finding: Array
    uncertain: Array


class LabelTable(NamedTuple):
    """What a table of labels says.

    Attributes:
        uri: Where it is.
        form: How it is written.
        rows: One row for each of the table: image (or folder), reader, and ATTRIBUTES, all texts,
            empty where the table says nothing.
        findings: The findings, as they are written, the most frequent first.
        mentions: Which rows name which of them.
        films: View and split of single films, where a row is about all films of a study.
        notes: What of the table could not be used, in sentences.
    """

    uri: str
    form: Form
    rows: pd.DataFrame
    findings: tuple[str, ...]
    mentions: Mentions
    films: Mapping[str, tuple[str, str]]
    notes: tuple[str, ...]

    def counts(self, uncertain: bool = False) -> dict[str, int]:
        """Count the rows that name each finding.

        Args:
            uncertain: Whether to count those that are uncertain of it, instead of the others.
        """
        chosen = self.mentions.finding[self.mentions.uncertain == uncertain]
        numbers = np.bincount(chosen, minlength=len(self.findings))
        return {
            finding: int(count)
            for finding, count in zip(self.findings, numbers, strict=True)
            if count
        }


def normalise_finding(text: str) -> str:
    """Return a finding in the form in which findings are compared.

    >>> [normalise_finding(text) for text in ("No_finding ", "1.0", "-1")]
    ['no finding', '1', '-1']
    """
    words = text.replace("_", " ").casefold().split()
    finding = " ".join(words)
    number, _, decimals = finding.partition(".")
    if number.lstrip("-").isdigit() and decimals and not decimals.strip("0"):
        return number
    return finding


def read_label_table(settings: LabelSettings) -> LabelTable:
    """Read the table that `--labels` names.

    Args:
        settings: Where it is, and what its columns are called.

    Raises:
        DataError: It cannot be read, is empty, is of another form, or lacks a column.
    """
    _, _, uri = settings.labels.partition(":")
    texts = image_tables.read_texts(uri)
    form = form_of(texts, settings)
    if texts.empty:
        raise DataError(f"{uri}: expected a table of labels with a row for each image, found none")
    table = form.prepare(texts)
    images = column_of(table, form.image)
    _require_one_line_a_row(uri, images)
    rows = {"image": images, "reader": _texts(table, form.reader)}
    cleaned = attributes.clean_attributes(
        {name: _texts(table, getattr(form, name)) for name in ATTRIBUTES}
    )
    if form.label:
        found = _mentions_in_cells(column_of(table, form.label), settings)
    else:
        found = _mentions_in_columns(uri, table, form)
    findings, mentions = _most_frequent_first(*found)
    films = mimic.read_films(uri) if form.names_folder else mimic.NO_FILMS
    notes = [f"{uri}: {note}" for note in cleaned.notes]
    return LabelTable(
        uri=uri,
        form=form,
        rows=pd.DataFrame(rows | cleaned.columns),
        findings=findings,
        mentions=mentions,
        films=films.by_name,
        notes=(*notes, *films.notes),
    )


def _texts(table: pd.DataFrame, column: str) -> "pd.Series[str]":
    """Return a column of a table; empty texts where its form has none."""
    if column:
        return column_of(table, column)
    return pd.Series("", index=table.index, dtype=object)


def _require_one_line_a_row(uri: str, images: "pd.Series[str]") -> None:
    """Raise DataError where a quote that is never closed swallowed the lines that follow it."""
    for place, name in enumerate(images):
        if "\n" in name:
            raise DataError(
                f"{uri}: expected one line a row, found a line break inside a cell of row "
                f"{place + 2}: correct it"
            )


def _mentions_in_cells(
    cells: "pd.Series[str]",
    settings: LabelSettings,
) -> tuple[list[str], Mentions]:
    """Read findings that stand in one column, several of them with a separator between them."""
    codes, texts = pd.factorize(cells)
    places: dict[str, int] = {}  # of findings, by how they are compared
    spellings: list[str] = []
    findings_of_text: list[Array] = []
    for text in texts:
        parts = text.split(settings.separator) if settings.separator else [text]
        for part in parts:
            if places.setdefault(normalise_finding(part), len(spellings)) == len(spellings):
                spellings.append(part.strip())
        named = [places[normalise_finding(part)] for part in parts if part.strip()]
        findings_of_text.append(np.array(named, np.int32))
    counts = np.array([len(findings) for findings in findings_of_text], np.int32)
    mentions_of_rows = [findings_of_text[code] for code in codes]
    finding = np.concatenate([np.empty(0, np.int32), *mentions_of_rows])
    # In a column of 1, 0 and -1, -1 is uncertain unless somebody says what it is.
    given = {normalise_finding(word) for word in (*settings.positive, *settings.negative)}
    is_uncertain = np.array([text == "-1" and text not in given for text in places], bool)
    mentions = Mentions(
        row=np.repeat(np.arange(len(codes)), counts[codes]),
        finding=finding,
        uncertain=is_uncertain[finding],
    )
    return spellings, mentions


def _mentions_in_columns(
    uri: str,
    table: pd.DataFrame,
    form: Form,
) -> tuple[list[str], Mentions]:
    """Read findings that have a column each: 1, 0, -1 or nothing."""
    no_findings = {normalise_column(name) for name in (*form.named_columns(), *form.others)}
    # A row of a table that was saved with its index has a number in a column without a name.
    no_findings.add("")
    columns = [
        str(column) for column in table.columns if normalise_column(str(column)) not in no_findings
    ]
    rows = []
    findings = []
    uncertain = []
    for place, column in enumerate(columns):
        codes, texts = pd.factorize(table[column])
        states = np.array([_state(uri, column, text) for text in texts], np.int8)[codes]
        mentioned = np.flatnonzero(states != _ABSENT)
        rows.append(mentioned)
        findings.append(np.full(len(mentioned), place, np.int32))
        uncertain.append(states[mentioned] == _UNCERTAIN)
    mentions = Mentions(
        row=np.concatenate(rows),
        finding=np.concatenate(findings),
        uncertain=np.concatenate(uncertain),
    )
    return columns, mentions


def _state(uri: str, column: str, text: str) -> int:
    """Return what a cell says of its column's finding."""
    states = {"": _ABSENT, "0": _ABSENT, "1": _PRESENT, "-1": _UNCERTAIN}
    state = states.get(normalise_finding(text))
    if state is None:
        raise DataError(
            f"{uri}: expected 1, 0, -1 or nothing in the column {column} of a finding, "
            f"found {printable(text)[:40]}: correct it, or remove the column"
        )
    return state


def _most_frequent_first(
    findings: list[str],
    mentions: Mentions,
) -> tuple[tuple[str, ...], Mentions]:
    """Sort the findings by how often they are named."""
    counts = np.bincount(mentions.finding, minlength=len(findings)).tolist()
    named = [place for place, finding in enumerate(findings) if finding]
    order = sorted(named, key=lambda place: (-counts[place], findings[place]))
    places = np.zeros(len(findings), np.int32)
    places[order] = np.arange(len(order), dtype=np.int32)
    sorted_findings = tuple(findings[place] for place in order)
    return sorted_findings, mentions._replace(finding=places[mentions.finding])
