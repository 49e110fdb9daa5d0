"""Which architecture is chosen, by a written rule and validation figures alone."""

from pathlib import Path

import pandas as pd

from cxr.errors import TrainingError
from cxr.records import Failure, Selection, Training, write_table

AUROC_MARGIN = 0.01
MIN_SPECIFICITY = 0.5
RULE = (
    f"Among the architectures whose validation AUROC is within {AUROC_MARGIN} of the best and whose specificity at the "
    f"operating point is at least {MIN_SPECIFICITY}: the highest sensitivity, then specificity, then AUROC, then name."
)


def compare(trained: list[Training], failed: list[Failure], run: Path) -> pd.DataFrame:
    """Write comparison.csv, one row per architecture, best validation AUROC first; return it."""
    rows = [
        {
            "architecture": t.architecture, "status": "trained", "weights": t.weights, "seed": t.seed,
            "epochs": t.epochs, "best_epoch": t.best_epoch, "threshold": t.threshold,
            **{f"val_{name}": value for name, value in t.val.items()},
            "seconds": t.seconds, "images_per_second": t.images_per_second, "error": "",
        }
        for t in sorted(trained, key=lambda t: -_figure(t, "auroc"))
    ]  # fmt: skip
    rows += [{"architecture": f.architecture, "status": "failed", "error": f.error} for f in failed]
    table = pd.DataFrame(rows)
    write_table(table, run / "comparison.csv")
    return table


def select(trained: list[Training], failed: list[Failure]) -> Selection:
    """Return the chosen architecture with its reason; raises TrainingError where none was trained.

    Where no candidate reaches the floor of specificity, the one with the highest specificity is chosen and the
    reason says so.
    """
    if not trained:
        raise TrainingError("no architecture was trained: " + "; ".join(f"{f.architecture}: {f.error}" for f in failed))
    best = max(_figure(t, "auroc") for t in trained)
    near = [t for t in trained if _figure(t, "auroc") >= best - AUROC_MARGIN]
    eligible = [t for t in near if _figure(t, "specificity") >= MIN_SPECIFICITY]
    names = ("sensitivity", "specificity", "auroc") if eligible else ("specificity", "auroc")
    order = sorted(eligible or near, key=lambda t: (*(-_figure(t, name) for name in names), t.architecture))
    chosen = order[0]
    warning = (
        "" if eligible else f" No candidate reaches a specificity of {MIN_SPECIFICITY}: do not use it without review."
    )
    reason = (
        f"{chosen.architecture}: validation AUROC {_figure(chosen, 'auroc'):.4f} (best {best:.4f}), "
        f"{len(near)} of {len(trained)} within {AUROC_MARGIN}; at its operating point sensitivity "
        f"{_figure(chosen, 'sensitivity'):.3f}, specificity {_figure(chosen, 'specificity'):.3f}.{warning}"
    )
    return Selection(
        architecture=chosen.architecture, rule=RULE, reason=reason, threshold=chosen.threshold,
        eligible=tuple(t.architecture for t in order), failed={f.architecture: f.error for f in failed},
    )  # fmt: skip


def _figure(training: Training, name: str) -> float:
    return float(training.val[name] or 0.0)
