"""The distinct images of a scan, with their patients: no rejects, no exact duplicates."""

from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from cxr.core.errors import DataError, QuestionError
from cxr.core.files import read_parts
from cxr.core.formatting import format_count
from cxr.core.settings import EXCLUDED, LABEL_NAMES, SplitSettings
from cxr.data.inverted_films import handling
from cxr.data.inverted_films.handling import HandledNegatives
from cxr.data.labels.corrections.answers import EXCLUDE
from cxr.data.leakage import exact_duplicates
from cxr.data.manifest import contract, scanning, shard_inspection
from cxr.data.manifest.columns import INSPECTED_COLUMNS, TABLE_COLUMNS
from cxr.data.manifest.records import REJECT_REASONS, Scan
from cxr.data.patients import patients
from cxr.data.patients.hidden_names import is_hidden_key
from cxr.data.patients.hidden_storage import open_data
from cxr.data.patients.patients import PatientRule
from cxr.data.survey import account, survey
from cxr.data.survey.account import Account
from cxr.data.survey.remedies import SHARED

_NOT_KEPT = ["group", "size", "version", "reason", "detail"]  # after the inspection nobody asks
_GOOD_COLUMNS = [name for name in INSPECTED_COLUMNS if name not in _NOT_KEPT]
_DUPLICATE_COLUMNS = ["image", "source_split", "label", "md5", "pixel_sha256"]


# A table of labels is right where the tags of a film differ.
_SAID_BY_TABLE = {"table_age": "age", "table_sex": "sex", "table_view": "view"}


class DistinctImages(NamedTuple):
    """The distinct images of a scan: what is decided about them; the rows themselves stay on disk.

    Attributes:
        inspection: Folder of the inspection.
        negatives: What becomes of negatives.
        patients: Whose images they are.
        patient_key: By which rule that is known, see `SplitSettings.patient_key`.
        duplicates: The good images that are removed as exact duplicates.
        rejects: image, reason and detail of every file that is not kept.
        notes: What was given and not used, in sentences.
    """

    inspection: Path
    negatives: HandledNegatives
    patients: PatientRule
    patient_key: str
    duplicates: frozenset[str]
    rejects: pd.DataFrame
    notes: tuple[str, ...]

    def rows(self) -> Iterator[pd.DataFrame]:
        """Yield one row for each picture that is kept so far, in the order of the names."""
        for good in shard_inspection.read_good(self.inspection, _GOOD_COLUMNS):
            rows = self.negatives.apply(good[~good["image"].isin(self.duplicates)])
            label_names = rows["label"].map(dict(enumerate(LABEL_NAMES)))
            identified = _add_patients(
                _merge_attributes(rows.assign(label_name=label_names)),
                self.patients,
                self.patient_key,
            )
            yield identified.drop(columns=TABLE_COLUMNS)


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
    rejects = shard_inspection.read_rejects(inspection)
    not_listed = scan.found - scan.images
    if len(rejects) - not_listed == scan.images:
        counts = count_reasons(rejects)
        raise DataError(f"{scan.data}: none of {scan.images} images can be used: {counts}")
    handled = handling.handle_negatives(scan, inspection)
    rule = _find_patients(scan, inspection, handled, settings.patient_key)
    dicom_notes = _check_dicom_patients(inspection, settings.patient_key)
    duplicates = _find_exact_duplicates(inspection, handled)
    all_rejects = pd.concat([rejects, handled.rejects, duplicates])
    require_no_question(scan, account_for_images(inspection, None, all_rejects))
    return DistinctImages(
        inspection=inspection,
        negatives=handled,
        patients=rule,
        patient_key=settings.patient_key,
        duplicates=frozenset(duplicates["image"]),
        rejects=all_rejects,
        notes=(
            *scan.notes,
            *handled.notes,
            *rule.notes,
            *dicom_notes,
            *_check_window(inspection, scan.settings.window),
            *_note_burned_in_text(inspection),
        ),
    )


def _find_patients(
    scan: Scan,
    inspection: Path,
    handled: HandledNegatives,
    key: str,
) -> PatientRule:
    """Return how the patient of each image is read from its name."""
    first = next(_images(inspection, handled), "")
    images = _images(inspection, handled)
    others = _scanned_images(inspection)
    if is_hidden_key(first):
        storage = open_data(scan.data, scan.settings.follow_links)
        return patients.find_hidden_rule(images, key, storage, scan.root, others)
    return patients.find_rule(images, key, scan.data, scan.root, others)


def _check_dicom_patients(inspection: Path, key: str) -> tuple[str, ...]:
    """Return a note where DICOM files have no PatientID.

    Raises:
        DataError: None has one, and that was to be the patient.
    """
    dicom_count = 0
    known_count = 0
    for good in shard_inspection.read_good(inspection, ["transfer_syntax", "dicom_patient"]):
        dicom_count += int((good["transfer_syntax"] != "").sum())
        known_count += int((good["dicom_patient"] != "").sum())
    if key == "dicom" and not known_count:
        raise DataError(
            f"--patient-key dicom: none of {dicom_count:,} DICOM files has a PatientID: "
            "give another rule"
        )
    if known_count == dicom_count:
        return ()
    return (
        f"{known_count:,} of {dicom_count:,} DICOM files have a PatientID; "
        "the others count alone where nothing else names their patients",
    )


