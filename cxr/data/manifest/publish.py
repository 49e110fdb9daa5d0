"""The end of preprocessing: negatives and copies out, splits assigned, the leakage gate passed, everything published."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from cxr.core import timing
from cxr.core.errors import DataError, QuestionError
from cxr.core.files import file_sha256, read_table, write_table
from cxr.core.records import Record
from cxr.core.settings import EXCLUDED, LABEL_NAMES, SPLITS, SplitSettings, Strict
from cxr.data import splits
from cxr.data.leakage import exact_duplicates, gate, near_duplicates
from cxr.data.manifest import columns, contract, known_datasets, scanning, shard_inspection
from cxr.data.manifest.records import REJECT_REASONS, Ingest, Scan
from cxr.data.negatives import handling
from cxr.data.negatives.polarity import Reference
from cxr.data.patients import patients
from cxr.data.survey import account, survey
from cxr.data.survey.account import Account
from cxr.data.survey.remedies import SHARED

COMPARISON = "comparison.json"  # of the last search, in the folder of the inspection


class Distinct(NamedTuple):
    """The good images of a scan with their patients, exact copies and negatives taken out.

    Attributes:
        rows: One row for each picture that is kept so far.
        rejects: image, reason and detail of every other file.
        notes: What was given and not used, in sentences.
        polarity: What a film of train looks like, None where that cannot be said.
        negatives: How many of the kept images look like negatives, by folder.
    """

    rows: pd.DataFrame
    rejects: pd.DataFrame
    notes: tuple[str, ...]
    polarity: Reference | None
    negatives: dict[str, int]


def distinct(scan: Scan, work: Path, settings: SplitSettings) -> Distinct:
    """Return the good images of a scan, each picture once.

    Raises:
        DataError: Nothing is left, or a folder is full of negatives and nobody said what to do with them.
        QuestionError: A folder is lost for what its files are.
    """
    folder = scanning.folder_of(scan, work)
    good, rejects = shard_inspection.read_inspection(folder)
    if good.empty:
        raise DataError(
            f"{scan.data}: none of {scan.images} images can be used: {_counts(rejects)}"
        )
    found = handling.handle_negatives(good, scan, folder)
    others = [one.key for one in scanning.scanned_files(folder) if one.kind == "image"]
    read = patients.read_patients(
        found.rows["image"], settings.patient_key, scan.data, scan.root, others
    )
    named = read.table.assign(
        etiology=read.table["etiology"].mask(read.table["etiology"] == "", found.rows["etiology"])
    )
    keyed = pd.concat([found.rows.drop(columns="etiology"), named], axis=1)
    kept, copies = exact_duplicates.remove_exact_duplicates(keyed)
    rejected = pd.concat([rejects, found.rejects, copies])
    _require_no_question(
        scan, _account(folder, kept.assign(split=kept["source_split"]), rejected, {})
    )
    return Distinct(
        kept, rejected, (*scan.notes, *found.notes, *read.notes), found.polarity, found.by_folder
    )


class TableFile(Strict):
    """A table handed on by file: its name below the folder of the inspection, and the digest of its bytes."""

    name: str
    sha256: str


class Comparison(Record):
    """The distinct images of a scan and the near-duplicates among them, as the search hands them to `publish`.

    It is kept beside its tables, so that the next search compares new images alone.

    Attributes:
        search: Version of the search.
        rows: Table of the distinct images.
        rejects: Table of every other file: image, reason, detail.
        pairs: Table of the near-duplicates among the distinct images.
        images: How many distinct images there are.
        compared: How many of them are new to the search.
        found: How many pairs of near-duplicates there are.
        notes: As in `Distinct`.
        polarity: As in `Distinct`.
        negatives: As in `Distinct`.
    """

    search: int
    rows: TableFile
    rejects: TableFile
    pairs: TableFile
    images: int
    compared: int
    found: int
    notes: tuple[str, ...]
    polarity: Reference | None
    negatives: dict[str, int]


def find_near_duplicates(
    scan: Scan,
    work: Path,
    settings: SplitSettings,
    on_images: Callable[[int], None] = lambda _: None,
) -> Comparison:
    """Find the near-duplicates among the distinct images of a scan; compare those that are new since the last search.

    Args:
        scan: The scan, all of whose shards were inspected.
        work: The work folder.
        settings: Who a patient is.
        on_images: Called with the number of images done.

    Returns:
        What `publish` goes on with.

    Raises:
        DataError: As `distinct` does.
        QuestionError: As `distinct` does.
    """
    folder = scanning.folder_of(scan, work)
    found = distinct(scan, work, settings)
    known, earlier = _compared_before(found.rows, folder)
    new = int((~known).sum())
    with timing.time_stage(work / timing.FOLDER, "compare", new):
        pairs = gate.find_pairs(found.rows, folder, known, earlier, on_images)
    comparison = Comparison(
        search=near_duplicates.SEARCH_VERSION,
        rows=_hand_on(found.rows, folder / "distinct.csv"),
        rejects=_hand_on(found.rejects, folder / "distinct_rejects.csv"),
        pairs=_hand_on(pairs, folder / "near_duplicates.csv"),
        images=len(found.rows),
        compared=new,
        found=len(pairs),
        notes=found.notes,
        polarity=found.polarity,
        negatives=found.negatives,
    )
    return comparison.write(folder / COMPARISON)


def _compared_before(rows: pd.DataFrame, folder: Path) -> tuple["pd.Series[bool]", pd.DataFrame]:
    """Return which rows the last search compared with each other, and the pairs that it found.

    A search by other rules, or one whose files are damaged or incomplete, counts as none.
    """
    try:
        last = Comparison.read(folder / COMPARISON)
        if last.search != near_duplicates.SEARCH_VERSION:
            raise DataError(f"{folder / COMPARISON}: found by other rules")
        compared = _take_over(last.rows, folder)
        pairs = _take_over(last.pairs, folder)
    except (FileNotFoundError, DataError):
        return pd.Series(False, rows.index), pd.DataFrame(columns=gate.PAIR_COLUMNS)
    pixels = pd.Series(compared["pixel_sha256"].to_numpy(), index=compared["image"])
    return rows["image"].map(pixels) == rows["pixel_sha256"], pairs


def _hand_on(table: pd.DataFrame, path: Path) -> TableFile:
    write_table(table, path)
    return TableFile(name=path.name, sha256=file_sha256(path))


def _take_over(table: TableFile, folder: Path) -> pd.DataFrame:
    """Return a table that was handed on; DataError where the file is not the one that was written."""
    path = folder / table.name
    found = file_sha256(path)
    if found != table.sha256:
        raise DataError(
            f"{path}: expected the table of SHA-256 {table.sha256}, found {found}: preprocess again"
        )
    return read_table(path)


def publish_manifest(
    scan: Scan, comparison: Comparison, work: Path, settings: SplitSettings
) -> Ingest:
    """Write leakage/, clean_metadata.csv, rejects.csv and then ingest.json under `work`; return the record.

    Args:
        scan: The scan.
        comparison: What `find_near_duplicates` returned for it.
        work: The work folder.
        settings: How validation is carved and what becomes of leakage.

    Raises:
        DataError: A folder is lost, a class is missing from a split, found != kept + rejected, or the tables of
            `comparison` changed since they were written.
        LeakageError: The gate finds a near copy or a patient in two splits.
    """
    inspection = scanning.folder_of(scan, work)
    # What a failed gate leaves must not look finished.
    (work / "ingest.json").unlink(missing_ok=True)
    gate.clear_folder(work / "leakage")
    distinct_rows = _take_over(comparison.rows, inspection)
    distinct_rejects = _take_over(comparison.rejects, inspection)
    pairs = _take_over(comparison.pairs, inspection)
    rows = distinct_rows
    rejects = distinct_rejects
    if settings.repair_leakage:
        rows, copies = gate.remove_near_duplicates(distinct_rows, pairs)
        rejects = pd.concat([distinct_rejects, copies])
    rejects = rejects.sort_values(["image", "reason"]).reset_index(drop=True)
    rows, policy = splits.assign_splits(rows, settings)
    if settings.repair_leakage:
        rows = gate.exclude_shared_patients(rows)
        splits.require_both_classes(rows)
    folders = _account(inspection, rows, rejects, comparison.negatives)
    _require_no_question(scan, folders)
    seen = gate.measure_leakage(
        distinct_rows, rows, pairs, settings.patient_key, settings.allow_leakage
    )
    gate.pass_gate(seen, distinct_rows, rows, pairs, work / "leakage", inspection)
    write_table(rows[columns.ROW_COLUMNS], work / "clean_metadata.csv")
    write_table(rejects, work / "rejects.csv")
    record = Ingest(
        data=scan.data,
        root=scan.root,
        found=scan.found,
        kept=len(rows),
        rejected=_counts(rejects),
        newly_read=scan.new,
        splits={split: _values(own["label_name"]) for split, own in _by_split(rows)},
        patients={
            split: int(splits.patient_groups(own).nunique()) for split, own in _by_split(rows)
        },
        patient_wise=seen.without_patient == 0 and seen.patients_left == 0,
        split_policy=policy,
        leakage=seen,
        differences=_differences(inspection, settings),
        manifest_sha256=file_sha256(work / "clean_metadata.csv"),
        reading=scan.settings,
        folders=folders.folders,
        notes=comparison.notes,
        polarity=comparison.polarity,
    )
    contract.check_manifest(rows, _balanced(record))
    return record.write(work / "ingest.json")


def _require_no_question(scan: Scan, found: Account) -> None:
    """Raise QuestionError where what is left out would change what the figures mean."""
    asked = found.question()
    if asked:
        raise QuestionError(f"{scan.data}: {asked}", found)


def _by_split(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(split, rows[rows["split"] == split]) for split in SPLITS]


def _account(
    inspection: Path, rows: pd.DataFrame, rejects: pd.DataFrame, suspects: dict[str, int]
) -> Account:
    """Return the account by folder with what became of every inspected image."""
    outcomes = {
        image: ("", SHARED) if split == EXCLUDED else (survey.describe_use(split, label), "")
        for image, split, label in zip(rows["image"], rows["split"], rows["label"], strict=True)
    }
    outcomes |= {
        image: ("", reason)
        for image, reason in zip(rejects["image"], rejects["reason"], strict=True)
    }
    found = account.account_with_outcomes(scanning.scanned_files(inspection), outcomes)
    folders = tuple(
        row.model_copy(update={"negatives": suspects.get(row.folder, 0)}) for row in found.folders
    )
    return Account(folders, found.remedies)


def _differences(inspection: Path, settings: SplitSettings) -> tuple[str, ...]:
    """Return in sentences how the listed files differ from the known data set's counts, where one is named."""
    if settings.contract == "none":
        return ()
    listed = read_table(inspection / "listed.csv")
    named = listed.assign(name=[LABEL_NAMES[label] for label in listed["label"]])
    counts = {str(split): _values(own["name"]) for split, own in named.groupby("source_split")}
    return tuple(known_datasets.differences_from_known(settings.contract, counts))


def _counts(rejects: pd.DataFrame) -> dict[str, int]:
    found = _values(rejects["reason"])
    return {reason: found.pop(reason) for reason in REJECT_REASONS if reason in found} | found


def _values(column: "pd.Series[str]") -> dict[str, int]:
    return {str(value): int(count) for value, count in column.value_counts().sort_index().items()}


def _balanced(record: Ingest) -> Ingest:
    total = record.kept + sum(record.rejected.values())
    if total != record.found:
        raise DataError(
            f"the counts do not add up: found {record.found}, kept + rejected {total}: please report this"
        )
    if unknown := set(record.rejected) - set(REJECT_REASONS):
        raise DataError(
            f"reject reasons outside the closed list: {sorted(unknown)}: please report this"
        )
    return record
