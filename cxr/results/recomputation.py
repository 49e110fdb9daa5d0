"""Every figure of a finished run computed again from its scores, and every file compared with its digest.

Left out: scoring again (the scores are the measurement), and the pictures, which are redrawn by nobody here.
"""

import math
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pydantic

from cxr.core import __version__
from cxr.core.errors import CxrError, DataError
from cxr.core.files import file_sha256, read_table
from cxr.core.formatting import format_metric
from cxr.core.records import SCHEMA, Record
from cxr.core.settings import LABEL_NAMES
from cxr.data.manifest.records import Ingest
from cxr.exploration.audit import Audit
from cxr.models import selection
from cxr.models.selection import Selection
from cxr.models.training import validation
from cxr.models.training.records import Failure, Training
from cxr.results import evaluation, rendering, report
from cxr.results.evaluation import Evaluation
from cxr.results.gradcam.summary import Attention
from cxr.results.model_card import Card, written_by
from cxr.stats import metrics
from cxr.stats.calibration import Calibration
from cxr.stats.intervals import Interval
from cxr.stats.metrics import Metrics

TOLERANCE = 1e-9
MEASURES = report.MEASURES
_PAGES = "MODEL_CARD.md and report.html say what the records say"
# Fields that hold a name, which is compared where other texts are not.
_NAMES = {"name", "architecture", "best", "eligible", "method"}


class Check(NamedTuple):
    """One thing that was looked at.

    `problem` is empty where it holds; `note` says why it could not be looked at, if so.
    """

    what: str
    problem: str
    note: str = ""


def verify(run: Path, table: Path | None = None) -> list[Check]:
    """Return every check of a finished run, also of one that an earlier version of cxr wrote.

    A file of the run that cannot be read is a problem in the list, not an error. The wording of
    records and pages changes between versions: of another version's run the numbers, the choice
    and the digests are checked, its texts and pages are not.

    Args:
        run: The run folder, or its export folder.
        table: A Markdown file that quotes the run.

    Raises:
        DataError: The folder holds no finished run, or one that a newer version wrote.
    """
    run = run.parent if run.name == "export" else run
    if not (run / "export" / "model_card.json").is_file():
        raise DataError(
            f"{run}: expected a finished run with export/model_card.json, found none: give runs/RUN"
        )
    other = _other_writer(run)
    steps: list[tuple[str, Callable[[], Iterator[str]]]] = [
        ("checksums of export/", lambda: _checksums(run / "export")),
        ("confusion matrices fit their proportions", lambda: _books(run)),
        (
            "validation figures, calibration and threshold from scores_val.csv",
            lambda: _validation(run),
        ),
        ("the choice from the validation scores", lambda: _selection(run)),
        ("test figures, intervals and subgroups from scores_test.csv", lambda: _test(run)),
        ("model_card.json holds the run's own records", lambda: _card(run)),
    ]
    if not other:
        steps.append((_PAGES, lambda: _pages(run)))
    if table:
        steps.append((f"the figures quoted in {table.name}", lambda: _quoted(run, table)))
    checks = [Check(what, _problem(look)) for what, look in steps]
    if other:
        checks.append(Check(_PAGES, "", f"not compared, {other} wrote them"))
    return checks


def _other_writer(run: Path) -> str:
    """Return which other version of cxr wrote a run, or an empty text where it was this one.

    Raises:
        DataError: A newer version wrote it, and this one cannot read it.
    """
    path = run / "export" / "model_card.json"
    try:
        version, schema = written_by(path)
    except (ValueError, KeyError, TypeError):
        return ""  # a damaged card is a problem for the checks to find
    if schema > SCHEMA:
        Card.read(path)  # says what to do
    if (version, schema) == (__version__, SCHEMA):
        return ""
    return f"cxr {version} (schema version {schema})"


def _problem(look: Callable[[], Iterator[str]]) -> str:
    try:
        return "; ".join(look())
    except (CxrError, OSError, ValueError, KeyError) as error:
        return f"cannot be checked: {error}"


