"""Every figure of a finished run computed again from its scores, and every file compared with its digest.

Left out: scoring again (the scores are the measurement), and the pictures, which are redrawn by nobody here.
"""

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cxr import evaluation, export, intervals, metrics, operating, report, selection
from cxr.errors import CxrError, DataError
from cxr.export import Card, figure
from cxr.metrics import Figures
from cxr.records import Evaluation, Failure, Selection, Training, file_sha256, read_table

TOLERANCE = 1e-9
MEASURES = report.MEASURES


class Check(NamedTuple):
    """One thing that was looked at; `problem` is empty where it holds."""

    what: str
    problem: str


def verify(run: Path, table: Path | None = None) -> list[Check]:
    """Return every check of the run folder `run` (or its export folder); `table` is a Markdown file that quotes it.

    Raises DataError where the folder holds no finished run. A file of the run that cannot be read is a problem in
    the list, not an error.
    """
    run = run.parent if run.name == "export" else run
    if not (run / "export" / "model_card.json").is_file():
        raise DataError(f"{run}: expected a finished run with export/model_card.json, found none: give runs/RUN")
    steps: list[tuple[str, Callable[[], Iterator[str]]]] = [
        ("checksums of export/", lambda: _checksums(run / "export")),
        ("confusion matrices fit their proportions", lambda: _books(run)),
        ("validation figures, calibration and threshold from scores_val.csv", lambda: _validation(run)),
        ("the choice from the validation scores", lambda: _selection(run)),
        ("test figures, intervals and subgroups from scores_test.csv", lambda: _test(run)),
        ("model_card.json holds the run's own records", lambda: _card(run)),
        ("MODEL_CARD.md and report.html say what the records say", lambda: _pages(run)),
    ]
    if table:
        steps.append((f"the figures quoted in {table.name}", lambda: _quoted(run, table)))
    return [Check(what, _problem(look)) for what, look in steps]


def _problem(look: Callable[[], Iterator[str]]) -> str:
    try:
        return "; ".join(look())
    except (CxrError, OSError, ValueError, KeyError) as error:
        return f"cannot be checked: {error}"


def _checksums(folder: Path) -> Iterator[str]:
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ", 1)
        if file_sha256(folder / name) != digest:
            yield f"{name} changed since it was exported"


def _trainings(run: Path) -> list[Training]:
    return [Training.read(path) for path in sorted(run.glob("*/training.json"))]


def _books(run: Path) -> Iterator[str]:
    found = [(f"val of {t.name}", t.val) for t in _trainings(run)]
    for where, figures in [*found, ("test", Evaluation.read(run / "evaluation.json").test)]:
        yield from (f"{where}: {words}" for words in misfits(figures))


def misfits(figures: Figures) -> list[str]:
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
    for name, (k, of) in metrics.ratios(tp, fp, tn, fn).items():
        if _differ(figures[name], k / of if of else None):
            words.append(f"{name} is {figures[name]}, its counts give {k / of if of else None}")
    return words


def _validation(run: Path) -> Iterator[str]:
    settings = Card.read(run / "export" / "model_card.json").settings
    for training in _trainings(run):
        table = read_table(run / training.name / "scores_val.csv")
        labels, scores = table["label"].to_numpy(), table["score"].to_numpy()
        again = training.calibration.apply(table["raw_score"].to_numpy())
        if float(abs(again - scores).max()) > TOLERANCE:
            yield f"{training.name}: score is not the calibrated raw_score"
        point = operating.choose(labels, scores, operating.rule(settings))
        if _differ(point.threshold, training.threshold):
            yield f"{training.name}: threshold {training.threshold}, the rule gives {point.threshold}"
        found = metrics.figures(labels, scores, training.threshold)
        yield from (f"{training.name}: {words}" for words in _unequal(training.val, found))
        drawn = intervals.bootstrap(labels, scores, table["patient_id"].to_numpy(), training.threshold)
        yield from (
            f"{training.name}: interval of {words}" for words in _unequal(_ends(training.val_intervals), _ends(drawn))
        )


