"""What a person has to choose before labels can be read from a table: which findings mean what."""

import shlex
from collections.abc import Sequence

import numpy as np

from cxr.core.errors import DataError
from cxr.core.formatting import printable
from cxr.core.settings.labels import LabelSettings
from cxr.data.folders.names import usual_class
from cxr.data.labels import verdicts
from cxr.data.labels.forms import Form
from cxr.data.labels.label_table import LabelTable, normalise_finding
from cxr.data.labels.verdicts import Mapping

_FINDINGS_SHOWN = 20
_LETTERS_SHOWN = 40  # of a finding: a column of whole reports is no column of findings


def require_choices(table: LabelTable, settings: LabelSettings) -> Mapping:
    """Return what the findings of a table mean.

    Raises:
        DataError: `--negative` or `--positive` has to be chosen first, or names no finding.
    """
    mapping = verdicts.mapping_of(table, settings)
    notes = _note_unknown(table, "--positive", settings.positive)
    if not mapping.others:
        notes += _note_unknown(table, "--negative", settings.negative)
    if not mapping.positive:
        lacking = (
            f", none of its rows names {table.form.positive[0]}" if table.form.positive else ""
        )
        raise DataError(
            f"{table.uri}: --positive has to say which findings are PNEUMONIA{lacking}: "
            f"{_describe_findings(table)}. For example {_example_of_positive(table)}"
        )
    both = set(mapping.positive) & set(mapping.negative)
    if both:
        raise DataError(
            f"expected findings that are positive or negative, found {sorted(both)[0]} given as "
            "both --positive and --negative"
        )
    if not settings.negative:
        raise DataError(_ask_for_negative(table, mapping))
    return mapping._replace(notes=tuple(notes))


def _note_unknown(
    table: LabelTable,
    flag: str,
    words: Sequence[str],
) -> list[str]:
    """Return a note for each finding that was given and is nowhere in the table.

    Raises:
        DataError: None of them is: they are misspelt.
    """
    known = {normalise_finding(finding) for finding in table.findings}
    unknown = [word for word in words if normalise_finding(word) not in known]
    sentences = [
        f"{table.uri}: {flag} {shlex.quote(printable(word))} is no finding of the table"
        for word in unknown
    ]
    if unknown and len(unknown) == len(words):
        raise DataError(f"{sentences[0]}: {_describe_findings(table)}: correct it")
    return sentences


def _describe_findings(table: LabelTable) -> str:
    """Return the findings with the number of rows that name them, the most frequent ones first."""
    if not table.findings:
        return "it names no finding at all"
    counts = table.counts()
    texts = [
        f"{printable(finding)[:_LETTERS_SHOWN]} {counts.get(finding, 0):,}"
        for finding in table.findings[:_FINDINGS_SHOWN]
    ]
    hidden = len(table.findings) - _FINDINGS_SHOWN
    more = f" and {hidden:,} more findings" if hidden > 0 else ""
    return f"its findings, by rows, are {', '.join(texts)}{more}"


def _example_of_positive(table: LabelTable) -> str:
    """Return what to give as `--positive`, with findings of the table where some come near."""
    near = [
        finding
        for finding in table.findings
        if usual_class(finding) == "PNEUMONIA"
        or normalise_finding(finding) in {"consolidation", "infiltration"}
    ]
    words = near or ["FINDING"]
    return f"--positive {' '.join(shlex.quote(printable(word)) for word in words)}"


def _ask_for_negative(table: LabelTable, mapping: Mapping) -> str:
    """Return the question what pneumonia is told apart from, with what either answer means."""
    normal = normal_finding(table)
    positive = " or ".join(printable(finding) for finding in mapping.positive)
    answers = []
    if normal:
        chosen = mapping._replace(negative=(normal,))
        counts = _counts(table, chosen)
        answers.append(
            f"--negative {shlex.quote(printable(normal))} "
            f"({counts[verdicts.NORMAL]:,} images with it against {counts[verdicts.PNEUMONIA]:,} "
            f"with {positive}; {counts[2:].sum():,} are set aside)"
        )
    else:
        answers.append("--negative FINDING (images with that finding against them)")
    counts = _counts(table, mapping._replace(others=True))
    answers.append(
        f"--negative {verdicts.OTHERS} ({counts[verdicts.NORMAL]:,} images without {positive}, "
        f"whatever else they show, against {counts[verdicts.PNEUMONIA]:,})"
    )
    return (
        f"{table.uri}: what pneumonia is to be told apart from has to be chosen: "
        f"{', or '.join(answers)}; {_describe_findings(table)}"
    )


def normal_finding(table: LabelTable) -> str:
    """Return the finding that stands for films without any, "" where the table seems to have none."""
    for finding in table.findings:
        if normalise_finding(finding) == normalise_finding(table.form.normal):
            return finding
    for finding in table.findings:
        if usual_class(finding) == "NORMAL":
            return finding
    return ""


def _counts(table: LabelTable, mapping: Mapping) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Return how many images of a table get each verdict, int (verdicts,)."""
    units, images = np.unique(table.rows["image"].to_numpy(), return_inverse=True)
    found = verdicts.settle(table, mapping, images, len(units))
    return np.bincount(found, minlength=len(verdicts.PROBLEMS) + 2)


def suggest_flags(form: Form, address: str) -> str:
    """Return the flags that read the table of a public collection.

    Args:
        form: The form of the table.
        address: Where it is.
    """
    flag = f"--labels {form.collection}:{shlex.quote(printable(address))}"
    if not form.positive:
        flag += ' --positive Consolidation Infiltration "Lung Opacity"'
    return (
        f"{flag} --negative {shlex.quote(form.normal)} (pneumonia against films without a finding) "
        f"or --negative {verdicts.OTHERS} (against everything else)"
    )
