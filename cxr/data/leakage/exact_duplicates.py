"""Find exact duplicates across all splits: the same bytes (MD5) or decoded pixels (SHA-256).

Resized or otherwise changed copies are near-duplicates: see `near_duplicates`.
"""

import pandas as pd

from cxr.data.manifest.columns import REJECT_COLUMNS

NAMES_SHOWN = 4  # of a group of duplicates, in the detail of a reject
SPLIT_PRIORITY = {"test": 0, "val": 1, "train": 2, "": 3}  # of several copies, the lowest is kept


def remove_exact_duplicates(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Keep one row for each picture.

    Of several copies the one in test is kept before the one in val, before the one in train, then
    the one with the smallest name. Copies under both labels are all removed: which label is right
    cannot be known.

    Args:
        rows: One row for each image: image, source_split, label, md5 and pixel_sha256 are read.

    Returns:
        The rows kept, in the order of the image names, and the rejects: image, reason, detail.
    """
    priority = rows["source_split"].map(SPLIT_PRIORITY)
    ordered = rows.assign(_priority=priority).sort_values(["_priority", "image"])
    groups = ordered.groupby("pixel_sha256", sort=False)
    in_conflict = groups["label"].transform("nunique") > 1
    is_copy = ordered.duplicated("pixel_sha256") & ~in_conflict

    first = groups[["image", "md5"]].transform("first")[is_copy]
    copies = ordered[is_copy]
    same_bytes = copies["md5"] == first["md5"]
    likeness = same_bytes.map(
        {
            True: "same bytes as ",
            False: "same pixels as ",
        }
    )
    duplicates = _rejects(
        copies,
        "duplicate",
        likeness + first["image"],
    )

    # Only the names of the groups in conflict are joined: most groups are single images.
    disputed = ordered[in_conflict]
    names = disputed.groupby("pixel_sha256", sort=False)["image"].agg(join_names)
    details = "both labels: " + disputed["pixel_sha256"].map(names).astype(str)
    conflicts = _rejects(
        disputed,
        "label_conflict",
        details,
    )

    kept = ordered[~is_copy & ~in_conflict].drop(columns="_priority")
    kept = kept.sort_values("image").reset_index(drop=True)
    return kept, pd.concat(
        [duplicates, conflicts],
        ignore_index=True,
    )


def join_names(images: "pd.Series[str]") -> str:
    """Join the first names of a group: a thousand copies must not write a million names."""
    names = " | ".join(images.head(NAMES_SHOWN))
    if len(images) > NAMES_SHOWN:
        names += f" and {len(images) - NAMES_SHOWN} more"
    return names


def _rejects(
    rows: pd.DataFrame,
    reason: str,
    details: "pd.Series[str]",
) -> pd.DataFrame:
    """Return the rejects of these rows."""
    columns = {
        "image": rows["image"],
        "reason": reason,
        "detail": details,
    }
    return pd.DataFrame(columns, columns=REJECT_COLUMNS)
