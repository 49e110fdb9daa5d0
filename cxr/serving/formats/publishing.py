"""Write an exported model in other formats: convert, prove, and publish what the rule lets through."""

import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cxr.core.errors import ModelError
from cxr.core.files import atomic_write, file_sha256, read_table, write_table
from cxr.core.parallel import usable_cores
from cxr.models.compute import worker
from cxr.models.runs import Run
from cxr.models.scope import ScopeReference
from cxr.models.scope import reference as scope_files
from cxr.models.training.records import Training
from cxr.results.evaluation.formats import pipeline, records
from cxr.results.evaluation.formats.files import digest
from cxr.results.evaluation.formats.pipeline import build_pipeline
from cxr.results.evaluation.formats.records import (
    SCORES_NAME,
    Format,
    FormatTest,
    read_format_test,
)
from cxr.serving.formats import proof, reader
from cxr.serving.formats.conversion import (
    FAILURES_NAME,
    TARGETS,
    ConversionJob,
    Failures,
    Target,
    targets_of,
)
from cxr.serving.formats.expected import read_expected
from cxr.serving.formats.proof import Proof

READER_NAME = "reader.py"
_COLUMNS = ["file", "image", "raw_score", "score", "status"]
logger = logging.getLogger("cxr.export")


def write_formats(
    run: Run,
    training: Training,
    work: Path,
    cache: Path,
    formats: tuple[str, ...],
) -> FormatTest | None:
    """Write the formats that are asked for into export/, and formats.json; those that are there stay.

    Files of another model, or that no record tells of, are removed.

    Args:
        run: The run.
        training: The record of the chosen model, which was evaluated.
        work: The folder of an open work folder.
        cache: The folder of the pixel cache.
        formats: Of onnx, litert and savedmodel; keras is written anyway.

    Returns:
        What is there now, None where no other format was ever asked for.
    """
    folder = run.folder(work)
    scope = _read_scope(folder)
    arrays_sha256 = scope.arrays_sha256 if scope else ""
    known = _known_formats(folder, training, arrays_sha256)
    settled = {each.file for each in known if _is_settled(each)}
    wanted = [target for target in targets_of(formats) if target.file not in settled]
    kept = [each for each in known if each.file not in {target.file for target in wanted}]
    _remove_others(folder, kept)
    if not kept and not wanted:
        (folder / records.NAME).unlink(missing_ok=True)
        (folder / SCORES_NAME).unlink(missing_ok=True)
        return None
    if not wanted:
        return read_format_test(folder)
    answers = _known_answers(folder, kept)
    with tempfile.TemporaryDirectory(prefix="cxr-formats-") as scratch:
        proofs = _convert_and_prove(run, training, work, cache, wanted, scope, Path(scratch))
        for each in proofs:
            if each.record.published:
                _copy(Path(scratch) / each.record.file, folder / "export" / each.record.file)
        if any(each.record.published for each in proofs):
            for name in (pipeline.NAME, READER_NAME):
                _copy(Path(scratch) / name, folder / "export" / name)
    answers += [each.answers for each in proofs if each.answers is not None]
    table = pd.concat(answers) if answers else pd.DataFrame(columns=_COLUMNS)
    write_table(table, folder / SCORES_NAME)
    places = [target.file for target in TARGETS]
    found = [*kept, *(each.record for each in proofs)]
    for each in proofs:
        level = logging.ERROR if _is_missing(each.record) else logging.INFO
        logger.log(level, "%s", each.record.sentence())
    return FormatTest(
        model_sha256=training.model_sha256,
        threshold=training.threshold,
        arrays_sha256=arrays_sha256,
        scores_sha256=file_sha256(folder / SCORES_NAME),
        formats=tuple(sorted(found, key=lambda each: places.index(each.file))),
    ).write(folder / records.NAME)


