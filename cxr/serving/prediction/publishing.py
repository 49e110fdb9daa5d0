"""Score images with an exported model and its card, and publish predictions.csv.

`predict` is the way in; the network runs in a worker process (`batch_scoring`).
"""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pandas as pd

from cxr.core.errors import DataError
from cxr.core.files import read_table
from cxr.core.parallel import usable_cores
from cxr.core.settings import DicomOutputSettings, FileSettings, ScopeSettings
from cxr.data.patients.hidden_names import is_hidden_key
from cxr.data.survey import file_kinds
from cxr.models.compute import worker
from cxr.models.compute.worker import Progress
from cxr.results import exporting
from cxr.results.cards.model_card import Card, read_card
from cxr.serving import registry
from cxr.serving.monitoring import store as monitoring
from cxr.serving.prediction.answers import Limits, find_limits
from cxr.serving.prediction.batch_scoring import REPORTS, PredictionJob
from cxr.serving.prediction.batch_verdict import judge_batch
from cxr.serving.prediction.inputs import Inputs, find_images
from cxr.serving.prediction.predictions import (
    WITH_SCORE,
    Predictions,
    count_predictions,
    count_reasons,
    summary_address,
)
from cxr.serving.prediction.rows import MEASURED_COLUMNS, read_measurements, write_tables
from cxr.serving.sites.apply import load_site, localise_card
from cxr.serving.sites.records import Site
from cxr.serving.structured_reports.report_folder import require_report_folder
from cxr.storage.workspace import workspace

logger = logging.getLogger("cxr.predict")
_Setting = TypeVar("_Setting", int | None, str)
_Files = TypeVar("_Files", bound=FileSettings)

MOST_REASONS = 6  # named in one sentence


def predict(
    model: str,
    data: Sequence[str],
    out: str,
    on_images: Callable[[int, int], None],
    files: FileSettings,
    key_map: str | None = None,
    dicom: DicomOutputSettings | None = None,
    scope: ScopeSettings | None = None,
) -> Predictions:
    """Score every image at the addresses `data`, and publish predictions.csv.

    The table lists what was rejected too, with its reason. The record that is returned is written
    beside it, as predictions.json.

    Args:
        model: An export folder, the model.keras in it, or a registry, which means its champion.
        data: Images, folders or S3 prefixes.
        out: Where the table goes, a path or s3://….
        on_images: Told how many images are done, and of how many, at first of none.
        files: Which files are looked at, and what an image must be.
        key_map: A file for the real names behind those of DICOM files; None to write none.
        dicom: What is kept and written of DICOM films; the defaults where not given.
        scope: When it abstains, whose threshold is used, and where statistics are left; the
            defaults where not given.

    Returns:
        The counts of the published table.

    Raises:
        UsageError: The structured reports, or the monitoring store, may not be where they shall be.
        DataError: There is nothing at `data`, or no image of it could be scored. In the second
            case the table is there.
        ModelError: There is no model, or it does not fit its card.
        DeviceError: The driver of a graphics processor fails.
        StorageError: The table or the monitoring store cannot be written. Nothing that was counted
            is counted again by the next try.
    """
    dicom = dicom or DicomOutputSettings()
    scope = scope or ScopeSettings()
    if dicom.dicom_sr:
        require_report_folder(dicom.dicom_sr)
    if scope.monitor:
        monitoring.require_place(scope.monitor)
    reports = 0
    measured = pd.DataFrame(columns=MEASURED_COLUMNS)
    with registry.find_model(model) as address, workspace.open_output(out) as path:
        folder = exporting.find_export(address)
        card = read_card(folder)
        site = load_site(scope.site, card)
        limits = find_limits(folder, card, scope, site)
        unused = _describe_unused(scope, limits)
        files = shown_as_trained(card, files)
        inputs = find_images(data, out, files, key_map)
        if inputs.wanted:
            on_images(0, len(inputs.wanted))
            job = _make_job(folder, inputs, files, path, dicom, site, scope)
            reports = _score_in_worker(job, on_images)
            measured = read_measurements(job.measurements)
            job.measurements.unlink()
        else:
            write_tables([], inputs.rejects, localise_card(card, site), path)
        table = read_table(path)
    predictions = count_predictions(
        table,
        card,
        out,
        site=site.name if site else "",
        coverage=scope.coverage,
        unused=unused,
        verdict=judge_batch(
            measured, limits.scope.validation if limits else None, with_scores=site is None
        ),
        reports=reports,
        report_folder=dicom.dicom_sr,
    )
    with workspace.open_output(summary_address(out)) as path:
        predictions.write(path)
    if scope.monitor:
        validation = limits.scope.validation if limits else None
        monitoring.append(scope.monitor, card, measured, table, validation, site)
    if not table["status"].isin(WITH_SCORE).any():
        raise DataError(_describe_nothing_scored(inputs, table, data, out))
    if predictions.is_unlike:
        logger.warning("%s", predictions.verdict_sentence)
    if unused:
        logger.warning("%s", unused)
    return predictions


