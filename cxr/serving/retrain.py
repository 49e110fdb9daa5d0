"""What a retraining found and did: one record each in the registry, by which the next one knows whether there is news."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime

from cxr.core.records import Versioned
from cxr.models.runs import Run
from cxr.serving.challenge import Challenge
from cxr.serving.registry import Registry

Outcome = Literal["promoted", "kept", "awaiting approval"]


class Retraining(Versioned):
    """retrainings/<time>-<run>.json in the registry, written last.

    `run` names data, settings, weights and version of the code: the same run is no news. `champion` is the one afterwards.
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
    return Retraining.parse(registry.storage.read(keys[-1]), f"{registry.uri}/{keys[-1]}")


def find_unchanged(registry: Registry, run: Run) -> Retraining | None:
    """Return the newest retraining where it was of the very same data, settings, weights and version of the code.

    None also where it still waits for approval, but over a champion that is no longer the one it was compared with.
    """
    found = latest_retraining(registry)
    if found is None or found.run != run.id:
        return None
    now = registry.champion()
    stale = (
        found.outcome == "awaiting approval"
        and (now.version if now else None) != found.challenge.champion
    )
    return None if stale else found


def write_retraining(registry: Registry, retraining: Retraining) -> Retraining:
    """Write the record (again, once an answer came) and return it."""
    key = f"retrainings/{retraining.when:%Y%m%dT%H%M%S.%f}-{retraining.run}.json"
    registry.storage.write(key, (retraining.model_dump_json(indent=2) + "\n").encode())
    return retraining


def decide(
    registry: Registry, challenge: Challenge, run: Run, data: str, who: str, needs_approval: bool
) -> Retraining:
    """Promote or keep by the rule, or leave it to a person; write the record and return it.

    Raises ConflictError where the champion changed since the comparison.
    """
    now = registry.champion()
    at = datetime.now(UTC)
    outcome: Outcome
    if challenge.champion == challenge.challenger:
        outcome, why = "kept", "The challenger is the champion already."
    elif not challenge.promote:
        outcome, why = "kept", challenge.reason
        registry.keep(challenge, who, why)
    elif needs_approval:
        outcome, why = "awaiting approval", challenge.reason
    else:
        outcome, why = "promoted", challenge.reason
        now = registry.promote(challenge.challenger, who, why)
    return write_retraining(
        registry,
        Retraining(
            when=at,
            run=run.id,
            data=data,
            manifest_sha256=run.manifest_sha256,
            version=run.version,
            challenge=challenge,
            outcome=outcome,
            who=who,
            why=why,
            champion=now.version if now else None,
        ),
    )


def record_answer(
    registry: Registry, waiting: Retraining, approve: bool, who: str, why: str
) -> Retraining:
    """Promote or keep as a person said; write the record again and return it. RegistryError for a changed champion."""
    outcome: Outcome = "promoted" if approve else "kept"
    if approve:
        registry.promote(waiting.challenge.challenger, who, why)
    else:
        registry.keep(waiting.challenge, who, why)
    now = registry.champion()
    changes = {"outcome": outcome, "who": who, "why": why, "champion": now.version if now else None}
    return write_retraining(registry, waiting.model_copy(update=changes))


def scores_path(work: Path, run: Run, champion: str) -> Path:
    """Return where a champion's scores on the run's test images are kept."""
    return run.folder(work) / "challenge" / f"{champion}.csv"
