"""The end of preprocessing: copies out, splits assigned, the leakage gate passed, the books balanced and published."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from cxr import contract, duplicates, leakage, manifest, patients, splits
from cxr.errors import DataError
from cxr.records import LABEL_NAMES, REJECT_REASONS, SPLITS, Ingest, Leakage, Scan, file_sha256, read_table, write_table
from cxr.settings import SplitSettings


def distinct(scan: Scan, work: Path, settings: SplitSettings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (rows, rejects): the good images with their patient, exact copies taken out.

    Raises DataError where nothing is left.
    """
    good, rejects = manifest.inspected(manifest.inspection_folder(work, scan.data))
    if good.empty:
        raise DataError(f"{scan.data}: none of {scan.images} images can be used: {_counts(rejects)}")
    keyed = pd.concat([good, patients.read(good["image"], settings.patient_key)], axis=1)
    kept, copies = duplicates.remove_exact(keyed)
    return kept, pd.concat([rejects, copies])


def find_near_copies(
    scan: Scan, work: Path, settings: SplitSettings, on_images: Callable[[int], None] = lambda _: None
) -> int:
    """Return how many pairs of near copies there are; they are remembered for `publish`."""
    kept, _ = distinct(scan, work, settings)
    return len(leakage.near_copies(kept, manifest.inspection_folder(work, scan.data), on_images))


def publish(scan: Scan, work: Path, settings: SplitSettings) -> Ingest:
    """Write leakage/, clean_metadata.csv, rejects.csv and then ingest.json under `work`; return the record.

    Raises DataError where nothing is left, a class is missing from a split, or found != kept + rejected, and
    LeakageError where the gate finds a near copy or a patient in two splits.
    """
    inspection = manifest.inspection_folder(work, scan.data)
    (work / "ingest.json").unlink(missing_ok=True)  # what a failed gate leaves must not look finished
    leakage.clear(work / "leakage")
    kept, rejects = distinct(scan, work, settings)
    found = leakage.near_copies(kept, inspection)
    rows, copies = leakage.remove_copies(kept, found) if settings.repair_leakage else (kept, rejects.iloc[:0])
    rows, policy = splits.assign(rows, settings)
    if settings.repair_leakage:
        rows = leakage.exclude_shared(rows)
        splits.require_both_classes(rows)
    seen = leakage.judge(kept, rows, found, settings.patient_key, settings.allow_leakage)
    leakage.gate(seen, kept, rows, found, work / "leakage", inspection)
    rejects = pd.concat([rejects, copies]).sort_values(["image", "reason"]).reset_index(drop=True)
    write_table(rows[manifest.ROW_COLUMNS], work / "clean_metadata.csv")
    write_table(rejects, work / "rejects.csv")
    differences = _differences(scan, work, settings)
    record = _balanced(_record(scan, work, rows, rejects, policy, seen, differences))
    contract.check(rows, record)
    return record.write(work / "ingest.json")


def _record(
    scan: Scan, work: Path, rows: pd.DataFrame, rejects: pd.DataFrame, policy: str, seen: Leakage,
    differences: tuple[str, ...],
) -> Ingest:  # fmt: skip
    by_split = {split: rows[rows["split"] == split] for split in SPLITS}
    return Ingest(
        data=scan.data, root=scan.root, found=scan.found, kept=len(rows), rejected=_counts(rejects),
        newly_read=scan.new, splits={split: _values(own["label_name"]) for split, own in by_split.items()},
        patients={split: int(splits.groups(own).nunique()) for split, own in by_split.items()},
        patient_wise=seen.without_patient == 0 and seen.patients_left == 0, split_policy=policy, leakage=seen,
        differences=differences, manifest_sha256=file_sha256(work / "clean_metadata.csv"),
    )  # fmt: skip


def _differences(scan: Scan, work: Path, settings: SplitSettings) -> tuple[str, ...]:
    """Return in sentences how the listed files differ from the known data set's counts, where one is named."""
    if settings.contract == "none":
        return ()
    listed = read_table(manifest.inspection_folder(work, scan.data) / "listed.csv")
    named = listed.assign(name=[LABEL_NAMES[label] for label in listed["label"]])
    counts = {str(split): _values(own["name"]) for split, own in named.groupby("source_split")}
    return tuple(contract.differences(settings.contract, counts))


def _counts(rejects: pd.DataFrame) -> dict[str, int]:
    found = _values(rejects["reason"])
    return {reason: found.pop(reason) for reason in REJECT_REASONS if reason in found} | found


def _values(column: "pd.Series[str]") -> dict[str, int]:
    return {str(value): int(count) for value, count in column.value_counts().sort_index().items()}


def _balanced(record: Ingest) -> Ingest:
    total = record.kept + sum(record.rejected.values())
    if total != record.found:
        raise DataError(f"the books do not balance: found {record.found}, kept + rejected {total}: please report this")
    if unknown := set(record.rejected) - set(REJECT_REASONS):
        raise DataError(f"reject reasons outside the closed list: {sorted(unknown)}: please report this")
    return record