def _describe_unused(scope: ScopeSettings, limits: Limits | None) -> str:
    """Return which setting of the scope was given and is not used, why, what to do; "" for none."""
    if limits is not None or "scope_rate" not in scope.model_fields_set:
        return ""
    return (
        f"--scope-rate {scope.scope_rate:g} is not used: the model was exported by a version of cxr "
        "that kept no reference, so no image is called out of scope: export it again with this one"
    )


def shown_as_trained(
    card: Card,
    files: _Files,
) -> _Files:
    """Return the settings with the bit depth and window of the model's training, where none is given.

    Raises:
        DataError: Another one is given: the same film would have other gray values than in
            training.
    """
    trained = card.data.reading
    depth = _as_trained("--bit-depth", files.bit_depth, trained.bit_depth)
    window = _as_trained("--window", files.window, trained.window)
    return files.model_copy(update={"bit_depth": depth, "window": window})


def _as_trained(flag: str, given: _Setting, trained: _Setting) -> _Setting:
    """Return the value of training, or the one that is given where training had none."""
    if not trained or given == trained:
        return given
    if given:
        raise DataError(
            f"{flag} {given}: the model was trained with {flag} {trained}: leave it out"
        )
    return trained


def _describe_nothing_scored(
    inputs: Inputs,
    table: pd.DataFrame,
    data: Sequence[str],
    out: str,
) -> str:
    """Return in one sentence why no image could be scored."""
    where = data[0] if len(data) == 1 else f"{len(data)} addresses"
    if any(is_hidden_key(file.entry.key) for file in inputs.judged):
        where = "DICOM"  # the address may be a file's
    if all(file.kind not in {"image", "dicom"} for file in inputs.judged):
        return f"{where}: {file_kinds.explain_no_images(inputs.judged)}; {out} lists them"
    if len(table) == 1:
        return f"{where}: not scored: {table['reason'][0]}"
    counts = [f"{count} {reason}" for reason, count in count_reasons(table, "rejected").items()]
    return (
        f"{where}: none of {len(table)} files could be scored "
        f"({', '.join(counts[:MOST_REASONS])}): {out} lists each with its reason"
    )


def _make_job(
    folder: Path,
    inputs: Inputs,
    files: FileSettings,
    path: Path,
    dicom: DicomOutputSettings,
    site: Site | None,
    scope: ScopeSettings,
) -> PredictionJob:
    """Return the job that scores the images and publishes the table at `path`."""
    numbers: dict[str, int] = {}
    to_score = []
    for image in inputs.wanted:
        number = numbers.setdefault(image.storage.uri, len(numbers))
        to_score.append((number, image.key, image.version, image.name))
    return PredictionJob(
        export=folder,
        places=tuple(numbers),
        to_score=tuple(to_score),
        rejects=tuple(inputs.rejects),
        files=files,
        out=path.absolute(),
        measurements=path.absolute().parent / f".cxr-measurements-{os.getpid()}.csv",
        dicom=dicom,
        site=site,
        scope=scope,
    )


def _score_in_worker(job: PredictionJob, on_images: Callable[[int, int], None]) -> int:
    """Have a worker process do a job.

    Returns:
        How many structured reports were written.
    """
    log = job.out.parent / f".cxr-predict-{os.getpid()}.log"

    reports = 0

    def on_progress(progress: Progress) -> None:
        nonlocal reports
        if progress.step == REPORTS:
            reports = int(progress.done)
        else:
            on_images(int(progress.done), len(job.to_score))

    worker.run_job(job, log, usable_cores(), on_progress)
    log.unlink(missing_ok=True)
    return reports
