"""What a retraining found and did: one record each in the registry.

By the newest one the next retraining knows whether anything changed.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime

from cxr.core.records import Versioned
from cxr.models.runs import Run
from cxr.serving.registry import Registry
from cxr.serving.registry.records import to_bytes
from cxr.serving.retraining.challenge import Challenge

Outcome = Literal["promoted", "kept", "awaiting approval"]


class Retraining(Versioned):
    """retrainings/<time>-<run>.json in the registry, written last.

    Attributes:
        when: When it was decided.
        run: The id of the run, which names data, settings, weights and version of the code: the
            same run is nothing new.
        data: The address of the data.
        manifest_sha256: The digest of the manifest.
        version: The version of this package.
        challenge: The comparison with the champion.
        outcome: What was decided.
        who: By whom.
        why: The reason.
        champion: The champion's version afterwards, None where there was none.
    """

    when: AwareDatetime
    run: str
    data: str
    manifest_sha256: str
    version: str
    challenge: Challenge
    outcome: Outcome
    who: str
    why: str
    champion: str | None


def latest_retraining(registry: Registry) -> Retraining | None:
    """Return the record of the newest retraining, or None."""
    keys = registry.keys("retrainings/")
    if not keys:
        return None
    newest = keys[-1]
    return Retraining.parse(registry.storage.read(newest), f"{registry.uri}/{newest}")


def find_unchanged(registry: Registry, run: Run) -> Retraining | None:
    """Return the newest retraining if it was of the very same data, settings, weights and code.

    None also if it still waits for approval over a champion that is no longer the one that it was
    compared with.
    """
    last = latest_retraining(registry)
    if last is None or last.run != run.id:
        return None
    is_waiting = last.outcome == "awaiting approval"
    if is_waiting and _champion_version(registry) != last.challenge.champion:
        return None
    return last


def write_retraining(registry: Registry, retraining: Retraining) -> Retraining:
    """Write the record, or write it again once an answer came, and return it."""
    key = f"retrainings/{retraining.when:%Y%m%dT%H%M%S.%f}-{retraining.run}.json"
    registry.storage.write(key, to_bytes(retraining))
    return retraining


def decide(
    registry: Registry,
    challenge: Challenge,
    run: Run,
    data: str,
    who: str,
    needs_approval: bool,
) -> Retraining:
    """Promote or keep by the rule, or leave it to a person; write the record and return it.

    Args:
        registry: Where the versions are.
        challenge: The verdict of the rule.
        run: The run that trained the challenger.
        data: The address of the data.
        who: Who decides, for the log.
        needs_approval: A person must agree to a promotion.

    Raises:
        ConflictError: The champion changed since the comparison.
    """
    when = datetime.now(UTC)
    outcome: Outcome = "kept"
    why = challenge.reason
    if challenge.champion == challenge.challenger:
        why = "The challenger is the champion already."
    elif not challenge.promote:
        registry.keep(challenge, who, why)
    elif needs_approval:
        outcome = "awaiting approval"
    else:
        outcome = "promoted"
        registry.promote(challenge.challenger, who, why)
    retraining = Retraining(
        when=when,
        run=run.id,
        data=data,
        manifest_sha256=run.manifest_sha256,
        version=run.version,
        challenge=challenge,
        outcome=outcome,
        who=who,
        why=why,
        champion=_champion_version(registry),
    )
    return write_retraining(registry, retraining)


def record_answer(
    registry: Registry,
    waiting: Retraining,
    approve: bool,
    who: str,
    why: str,
) -> Retraining:
    """Promote or keep as a person said; write the record again and return it.

    Args:
        registry: Where the versions are.
        waiting: The retraining that waits for the answer.
        approve: The answer.
        who: Who gave it.
        why: The reason.

    Raises:
        RegistryError: The champion is no longer the one that the challenger was compared with.
    """
    outcome: Outcome = "kept"
    if approve:
        outcome = "promoted"
        registry.promote(waiting.challenge.challenger, who, why)
    else:
        registry.keep(waiting.challenge, who, why)
    changes = {
        "outcome": outcome,
        "who": who,
        "why": why,
        "champion": _champion_version(registry),
    }
    return write_retraining(registry, waiting.model_copy(update=changes))


def scores_path(work: Path, run: Run, champion: str) -> Path:
    """Return where a champion's scores on the run's test images are kept."""
    return run.folder(work) / "challenge" / f"{champion}.csv"


def _champion_version(registry: Registry) -> str | None:
    """Return the version that is champion now, or None."""
    champion = registry.champion()
    return champion.version if champion else None
