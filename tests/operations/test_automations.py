"""What the server does by itself: films that arrive become a judged challenger, and a person is told what matters.

A real server and worker; S3 is moto's, the webhook a server on loopback. The tests build on each other.
"""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxr.data.phantoms import dataset
from cxr.results.cards.model_card import Card
from tests.conftest import ROOT
from tests.support import monitored, webhook
from tests.support.browser import CHROMIUM, browser
from tests.support.operated import TINY, Operated, keep, operated, wait
from tests.support.pictures import brighter
from tests.support.s3_servers import Bucket, fresh_bucket

WEIGHTS = ROOT.parent / "shared" / "weights"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(
        not WEIGHTS.is_dir(), reason="pretrained weights (shared/weights) are not here"
    ),
    pytest.mark.skipif(
        not os.environ.get("CXR_LONG_TESTS"), reason="takes 25 minutes: CXR_LONG_TESTS=1 runs it"
    ),
]
QUIET_SECONDS = 70  # longer than the automation waits for a further event
NEW = 24  # films that arrive at once and can be learned from
COPIES = 976  # of one of them, which arrive with them
# The smallest training whose champion the rule accepts: on random weights none is.
SMALL = {
    "arch": ["MobileNetV2"],
    "weights": str(WEIGHTS),
    "image_size": 96,
    "epochs": 0,
    "augmented_copies": 1,
    "passes": 1,
}


@pytest.fixture(scope="module")
def hook():
    with webhook.serving() as found:
        yield found


@pytest.fixture(scope="module")
def bucket(moto) -> Bucket:
    return fresh_bucket(moto)


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("films") / "phantoms"
    dataset.make_dataset(folder, images=200, size=96, seed=3, broken=False)
    return folder


@pytest.fixture(scope="module")
def stack(tmp_path_factory, bucket, hook):
    """A stack that knows where the films are, whose retrainings are small, and which looks each minute."""
    extra = bucket.server.environment() | {
        "CXR_CACHE": str(tmp_path_factory.mktemp("cache")),
        "CXR_WEBHOOK_URL": hook.url,
    }
    with operated(tmp_path_factory.mktemp("stack"), **extra) as found:
        address = f"s3://{bucket.name}"
        for name, value in (("cxr_data", "images"), ("cxr_work", "work")):
            found.call("/variables/", {"name": name, "value": f"{address}/{value}"})
        found.up(found.port, "cxr-cpu")  # takes the variables over
        retrain = found.call("/deployments/name/retrain/retrain")
        parameters = retrain["parameters"] | {"training": SMALL}
        found.call(f"/deployments/{retrain['id']}", {"parameters": parameters}, method="PATCH")
        yield found


def runs(stack: Operated, deployment: str) -> list[dict[str, Any]]:
    """Return the runs of a deployment that have begun or wait, the oldest first; scheduled ones are none yet."""
    found = stack.call(f"/deployments/name/{deployment}")["id"]
    ask = {"deployments": {"id": {"any_": [found]}}, "sort": "EXPECTED_START_TIME_ASC"}
    return [
        run
        for run in stack.call("/flow_runs/filter", ask)
        if not (run["auto_scheduled"] and run["state_type"] == "SCHEDULED")
    ]


def events(stack: Operated, name: str) -> list[dict[str, Any]]:
    """Return the events of a name, the newest first."""
    now = datetime.now(UTC)
    since = (now - timedelta(hours=2)).isoformat()
    until = (now + timedelta(minutes=1)).isoformat()
    wanted = {"occurred": {"since": since, "until": until}, "event": {"name": [name]}}
    return list(stack.call("/events/filter", {"filter": wanted, "limit": 50})["events"])


def put(bucket: Bucket, key: str, data: bytes) -> None:
    """Put a film below images/."""
    bucket.client().put_object(Bucket=bucket.name, Key=f"images/{key}", Body=data)


def challenges(bucket: Bucket) -> set[str]:
    """Return the records of judged challengers in the registry."""
    prefix = "work/registry/challenges/"
    found = bucket.client().list_objects_v2(Bucket=bucket.name, Prefix=prefix)
    return {item["Key"] for item in found.get("Contents", [])}


