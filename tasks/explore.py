"""The pictures and numbers of the flow `explore`."""

import logging
from pathlib import Path

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from cxr.core.formatting import format_metric
from cxr.core.settings import LABEL_NAMES, TrainingSettings
from cxr.exploration import explore
from cxr.exploration.audit import Audit
from cxr.exploration.shift import Shift
from cxr.stages import data_steps
from tasks import pictures, progress, retries

LOOK = "look at the data"
logger = logging.getLogger("cxr.exploration.explore")


@task(name="explore data", task_run_name="explore data", cache_policy=NO_CACHE, **retries.POLICY)
def explore_data(work: Path, settings: TrainingSettings, cache: Path) -> explore.Exploration:
    """Write eda/: pictures, numbers, shortcut audit, shift; unless they are there for this very data."""
    with progress.tracking(LOOK, len(explore.STEPS), "steps"):
        return data_steps.explore_data(
            work,
            settings,
            cache,
            lambda step, done, _total: progress.advance(LOOK, to=done, note=step),
        )


@task(name="show exploration", task_run_name="show exploration", cache_policy=NO_CACHE)
def show_exploration(found: explore.Exploration, work: Path) -> None:
    """Put the counts and the pictures where the UI shows them."""
    rows = [{"split": split, **counts} for split, counts in found.counts.items()]
    create_table_artifact(rows, key="class-distribution", description="Images by split and class")
    shown = [pictures.markdown(work / "eda" / name) for name in found.figures]
    weights = ", ".join(
        f"{LABEL_NAMES[label]} {weight:.3f}" for label, weight in found.class_weights.items()
    )
    page = (
        f"# Exploratory data analysis\n\nClass weights (balanced, train): {weights}\n\n"
        + "\n\n".join(shown)
    )
    create_markdown_artifact(page, key="eda", description="What the data looks like")
    show_trust(Audit.read(work / "eda" / "audit.json"), Shift.read(work / "eda" / "shift.json"))


def show_trust(audited: Audit, shifted: Shift) -> None:
    """Put the floors where the UI shows them, and warn of a container or a shift that separates."""
    floors = [(each.signal, each) for each in (*audited.floors, audited.container_after)]
    rows = [
        {
            "signal": name,
            "AUROC train": format_metric(f.train.auroc),
            "AUROC test": format_metric(f.test.auroc),
            "n test": f.test.n,
        }
        for name, f in floors
    ]
    create_table_artifact(
        rows,
        key="shortcut-audit",
        description="How well signals that are no disease separate the classes",
    )
    warnings = [*([audited.warning] if audited.warning else []), *shifted.sentences()]
    for words in warnings:
        logger.warning(words)
    if warnings:
        page = "# Before you believe a figure\n\n" + "\n".join(f"- {words}" for words in warnings)
        create_markdown_artifact(
            page, key="data-warnings", description="Shortcuts and shift in the data"
        )
