"""The checks of a finished run: its metrics from its scores, its files by their digests.

Images are not scored again: the scores are the measurement. Pictures are not drawn again.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from cxr.core import __version__
from cxr.core.errors import CxrError, DataError
from cxr.core.files import file_sha256, read_table
from cxr.core.records import SCHEMA, Record
from cxr.core.settings import LABEL_NAMES
from cxr.data.manifest.records import Ingest
from cxr.exploration.audit import Audit
from cxr.models import selection, stress
from cxr.models.selection import Selection
from cxr.models.training import validation
from cxr.models.training.records import Failure, Training
from cxr.results import evaluation, exporting
from cxr.results.cards import model_card, rendering
from cxr.results.cards.model_card import Card
from cxr.results.cards.usefulness import measure_usefulness
from cxr.results.evaluation import Evaluation, read_stress_test
from cxr.results.evaluation.abstention.measurement import JUDGEMENTS_NAME, read_abstention
from cxr.results.evaluation.formats.records import SCORES_NAME as FORMAT_SCORES_NAME
from cxr.results.evaluation.formats.records import read_format_test, read_formats
from cxr.results.evaluation.in_scope import summarise_scope
from cxr.results.evaluation.job import RELOAD_TOLERANCE
from cxr.results.evaluation.robustness import SCORES_NAME
from cxr.results.gradcam.summary import Attention
from cxr.results.report import page
from cxr.results.verify.abstention_checks import abstention_problems
from cxr.results.verify.differences import TOLERANCE, count_misfits, record_differences
from cxr.results.verify.format_checks import format_problems
from cxr.results.verify.member_checks import member_problems
from cxr.results.verify.quoted_table import misquotes
from cxr.stats.calibration import Calibration

_STRESS_CHECK = f"metrics in the stress worlds and behind masks from {SCORES_NAME}"
_ABSTENTION_CHECK = f"metrics among the answered test images from {JUDGEMENTS_NAME}"
_FORMATS_CHECK = f"files for other runtimes, and their proofs from {FORMAT_SCORES_NAME}"
_USEFULNESS_CHECK = "decision curve and cost table from scores_test.csv"
_PAGES_CHECK = "the pages of the card and report.html say what the records say"


class Check(NamedTuple):
    """One thing that was checked.

    Attributes:
        what: What was checked.
        problem: What is wrong; empty where nothing is.
        note: Why it could not be checked; empty where it was.
    """

    what: str
    problem: str
    note: str = ""


def verify_run(run: Path, table: Path | None = None) -> list[Check]:
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
    if run.name == "export":
        run = run.parent
    if not _card_path(run).is_file():
        raise DataError(
            f"{run}: expected a finished run with export/model_card.json, found none: give runs/RUN"
        )
    other_version = _other_version(run)
    checks = [
        _check("checksums of export/", _checksum_problems, run),
        _check("confusion matrices fit their proportions", _count_problems, run),
        _check(
            "validation metrics, calibration and threshold from scores_val.csv",
            _validation_problems,
            run,
        ),
        _check("the choice from the validation scores", _selection_problems, run),
        _check(
            "test metrics, intervals and subgroups from scores_test.csv",
            _test_problems,
            run,
        ),
        _check("model_card.json holds the run's own records", _card_problems, run),
    ]
    if other_version and read_stress_test(run) is None:
        checks.append(Check(_STRESS_CHECK, "", f"not measured by {other_version}"))
    else:
        checks.append(_check(_STRESS_CHECK, _stress_problems, run))
    if read_abstention(run) is None and not (run / JUDGEMENTS_NAME).exists():
        note = "not measured: the model does not know its scope"
        checks.append(Check(_ABSTENTION_CHECK, "", note))
    else:
        checks.append(_check(_ABSTENTION_CHECK, _abstention_problems, run))
    if other_version and _read_card(run).usefulness is None:
        checks.append(Check(_USEFULNESS_CHECK, "", f"not measured by {other_version}"))
    else:
        checks.append(_check(_USEFULNESS_CHECK, _usefulness_problems, run))
    if read_format_test(run) is not None:
        checks.append(_check(_FORMATS_CHECK, _format_problems, run))
    if not other_version:
        checks.append(_check(_PAGES_CHECK, _page_problems, run))
    if table:
        what = f"the metrics quoted in {table.name}"
        checks.append(_check(what, lambda run: _quotation_problems(run, table), run))
    if other_version:
        checks.append(Check(_PAGES_CHECK, "", f"not compared, {other_version} wrote them"))
    return checks


def _check(what: str, find_problems: Callable[[Path], Iterator[str]], run: Path) -> Check:
    """Return one check; a file that cannot be read is its problem."""
    try:
        problem = "; ".join(find_problems(run))
    except (CxrError, OSError, ValueError, KeyError) as error:
        problem = f"cannot be checked: {error}"
    return Check(what, problem)


def _card_path(run: Path) -> Path:
    return run / "export" / model_card.NAME


def _read_card(run: Path) -> Card:
    return Card.read(_card_path(run))


def _read_trainings(run: Path) -> list[Training]:
    """Return the trainings that did not fail."""
    paths = sorted(run.glob("*/training.json"))
    return [Training.read(path) for path in paths if not (path.parent / "failure.json").is_file()]


def _other_version(run: Path) -> str:
    """Return which other version of cxr wrote a run; empty where it was this one.

    Raises:
        DataError: A newer version wrote it, and this one cannot read it.
    """
    try:
        version, schema = model_card.written_by(_card_path(run))
    except (ValueError, KeyError, TypeError):
        return ""  # a damaged card is a problem for the checks to find
    if schema > SCHEMA:
        _read_card(run)  # raises the error that says what to do
    if version == __version__ and schema == SCHEMA:
        return ""
    return f"cxr {version} (schema version {schema})"


def _checksum_problems(run: Path) -> Iterator[str]:
    """Compare the files of export/ with SHA256SUMS, and the model with the card."""
    folder = run / "export"
    listed = {}
    for line in (folder / exporting.CHECKSUMS_NAME).read_text().splitlines():
        digest, name = line.split("  ", 1)
        listed[name] = digest
    digests = {name: file_sha256(folder / name) for name in exporting.checksum_names(folder)}
    for name in sorted(digests.keys() | listed.keys()):
        if name not in listed:
            yield f"{name} is not listed"
        elif name not in digests:
            yield f"{name} is listed and not there"
        elif digests[name] != listed[name]:
            yield f"{name} changed since it was exported"
    expected = _read_card(run).model_sha256
    if digests.get("model.keras", expected) != expected:
        yield "model.keras is not the model of the card"


def _count_problems(run: Path) -> Iterator[str]:
    """Compare the proportions of each record with its own counts."""
    metrics_by_place = {
        f"val of {training.name}": training.val for training in _read_trainings(run)
    }
    metrics_by_place["test"] = Evaluation.read(run / "evaluation.json").test
    for place, metrics in metrics_by_place.items():
        for misfit in count_misfits(metrics):
            yield f"{place}: {misfit}"


def _validation_problems(run: Path) -> Iterator[str]:
    """Fit calibration and threshold of each training again, on its validation scores."""
    settings = _read_card(run).settings
    texts = not _other_version(run)
    for training in _read_trainings(run):
        scores = read_table(run / training.name / "scores_val.csv")
        problems = list(_calibration_problems(scores, training.calibration))
        own_settings = settings.model_copy(update={"seed": training.seed})
        worlds = stress.read_world_scores(run / training.name / stress.VAL_SCORES)
        recomputed = validation.fit_on_validation(scores, worlds, own_settings)
        stored = {name: getattr(training, name) for name in recomputed}
        problems += record_differences(stored, recomputed, texts)
        problems += member_problems(run, training, scores)
        for problem in problems:
            yield f"{training.name}: {problem}"


def _calibration_problems(scores: pd.DataFrame, calibration: Calibration) -> Iterator[str]:
    """Compare the calibrated scores with the calibration of the raw ones."""
    expected = calibration.apply(scores["raw_score"].to_numpy())
    difference = abs(expected - scores["score"].to_numpy())
    if float(difference.max()) > TOLERANCE:
        yield "score is not the calibrated raw_score"


def _selection_problems(run: Path) -> Iterator[str]:
    """Select again, and write comparison.csv again."""
    trainings = _read_trainings(run)
    failures = [Failure.read(path) for path in sorted(run.glob("*/failure.json"))]
    stored = Selection.read(run / "selection.json")
    recomputed = selection.select_model(trainings, failures, run)
    yield from record_differences(stored, recomputed, texts=not _other_version(run))
    with tempfile.TemporaryDirectory() as scratch:
        selection.write_comparison(trainings, failures, Path(scratch))
        expected = (Path(scratch) / "comparison.csv").read_bytes()
    if (run / "comparison.csv").read_bytes() != expected:
        yield "comparison.csv is not what the trainings give"


def _test_problems(run: Path) -> Iterator[str]:
    """Compute the evaluation again from the scores of the test set."""
    card = _read_card(run)
    stored = Evaluation.read(run / "evaluation.json")
    path = run / "scores_test.csv"
    if file_sha256(path) != stored.scores_sha256:
        yield "scores_test.csv is not the file that was evaluated (SHA-256 differs)"
    scores = read_table(path)
    expected = card.data.splits["test"]
    present = {name: count for name, count in expected.items() if count}
    counts = scores["label"].map(dict(enumerate(LABEL_NAMES))).value_counts()
    if counts.to_dict() != present:
        yield f"scores_test.csv has not the images of test: expected {expected}"
    yield from _calibration_problems(scores, card.calibration)
    recomputed = evaluation.test_metrics(scores, stored.threshold)
    other_version = _other_version(run)
    if other_version and stored.subgroup_tests is None:
        del recomputed["subgroup_tests"]  # that version did not test them
    stored_values = {name: getattr(stored, name) for name in recomputed}
    yield from record_differences(stored_values, recomputed, texts=not other_version)


def _stress_problems(run: Path) -> Iterator[str]:
    """Compute the metrics in the stress worlds and behind masks again from the scores there."""
    stored = read_stress_test(run)
    if stored is None:
        yield "robustness.json is missing: delete export.json, run again"
        return
    path = run / SCORES_NAME
    if file_sha256(path) != stored.world_scores_sha256:
        yield f"{SCORES_NAME} is not the file that was measured (SHA-256 differs)"
    scores = read_table(path)
    clean = read_table(run / "scores_test.csv").set_index("image")["raw_score"]
    if not scores["image"].isin(clean.index).all():
        yield f"{SCORES_NAME} has images that are not in scores_test.csv"
    else:
        again = scores["clean"].to_numpy(float)
        difference = abs(again - clean.loc[scores["image"]].to_numpy())
        if float(difference.max()) > RELOAD_TOLERANCE:
            yield f"the clean scores of {SCORES_NAME} are not those of scores_test.csv"
    calibration = _read_card(run).calibration
    recomputed = evaluation.stress_metrics(scores, calibration, stored.threshold)
    stored_values = {name: getattr(stored, name) for name in recomputed}
    yield from record_differences(stored_values, recomputed, texts=not _other_version(run))


def _abstention_problems(run: Path) -> Iterator[str]:
    """Compute the metrics among the answered test images again."""
    return abstention_problems(run, texts=not _other_version(run))


def _format_problems(run: Path) -> Iterator[str]:
    """Compare the files for other runtimes with their proofs, and these with the answers."""
    return format_problems(run, _read_card(run), texts=not _other_version(run))


def _card_problems(run: Path) -> Iterator[str]:
    """Compare the records in the card with those of the run."""
    card = _read_card(run)
    selected = Selection.read(run / "selection.json")
    records: dict[str, Record] = {
        "evaluation": Evaluation.read(run / "evaluation.json"),
        "selection": selected,
        "training": Training.read(run / selected.name / "training.json"),
        "attention": Attention.read(run / "attention.json"),
        "audit": Audit.read(run / "data" / "audit.json"),
        "data": Ingest.read(run / "data" / "ingest.json"),
    }
    for name, record in records.items():
        if getattr(card, name).model_dump() != record.model_dump():
            yield f"its {name} is not that of the run"
    if card.robustness != read_stress_test(run):
        yield "its robustness is not that of the run"
    if card.abstention != read_abstention(run):
        yield "its abstention is not that of the run"
    if card.scope != summarise_scope(run):
        yield "its scope is not that of the run"
    if card.formats != read_formats(run):
        yield "its formats are not those of the run"


def _usefulness_problems(run: Path) -> Iterator[str]:
    """Compute the decision curve and the policies of the cost table again."""
    card = _read_card(run)
    recomputed = measure_usefulness(run, card.settings, card.training)
    yield from record_differences(card.usefulness, recomputed, texts=not _other_version(run))


def _page_problems(run: Path) -> Iterator[str]:
    """Render the pages of the card and the report again."""
    for name, text in rendering.card_pages(_read_card(run)).items():
        if (run / "export" / name).read_text(encoding="utf-8") != text:
            yield f"{name} is not what the card gives (edited, or written by another version)"
    report = (run / "report.html").read_text(encoding="utf-8")
    if report != page.report_page(run):
        yield "report.html is not what the records give (edited, or written by another version)"


def _quotation_problems(run: Path, table: Path) -> Iterator[str]:
    """Compare the rows of a Markdown file with the metrics of the test set."""
    threshold = Evaluation.read(run / "evaluation.json").threshold
    recomputed = evaluation.test_metrics(read_table(run / "scores_test.csv"), threshold)
    text = table.read_text(encoding="utf-8")
    yield from misquotes(text, recomputed["test"], recomputed["intervals"])