def ended_retraining(stack: Operated, number: int) -> dict[str, Any]:
    """Wait for the retraining of a number, counted from 1, and return it ended."""
    wait(lambda: len(runs(stack, "retrain/retrain")) >= number, 900, "a retraining", stack.logs)
    run = runs(stack, "retrain/retrain")[number - 1]
    stack.ended(run["id"], 900)
    return dict(stack.call(f"/flow_runs/{run['id']}"))


def test_films_that_arrive_are_a_champion_and_a_person_is_told(stack, bucket, films, hook):
    """From the first file on S3 to the first champion with no human command, and a word by the webhook.

    As long as there is no file and no event, the server starts nothing.
    """
    time.sleep(QUIET_SECONDS)
    assert runs(stack, "retrain/retrain") == []
    bucket.upload(films, "images")
    began = time.monotonic()
    watch = stack.call("/deployments/name/watch/watch")
    assert watch["parameters"] == {
        "data": f"s3://{bucket.name}/images",
        "out": f"s3://{bucket.name}/work",
    }
    each_minute = {"schedule": {"cron": "* * * * *", "timezone": "UTC"}, "active": True}
    stack.call(f"/deployments/{watch['id']}/schedules", [each_minute])
    run = ended_retraining(stack, 1)
    print(f"MEASURED from the last film to a judged challenger: {time.monotonic() - began:.0f} s")
    assert run["state_name"] == "Completed", stack.logs()
    assert run["created_by"]["type"] == "AUTOMATION"
    assert len(challenges(bucket)) == 1
    wait(lambda: events(stack, "cxr.data.changed"), 60, "the change", stack.logs)
    (changed,) = events(stack, "cxr.data.changed")
    assert changed["resource"]["prefect.resource.name"] == f"s3://{bucket.name}/images"
    assert "flow-run" in {each["prefect.resource.role"] for each in changed["related"]}
    wait(lambda: hook.about("cxr.champion.changed"), 60, "a word of the champion", stack.logs)
    (told,) = hook.about("cxr.champion.changed")
    assert "is the champion, after none" in told["text"]
    assert told["about"] == f"s3://{bucket.name}/work/registry"


