"""The distinct images of a scan, with their patients: no rejects, no exact duplicates."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from cxr.core.errors import DataError, QuestionError
from cxr.core.files import read_table
from cxr.core.settings import EXCLUDED, SplitSettings
from cxr.data.inverted_films import handling
from cxr.data.inverted_films.polarity import Reference
from cxr.data.leakage import exact_duplicates
from cxr.data.manifest import contract, scanning, shard_inspection
from cxr.data.manifest.records import REJECT_REASONS, Scan
from cxr.data.patients import patients
from cxr.data.survey import account, survey
from cxr.data.survey.account import Account
from cxr.data.survey.remedies import SHARED

_INSPECTION_COLUMNS = ["group", "size", "version"]  # nothing reads them after the inspection


class DistinctImages(NamedTuple):
    """The distinct images of a scan.

    Attributes:
        rows: One row for each picture that is kept so far.
        rejects: image, reason and detail of every other file.
        notes: What was given and not used, in sentences.
        polarity: What an X-ray of train looks like; None where the images are too different.
        negatives: How many of the kept images look like negatives, by folder.
    """

    rows: pd.DataFrame
    rejects: pd.DataFrame
    notes: tuple[str, ...]
    polarity: Reference | None
    negatives: dict[str, int]


def find_distinct_images(
    scan: Scan,
    work: Path,
    settings: SplitSettings,
) -> DistinctImages:
    """Read the inspection of a scan and keep each picture once.

    Args:
        scan: The scan, all of whose shards were inspected.
        work: The work folder.
        settings: How patients are read from file names.

    Returns:
        The images and what became of all other files.

    Raises:
        DataError: No image is left, or a folder is full of negatives and no flag says what to do.
        QuestionError: A folder would not be used.
    """
    inspection = scanning.folder_of(scan, work)
    good, rejects = shard_inspection.read_inspection(inspection)
    if good.empty:
        counts = count_reasons(rejects)
        raise DataError(f"{scan.data}: none of {scan.images} images can be used: {counts}")
    handled = handling.handle_negatives(
        good,
        scan,
        inspection,
    )
    scanned = read_table(inspection / "files.csv", ["key", "kind"])
    identified = patients.read_patients(
        handled.rows["image"],
        settings.patient_key,
        scan.data,
        scan.root,
        others=scanned.loc[scanned["kind"] == "image", "key"],
    )
    rows = _add_patients(handled.rows, identified.table)
    kept, duplicates = exact_duplicates.remove_exact_duplicates(rows)
    all_rejects = pd.concat([rejects, handled.rejects, duplicates])
    require_no_question(
        scan,
        account_for_images(
            inspection,
            kept,
            "source_split",
            all_rejects,
        ),
    )
    return DistinctImages(
        rows=kept.drop(columns=_INSPECTION_COLUMNS),
        rejects=all_rejects,
        notes=(*scan.notes, *handled.notes, *identified.notes),
        polarity=handled.polarity,
        negatives=handled.by_folder,
    )


def _add_patients(rows: pd.DataFrame, identified: pd.DataFrame) -> pd.DataFrame:
    """Add the patients; where a file name says no etiology, the folder's is kept."""
    etiology = identified["etiology"]
    etiology = etiology.mask(etiology == "", rows["etiology"])
    return pd.concat(
        [rows.drop(columns="etiology"), identified.assign(etiology=etiology)],
        axis=1,
    )


def account_for_images(
    inspection: Path,
    rows: pd.DataFrame,
    split_column: str,
    rejects: pd.DataFrame,
) -> Account:
    """Account by folder for what became of every inspected image.

    Args:
        inspection: Folder of the inspection.
        rows: The images kept so far: image, label and the split column are read.
        split_column: Whether "source_split" or "split" says what they are used as.
        rejects: The other images: image, reason.

    Returns:
        The account.
    """
    # An outcome is (used as, reason). All images of one split and label share the same tuple.
    outcomes: dict[str, tuple[str, str]] = {}
    for split, label in rows[[split_column, "label"]].drop_duplicates().itertuples(index=False):
        outcome = ("", SHARED)
        if split != EXCLUDED:
            outcome = (survey.describe_use(split, label), "")
        members = rows.loc[(rows[split_column] == split) & (rows["label"] == label), "image"]
        outcomes.update(dict.fromkeys(members, outcome))
    for reason, members in rejects.groupby("reason")["image"]:
        outcomes.update(dict.fromkeys(members, ("", str(reason))))
    return account.account_with_outcomes(scanning.scanned_files(inspection), outcomes)


def require_no_question(scan: Scan, folders: Account) -> None:
    """Raise QuestionError where a folder would not be used: that changes what the results mean."""
    question = folders.question()
    if question:
        raise QuestionError(f"{scan.data}: {question}", folders)


def count_reasons(rejects: pd.DataFrame) -> dict[str, int]:
    """Count the rejects by reason, in the order of the closed list of reasons."""
    counts = contract.count_values(rejects["reason"])
    listed = {reason: counts.pop(reason) for reason in REJECT_REASONS if reason in counts}
    return listed | counts
