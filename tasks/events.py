"""Prefect events: what happened, for automations to act on and for people to see (page Event Feed).

There is one function for each kind of event. The truth is in the records of registry, work folder and
monitoring: an event that cannot be sent costs a warning, never the run. An event carries counts,
addresses and reasons; no image and no name of a file.

Whatever an event is about is a resource: `cxr.data.…`, `cxr.registry.…` or `cxr.monitor.…`, with the
address in place of the dots, so that an automation can ask for all of a kind or for one of them.
"""

import logging
import re
from typing import Any

from prefect.events import emit_event
from prefect.settings import get_current_settings

from cxr.serving.registry.records import Champion
from cxr.serving.retraining.retrain import Retraining

DATA_CHANGED = "cxr.data.changed"
GATE_FAILED = "cxr.gate.failed"
DRIFT = "cxr.drift"
CHALLENGER_JUDGED = "cxr.challenger.judged"
CHAMPION_CHANGED = "cxr.champion.changed"
MOST_CHARACTERS = 2000  # of a sentence: the server refuses large events
logger = logging.getLogger("cxr.events")


def data_changed(
    data: str,
    sentence: str,
    files: int,
    digest: str,
) -> None:
    """Say that DATA changed and has been quiet since.

    Args:
        data: The address of DATA.
        sentence: What changed.
        files: How many files there are now.
        digest: The digest of the listing.
    """
    _emit(DATA_CHANGED, "data", data, sentence, {"files": files, "digest": digest})


def gate_failed(data: str, sentence: str) -> None:
    """Say that the leakage gate stopped a run.

    Args:
        data: The address of DATA.
        sentence: What was found in two splits, and what can be done.
    """
    _emit(GATE_FAILED, "data", data, sentence, {})


def drift(place: str, sentence: str, details: dict[str, Any]) -> None:
    """Say that what a model is given, or how it answers, is no longer what it was made for.

    Args:
        place: The address of the monitoring store.
        sentence: Which alarm was raised, and since when.
        details: Figures of the alarm, as JSON takes them.
    """
    _emit(DRIFT, "monitor", place, sentence, details)


def challenger_judged(registry: str, retraining: Retraining) -> None:
    """Say how a challenger did against the champion.

    Args:
        registry: The address of the registry.
        retraining: The record of the decision.
    """
    judged = retraining.challenge
    sentence = f"{judged.challenger} was judged, {retraining.outcome}: {retraining.why}"
    details = {
        "challenger": judged.challenger,
        "champion": retraining.champion,
        "outcome": retraining.outcome,
        "run": retraining.run,
    }
    _emit(CHALLENGER_JUDGED, "registry", registry, sentence, details)


def champion_changed(registry: str, retraining: Retraining) -> None:
    """Say that the challenger of a retraining is the champion now.

    Args:
        registry: The address of the registry.
        retraining: The record of the decision.
    """
    before = retraining.challenge.champion
    how = f"decided by {retraining.who}"
    details = {"champion": retraining.champion, "before": before, "run": retraining.run}
    _emit_champion(registry, how, retraining.why, details)


def champion_switched(registry: str, champion: Champion, before: str | None) -> None:
    """Say that a person promoted a version, or went back to one.

    Args:
        registry: The address of the registry.
        champion: The record of the version that is the champion now.
        before: The version that was it before, None where there was none.
    """
    how = f"{champion.what} by {champion.who}"
    details = {"champion": champion.version, "before": before, "what": champion.what}
    _emit_champion(registry, how, champion.why, details)


def resource_id(kind: str, address: str) -> str:
    """Return the id under which Prefect knows a place.

    Args:
        kind: data, registry or monitor.
        address: The place's address.

    >>> resource_id("data", "s3://bucket/chest films/")
    'cxr.data.s3-bucket-chest-films'
    """
    name = re.sub(r"[^a-z0-9]+", "-", address.lower()).strip("-")
    return f"cxr.{kind}.{name}"


def _emit_champion(
    registry: str,
    how: str,
    why: str,
    details: dict[str, Any],
) -> None:
    """Send that there is another champion.

    Args:
        registry: The address of the registry.
        how: How it came to be, and by whom.
        why: The reason.
        details: For programs; `champion` and `before` are versions.
    """
    sentence = (
        f"{details['champion']} is the champion, after {details['before'] or 'none'} ({how}): {why}"
    )
    _emit(CHAMPION_CHANGED, "registry", registry, sentence, details)


def _emit(
    event: str,
    kind: str,
    address: str,
    sentence: str,
    details: dict[str, Any],
) -> None:
    """Send an event; nothing happens where no Prefect API is configured.

    Args:
        event: The event's name.
        kind: What kind of place it is about: data, registry or monitor.
        address: The place's address.
        sentence: What happened, for people.
        details: The same for programs.
    """
    if not get_current_settings().api.url:
        return
    resource = {
        "prefect.resource.id": resource_id(kind, address),
        "prefect.resource.name": address,
    }
    payload = {"text": sentence[:MOST_CHARACTERS], **details}
    try:
        emit_event(event, resource, payload=payload)
    except Exception as error:  # noqa: BLE001 - whatever it is, the run's own work is done
        logger.warning("the event %s could not be sent (%s): %s", event, error, sentence)
