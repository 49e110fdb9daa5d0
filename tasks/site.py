"""The task of the flow `site`: measure a model on a labelled sample."""

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from cxr.core.settings import ReadingSettings, SiteSettings
from cxr.serving.sites import card
from cxr.serving.sites.records import Site
from cxr.stages import site_steps
from tasks import progress, retries


@task(name="measure site", task_run_name="measure site", cache_policy=NO_CACHE, **retries.POLICY)
def measure_site(
    model: str,
    data: str,
    out: str,
    reading: ReadingSettings,
    settings: SiteSettings,
    key_map: str | None,
) -> Site:
    """Read, score and measure the labelled images, publish the site at `out`, show its card."""
    with progress.following("images") as on_progress:
        site = site_steps.measure_site(model, data, out, reading, settings, key_map, on_progress)
    create_markdown_artifact(
        card.card_text(site),
        key="site",
        description=f"{site.name}: {site.measurement.verdict_words}",
    )
    return site
