"""The tasks of the flow `explore`: pictures and numbers of the data."""

import logging
from pathlib import Path

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from cxr.core.formatting import format_metric
from cxr.core.settings import LABEL_NAMES, TrainingSettings
from cxr.exploration import explore
from cxr.exploration.audit import Audit
from cxr.exploration.explore import Exploration
from cxr.exploration.shift import Shift
from cxr.stages import data_steps
from tasks import progress, retries
from tasks.pages import pictures

EXPLORE = "explore data"
logger = logging.getLogger("cxr.exploration")


@task(name="explore data", task_run_name="explore data", cache_policy=NO_CACHE, **retries.POLICY)
def explore_data(
    work: Path,
    settings: TrainingSettings,
    cache: Path,
) -> Exploration:
    """Write eda/ (pictures, numbers, shortcut audit, shift), unless it is there for this very data."""

    def on_progress(step: str, done: float, _total: float) -> None:
        progress.advance(EXPLORE, to=done, note=step)

    with progress.tracking(EXPLORE, len(explore.STEPS), "steps"):
        return data_steps.explore_data(work, settings, cache, on_progress)


@task(name="show exploration", task_run_name="show exploration", cache_policy=NO_CACHE)
def show_exploration(exploration: Exploration, work: Path) -> None:
    """Show the counts, the pictures, the non-clinical baselines and the warnings in the UI."""
    folder = work / "eda"
    rows = [{"split": split, **counts} for split, counts in exploration.counts.items()]
    create_table_artifact(rows, key="class-distribution", description="Images by split and class")
    weights = ", ".join(
        f"{LABEL_NAMES[label]} {weight:.3f}" for label, weight in exploration.class_weights.items()
    )
    blocks = [
        "# Exploratory data analysis",
        f"Class weights (balanced, train): {weights}",
        *(pictures.to_markdown(folder / name) for name in exploration.figures),
    ]
    create_markdown_artifact(
        "\n\n".join(blocks),
        key="exploration",
        description="Pictures of the data",
    )
    audit = Audit.read(folder / "audit.json")
    shift = Shift.read(folder / "shift.json")
    _show_baselines(audit)
    _show_warnings(audit, shift)


def _show_baselines(audit: Audit) -> None:
    """Show how well signals that are not clinical separate the classes."""
    rows = [
        {
            "signal": baseline.signal,
            "AUROC train": format_metric(baseline.train.auroc),
            "AUROC test": format_metric(baseline.test.auroc),
            "n test": baseline.test.n,
        }
        for baseline in audit.baselines()
    ]
    create_table_artifact(
        rows,
        key="shortcut-audit",
        description="How well non-clinical signals separate the classes",
    )


def _show_warnings(audit: Audit, shift: Shift) -> None:
    """Warn of a non-clinical signal or a distribution shift that separates."""
    warnings = [*audit.warnings(), *shift.sentences()]
    if not warnings:
        return
    for warning in warnings:
        logger.warning(warning)
    lines = [f"- {warning}" for warning in warnings]
    create_markdown_artifact(
        "# Before you trust a metric\n\n" + "\n".join(lines),
        key="data-warnings",
        description="Non-clinical signals and distribution shift in the data",
    )
