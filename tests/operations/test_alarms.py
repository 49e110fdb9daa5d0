"""What the server does by itself, in short: films, drift and a champion are acted on and told.

A real server and worker, one for all tests, which build on each other; the networks are tiny. The automations are those that
ship, but that a retraining waits for twenty seconds without a further event, not for a minute. With pretrained weights, S3, a
thousand films and the UI: `test_automations.py`.
"""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from cxr.data.phantoms import dataset
from cxr.results.cards.model_card import Card
from cxr.serving.registry import Registry
from tests.conftest import ROOT
from tests.support import monitored, webhook
from tests.support.operated import TINY, Operated, operated, wait
from tests.support.pictures import brighter

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
QUIET_SECONDS = 20  # that the automation waits for a further event
MANY = 100  # events at once


@pytest.fixture(scope="module")
def hook():
    with webhook.serving() as found:
        yield found


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """The folder of films/ and of the retrainings' work/."""
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def stack(tmp_path_factory, place, hook):
    """A stack whose retrainings are tiny and begin soon."""
    extra = {"CXR_WEBHOOK_URL": hook.url, "CXR_CACHE": str(tmp_path_factory.mktemp("cache"))}
    with operated(tmp_path_factory.mktemp("stack"), **extra) as found:
        retrain = found.call("/deployments/name/retrain/retrain")
        own = {"data": str(place / "films"), "out": str(place / "work"), "training": TINY}
        changed = {"parameters": retrain["parameters"] | own}
        found.call(f"/deployments/{retrain['id']}", changed, method="PATCH")
        (automation,) = [
            each
            for each in found.call("/automations/filter", {})
            if each["name"] == "retrain-on-change-or-drift"
        ]
        automation["trigger"]["within"] = QUIET_SECONDS
        kept = ("name", "description", "enabled", "trigger", "actions")
        changed = {name: automation[name] for name in kept}
        found.call(f"/automations/{automation['id']}", changed, method="PUT")
        yield found


def retrainings(stack: Operated) -> list[dict[str, Any]]:
    """Return the runs of the deployment retrain that an automation started, the oldest first."""
    found = stack.call("/deployments/name/retrain/retrain")["id"]
    ask = {"deployments": {"id": {"any_": [found]}}, "sort": "EXPECTED_START_TIME_ASC"}
    runs = stack.call("/flow_runs/filter", ask)
    return [run for run in runs if (run["created_by"] or {}).get("type") == "AUTOMATION"]


def ended_retraining(stack: Operated, number: int) -> str:
    """Wait for the retraining of a number, counted from 1; return the name of the state it ended in."""
    wait(lambda: len(retrainings(stack)) >= number, 180, "a retraining", stack.logs)
    run = retrainings(stack)[number - 1]["id"]
    stack.ended(run)
    return str(stack.call(f"/flow_runs/{run}")["state"]["name"])


def test_films_that_arrive_are_one_judged_challenger(stack, place):
    """Seen twice unchanged they are announced, which starts one retraining with no human command."""
    dataset.make_dataset(place / "films", images=60, size=64, seed=3, broken=False)
    looks = []
    for _ in range(2):
        look = stack.start_run("watch/watch", data=str(place / "films"), out=str(place / "work"))
        stack.ended(look)
        looks.append(stack.call(f"/flow_runs/{look}")["state"]["name"])
    assert looks == ["Changing", "Changed"]
    assert ended_retraining(stack, 1) == "Completed", stack.logs()
    registry = Registry(str(place / "work" / "registry"))
    (version,) = registry.versions()
    assert len(registry.keys(f"challenges/{version.name}/")) == 1
    assert len(retrainings(stack)) == 1


def test_drift_is_told_and_starts_one_retraining(stack, finished_once, hook, tmp_path):
    """So are a hundred events of another place at once; nothing is new, so each ends at once."""
    card = Card.read(finished_once / "runs" / "abc" / "export" / "model_card.json")
    rng = np.random.default_rng(11)
    store = str(tmp_path / "store")
    validation = monitored.measure(rng, 300)
    for day in range(1, 15):
        images = monitored.measure(rng, 40, shift=1.0 if day > 10 else 0.0)
        named = monitored.at_work(images, f"2026-03-{day:02d}", prefix=f"day {day}")
        monitored.append(store, card, named, validation)
    run = stack.start_run("monitor/monitor", place=store)
    stack.ended(run)
    assert stack.call(f"/flow_runs/{run}")["state"]["name"] == "Drift", stack.logs()
    wait(lambda: hook.about("cxr.drift"), 60, "a word of the drift", stack.logs)
    (told,) = hook.about("cxr.drift")
    assert told["about"] == store and "DRIFT" in told["text"]
    stack.call("/events", [changed(store) for _ in range(MANY)])
    assert ended_retraining(stack, 2) == "Unchanged", stack.logs()
    assert ended_retraining(stack, 3) == "Unchanged", stack.logs()
    assert len(retrainings(stack)) == 3


def changed(store: str) -> dict[str, Any]:
    """Return an event that starts a retraining, and that no message is sent about."""
    resource = {
        "prefect.resource.id": "cxr.monitor.many",
        "prefect.resource.name": store,
    }
    return {
        "event": "cxr.data.changed",
        "resource": resource,
        "occurred": datetime.now(UTC).isoformat(),
        "payload": {"text": "made up"},
        "id": str(uuid4()),
    }


def test_a_champion_that_a_person_chose_is_told(stack, finished_once, hook, tmp_path):
    """`cxr registry promote` sends the event itself, to the server of PREFECT_API_URL."""
    place = str(tmp_path / "registry")
    version = Registry(place).register(finished_once / "runs" / "abc" / "export", "me")
    words = ["promote", version.name, "--registry", place, "--why", "agreed", "--against-the-rule"]
    done = subprocess.run(
        [sys.executable, "-m", "flows.command", "registry", *words],
        capture_output=True,
        text=True,
        check=True,
        env=stack.environment(),
        cwd=ROOT,
    )
    assert f"event: cxr.champion.changed, sent to {stack.address}/api" in done.stdout
    wait(lambda: hook.about("cxr.champion.changed"), 60, "a word of the champion", stack.logs)
    (told,) = hook.about("cxr.champion.changed")
    assert f"{version.name} is the champion, after none" in told["text"]
    assert told["about"] == place


def test_a_failed_gate_is_told(stack, hook, tmp_path):
    """The same film in two splits, and no repair: the run fails, and the webhook gets the sentence."""
    films = tmp_path / "films"
    dataset.make_dataset(films, images=40, size=64, seed=5, broken=False)
    leaked = next((films / "train" / "NORMAL").iterdir())
    again = films / "test" / "NORMAL" / leaked.name
    again.parent.mkdir(parents=True, exist_ok=True)
    again.write_bytes(brighter(leaked.read_bytes()))
    run = stack.start_run(
        "preprocess/preprocess",
        data=str(films),
        out=str(tmp_path / "work"),
        splits={"repair_leakage": False},
    )
    assert stack.ended(run) == "FAILED", stack.logs()
    wait(lambda: hook.about("cxr.gate.failed"), 60, "a word of the gate", stack.logs)
    (told,) = hook.about("cxr.gate.failed")
    assert told["about"] == str(films)