def _checksums(folder: Path) -> Iterator[str]:
    listed = dict(
        line.split("  ", 1)[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines()
    )
    found = {
        path.name
        for path in folder.iterdir()
        if path.name != "SHA256SUMS" and not path.name.startswith(".")
    }
    for name in sorted(found ^ set(listed)):
        yield f"{name} is {'not listed' if name in found else 'listed and not there'}"
    digests = {name: file_sha256(folder / name) for name in sorted(found)}
    for name in sorted(found & set(listed)):
        if digests[name] != listed[name]:
            yield f"{name} changed since it was exported"
    expected = _read_card(folder.parent).model_sha256
    if digests.get("model.keras", expected) != expected:
        yield "model.keras is not the model of the card"


def _read_card(run: Path) -> Card:
    return Card.read(run / "export" / "model_card.json")


def _trainings(run: Path) -> list[Training]:
    paths = sorted(run.glob("*/training.json"))
    return [Training.read(path) for path in paths if not (path.parent / "failure.json").is_file()]


def _books(run: Path) -> Iterator[str]:
    found = [(f"val of {t.name}", t.val) for t in _trainings(run)]
    for where, figures in [*found, ("test", Evaluation.read(run / "evaluation.json").test)]:
        yield from (f"{where}: {words}" for words in misfits(figures))


def misfits(figures: Metrics) -> list[str]:
    """Return in words where counts and proportions do not fit together; an empty list where they do.

    >>> misfits({"n": 4, "positives": 2, "tp": 2, "fp": 1, "tn": 1, "fn": 0, "accuracy": 0.9, "sensitivity": 1.0,
    ...          "specificity": 0.5, "precision": 2 / 3, "npv": 1.0})
    ['accuracy is 0.9, its counts give 0.75']
    """
    counts = {name: int(figures[name] or 0) for name in ("n", "positives", "tp", "fp", "tn", "fn")}
    tp, fp, tn, fn = (counts[name] for name in ("tp", "fp", "tn", "fn"))
    words = []
    if (tp + fp + tn + fn, tp + fn) != (counts["n"], counts["positives"]):
        words.append(
            f"tp + fp + tn + fn = {tp + fp + tn + fn} and tp + fn = {tp + fn}, not {counts['n']} and {counts['positives']}"
        )
    for name, (k, of) in metrics.proportion_counts(tp, fp, tn, fn).items():
        if _differ(figures[name], k / of if of else None):
            words.append(f"{name} is {figures[name]}, its counts give {k / of if of else None}")
    return words


def _validation(run: Path) -> Iterator[str]:
    settings = _read_card(run).settings
    texts = not _other_writer(run)
    for training in _trainings(run):
        table = read_table(run / training.name / "scores_val.csv")
        yield from (
            f"{training.name}: {words}" for words in _not_calibrated(table, training.calibration)
        )
        again = validation.fit_on_validation(
            table, settings.model_copy(update={"seed": training.seed})
        )
        kept = {name: getattr(training, name) for name in again}
        yield from (f"{training.name}: {words}" for words in unequal(kept, again, texts))


def _not_calibrated(table: pd.DataFrame, fitted: Calibration) -> Iterator[str]:
    if (
        float(abs(fitted.apply(table["raw_score"].to_numpy()) - table["score"].to_numpy()).max())
        > TOLERANCE
    ):
        yield "score is not the calibrated raw_score"


def _selection(run: Path) -> Iterator[str]:
    failed = [Failure.read(path) for path in sorted(run.glob("*/failure.json"))]
    yield from unequal(
        Selection.read(run / "selection.json"),
        selection.select_model(_trainings(run), failed, run),
        texts=not _other_writer(run),
    )
    with tempfile.TemporaryDirectory() as scratch:
        selection.write_comparison(_trainings(run), failed, Path(scratch))
        if (Path(scratch) / "comparison.csv").read_bytes() != (run / "comparison.csv").read_bytes():
            yield "comparison.csv is not what the trainings give"


def _test(run: Path) -> Iterator[str]:
    kept, path, card = (
        Evaluation.read(run / "evaluation.json"),
        run / "scores_test.csv",
        _read_card(run),
    )
    if file_sha256(path) != kept.scores_sha256:
        yield "scores_test.csv is not the file that was evaluated (SHA-256 differs)"
    table = read_table(path)
    wanted = card.data.splits["test"]
    if table["label"].map(dict(enumerate(LABEL_NAMES))).value_counts().to_dict() != {
        k: n for k, n in wanted.items() if n
    }:
        yield f"scores_test.csv has not the images of test: expected {wanted}"
    yield from _not_calibrated(table, card.calibration)
    again = evaluation.test_metrics(table, kept.threshold)
    yield from unequal(
        {name: getattr(kept, name) for name in again}, again, texts=not _other_writer(run)
    )


def _card(run: Path) -> Iterator[str]:
    card = _read_card(run)
    chosen = Selection.read(run / "selection.json")
    records: dict[str, Record] = {
        "evaluation": Evaluation.read(run / "evaluation.json"),
        "selection": chosen,
        "training": Training.read(run / chosen.name / "training.json"),
        "attention": Attention.read(run / "attention.json"),
        "audit": Audit.read(run / "data" / "audit.json"),
        "data": Ingest.read(run / "data" / "ingest.json"),
    }
    for name, record in records.items():
        if getattr(card, name).model_dump() != record.model_dump():
            yield f"its {name} is not that of the run"


def _pages(run: Path) -> Iterator[str]:
    if (run / "export" / "MODEL_CARD.md").read_text() != rendering.card_text(_read_card(run)):
        yield "MODEL_CARD.md is not what the card gives (edited, or written by another version)"
    if (run / "report.html").read_text(encoding="utf-8") != report.report_page(run):
        yield "report.html is not what the records give (edited, or written by another version)"


def _quoted(run: Path, table: Path) -> Iterator[str]:
    found = evaluation.test_metrics(
        read_table(run / "scores_test.csv"), Evaluation.read(run / "evaluation.json").threshold
    )
    yield from misquoted(table.read_text(encoding="utf-8"), found["test"], found["intervals"])


def misquoted(text: str, test: Metrics, ends: dict[str, Interval | None]) -> Iterator[str]:
    """Yield what Markdown rows such as "| Sensitivity (recall) | 0.969 | 0.947 to 0.982 |" say otherwise, if anything.

    Figures that `text` does not quote are left alone; none at all is a problem too.
    """
    seen = 0
    for name, words in MEASURES.items():
        interval = ends[name]
        wanted = (
            format_metric(test[name]),
            f"{format_metric(interval.low)} to {format_metric(interval.high)}"
            if interval
            else "not estimable",
        )
        for row in re.finditer(
            rf"^\|\s*{re.escape(words)}\s*\|([^|]*)\|([^|]*)\|", text, re.MULTILINE
        ):
            seen += 1
            if (row[1].strip(), row[2].strip()) != wanted:
                yield f"{words}: {row[1].strip()} ({row[2].strip()}), the scores give {wanted[0]} ({wanted[1]})"
    if not seen:
        yield f"expected rows such as '| {MEASURES['sensitivity']} | 0.969 | 0.947 to 0.982 |', found none"


def unequal(kept: Any, found: Any, texts: bool = True, where: str = "") -> Iterator[str]:
    """Yield each place where two records differ, or dictionaries and tuples of them.

    Numbers may differ by TOLERANCE. Where not `texts`, texts other than names may differ.

    >>> list(unequal({"test": {"auroc": 0.9}}, {"test": {"auroc": 0.8}}))
    ['test auroc is 0.9, the scores give 0.8']
    """
    kept, found = (
        each.model_dump() if isinstance(each, pydantic.BaseModel) else each
        for each in (kept, found)
    )
    if isinstance(found, dict) and isinstance(kept, dict) and kept.keys() == found.keys():
        for name in found:
            yield from unequal(kept[name], found[name], texts, f"{where} {name}".strip())
    elif (
        isinstance(found, tuple | list)
        and isinstance(kept, tuple | list)
        and len(kept) == len(found)
    ):
        for at, (one, other) in enumerate(zip(kept, found, strict=True)):
            yield from unequal(one, other, texts, f"{where} {at + 1}".strip())
    elif _differ(kept, found) and (texts or not _is_wording(kept, where)):
        yield f"{where} is {kept}, the scores give {found}"


def _is_wording(value: Any, where: str) -> bool:
    """Return whether a value is a text that is no name; `where` holds the names of its fields."""
    return isinstance(value, str) and not _NAMES.intersection(where.split())


def _differ(kept: Any, found: Any) -> bool:
    if isinstance(kept, float | int) and isinstance(found, float | int):
        return not math.isclose(kept, found, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(kept != found)
