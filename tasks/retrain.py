"""The tasks of the flow `retrain`: what is new, registration, challenge, decision."""

import logging
import tempfile
from pathlib import Path

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from cxr.core.errors import DataError
from cxr.core.files import read_table
from cxr.core.settings import TrainingSettings
from cxr.models import runs
from cxr.models.runs import Run
from cxr.results import exporting
from cxr.results.cards.model_card import read_card
from cxr.results.evaluation.abstention.measurement import read_judgements
from cxr.serving.registry import Registry
from cxr.serving.registry.records import Version
from cxr.serving.retraining import challenge, retrain
from cxr.serving.retraining.challenge import Challenge, Side
from cxr.serving.retraining.retrain import Retraining
from tasks import progress, retries
from tasks.pages import retraining as retraining_page

COMPARE = "score the champion"
logger = logging.getLogger("cxr.retraining")


@task(
    name="look for changes",
    task_run_name="look for changes",
    cache_policy=NO_CACHE,
    **retries.POLICY,
)
def look_for_changes(
    work: Path,
    settings: TrainingSettings,
    registry: str,
) -> tuple[Run, Retraining | None]:
    """Return the run that data and settings ask for, and the last retraining if it was of that very run."""
    run = runs.start_run(work, settings, exporting.find_init(settings))
    return run, retrain.find_unchanged(Registry(registry), run)


@task(
    name="show that nothing changed",
    task_run_name="show that nothing changed",
    cache_policy=NO_CACHE,
)
def show_unchanged(
    last: Retraining,
    registry: str,
    formats: tuple[str, ...] = (),
) -> str:
    """Say on the run's page that nothing changed, and return the sentence.

    Args:
        last: The last retraining.
        registry: The address of the registry.
        formats: What was asked for beside model.keras, and is not written.
    """
    champion = Registry(registry).champion()
    sentence = (
        f"Unchanged: data ({last.manifest_sha256[:12]}), settings, weights and version "
        f"{last.version} are those of the last retraining ({last.when:%Y-%m-%d %H:%M} UTC), "
        f"which ended as {last.outcome}; "
        f"the champion is {champion.version if champion else 'none'}."
    )
    if last.outcome == "awaiting approval":
        challenger = last.challenge.challenger
        sentence += f" Approve it with `cxr registry promote {challenger} --why ...`."
    if formats:
        wanted = " ".join(formats)
        sentence += f" Nothing was exported: `cxr export --format {wanted}` writes the last run so."
    create_markdown_artifact(
        f"# Unchanged\n\n{sentence}",
        key="retraining",
        description="Nothing changed, nothing was trained",
    )
    return sentence


@task(
    name="register the challenger",
    task_run_name="register the challenger",
    cache_policy=NO_CACHE,
    **retries.POLICY,
)
def register(run: Run, work: Path, registry: str, who: str) -> Version:
    """Upload the run's export folder, and digests of what its training saw."""
    export = run.folder(work) / "export"
    return Registry(registry).register(export, who, work / "clean_metadata.csv")


@task(
    name="challenge the champion",
    task_run_name="challenge the champion",
    cache_policy=NO_CACHE,
    **retries.POLICY,
)
def challenge_champion(
    version: Version,
    run: Run,
    work: Path,
    registry: str,
) -> Challenge:
    """Score the test images with the champion, compare it with the challenger, keep the verdict."""
    place = Registry(registry)
    challenger = _challenger(version, run, work)
    champion = place.champion()
    if champion is None:
        return place.add_challenge(challenge.compare_with_champion(challenger, None))
    if champion.version == version.name:  # the same data and settings as the champion's
        return place.add_challenge(challenge.compare_with_champion(challenger, challenger))
    rows = challenge.test_rows(runs.read_manifest(work))
    seen = place.seen(champion.version, rows, runs.read_ingest(work).leakage.patient_key)
    scores = retrain.scores_path(work, run, champion.version)

    def on_images(done: int, _total: int) -> None:
        progress.advance(COMPARE, to=done)

    with (
        tempfile.TemporaryDirectory() as folder,
        progress.tracking(COMPARE, len(rows), "images"),
    ):
        export = place.restore(champion.version, Path(folder) / champion.version)
        incumbent = challenge.score_champion(export, rows, work, scores, on_images)
    return place.add_challenge(challenge.compare_with_champion(challenger, incumbent, seen))


def _challenger(version: Version, run: Run, work: Path) -> Side:
    """Return the challenger on its test images, as its run scored them once."""
    folder = run.folder(work)
    card = read_card(folder / "export")
    if card.model_sha256 != version.model_sha256:
        raise DataError(f"{folder}: its export is not version {version.name}: export again")
    return Side(
        version=version.name,
        card=card,
        scores=read_table(folder / "scores_test.csv"),
        judgements=read_judgements(folder),
    )


@task(name="decide", task_run_name="decide", cache_policy=NO_CACHE, **retries.POLICY)
def decide(
    verdict: Challenge,
    run: Run,
    data: str,
    registry: str,
    who: str,
    needs_approval: bool,
) -> Retraining:
    """Promote or keep by the rule, or leave it to a person, and write the record."""
    return retrain.decide(Registry(registry), verdict, run, data, who, needs_approval)


@task(
    name="record the answer",
    task_run_name="record the answer",
    cache_policy=NO_CACHE,
    **retries.POLICY,
)
def record_answer(
    waiting: Retraining,
    approve: bool,
    who: str,
    why: str,
    registry: str,
) -> Retraining:
    """Promote or keep as a person said, and write the record again."""
    return retrain.record_answer(Registry(registry), waiting, approve, who, why)


@task(name="show retraining", task_run_name="show retraining", cache_policy=NO_CACHE)
def show_retraining(retraining: Retraining) -> None:
    """Put the comparison and its outcome where the UI shows them."""
    create_markdown_artifact(
        retraining_page.page(retraining),
        key="retraining",
        description=f"Run {retraining.run}: {retraining.outcome}",
    )
    logger.info("%s: %s", retraining.outcome, retraining.why)
