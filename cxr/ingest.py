"""The end of preprocessing: duplicates out, splits assigned, the books balanced and published."""

from pathlib import Path

import pandas as pd

from cxr import duplicates, manifest, splits
from cxr.errors import DataError
from cxr.records import REJECT_REASONS, Ingest, Scan, file_sha256, write_table
from cxr.settings import SplitSettings


def publish(scan: Scan, work: Path, settings: SplitSettings) -> Ingest:
    """Write clean_metadata.csv, rejects.csv and then ingest.json under `work`; return the record.

    Raises DataError where nothing is left, a class is missing from a split, or found != kept + rejected.
    """
    good, rejects = manifest.inspected(manifest.inspection_folder(work, scan.data))
    if good.empty:
        raise DataError(f"{scan.data}: none of {scan.images} images can be used: {_counts(rejects)}")
    kept, copies = duplicates.remove_exact(good)
    rows, policy = splits.assign(kept, settings)
    rejects = pd.concat([rejects, copies]).sort_values(["image", "reason"]).reset_index(drop=True)
    write_table(rows[[*manifest.ROW_COLUMNS, "thumbnail"]], work / "clean_metadata.csv")
    write_table(rejects, work / "rejects.csv")
    record = Ingest(
        data=scan.data,
        root=scan.root,
        found=scan.found,
        kept=len(rows),
        rejected=_counts(rejects),
        newly_read=scan.new,
        splits={
            s: rows[rows["split"] == s]["label_name"].value_counts().sort_index().to_dict()
            for s in ("train", "val", "test")
        },
        patients={str(s): int(n) for s, n in splits.groups(rows).groupby(rows["split"]).nunique().items()},
        patient_wise=bool((rows["patient_id"] != "").all()) and splits.shared_patients(rows) == 0,
        split_policy=policy,
        manifest_sha256=file_sha256(work / "clean_metadata.csv"),
    )
    return _balanced(record).write(work / "ingest.json")


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
