"""News, registration, challenge, decision: the tasks of the flow `retrain`."""

import logging
import tempfile
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from cxr.core.errors import DataError
from cxr.core.files import read_table
from cxr.core.formatting import format_metric
from cxr.core.settings import TrainingSettings
from cxr.models import runs
from cxr.models.runs import Run
from cxr.results import exporting
from cxr.results.model_card import read_card
from cxr.serving import challenge, retrain
from cxr.serving.challenge import Challenge, Side
from cxr.serving.registry import Registry
from cxr.serving.registry_records import Version
from cxr.serving.retrain import Retraining
from tasks import progress, retries

COMPARE = "score the champion"
logger = logging.getLogger("cxr.serving.retrain")


@task(name="look for news", task_run_name="look for news", cache_policy=NO_CACHE, **retries.POLICY)
def look_for_news(
    work: Path, settings: TrainingSettings, registry: str
) -> tuple[Run, Retraining | None]:
    """Return the run that data and settings ask for, and the last retraining where it was of that very run."""
    run = runs.start_run(work, settings, exporting.find_init(settings))
    return run, retrain.find_unchanged(Registry(registry), run)


@task(
    name="show that nothing changed",
    task_run_name="show that nothing changed",
    cache_policy=NO_CACHE,
)
def show_unchanged(found: Retraining, registry: str) -> str:
    """Say so where people look, and return the words."""
    now = Registry(registry).champion()
    words = (
        f"Unchanged: data ({found.manifest_sha256[:12]}), settings, weights and version {found.version} are those of "
        f"the last retraining ({found.when:%Y-%m-%d %H:%M} UTC), which ended as {found.outcome}; "
        f"the champion is {now.version if now else 'none'}."
    )
    if found.outcome == "awaiting approval":
        words += f" Approve it with `cxr registry promote {found.challenge.challenger} --why ...`."
    create_markdown_artifact(
        f"# Unchanged\n\n{words}", key="retraining", description="Nothing new, nothing trained"
    )
    return words


@task(name="register", task_run_name="register", cache_policy=NO_CACHE, **retries.POLICY)
def register(run: Run, work: Path, registry: str, who: str) -> Version:
    """Upload the run's export folder, and digests of what its training saw."""
    return Registry(registry).register(
        run.folder(work) / "export", who, work / "clean_metadata.csv"
    )


@task(
    name="challenge the champion",
    task_run_name="challenge the champion",
    cache_policy=NO_CACHE,
    **retries.POLICY,
)
def challenge_champion(version: Version, run: Run, work: Path, registry: str) -> Challenge:
    """Score the test images with the champion, compare the two by the rule, keep what came out."""
    place = Registry(registry)
    new = _challenger(version, run, work)
    champion = place.champion()
    if (
        champion is None or champion.version == version.name
    ):  # the same data and settings as the champion's
        return place.add_challenge(challenge.compare_with_champion(new, new if champion else None))
    rows = challenge.test_rows(runs.read_manifest(work))
    seen = place.seen(champion.version, rows, runs.read_ingest(work).leakage.patient_key)
    out = retrain.scores_path(work, run, champion.version)
    with tempfile.TemporaryDirectory() as folder, progress.tracking(COMPARE, len(rows), "images"):
        export = place.restore(champion.version, Path(folder) / champion.version)
        old = challenge.score_champion(
            export, rows, work, out, lambda done, _: progress.advance(COMPARE, to=done)
        )
    return place.add_challenge(challenge.compare_with_champion(new, old, seen))


def _challenger(version: Version, run: Run, work: Path) -> Side:
    """Return the challenger on its test images, as its run scored them, once."""
    folder = run.folder(work)
    card = read_card(folder / "export")
    if card.model_sha256 != version.model_sha256:
        raise DataError(f"{folder}: its export is not version {version.name}: export again")
    return Side(version=version.name, card=card, scores=read_table(folder / "scores_test.csv"))


@task(name="decide", task_run_name="decide", cache_policy=NO_CACHE, **retries.POLICY)
def decide(
    found: Challenge, run: Run, data: str, registry: str, who: str, needs_approval: bool
) -> Retraining:
    """Promote or keep by the rule, or leave it to a person, and write the record."""
    return retrain.decide(Registry(registry), found, run, data, who, needs_approval)


@task(name="settle", task_run_name="settle", cache_policy=NO_CACHE, **retries.POLICY)
def settle(waiting: Retraining, approve: bool, who: str, why: str, registry: str) -> Retraining:
    """Promote or keep as a person said, and write the record again."""
    return retrain.record_answer(Registry(registry), waiting, approve, who, why)


@task(name="show retraining", task_run_name="show retraining", cache_policy=NO_CACHE)
def show_retraining(found: Retraining) -> None:
    """Put the comparison and what became of it where the UI shows them."""
    create_markdown_artifact(
        page(found), key="retraining", description=f"Run {found.run}: {found.outcome}"
    )
    logger.info("%s: %s", found.outcome, found.why)


def page(found: Retraining) -> str:
    """Return the report of a retraining, in Markdown."""
    asked = found.challenge
    lines = [
        f"# Retraining: {found.outcome}",
        "",
        found.why,
        "",
        f"*By* {found.who}. *Champion now:* `{found.champion or 'none'}`.",
        "",
        *_table(asked),
        "",
        *_tests(asked),
        "",
    ]
    floors = ", ".join(f"{name} {format_metric(value)}" for name, value in asked.audit.items())
    lines += [
        f"*Signals that are no disease reach on test (AUROC):* {floors}.",
        "",
        f"*Rule:* {asked.rule}",
    ]
    return "\n".join(lines)


def _table(asked: Challenge) -> list[str]:
    sides: list[tuple[str, str, Any, Any]] = [
        ("challenger", asked.challenger, asked.challenger_figures, asked.challenger_intervals)
    ]
    if asked.champion and asked.champion_figures and asked.champion_intervals is not None:
        sides.append(("champion", asked.champion, asked.champion_figures, asked.champion_intervals))
    names = ("auroc", "sensitivity", "specificity", "accuracy", "precision")
    rows = [
        f"| n = {asked.compared} test images | version | " + " | ".join(names) + " |",
        "|---" * (2 + len(names)) + "|",
    ]
    for title, version, figures, ends in sides:
        cells = []
        for name in names:
            end = ends.get(name)
            cells.append(
                format_metric(figures[name])
                + (f" ({format_metric(end.low)} to {format_metric(end.high)})" if end else "")
            )
        rows.append(f"| {title} | `{version}` | " + " | ".join(cells) + " |")
    return rows


def _tests(asked: Challenge) -> list[str]:
    lines = []
    if asked.auroc:
        found = asked.auroc
        ends = (
            f" ({found.low:+.4f} to {found.high:+.4f})"
            if found.low is not None and found.high is not None
            else ""
        )
        lines.append(
            f"- AUROC, challenger minus champion: {found.difference:+.4f}{ends}, p = {challenge.chance(found.p)} ({found.method})"
        )
    lines += [
        f"- Decisions of {each.of} ({each.images} images): only the challenger right {each.only_a}, only the champion right "
        f"{each.only_b}, p = {challenge.chance(each.p)} (McNemar, exact)"
        for each in asked.decisions
    ]
    if asked.champion:
        seen = "not known" if asked.seen is None else f"{asked.seen} of {asked.images}"
        lines.append(
            f"- Test images whose picture or patient the champion saw in training: {seen}; compared: {asked.compared}"
        )
    return lines
