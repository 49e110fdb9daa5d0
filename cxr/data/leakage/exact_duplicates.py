"""Exact copies: the same bytes (MD5) or the same decoded pixels (SHA-256), found across all splits.

Left out: near copies (resized, brightened), which `near_duplicates` finds.
"""

import pandas as pd

from cxr.data.manifest.columns import REJECT_COLUMNS

NAMED = 4  # images of a group in a detail
KEPT_FIRST = {"test": 0, "val": 1, "train": 2, "": 3}


def remove_exact_duplicates(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (rows kept, rejects): one row for each picture, in the order of the image names.

    Of several copies the one in test stays before val before train, then the smallest name. Copies under
    both labels all go: which label is right cannot be known.
    """
    ordered = rows.assign(_rank=rows["source_split"].map(KEPT_FIRST)).sort_values(
        ["_rank", "image"]
    )
    groups = ordered.groupby("pixel_sha256", sort=False)
    conflict = groups["label"].transform("nunique") > 1
    first = groups[["image", "md5"]].transform("first")
    copy = ordered.duplicated("pixel_sha256") & ~conflict
    same = (ordered["md5"] == first["md5"]).map({True: "same bytes as ", False: "same pixels as "})
    duplicates = _rejects(ordered[copy], "duplicate", (same + first["image"])[copy])
    # The names of the groups in conflict alone: most groups are single images.
    disputed = ordered[conflict]
    names = disputed.groupby("pixel_sha256", sort=False)["image"].agg(format_names)
    details = "both labels: " + disputed["pixel_sha256"].map(names).astype(str)
    conflicts = _rejects(disputed, "label_conflict", details)
    kept = (
        ordered[~copy & ~conflict].drop(columns="_rank").sort_values("image").reset_index(drop=True)
    )
    return kept, pd.concat([duplicates, conflicts], ignore_index=True)


def format_names(images: "pd.Series[str]") -> str:
    """Return the first names of a group in words: a thousand copies must not write a million names."""
    more = f" and {len(images) - NAMED} more" if len(images) > NAMED else ""
    return " | ".join(images.head(NAMED)) + more


def _rejects(rows: pd.DataFrame, reason: str, details: "pd.Series[str]") -> pd.DataFrame:
    return pd.DataFrame(
        {"image": rows["image"], "reason": reason, "detail": details}, columns=REJECT_COLUMNS
    )
