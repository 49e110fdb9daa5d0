"""What preprocessing shows: the account by folder, the counts, data leakage, near-duplicates."""

import logging
from collections.abc import Sequence
from pathlib import Path

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from cxr.data.manifest.records import Ingest
from cxr.data.survey import account_table
from cxr.data.survey.account import FolderAccount
from cxr.data.survey.survey import Survey
from tasks.pages import pictures

logger = logging.getLogger("cxr.preprocessing")


def show_survey(survey: Survey, data: str) -> None:
    """Show the account by folder; where the run stops and asks, also in the log, with the notes."""
    stops = bool(survey.question)
    show_folders(survey.account.folders, data, to_log=stops)
    if stops:
        for note in survey.notes:
            logger.warning("%s", note)


def show_folders(
    folders: Sequence[FolderAccount],
    data: str,
    to_log: bool,
) -> None:
    """Show the account by folder on a page and, if asked for, in the log."""
    create_table_artifact(
        account_table.table_cells(folders),
        key="folders",
        description=f"{data} by folder: how its files are used",
    )
    if to_log:
        logger.warning("%s by folder:\n%s", data, account_table.format_table(folders))


def show_manifest(ingest: Ingest) -> None:
    """Show what became of the files: counts, folders, data leakage, and what has to be known."""
    rows: list[dict[str, str | int]] = [
        {"what": "found", "files": ingest.found},
        {"what": "kept", "files": ingest.kept},
    ]
    for reason, count in ingest.rejected.items():
        rows.append({"what": f"rejected: {reason}", "files": count})
    create_table_artifact(
        rows,
        key="ingest",
        description=f"Files in {ingest.data}: found = kept + rejected",
    )
    _show_leakage(ingest)
    _show_differences(ingest)
    has_unused = any(row.left_out or row.negatives for row in ingest.folders)
    show_folders(ingest.folders, ingest.data, to_log=has_unused)
    for note in ingest.notes:
        logger.warning("%s", note)
    if ingest.corrections:
        logger.info("label corrections: %s", ingest.corrections.sentence())
    splits = ", ".join(f"{split} {sum(counts.values())}" for split, counts in ingest.splits.items())
    logger.info(
        "%s: %s files found, %s images kept: %s (%s)",
        ingest.data,
        f"{ingest.found:,}",
        f"{ingest.kept:,}",
        splits,
        ingest.split_policy,
    )


def show_near_duplicates(picture: Path) -> None:
    """Show the contact sheet of near-duplicates, if there is one."""
    if picture.is_file():
        create_markdown_artifact(
            pictures.to_markdown(picture),
            key="near-duplicates",
            description="Near-duplicates found",
        )


def _show_leakage(ingest: Ingest) -> None:
    """Show patients and near-duplicates in two splits; warn where the splits are not clean."""
    leakage = ingest.leakage
    rows = [
        {"reading of the patient key": name, **shared} for name, shared in leakage.readings.items()
    ]
    create_table_artifact(
        rows,
        key="leakage",
        description=(
            f"Patients in two splits, by reading; the key is {leakage.patient_key}. "
            f"Near-duplicates: {leakage.near_pairs} pairs found, {leakage.removed} images removed, "
            f"{leakage.pairs_left} pairs left across splits. Images whose patient is not known, "
            f"which could not be checked: {leakage.without_patient}"
        ),
    )
    if not leakage.clean:
        logger.warning(
            "leakage was allowed: %s pairs, %s patients in two splits",
            leakage.pairs_left,
            leakage.patients_left,
        )
    if not ingest.patient_wise:
        logger.warning(
            "the split is not patient-wise: %s images have no patient by this key",
            leakage.without_patient,
        )


def _show_differences(ingest: Ingest) -> None:
    """Warn where a known data set does not have the counts that it should have."""
    if not ingest.differences:
        return
    for difference in ingest.differences:
        logger.warning(difference)
    lines = [f"- {difference}" for difference in ingest.differences]
    create_markdown_artifact(
        "# Not the expected counts\n\n" + "\n".join(lines),
        key="contract",
        description="Differences from the known data set",
    )
