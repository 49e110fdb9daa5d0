"""The pictures and numbers of the flow `explore`."""

from pathlib import Path

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from cxr import exploration, runs
from cxr.settings import TrainingSettings
from tasks import pictures, retries


@task(name="explore data", cache_policy=NO_CACHE, **retries.POLICY)
def explore_data(work: Path, settings: TrainingSettings) -> exploration.Exploration:
    """Write eda/*.png, class_weights.json and eda.json, unless they are there for this very data."""
    return exploration.explore(work, runs.ingest(work), settings)


@task(name="show exploration", cache_policy=NO_CACHE)
def show_exploration(found: exploration.Exploration, work: Path) -> None:
    """Put the counts and the pictures where the UI shows them."""
    rows = [{"split": split, **counts} for split, counts in found.counts.items()]
    create_table_artifact(rows, key="class-distribution", description="Images by split and class")
    shown = [pictures.markdown(work / "eda" / name) for name in found.figures]
    weights = ", ".join(f"{label}: {weight:.3f}" for label, weight in found.class_weights.items())
    page = f"# Exploratory data analysis\n\nClass weights (balanced, train): {weights}\n\n" + "\n\n".join(shown)
    create_markdown_artifact(page, key="eda", description="What the data looks like")