def require_published(run: Path, formats: tuple[str, ...]) -> None:
    """Raise an error where a format that was asked for is not published.

    Args:
        run: The run's folder.
        formats: What was asked for. A file of reduced precision may be missing: the rule decides.

    Raises:
        ModelError: A file did not pass its proof, or could not be made; the message says by how much.
    """
    test = read_format_test(run)
    written = test.formats if test else ()
    missing = [each for each in written if each.name in formats and _is_missing(each)]
    if missing:
        sentences = "; ".join(each.sentence() for each in missing)
        raise ModelError(
            f"{sentences}: all else is exported. Look at {run / 'formats.log'}, or leave the format out"
        )


def _is_missing(record: Format) -> bool:
    """Return whether a file ought to be there and is not."""
    return record.is_required and not record.published


def _is_settled(record: Format) -> bool:
    """Return whether a file need not be made again: it is there, or the rule was against it."""
    return record.published or (record.agreement is not None and not record.is_required)


def _read_scope(run: Path) -> ScopeReference | None:
    """Return what the scope of the exported model was learned from, None where it has none."""
    path = run / "export" / scope_files.NAME
    return ScopeReference.read(path) if path.is_file() else None


def _known_formats(run: Path, training: Training, arrays_sha256: str) -> list[Format]:
    """Return the formats of this very model whose files are as they were proven."""
    test = read_format_test(run)
    if test is None or not test.is_of(training, arrays_sha256):
        return []
    if not (run / SCORES_NAME).is_file() or file_sha256(run / SCORES_NAME) != test.scores_sha256:
        return []
    return [each for each in test.formats if not each.published or _is_whole(run, each)]


def _is_whole(run: Path, record: Format) -> bool:
    """Return whether a published file is there as it was proven."""
    path = run / "export" / record.file
    return path.exists() and digest(path) == record.sha256


def _known_answers(run: Path, kept: list[Format]) -> list[pd.DataFrame]:
    """Return the rows of scores_test_formats.csv of formats that stay."""
    if not kept:
        return []
    table = read_table(run / SCORES_NAME)
    return [table[table["file"].isin([each.file for each in kept])]]


def _remove_others(run: Path, kept: list[Format]) -> None:
    """Remove the files of formats that are not kept; without any, what they are read with."""
    published = {each.file for each in kept if each.published}
    names = {target.file for target in TARGETS} - published
    if not published:
        names |= {pipeline.NAME, READER_NAME}
    for name in names:
        path = run / "export" / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    """Copy a file or a folder of files into the export."""
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
        return
    with atomic_write(target) as temporary:
        shutil.copyfile(source, temporary)


def _convert_and_prove(
    run: Run,
    training: Training,
    work: Path,
    cache: Path,
    wanted: Sequence[Target],
    scope: ScopeReference | None,
    scratch: Path,
) -> list[Proof]:
    """Make files in a folder of their own, and prove each of them there."""
    folder = run.folder(work)
    export = folder / "export"
    job = ConversionJob(
        export=export,
        side=training.image_size,
        files=tuple(target.file for target in wanted),
        manifest=work / "clean_metadata.csv",
        pixels=cache,
        folder=scratch,
    )
    worker.run_job(job, folder / "formats.log", usable_cores())
    failures = Failures.model_validate_json((scratch / FAILURES_NAME).read_bytes()).reasons
    build_pipeline(run.id, run.settings, training, scope).write(scratch / pipeline.NAME)
    shutil.copyfile(reader.__file__, scratch / READER_NAME)
    if scope is not None:
        shutil.copyfile(export / scope_files.ARRAYS_NAME, scratch / scope_files.ARRAYS_NAME)
    expected = read_expected(folder, training, work, cache, scratch)
    proofs = []
    for target in wanted:
        if target.file in failures:
            failed = Format(
                name=target.format,
                precision=target.precision,
                file=target.file,
                reason=f"it could not be converted ({failures[target.file]})",
            )
            proofs.append(Proof(failed, None))
        else:
            proofs.append(proof.prove(target, scratch, expected))
    return proofs