def _selection(run: Path) -> Iterator[str]:
    kept = Selection.read(run / "selection.json")
    names = {path.parent.name for path in run.glob("*/failure.json")}
    failed = [Failure.read(run / name / "failure.json") for name in sorted(names)]
    again = selection.select(_trainings(run), failed, run)
    if (again.name, again.reason) != (kept.name, kept.reason):
        yield f"{kept.name} was chosen, the rule gives {again.name}"


def _test(run: Path) -> Iterator[str]:
    kept, path = Evaluation.read(run / "evaluation.json"), run / "scores_test.csv"
    if file_sha256(path) != kept.scores_sha256:
        yield "scores_test.csv is not the file that was evaluated (SHA-256 differs)"
    table, card = read_table(path), Card.read(run / "export" / "model_card.json")
    if float(abs(card.calibration.apply(table["raw_score"].to_numpy()) - table["score"].to_numpy()).max()) > TOLERANCE:
        yield "score is not the calibrated raw_score"
    found = evaluation.measured(table, kept.threshold)
    yield from _unequal(kept.test, found["test"])
    yield from (f"interval of {words}" for words in _unequal(_ends(kept.intervals), _ends(found["intervals"])))
    if kept.subgroups != found["subgroups"]:
        yield "subgroups are not those of the scores"
    if kept.calibration_quality != found["calibration_quality"]:
        yield "calibration figures are not those of the scores"


def _card(run: Path) -> Iterator[str]:
    card = Card.read(run / "export" / "model_card.json")
    if card.evaluation != Evaluation.read(run / "evaluation.json"):
        yield "its evaluation is not evaluation.json"
    chosen = Selection.read(run / "selection.json")
    if card.selection != chosen or card.training != Training.read(run / chosen.name / "training.json"):
        yield "its choice is not selection.json, or its training not training.json"
    if not card.threshold == card.training.threshold == card.evaluation.threshold:
        yield f"thresholds differ: {card.threshold}, {card.training.threshold}, {card.evaluation.threshold}"


def _pages(run: Path) -> Iterator[str]:
    card = Card.read(run / "export" / "model_card.json")
    if (run / "export" / "MODEL_CARD.md").read_text() != export.words(card):
        yield "MODEL_CARD.md is not what the card gives (edited, or written by another version)"
    if (run / "report.html").read_text(encoding="utf-8") != report.page(run.parent.parent, run):
        yield "report.html is not what the records give (edited, other files in the work folder, or another version)"


def _quoted(run: Path, table: Path) -> Iterator[str]:
    found = evaluation.measured(read_table(run / "scores_test.csv"), Evaluation.read(run / "evaluation.json").threshold)
    yield from misquoted(table.read_text(encoding="utf-8"), found["test"], found["intervals"])


def misquoted(text: str, test: Figures, ends: dict[str, intervals.Interval | None]) -> Iterator[str]:
    """Yield what Markdown rows such as "| Sensitivity (recall) | 0.969 | 0.947 to 0.982 |" say otherwise, if anything.

    Figures that `text` does not quote are left alone; none at all is a problem too.
    """
    seen = 0
    for name, words in MEASURES.items():
        row = re.search(rf"^\|\s*{re.escape(words)}\s*\|([^|]*)\|([^|]*)\|", text, re.MULTILINE)
        if row is None:
            continue
        seen += 1
        interval = ends[name]
        wanted = (
            figure(test[name]),
            f"{figure(interval.low)} to {figure(interval.high)}" if interval else "not estimable",
        )
        if (row[1].strip(), row[2].strip()) != wanted:
            yield f"{words}: {row[1].strip()} ({row[2].strip()}), the scores give {wanted[0]} ({wanted[1]})"
    if not seen:
        yield f"expected rows such as '| {MEASURES['sensitivity']} | 0.969 | 0.947 to 0.982 |', found none"


def _ends(found: dict[str, intervals.Interval | None]) -> Figures:
    return {
        f"{name}, {end}": getattr(each, end) if each else None
        for name, each in found.items()
        for end in ("low", "high")
    }


def _unequal(kept: Figures, found: Figures) -> Iterator[str]:
    for name in found:
        if name not in kept or _differ(kept[name], found[name]):
            yield f"{name} is {kept.get(name)}, the scores give {found[name]}"


def _differ(kept: Any, found: Any) -> bool:
    if kept is None or found is None:
        return kept is not found
    return not math.isclose(kept, found, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
