"""Which model is chosen, by a written rule, paired tests and validation figures alone."""

from pathlib import Path

import numpy as np
import pandas as pd

from cxr.core.errors import DataError, TrainingError
from cxr.core.files import read_table, write_table
from cxr.core.formatting import describe_p_value
from cxr.core.records import Record
from cxr.core.settings import LABEL_NAMES as LABEL_NAMES  # noqa: PLC0414 - others import it from here
from cxr.core.settings import Strict
from cxr.models.training.records import Failure, Training
from cxr.stats import comparison
from cxr.stats.comparison import Difference, Disagreement
from cxr.stats.metrics import PROPORTIONS


class Versus(Strict):
    """A candidate against the model with the best validation AUROC, tested on the same images.

    auroc_p and decisions_p are corrected for the number of candidates (Holm); None where not estimable.
    """

    name: str
    auroc: Difference | None
    decisions: Disagreement
    auroc_p: float | None
    decisions_p: float | None
    verdict: str


class Stability(Strict):
    """One architecture over several seeds: validation AUROC (mean, standard deviation, ends) and its rank by seed."""

    architecture: str
    auroc: tuple[float, ...]
    mean: float
    std: float | None
    ranks: tuple[int, ...]


class Selection(Record):
    """The chosen model, by validation figures alone; `best` is the one with the highest validation AUROC."""

    name: str
    architecture: str
    best: str
    rule: str
    reason: str
    threshold: float
    eligible: tuple[str, ...]
    versus: tuple[Versus, ...]
    stability: tuple[Stability, ...]
    failed: dict[str, str]


AUROC_MARGIN = 0.02
MIN_SPECIFICITY = 0.5
SIGNIFICANT = 0.05
RULE = (
    "Compared with the model of the highest validation AUROC, on the same images: of those whose AUROC is not "
    f"significantly lower (DeLong by patient, Holm-corrected p >= {SIGNIFICANT}) nor more than {AUROC_MARGIN} lower, whose "
    "decisions at the operating point are not significantly worse (McNemar, images as units, Holm-corrected), and whose specificity "
    f"there is at least {MIN_SPECIFICITY}: the one that takes least time to score an image. Of several seeds the "
    "first that could be trained stands for its architecture."
)


def write_comparison(trained: list[Training], failed: list[Failure], run: Path) -> pd.DataFrame:
    """Write comparison.csv and return it; see `compared`."""
    table = comparison_table(trained, failed)
    write_table(table, run / "comparison.csv")
    return table


def comparison_table(trained: list[Training], failed: list[Failure]) -> pd.DataFrame:
    """Return one row per model, best validation AUROC first, failed ones last."""
    rows = [
        {
            "name": t.name,
            "architecture": t.architecture,
            "status": "trained",
            "weights": t.weights,
            "seed": t.seed,
            "epochs": t.epochs,
            "best_epoch": t.best_epoch,
            "threshold": t.threshold,
            **{f"val_{name}": value for name, value in t.val.items()},
            **{f"val_{name}": value for name, value in _ends(t).items()},
            "calibration": t.calibration.method,
            "val_brier": t.calibration_quality.brier_after,
            "val_ece": t.calibration_quality.ece_after,
            "milliseconds": t.milliseconds,
            "seconds": t.seconds,
            "images_per_second": t.images_per_second,
            "error": "",
        }
        for t in sorted(trained, key=lambda t: -_figure(t, "auroc"))
    ]
    rows += [
        {"name": f.name, "architecture": f.architecture, "status": "failed", "error": f.error}
        for f in failed
    ]
    return pd.DataFrame(rows)


def _ends(training: Training) -> dict[str, float | None]:
    ends = {name: training.val_intervals.get(name) for name in (*PROPORTIONS, "auroc", "auprc")}
    return {
        f"{name}_{end}": getattr(each, end) if each else None
        for name, each in ends.items()
        for end in ("low", "high")
    }


def select_model(trained: list[Training], failed: list[Failure], run: Path) -> Selection:
    """Return the chosen model with its reason; reads scores_val.csv of each below `run`.

    Raises TrainingError where none was trained. Where no candidate reaches the floor of specificity, the one with
    the highest specificity is chosen and the reason says so.
    """
    if not trained:
        raise TrainingError(
            "no architecture was trained: " + "; ".join(f"{f.name}: {f.error}" for f in failed)
        )
    first = [
        min((t for t in trained if t.architecture == name), key=lambda t: t.seed)
        for name in _architectures(trained)
    ]
    best = max(first, key=lambda t: (_figure(t, "auroc"), t.name))
    versus = _versus(best, [t for t in first if t is not best], run)
    near = [best, *(t for t in first if any(v.name == t.name and not v.verdict for v in versus))]
    eligible = [t for t in near if _figure(t, "specificity") >= MIN_SPECIFICITY]
    if eligible:
        order = sorted(eligible, key=lambda t: (t.milliseconds, t.name))
    else:
        order = sorted(
            near, key=lambda t: (-_figure(t, "specificity"), -_figure(t, "auroc"), t.name)
        )
    chosen = order[0]
    return Selection(
        name=chosen.name,
        architecture=chosen.architecture,
        best=best.name,
        rule=RULE,
        threshold=chosen.threshold,
        reason=_reason(chosen, best, len(near), len(first), bool(eligible)),
        eligible=tuple(t.name for t in order),
        versus=tuple(versus),
        stability=_stability(trained),
        failed={f.name: f.error for f in failed},
    )


