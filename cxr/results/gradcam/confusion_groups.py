"""The images of a set by cell of the confusion matrix."""

import numpy as np
import pandas as pd

from cxr.stats.metrics import Vector

GROUPS = {
    "tp": "True positives",
    "fn": "False negatives",
    "fp": "False positives",
    "tn": "True negatives",
}


def confusion_groups(table: pd.DataFrame, threshold: float) -> dict[str, Vector]:
    """Return the rows of each group of GROUPS, the most certain prediction first.

    Images of equal score are in the order of their names.

    Args:
        table: One row per image, with image, label and score.
        threshold: The lowest score that counts as positive.

    Returns:
        By name of the group, positions in `table`.
    """
    scores = table["score"].to_numpy()
    is_positive = (table["label"] == 1).to_numpy()
    is_called_positive = scores >= threshold
    members = {
        "tp": is_called_positive & is_positive,
        "fn": ~is_called_positive & is_positive,
        "fp": is_called_positive & ~is_positive,
        "tn": ~is_called_positive & ~is_positive,
    }
    highest_first = np.lexsort((table["image"], -scores))
    lowest_first = np.lexsort((table["image"], scores))
    order = {
        "tp": highest_first,
        "fn": lowest_first,
        "fp": highest_first,
        "tn": lowest_first,
    }
    groups = {}
    for name in GROUPS:
        is_member = members[name][order[name]]
        groups[name] = order[name][is_member]
    return groups
