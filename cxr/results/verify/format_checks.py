"""The check of the model's files for other runtimes: they are those that were proven, and proven as recorded."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from cxr.core.files import file_sha256, read_table
from cxr.models.scope import ScopeReference
from cxr.models.scope import reference as scope_files
from cxr.results.cards.model_card import Card
from cxr.results.evaluation.abstention.measurement import read_judgements
from cxr.results.evaluation.formats import pipeline
from cxr.results.evaluation.formats.agreement import find_objection, measure_agreement
from cxr.results.evaluation.formats.files import digest
from cxr.results.evaluation.formats.pipeline import Pipeline, build_pipeline
from cxr.results.evaluation.formats.records import SCORES_NAME, Format, FormatTest, read_format_test
from cxr.results.verify.differences import TOLERANCE, record_differences


def format_problems(run: Path, card: Card, texts: bool = True) -> Iterator[str]:
    """Yield where formats.json is not what files and answers give.

    Args:
        run: The run's folder, in which formats were asked for.
        card: Its card.
        texts: Whether pipeline.json and texts that are no names are compared, too.
    """
    test = read_format_test(run)
    assert test is not None  # see above
    if file_sha256(run / SCORES_NAME) != test.scores_sha256:
        yield f"{SCORES_NAME} is not the file that was measured (SHA-256 differs)"
    answers = read_table(run / SCORES_NAME)
    for record in test.formats:
        for problem in _problems_of(record, test, card, answers, run):
            yield f"{record.file}: {problem}"
    if texts and any(record.published for record in test.formats):
        yield from _pipeline_problems(run, card)


def _problems_of(
    record: Format,
    test: FormatTest,
    card: Card,
    answers: pd.DataFrame,
    run: Path,
) -> Iterator[str]:
    """Yield what is wrong with one file and its proof."""
    path = run / "export" / record.file
    if record.published and not path.exists():
        yield "is missing"
    elif record.published and digest(path) != record.sha256:
        yield "is not the file that was proven (SHA-256 differs)"
    elif not record.published and path.exists():
        yield "is there, and its proof failed"
    if record.agreement is None:
        return
    own = answers[answers["file"] == record.file]
    scores = read_table(run / "scores_test.csv")
    if list(own["image"]) != list(scores["image"]):
        yield f"{SCORES_NAME} has not its answers to the images of scores_test.csv"
        return
    calibrated = card.calibration.apply(own["raw_score"].to_numpy())
    if float(abs(calibrated - own["score"].to_numpy()).max()) > TOLERANCE:
        yield "score is not the calibrated raw_score"
    recomputed = measure_agreement(
        scores, read_judgements(run), own, test.threshold, record.precision
    )
    yield from record_differences(record.agreement, recomputed)
    if record.published and find_objection(recomputed):
        yield f"is published against the rule: {find_objection(recomputed)}"


def _pipeline_problems(run: Path, card: Card) -> Iterator[str]:
    """Write pipeline.json again."""
    path = run / "export" / scope_files.NAME
    reference = ScopeReference.read(path) if path.is_file() else None
    recomputed = build_pipeline(card.run, card.settings, card.training, reference)
    stored = Pipeline.read(run / "export" / pipeline.NAME)
    for difference in record_differences(stored, recomputed):
        yield f"{pipeline.NAME}: {difference}"