def _architectures(trained: list[Training]) -> list[str]:
    return list(dict.fromkeys(t.architecture for t in trained))


def _reason(chosen: Training, best: Training, near: int, of: int, eligible: bool) -> str:
    words = f"{chosen.name}: validation AUROC {_figure(chosen, 'auroc'):.4f}"
    if chosen is not best:
        words += f" against {_figure(best, 'auroc'):.4f} of {best.name}, no significant difference"
    taken = (
        "it takes the least time to score an image"
        if eligible
        else "its specificity is the highest"
    )
    words += (
        f"; {near} of {of} candidates are as good by the rule, and {taken}; at its operating point sensitivity "
        f"{_figure(chosen, 'sensitivity'):.3f}, specificity {_figure(chosen, 'specificity'):.3f}, n = {chosen.val['n']}."
    )
    if eligible:
        return words
    return (
        words
        + f" No candidate reaches a specificity of {MIN_SPECIFICITY}: do not use it without review."
    )


def _versus(best: Training, others: list[Training], run: Path) -> list[Versus]:
    """Return each other model against the best one: both tests, corrected, and why it is out (or an empty verdict)."""
    tables = {t.name: read_table(run / t.name / "scores_val.csv") for t in (best, *others)}
    found = [
        (_delong(tables[best.name], tables[t.name]), _mcnemar(best, t, tables)) for t in others
    ]
    auroc_ps = comparison.holm([auroc.p if auroc else None for auroc, _ in found])
    decision_ps = comparison.holm([decisions.p for _, decisions in found])
    return [
        Versus(
            name=t.name,
            auroc=auroc,
            decisions=decisions,
            auroc_p=auroc_p,
            decisions_p=decisions_p,
            verdict=_verdict(
                _figure(best, "auroc") - _figure(t, "auroc"), decisions, auroc_p, decisions_p
            ),
        )
        for t, (auroc, decisions), auroc_p, decisions_p in zip(
            others, found, auroc_ps, decision_ps, strict=True
        )
    ]


def _delong(best: pd.DataFrame, other: pd.DataFrame) -> comparison.Difference | None:
    """Return the difference of the AUROCs, or None where it is not estimable (fewer than two patients of a class)."""
    labels, patients = best["label"].to_numpy(), best["patient_id"].to_numpy()
    try:
        return comparison.delong(
            labels, best["raw_score"].to_numpy(), other["raw_score"].to_numpy(), patients
        )
    except DataError:
        return None


def _mcnemar(
    best: Training, other: Training, tables: dict[str, pd.DataFrame]
) -> comparison.Disagreement:
    a, b = ((tables[t.name]["score"] >= t.threshold).to_numpy().astype(int) for t in (best, other))
    return comparison.mcnemar(tables[best.name]["label"].to_numpy(), a, b)


def _verdict(
    lower: float,
    decisions: comparison.Disagreement,
    auroc_p: float | None,
    decisions_p: float | None,
) -> str:
    """Return why a candidate is out, or an empty text; a small validation set proves little, hence the margin too."""
    if auroc_p is not None and auroc_p < SIGNIFICANT and lower > 0:
        return f"AUROC significantly lower ({describe_p_value(auroc_p)})"
    if lower > AUROC_MARGIN:
        return f"AUROC lower by {lower:.3f}, more than {AUROC_MARGIN}"
    if (
        decisions_p is not None
        and decisions_p < SIGNIFICANT
        and decisions.only_a > decisions.only_b
    ):
        return f"decisions significantly worse ({describe_p_value(decisions_p)})"
    return ""


def _stability(trained: list[Training]) -> tuple[Stability, ...]:
    """Return each architecture over its seeds, best mean first; ranks are among the architectures of one seed."""
    table = pd.DataFrame(
        [(t.architecture, t.seed, _figure(t, "auroc")) for t in trained],
        columns=["a", "seed", "auroc"],
    )
    wide = table.pivot(index="a", columns="seed", values="auroc")
    ranks = wide.rank(ascending=False, method="min")
    found = []
    for name in wide.mean(axis=1).sort_values(ascending=False, kind="stable").index:
        values = wide.loc[name].dropna().to_numpy()
        found.append(
            Stability(
                architecture=str(name),
                auroc=tuple(map(float, values)),
                mean=float(values.mean()),
                std=float(np.std(values, ddof=1)) if len(values) > 1 else None,
                ranks=tuple(int(rank) for rank in ranks.loc[name].dropna()),
            )
        )
    return tuple(found)


def _figure(training: Training, name: str) -> float:
    return float(training.val[name] or 0.0)