def test_a_thousand_films_at_once_are_one_run(stack, bucket, tmp_path):
    """While they arrive nothing starts; then one event, one run, one judged challenger."""
    more = tmp_path / "more"
    dataset.make_dataset(more, images=60, size=96, seed=77, broken=False)
    for label, name in (("NORMAL", "IM-{}-0001.jpeg"), ("PNEUMONIA", "person{}_virus_1.jpeg")):
        paths = sorted((more / "train" / label).iterdir())[: NEW // 2]
        for number, path in enumerate(paths):
            put(bucket, f"train/{label}/{name.format(6000 + number)}", path.read_bytes())
    for number in range(COPIES):
        put(bucket, f"train/PNEUMONIA/person{7000 + number}_virus_1.jpeg", paths[0].read_bytes())
    run = ended_retraining(stack, 2)
    assert run["state_name"] == "Completed", stack.logs()
    assert len(challenges(bucket)) == 2
    wait(lambda: len(events(stack, "cxr.data.changed")) == 2, 60, "two changes", stack.logs)
    newest, first = events(stack, "cxr.data.changed")
    assert newest["payload"]["files"] - first["payload"]["files"] == NEW + COPIES
    assert f"+{NEW + COPIES:,} files" in newest["payload"]["text"]
    # The feed has an event some seconds after it was sent.
    wait(lambda: len(events(stack, "cxr.challenger.judged")) == 2, 60, "two judged", stack.logs)
    looks = {look["state_name"] for look in runs(stack, "watch/watch")}
    assert {"Changing", "Changed", "Unchanged"} <= looks
    assert len(runs(stack, "retrain/retrain")) == 2


def test_drift_in_a_monitoring_store_starts_one_retraining(stack, finished_once, hook, tmp_path):
    """The flow `monitor` ends as Drift each day; the first of its runs starts a retraining, the second does not.

    A person is told once, too.
    """
    card = Card.read(finished_once / "runs" / "abc" / "export" / "model_card.json")
    rng = np.random.default_rng(11)
    place = str(tmp_path / "store")
    validation = monitored.measure(rng, 300)
    for day in range(1, 15):
        shift = 1.0 if day > 10 else 0.0
        images = monitored.measure(rng, 40, shift=shift)
        named = monitored.at_work(images, f"2026-03-{day:02d}", prefix=f"day {day}")
        monitored.append(place, card, named, validation)
    before = len(runs(stack, "retrain/retrain"))
    looks = []
    for _ in range(2):
        run = stack.start_run("monitor/monitor", place=place)
        assert stack.ended(run) == "COMPLETED", stack.logs()
        looks.append(stack.call(f"/flow_runs/{run}")["state"])
    assert [look["name"] for look in looks] == ["Drift", "Drift"]
    assert looks[0]["message"].startswith("DRIFT")
    ended_retraining(stack, before + 1)
    newest = runs(stack, "retrain/retrain")[before:]
    assert [run["created_by"]["type"] for run in newest] == ["AUTOMATION"]
    wait(lambda: events(stack, "cxr.drift"), 60, "the event of drift", stack.logs)
    (said,) = events(stack, "cxr.drift")
    assert said["resource"]["prefect.resource.name"] == place
    (told,) = hook.about("cxr.drift")
    assert told["about"] == place and "DRIFT" in told["text"]


def test_a_failed_gate_is_told(stack, films, hook, tmp_path):
    """The same film in two splits, and no repair: the run fails, and the webhook gets the sentence."""
    folder = tmp_path / "films"
    for path in sorted(films.glob("*/*/*"))[::3]:
        target = folder / path.relative_to(films)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (folder / "test" / "NORMAL").mkdir(parents=True, exist_ok=True)
    leaked = next((folder / "train" / "NORMAL").iterdir())
    again = folder / "test" / "NORMAL" / leaked.name
    again.write_bytes(brighter(leaked.read_bytes()))
    run = stack.start_run(
        "preprocess/preprocess",
        data=str(folder),
        out=str(tmp_path / "work"),
        splits={"repair_leakage": False},
    )
    assert stack.ended(run) == "FAILED"
    wait(lambda: hook.about("cxr.gate.failed"), 60, "a word of the gate", stack.logs)
    (told,) = hook.about("cxr.gate.failed")
    assert "pairs of near-duplicates" in told["text"] and told["about"] == str(folder)


def test_a_crashed_run_is_told_once(stack, phantoms, hook, tmp_path):
    """Killed by force in mid-training: one word for the run of the deployment, none for the stages in it."""
    parameters = {"data": str(phantoms), "out": str(tmp_path), "training": TINY | {"epochs": 60}}
    run = stack.start_run("pipeline/pipeline-demo", **parameters)
    wait(lambda: list(tmp_path.glob("runs/*/MobileNetV2")), 600, "a training", stack.logs)
    stack.kill_runs()
    assert stack.ended(run) == "CRASHED"
    name = stack.call(f"/flow_runs/{run}")["name"]

    def told() -> list[dict[str, Any]]:
        found = hook.about("prefect.flow-run.Crashed")
        return [content for content in found if content["about"] == name]

    wait(told, 60, "a word of the crash", stack.logs)
    assert len(told()) == 1 and told()[0]["text"].startswith(f"crashed: {name}")


def test_no_secret_of_the_webhook_is_in_anything_written(stack, hook):
    """Its address is in no log, and the server keeps it encrypted."""
    for path in stack.home.rglob("*"):
        if path.is_file():
            assert b"a-secret-path" not in path.read_bytes(), path


@pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed: apt-get install chromium")
def test_the_ui_shows_events_automations_and_what_was_found(stack, films, tmp_path):
    """The event feed has the names, the list of automations their names, the runs of watch and monitor their sentences."""
    look = stack.start_run("watch/watch", data=str(films))
    stack.ended(look)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    with browser(tmp_path / "chromium") as page:
        page.open(f"{stack.address}/events", "Event Feed", "cxr.")
        page.picture(pictures / "7_events.png", settle=4)
        page.open(f"{stack.address}/automations", "retrain-on-change-or-drift", "notify-crashed")
        page.picture(pictures / "8_automations.png", settle=3)
        page.open(f"{stack.address}/runs/flow-run/{look}", "Changing", "watch phantoms")
        page.picture(pictures / "9_watch.png", settle=4)
        latest = {
            each["key"]: each["latest_id"] for each in stack.call("/artifacts/latest/filter", {})
        }
        page.open(f"{stack.address}/artifacts/artifact/{latest['monitor']}", "DRIFT", "mean score")
        page.picture(pictures / "10_monitor.png", settle=4)
    keep(pictures, "automations")
