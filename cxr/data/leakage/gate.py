"""Near copies and patients in two splits: found, taken out of train, and a gate that fails where any is left.

The hold-out is never made smaller here: of a picture that test and train share, train loses its copy.
Left out: how near copies are found (`near_duplicates`) and exact copies (`duplicates`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr.core.errors import LeakageError
from cxr.core.files import write_table
from cxr.core.settings import EXCLUDED
from cxr.data.leakage import exact_duplicates, near_duplicates
from cxr.data.leakage.exact_duplicates import KEPT_FIRST
from cxr.data.leakage.pairs_picture import Pairs, draw_pairs
from cxr.data.manifest.columns import REJECT_COLUMNS
from cxr.data.manifest.records import Leakage
from cxr.data.manifest.shard_inspection import Thumbnails
from cxr.data.patients import patients

PAIR_COLUMNS = ["image_a", "image_b", "variant", "distance", "correlation"]


def find_pairs(
    rows: pd.DataFrame,
    folder: Path,
    known: "pd.Series[bool]",
    earlier: Pairs,
    on_images: Callable[[int], None] = lambda _: None,
) -> Pairs:
    """Return the near-duplicates among `rows` by name, one row a pair.

    Args:
        rows: One row an image, in the order of the names.
        folder: Where the inspection is remembered.
        known: Which rows an earlier search compared with each other.
        earlier: The pairs that it found; those of images that are gone since are left out.
        on_images: Called with the number of images done.

    Returns:
        image_a, image_b (text), variant (text), distance (bits of 256), correlation (-1 to 1).
    """
    images = rows["image"]
    both = earlier["image_a"].isin(images[known]) & earlier["image_b"].isin(images[known])
    lasting = earlier[both].astype({"distance": "int64"})
    if known.all():
        return lasting.reset_index(drop=True)
    position = pd.Series(np.arange(len(rows)), index=images)
    remembered = near_duplicates.Earlier(
        known.to_numpy(),
        lasting.assign(a=lasting["image_a"].map(position), b=lasting["image_b"].map(position)),
    )
    found = near_duplicates.find_near_duplicates(
        Thumbnails(folder, rows["thumbnail"]), on_images, remembered
    )
    names = images.to_numpy()
    named = found.assign(image_a=names[found["a"]], image_b=names[found["b"]])
    return named[PAIR_COLUMNS]


def remove_near_duplicates(rows: pd.DataFrame, pairs: Pairs) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (rows kept, rejects): of each group of near copies all that are in test, else one, stay.

    Without a test image the one kept is in val before train, then has the smallest name. Near copies under both
    labels all go, except out of test: which label is right cannot be known.
    """
    if pairs.empty:
        return rows, pd.DataFrame(columns=REJECT_COLUMNS)
    group = _components(rows, pairs)
    ordered = rows.assign(_group=group, _rank=rows["source_split"].map(KEPT_FIRST)).sort_values(
        ["_rank", "image"]
    )
    ordered = ordered[ordered["_group"] >= 0]
    grouped = ordered.groupby("_group")
    conflict = (grouped["label"].transform("nunique") > 1) & (ordered["source_split"] != "test")
    behind = (grouped.cumcount() > 0) & (ordered["source_split"] != "test") & ~conflict
    first = grouped["image"].transform("first")
    words = _words(pairs)
    details = [
        words.get((image, kept), f"in one group of near copies with {kept}")
        for image, kept in zip(ordered["image"], first, strict=True)
    ]
    rejects = ordered.assign(
        reason=np.where(conflict, "label_conflict", "near_duplicate"), detail=details
    )
    rejects.loc[conflict, "detail"] = (
        "near copies under both labels: "
        + grouped["image"].transform(exact_duplicates.format_names)[conflict]
    )
    rejects = rejects.loc[conflict | behind, REJECT_COLUMNS]
    return rows[~rows["image"].isin(rejects["image"])].reset_index(drop=True), rejects


