"""How many images known public data sets have."""

from collections.abc import Mapping

from cxr.core.errors import DataError
from cxr.core.formatting import printable
from cxr.core.settings import LABEL_NAMES

KNOWN: dict[str, dict[str, dict[str, int]]] = {
    # 5,856 files as published on Mendeley Data and Kaggle, whose texts say 5,863; byte-identical
    # copies are included.
    "kermany": {
        "train": {"NORMAL": 1341, "PNEUMONIA": 3875},
        "val": {"NORMAL": 8, "PNEUMONIA": 8},
        "test": {"NORMAL": 234, "PNEUMONIA": 390},
    },
}


def differences_from_known(name: str, counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Compare the images found with the counts of a known data set.

    Args:
        name: A key of KNOWN.
        counts: Images found, before copies are removed, by source split and label name.

    Returns:
        A sentence for each count that differs.

    Raises:
        DataError: There is no known data set of that name.

    >>> differences_from_known("kermany", KNOWN["kermany"])
    []
    """
    if name not in KNOWN:
        names = ", ".join(sorted(KNOWN))
        raise DataError(f"expected a known data set ({names}), found {printable(name)!r}")
    published = KNOWN[name]
    unexpected = sorted(set(counts) - set(published))
    sentences = []
    for split in [*published, *unexpected]:
        place = printable(split) or "no split folder"
        for label in LABEL_NAMES:
            expected = published.get(split, {}).get(label, 0)
            found = counts.get(split, {}).get(label, 0)
            if found == expected:
                continue
            direction = "more" if found > expected else "fewer"
            sentences.append(
                f"{place} {label}: expected {expected:,} images as published ({name}), "
                f"found {found:,} ({abs(found - expected):,} {direction})"
            )
    return sentences
