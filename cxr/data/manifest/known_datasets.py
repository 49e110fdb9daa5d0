"""The counts of files that known public data sets have."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cxr.core.errors import DataError
from cxr.core.formatting import printable
from cxr.core.settings import LABEL_NAMES

if TYPE_CHECKING:
    pass

KNOWN: dict[str, dict[str, dict[str, int]]] = {
    # 5,856 files as published on Mendeley Data and Kaggle, whose texts say 5,863; byte-identical copies included
    "kermany": {
        "train": {"NORMAL": 1341, "PNEUMONIA": 3875},
        "val": {"NORMAL": 8, "PNEUMONIA": 8},
        "test": {"NORMAL": 234, "PNEUMONIA": 390},
    },
}


def differences_from_known(name: str, counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return a sentence for each count of files that is not the known data set's, or an empty list.

    `counts` is of the files found, before copies are removed, by source split and label name.
    Raises DataError for a name that is not in KNOWN.

    >>> differences_from_known("kermany", KNOWN["kermany"])
    []
    """
    if name not in KNOWN:
        raise DataError(
            f"expected a known data set ({', '.join(sorted(KNOWN))}), found {printable(name)!r}"
        )
    known = KNOWN[name]
    out = []
    for split in [*known, *sorted(set(counts) - set(known))]:
        for label in LABEL_NAMES:
            expected, found = (
                known.get(split, {}).get(label, 0),
                counts.get(split, {}).get(label, 0),
            )
            if expected != found:
                place = printable(split) or "no split folder"
                out.append(
                    f"{place} {label}: expected {expected:,} images as published ({name}), found {found:,} "
                    f"({abs(found - expected):,} {'more' if found > expected else 'fewer'})"
                )
    return out
