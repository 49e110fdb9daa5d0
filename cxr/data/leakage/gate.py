"""The gate against data leakage: no two splits may share a near-duplicate or a patient."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from cxr.core.errors import LeakageError
from cxr.core.files import write_table
from cxr.core.settings import EXCLUDED
from cxr.data.labels.corrections.answers import EXCLUDE
from cxr.data.leakage.pairs_picture import draw_pairs
from cxr.data.manifest.records import Leakage
from cxr.data.patients import patients

_FILES = ("pairs.csv", "pairs.png", "leakage.json")


def measure_leakage(
    source: pd.DataFrame,
    rows: pd.DataFrame,
    pairs: pd.DataFrame,
    patient_key: str,
    allowed: bool,
) -> Leakage:
    """Count what the source splits share, and what the final splits still share.

    Args:
        source: The rows before the repair: image, source_split, patient_id.
        rows: The rows after it: image, split, patient_id.
        pairs: The near-duplicates among the source rows: image_a, image_b.
        patient_key: How patients are read from file names.
        allowed: Whether the run continues in spite of leakage.

    Returns:
        The record.
    """
    source_split = _by_image(source, "source_split")
    split = _by_image(rows, "split")
    readings = patients.shared_by_reading(rows, patient_key)
    source_as_split = source.assign(split=source["source_split"])
    return Leakage(
        patient_key=patient_key,
        readings=readings,
        given=patients.shared_by_reading(source_as_split, patient_key),
        near_pairs=len(pairs),
        source_pairs=len(pairs_across_splits(pairs, source_split)),
        removed=len(source) - len(rows),
        excluded=int(_is_set_aside(rows).sum()),
        within_split=len(_pairs_within_split(pairs, split)),
        pairs_left=len(pairs_across_splits(pairs, split)),
        patients_left=sum(readings[patient_key].values()),
        without_patient=int((rows["patient_id"] == "").sum()),
        allowed=allowed,
    )


def _by_image(rows: pd.DataFrame, column: str) -> "pd.Series[str]":
    """Return a column, indexed by image."""
    return pd.Series(
        rows[column].to_numpy(),
        index=rows["image"],
    )


def pairs_across_splits(pairs: pd.DataFrame, split: "pd.Series[str]") -> pd.DataFrame:
    """Return the pairs whose images are in two different splits.

    Args:
        pairs: image_a, image_b.
        split: The split of each image, indexed by image; images that are not in it were removed.
    """
    a = pairs["image_a"].map(split)
    b = pairs["image_b"].map(split)
    return pairs[_is_used(a) & _is_used(b) & (a != b)]


def _pairs_within_split(pairs: pd.DataFrame, split: "pd.Series[str]") -> pd.DataFrame:
    """Return the pairs whose images are both in the same split."""
    a = pairs["image_a"].map(split)
    b = pairs["image_b"].map(split)
    return pairs[_is_used(a) & (a == b)]


def _is_set_aside(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Return which images are in no split for their patient, not because a reader said so."""
    is_excluded = rows["split"] == EXCLUDED
    if "corrected_label" not in rows:
        return is_excluded
    return is_excluded & (rows["corrected_label"] != EXCLUDE)


def _is_used(split: "pd.Series[str]") -> "pd.Series[bool]":
    """Return which images were neither removed nor excluded."""
    return split.notna() & (split != EXCLUDED)


def clear_folder(folder: Path) -> None:
    """Delete what an earlier gate wrote.

    A run that fails before its gate must not show the pairs of another run.
    """
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)


def pass_gate(
    leakage: Leakage,
    source: pd.DataFrame,
    rows: pd.DataFrame,
    pairs: pd.DataFrame,
    thumbnail_places: Mapping[str, str],
    folder: Path,
    inspection: Path,
) -> None:
    """Publish what was found, and stop the run where leakage is left and was not allowed.

    Writes pairs.csv, pairs.png (where there are pairs) and leakage.json.

    Args:
        leakage: What `measure_leakage` returned. Where it was allowed, the run continues, and the
            record, and so the model card, says so.
        source: The rows before the repair: image, source_split.
        rows: The rows after it: image, split.
        pairs: The near-duplicates among the source rows.
        thumbnail_places: The column `thumbnail` by image, of all images in pairs.
        folder: Where the files are written.
        inspection: Folder of the inspection, which holds the thumbnails.

    Raises:
        LeakageError: Two splits share a near-duplicate or a patient.
    """
    source_split = _by_image(source, "source_split")
    split = _by_image(rows, "split")
    table = pairs.copy()
    for side in ("a", "b"):
        table[f"source_split_{side}"] = pairs[f"image_{side}"].map(source_split)
        table[f"split_{side}"] = pairs[f"image_{side}"].map(split).fillna("removed")
    write_table(table, folder / "pairs.csv")
    if len(pairs):
        # What is left across splits comes first: it is what a person has to look at.
        left = pairs_across_splits(pairs, split).index
        ordered = pd.concat([table.loc[left], table.drop(index=left)])
        draw_pairs(
            ordered,
            thumbnail_places,
            inspection,
            folder / "pairs.png",
        )
    leakage.write(folder / "leakage.json")
    if not leakage.clean and not leakage.allowed:
        raise LeakageError(_describe_failure(leakage, folder))


def _describe_failure(leakage: Leakage, folder: Path) -> str:
    """Return what was found and what can be done, in words."""
    unknown = ""
    if leakage.without_patient:
        unknown = f" (of {leakage.without_patient:,} images no patient is known)"
    return (
        f"data leakage: {leakage.pairs_left} pairs of near-duplicates and "
        f"{leakage.patients_left} patients are in two splits{unknown}. Look at "
        f"{folder / 'pairs.png'} and {folder / 'pairs.csv'}; leave --repair-leakage on, correct "
        "the split folders or the --patient-key, or run on with --allow-leakage (the model card "
        "will say so)"
    )
