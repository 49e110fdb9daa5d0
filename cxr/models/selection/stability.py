"""How an architecture does over several seeds."""

import numpy as np
import pandas as pd

from cxr.models.selection.records import Stability
from cxr.models.training.records import Training


def measure_stability(trained: list[Training]) -> tuple[Stability, ...]:
    """Return each architecture over its seeds, the best mean first."""
    table = pd.DataFrame(
        {
            "architecture": [training.architecture for training in trained],
            "seed": [training.seed for training in trained],
            "auroc": [training.val_metric("auroc") for training in trained],
        }
    )
    by_seed = table.pivot(
        index="architecture",
        columns="seed",
        values="auroc",
    )
    ranks = by_seed.rank(ascending=False, method="min")
    best_first = by_seed.mean(axis=1).sort_values(ascending=False, kind="stable")
    return tuple(
        _architecture_stability(str(name), by_seed.loc[name].dropna(), ranks.loc[name].dropna())
        for name in best_first.index
    )


def _architecture_stability(
    name: str,
    aurocs: "pd.Series[float]",
    ranks: "pd.Series[float]",
) -> Stability:
    """Return one architecture over its seeds."""
    values = aurocs.to_numpy()
    return Stability(
        architecture=name,
        auroc=tuple(float(value) for value in values),
        mean=float(values.mean()),
        std=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        ranks=tuple(int(rank) for rank in ranks),
    )
