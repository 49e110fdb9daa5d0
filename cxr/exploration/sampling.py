"""Draw whole patients from a large manifest, so that slow measurements end in time."""

from typing import Any

import numpy as np
import pandas as pd

from cxr.data import splits

Positions = np.ndarray[Any, Any]


def sample_patients(
    table: pd.DataFrame,
    positions: Positions,
    most: int,
    seed: int,
) -> Positions:
    """Draw whole patients at random until no more of them fit.

    Args:
        table: The manifest.
        positions: Positions of the rows to choose from, int (n,).
        most: The largest number of rows to return.
        seed: Equal seeds give equal rows.

    Returns:
        The chosen positions, in their order; all of them where they are few enough.
    """
    if len(positions) <= most:
        return positions
    patients = pd.factorize(splits.patient_groups(table.iloc[positions]))[0]
    sizes = np.bincount(patients)
    candidates = np.flatnonzero(sizes <= most)
    order = np.random.default_rng(seed).permutation(candidates)
    fits = np.cumsum(sizes[order]) <= most
    return positions[np.isin(patients, order[fits])]