def _components(rows: pd.DataFrame, pairs: Pairs) -> "np.ndarray[Any, Any]":
    """Return the group of near copies that each row belongs to, int (n,), -1 for none."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    position = pd.Series(np.arange(len(rows)), index=rows["image"])
    a, b = position.loc[pairs["image_a"]].to_numpy(), position.loc[pairs["image_b"]].to_numpy()
    _, group = connected_components(
        coo_array((np.ones(len(a)), (a, b)), shape=(len(rows), len(rows))), directed=False
    )
    alone = np.bincount(group)[group] == 1
    return np.where(alone, -1, group)


def _words(pairs: Pairs) -> dict[tuple[str, str], str]:
    found = {}
    for one in pairs.to_dict("records"):
        a, b = str(one["image_a"]), str(one["image_b"])
        for image, other in ((a, b), (b, a)):
            found[image, other] = (
                f"near copy of {other} ({one['variant']}, correlation {one['correlation']:.3f})"
            )
    return found


def exclude_shared_patients(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with split `excluded` where their patient is in test, or in val and the row in train."""
    split = rows["split"]
    for stays, goes in (("test", ("train", "val")), ("val", ("train",))):
        members = set(rows.loc[(split == stays) & (rows["patient_id"] != ""), "patient_id"])
        split = split.mask(split.isin(goes) & rows["patient_id"].isin(members), EXCLUDED)
    return rows.assign(split=split)


def measure_leakage(
    given: pd.DataFrame, rows: pd.DataFrame, found: Pairs, key: str, allowed: bool
) -> Leakage:
    """Return what was found among the rows as given, and what is left across the splits of the `rows` that go on."""
    source = pd.Series(given["source_split"].to_numpy(), index=given["image"])
    split = pd.Series(rows["split"].to_numpy(), index=rows["image"])
    readings = patients.shared_by_reading(rows, key)
    return Leakage(
        patient_key=key,
        readings=readings,
        given=patients.shared_by_reading(given.assign(split=given["source_split"]), key),
        near_pairs=len(found),
        source_pairs=len(pairs_across_splits(found, source)),
        removed=len(given) - len(rows),
        excluded=int((rows["split"] == EXCLUDED).sum()),
        within_split=len(_within(found, split)),
        pairs_left=len(pairs_across_splits(found, split)),
        patients_left=sum(readings[key].values()),
        without_patient=int((rows["patient_id"] == "").sum()),
        allowed=allowed,
    )


def pairs_across_splits(pairs: Pairs, split: "pd.Series[str]") -> Pairs:
    """Return the pairs whose two images are in two of the splits; `split` is indexed by image."""
    a, b = pairs["image_a"].map(split), pairs["image_b"].map(split)
    return pairs[a.notna() & b.notna() & (a != b) & (a != EXCLUDED) & (b != EXCLUDED)]


def _within(pairs: Pairs, split: "pd.Series[str]") -> Pairs:
    a, b = pairs["image_a"].map(split), pairs["image_b"].map(split)
    return pairs[a.notna() & (a == b) & (a != EXCLUDED)]


def clear_folder(folder: Path) -> None:
    """Remove what an earlier gate left: a run that fails before its gate must not show another's pairs."""
    for name in ("pairs.csv", "pairs.png", "leakage.json"):
        (folder / name).unlink(missing_ok=True)


def pass_gate(
    leakage: Leakage,
    given: pd.DataFrame,
    rows: pd.DataFrame,
    found: Pairs,
    folder: Path,
    inspection: Path,
) -> None:
    """Publish pairs.csv, pairs.png (where there are pairs) and leakage.json; raise LeakageError where any is left.

    `given` are the rows before the repair, `rows` those after it. With `allowed` the run goes on: the record, and so
    the model card, says it.
    """
    source = pd.Series(given["source_split"].to_numpy(), index=given["image"])
    split = pd.Series(rows["split"].to_numpy(), index=rows["image"])
    table = found.copy()
    for x in ("a", "b"):
        table[f"source_split_{x}"] = found[f"image_{x}"].map(source)
        table[f"split_{x}"] = found[f"image_{x}"].map(split).fillna("removed")
    write_table(table, folder / "pairs.csv")
    if len(found):
        # What is left across splits comes first: it is what a person has to look at.
        first = pairs_across_splits(found, split).index
        places = dict(zip(given["image"], given["thumbnail"], strict=True))
        draw_pairs(
            pd.concat([table.loc[first], table.drop(index=first)]),
            places,
            inspection,
            folder / "pairs.png",
        )
    leakage.write(folder / "leakage.json")
    if leakage.clean or leakage.allowed:
        return
    unknown = (
        f" (of {leakage.without_patient:,} images no patient is known)"
        if leakage.without_patient
        else ""
    )
    raise LeakageError(
        f"leakage: {leakage.pairs_left} pairs of near copies and {leakage.patients_left} patients are in two splits{unknown}. Look at "
        f"{folder / 'pairs.png'} and {folder / 'pairs.csv'}; leave --repair-leakage on, correct the split folders or the "
        "--patient-key, or run on with --allow-leakage (the model card will say so)"
    )
