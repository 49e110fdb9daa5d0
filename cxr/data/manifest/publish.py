"""The end of preprocessing: near-duplicates, splits, the leakage gate, the published manifest."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from cxr.core import timing
from cxr.core.errors import DataError
from cxr.core.files import file_sha256, read_table, write_parts, write_table
from cxr.core.settings import LABEL_NAMES, READINGS, SPLITS, SplitSettings
from cxr.data.labels.corrections import applying
from cxr.data.labels.corrections.applying import Corrected
from cxr.data.leakage import gate, near_duplicates, repair
from cxr.data.manifest import contract, distinct_images, known_datasets, scanning
from cxr.data.manifest.columns import (
    ATTRIBUTE_COLUMNS,
    CORRECTION_COLUMNS,
    REJECT_COLUMNS,
    ROW_COLUMNS,
)
from cxr.data.manifest.comparison import (
    COMPARISON,
    Comparison,
    describe_table,
    load_parts,
    load_previous_search,
    load_table,
    save_table,
    search_pairs,
    thumbnail_places,
)
from cxr.data.manifest.records import REJECT_REASONS, Ingest, Scan
from cxr.data.patients import splits, test_rule
from cxr.data.patients.hidden_names import is_hidden_key
from cxr.data.survey.account import Account

# What splits and leakage are decided by; the other columns go from table to table in parts.
_DECISIVE_COLUMNS = [
    "image", "label", "label_name", "source_split", "patient_id", "patient_group",
]  # fmt: skip


def find_near_duplicates(
    scan: Scan,
    work: Path,
    settings: SplitSettings,
    on_images: Callable[[int], None] = lambda _: None,
) -> Comparison:
    """Find the near-duplicates among the distinct images of a scan.

    Only images that are new since the last search are compared.

    Args:
        scan: The scan, all of whose shards were inspected.
        work: The work folder.
        settings: How patients are read from file names.
        on_images: Called with the number of images done.

    Returns:
        What `publish_manifest` continues with.

    Raises:
        DataError: No image is left, or a folder is full of negatives and no flag says what to do.
        QuestionError: A folder would not be used.
    """
    inspection = scanning.folder_of(scan, work)
    distinct = distinct_images.find_distinct_images(
        scan,
        work,
        settings,
    )
    # The table of the last search stays until this one is done.
    rows = inspection / "distinct-new.csv"
    images = write_parts(distinct.rows(), rows)
    known, previous_pairs = load_previous_search(rows, inspection)
    new = int((~known).sum())
    with timing.time_stage(
        work / timing.FOLDER,
        "compare",
        new,
    ):
        pairs = search_pairs(
            rows,
            inspection,
            known,
            previous_pairs,
            on_images,
        )
    comparison = Comparison(
        search=near_duplicates.SEARCH_VERSION,
        rows=describe_table(rows.replace(inspection / "distinct.csv")),
        rejects=save_table(distinct.rejects, inspection / "distinct_rejects.csv"),
        pairs=save_table(pairs, inspection / "near_duplicates.csv"),
        images=images,
        compared=new,
        found=len(pairs),
        notes=distinct.notes,
        polarity=distinct.negatives.polarity,
        negatives=distinct.negatives.by_folder,
    )
    return comparison.write(inspection / COMPARISON)


def publish_manifest(
    scan: Scan,
    comparison: Comparison,
    work: Path,
    settings: SplitSettings,
) -> Ingest:
    """Write leakage/, clean_metadata.csv, rejects.csv, label_rows.csv and, last, ingest.json.

    With corrected labels, label_corrections.csv, too.

    Args:
        scan: The scan.
        comparison: What `find_near_duplicates` returned for it.
        work: The work folder, below which the files are written.
        settings: How splits are made and what becomes of leakage.

    Returns:
        The record in ingest.json.

    Raises:
        DataError: A split lacks a class, found != kept + rejected, the tables of `comparison`
            changed since they were written, or corrected labels are not given any more.
        QuestionError: A folder would not be used.
        LeakageError: Two splits share a near-duplicate or a patient.
    """
    inspection = scanning.folder_of(scan, work)
    answers = work / applying.CORRECTED_ROWS
    if not settings.label_corrections:
        applying.require_answers_again(answers)
    # What a failed gate leaves must not look finished.
    (work / "ingest.json").unlink(missing_ok=True)
    gate.clear_folder(work / "leakage")
    # The rule of test may be about one of them.
    test_columns = test_rule.required_columns(settings.test_by)
    # By their content the answers of readers find their images.
    read_columns = ["pixel_sha256"] if settings.label_corrections else []
    decisive_columns = list(dict.fromkeys([*_DECISIVE_COLUMNS, *test_columns, *read_columns]))
    source = pd.concat(
        load_parts(comparison.rows, inspection, decisive_columns),
        ignore_index=True,
    )
    pairs = load_table(comparison.pairs, inspection)
    division = _assign_splits(source, pairs, settings)
    corrected = applying.correct_labels(
        division.rows, settings.label_corrections, scan.data, scan.root
    )
    rows = corrected.rows if corrected else division.rows
    rejects = pd.concat([load_table(comparison.rejects, inspection), division.near_duplicates])
    rejects = rejects.sort_values(["image", "reason"]).reset_index(drop=True)

    folders = distinct_images.account_for_images(
        inspection,
        rows,
        rejects,
    )
    folders = _with_negatives(folders, comparison.negatives)
    distinct_images.require_no_question(scan, folders)
    leakage = gate.measure_leakage(
        source,
        rows,
        pairs,
        _patient_rule(source, settings.patient_key),
        settings.allow_leakage,
    )
    gate.pass_gate(
        leakage,
        source,
        rows,
        pairs,
        thumbnail_places(comparison, inspection, pairs),
        work / "leakage",
        inspection,
    )

    manifest = work / "clean_metadata.csv"
    write_parts(_manifest_rows(comparison, inspection, rows, corrected), manifest)
    write_table(rejects, work / "rejects.csv")
    label_rows = work / scanning.LABEL_ROWS
    label_rows.unlink(missing_ok=True)
    if scan.labels:
        write_table(read_table(inspection / scanning.LABEL_ROWS), label_rows)
    answers.unlink(missing_ok=True)
    if corrected:
        write_table(corrected.answers, answers)
    record = Ingest(
        data=scan.data,
        root=scan.root,
        found=scan.found,
        kept=len(rows),
        rejected=distinct_images.count_reasons(rejects),
        newly_read=scan.new,
        splits=_count_labels(rows),
        patients=_count_patients(rows),
        patient_wise=leakage.without_patient == 0 and leakage.patients_left == 0,
        split_policy=division.policy,
        leakage=leakage,
        differences=_differences(inspection, settings),
        manifest_sha256=file_sha256(manifest),
        reading=scan.settings,
        folders=folders.folders,
        notes=(*comparison.notes, *division.notes, *(corrected.notes if corrected else ())),
        polarity=comparison.polarity,
        labels=scan.labels,
        corrections=corrected.record if corrected else None,
    )
    _require_balance(record)
    contract.check_file(manifest, record)
    return record.write(work / "ingest.json")


def _patient_rule(rows: pd.DataFrame, key: str) -> str:
    """Return by which rule patients are known: hidden names can be read by no reading of names."""
    is_hidden = rows["image"].map(is_hidden_key).any()
    return "dicom" if key in READINGS and is_hidden else key


def _manifest_rows(
    comparison: Comparison,
    inspection: Path,
    rows: pd.DataFrame,
    corrected: Corrected | None,
) -> Iterator[pd.DataFrame]:
    """Yield the manifest in parts: the distinct images that are kept, with splits and labels."""
    split = pd.Series(rows["split"].to_numpy(), index=rows["image"])
    columns = [*ROW_COLUMNS, *_known_attributes(comparison, inspection, split)]
    if corrected:
        columns += CORRECTION_COLUMNS
    for part in load_parts(comparison.rows, inspection):
        assigned = part.assign(split=part["image"].map(split))
        kept = assigned[assigned["split"].notna()]
        yield (corrected.describe(kept) if corrected else kept)[columns]


def _known_attributes(
    comparison: Comparison,
    inspection: Path,
    split: "pd.Series[str]",
) -> list[str]:
    """Return the attributes that some kept image has, in their order."""
    known: set[str] = set()
    for part in load_parts(comparison.rows, inspection, ["image", *ATTRIBUTE_COLUMNS]):
        kept = part[part["image"].isin(split.index)]
        known.update(name for name in ATTRIBUTE_COLUMNS if (kept[name] != "").any())
    return [name for name in ATTRIBUTE_COLUMNS if name in known]


class _Division(NamedTuple):
    """How the images were divided.

    Attributes:
        rows: The images that are kept, with their splits.
        near_duplicates: The rejects among them: image, reason, detail.
        policy: How the splits were made, in words.
        notes: What of the settings could not be applied, in sentences.
    """

    rows: pd.DataFrame
    near_duplicates: pd.DataFrame
    policy: str
    notes: tuple[str, ...]


def _assign_splits(
    source: pd.DataFrame,
    pairs: pd.DataFrame,
    settings: SplitSettings,
) -> _Division:
    """Assign the splits, and repair leakage where the settings say so."""
    kept = source
    policy = "test as published"
    notes: tuple[str, ...] = ()
    if settings.test_by:
        kept, policy, notes = test_rule.choose_test(source, settings.test_by)
    rejects = pd.DataFrame(columns=REJECT_COLUMNS)
    if settings.repair_leakage:
        kept, rejects = repair.remove_near_duplicates(kept, pairs)
        if settings.test_by:
            kept = test_rule.set_aside_patients(kept)
    rows, split_policy = splits.assign_splits(kept, settings, policy)
    if settings.repair_leakage:
        rows = repair.exclude_shared_patients(rows)
        splits.require_both_classes(rows)
    # A rule of test overrules the folders; the manifest says in which of them an image was found.
    folders = source.set_index("image")["source_split"].loc[rows["image"]]
    rows = rows.assign(source_split=folders.to_numpy())
    return _Division(rows, rejects, split_policy, notes)


def _with_negatives(folders: Account, negatives: dict[str, int]) -> Account:
    """Return the account with the number of suspected negatives in each folder."""
    rows = [
        row.model_copy(update={"negatives": negatives.get(row.folder, 0)})
        for row in folders.folders
    ]
    return Account(tuple(rows), folders.remedies)


def _count_labels(rows: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Count the images by split and label name."""
    return {
        split: contract.count_values(rows.loc[rows["split"] == split, "label_name"])
        for split in SPLITS
    }