def _check_window(inspection: Path, window: str) -> tuple[str, ...]:
    """Return a note where DICOM files have no window of the name that was given.

    Raises:
        DataError: None has.
    """
    shown: Counter[bool] = Counter()
    if window:
        for good in shard_inspection.read_good(inspection, ["transfer_syntax", "window"]):
            rules = good.loc[good["transfer_syntax"] != "", "window"]
            shown.update(f'"{window}"' in rule for rule in rules)
    if not shown[False]:
        return ()
    found = f"{shown[True]:,} of {shown.total():,} DICOM files have a window of that name"
    if not shown[True]:
        raise DataError(f"--window {window}: {found}: correct it, or leave it out")
    return (f"--window {window}: {found}; the others are shown through their first one",)


def _note_burned_in_text(inspection: Path) -> tuple[str, ...]:
    """Return a note where text may be burned into films: it may name their patients."""
    counts: Counter[str] = Counter()
    for good in shard_inspection.read_good(inspection, ["burned_in"]):
        counts.update(good["burned_in"])
    found = counts["yes"] + counts["suspected"]
    if not found:
        return ()
    return (
        f"text may be burned into {format_count(found, 'films')} ({counts['yes']:,} by their tag, "
        f"{counts['suspected']:,} by how their border looks; column burned_in): it may name patients "
        "in pictures of the report, and tell a class; look at them before you share the report",
    )


def _images(inspection: Path, handled: HandledNegatives) -> Iterator[str]:
    """Yield the good images."""
    for good in shard_inspection.read_good(inspection, ["image"]):
        yield from handled.apply(good)["image"]


def _scanned_images(inspection: Path) -> Iterator[str]:
    """Yield every image that the scan found, used or not."""
    for part in read_parts(inspection / "files.csv", ["key", "kind"]):
        yield from part.loc[part["kind"].isin(["image", "dicom"]), "key"]


def _find_exact_duplicates(inspection: Path, handled: HandledNegatives) -> pd.DataFrame:
    """Return the rejects among the good images: image, reason, detail.

    Only images whose pixels seem to occur more than once, by a short hash, are compared with each
    other: of most images nothing but that hash is in memory.
    """
    hashes = array("q")
    for good in shard_inspection.read_good(inspection, ["image", "pixel_sha256"]):
        hashes.extend(hash(digest) for digest in handled.apply(good)["pixel_sha256"])
    is_repeated = pd.Series(hashes).duplicated(keep=False).to_numpy()
    candidates = []
    start = 0
    for good in shard_inspection.read_good(inspection, _DUPLICATE_COLUMNS):
        rows = handled.apply(good)
        candidates.append(rows[is_repeated[start : start + len(rows)]])
        start += len(rows)
    _, rejects = exact_duplicates.remove_exact_duplicates(pd.concat(candidates, ignore_index=True))
    return rejects


def _merge_attributes(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows whose age, sex and view are those of the table of labels where it has some."""
    merged = {
        name: rows[said].mask(rows[said] == "", rows[name]) for said, name in _SAID_BY_TABLE.items()
    }
    return rows.assign(**merged)


def _add_patients(
    rows: pd.DataFrame,
    rule: PatientRule,
    key: str,
) -> pd.DataFrame:
    """Add the patients; where a file name says no etiology, the folder's is kept.

    A table of patients or a pattern that was given comes first, then a table of labels, then the
    tags of DICOM, then what is read from published file names, which those of DICOM are not.
    """
    identified = rule.table(list(rows["image"])).set_axis(rows.index)
    etiology = identified["etiology"]
    etiology = etiology.mask(etiology == "", rows["etiology"])
    said = rows["table_patient"]
    tagged = rows["dicom_patient"]
    is_dicom = rows["transfer_syntax"] != ""
    was_given = key.startswith(("csv:", "regex:"))
    for name in ("patient_id", "patient_group"):
        read = identified[name]
        if was_given:
            known = read.mask(read == "", said)
            identified[name] = known.mask(known == "", tagged)
        else:
            read = read.mask(is_dicom, tagged)
            identified[name] = said.mask(said == "", read)
    return pd.concat(
        [rows.drop(columns="etiology"), identified.assign(etiology=etiology)],
        axis=1,
    )


def account_for_images(
    inspection: Path,
    rows: pd.DataFrame | None,
    rejects: pd.DataFrame,
) -> Account:
    """Account by folder for what became of every inspected image.

    Args:
        inspection: Folder of the inspection.
        rows: The images kept, with their final split: image, label, source_split, split, and
            corrected_label where readers corrected some; None before there is one.
        rejects: The other images: image, reason.

    Returns:
        The account.
    """
    # An outcome is (used as, reason). All images of one split and label share the same tuple.
    outcomes: dict[str, tuple[str, str]] = {}
    if rows is not None:
        said = rows.get("corrected_label", pd.Series("", rows.index))  # by readers, "" for nothing
        moved = rows[(rows["split"] != rows["source_split"]) | (said != "")]
        for (split, label), images in moved.groupby(["split", "label"])["image"]:
            outcome = ("", SHARED)
            if split != EXCLUDED:
                outcome = (survey.describe_use(split, label), "")
            outcomes.update(dict.fromkeys(images, outcome))
        outcomes.update(dict.fromkeys(rows.loc[said == EXCLUDE, "image"], ("", "excluded")))
    for reason, images in rejects.groupby("reason")["image"]:
        outcomes.update(dict.fromkeys(images, ("", str(reason))))
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