def _count_patients(rows: pd.DataFrame) -> dict[str, int]:
    """Count the patients by split; an image without a known patient counts as one."""
    groups = splits.patient_groups(rows)
    return {split: int(groups[rows["split"] == split].nunique()) for split in SPLITS}


def _differences(inspection: Path, settings: SplitSettings) -> tuple[str, ...]:
    """Return in sentences how the images differ from the known data set, where one is named."""
    if settings.contract == "none":
        return ()
    listed = read_table(inspection / "listed.csv", ["label", "source_split"])
    names = listed["label"].map(dict(enumerate(LABEL_NAMES)))
    counts = {
        str(split): contract.count_values(members)
        for split, members in names.groupby(listed["source_split"])
    }
    return tuple(known_datasets.differences_from_known(settings.contract, counts))


def _require_balance(record: Ingest) -> None:
    """Raise DataError where a file was lost on the way: found = kept + rejected."""
    total = record.kept + sum(record.rejected.values())
    if total != record.found:
        raise DataError(
            f"the counts do not add up: found {record.found}, kept + rejected {total}: "
            "please report this"
        )
    unknown = sorted(set(record.rejected) - set(REJECT_REASONS))
    if unknown:
        raise DataError(f"reject reasons outside the closed list: {unknown}: please report this")
