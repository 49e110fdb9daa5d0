"""Retraining: decisions and their records, a person's word in a paused run, and the whole on phantoms."""

import contextlib
import shutil
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cxr.core.errors import CxrError, RegistryError
from cxr.core.files import read_table
from cxr.core.settings import TrainingSettings
from cxr.data.manifest.records import Ingest
from cxr.data.phantoms import dataset
from cxr.models.runs import Run
from cxr.serving.registry import Registry
from cxr.serving.retraining import challenge, challenge_rule, retrain
from cxr.serving.retraining.retrain import Retraining
from cxr.storage.workspace import workspace
from tests.conftest import ROOT
from tests.support.registered import exported, won


def a_run(name: str) -> Run:
    return Run(
        id=name, manifest_sha256="34" * 32, settings=TrainingSettings(), weights={}, version="1"
    )


@pytest.fixture
def registry(finished_once, tmp_path):
    """A registry with the versions one (the champion), two and three."""
    source, place = finished_once / "runs" / "abc" / "export", Registry(str(tmp_path / "registry"))
    names = [
        place.register(exported(source, tmp_path / name, name, name.encode()), "tester").name
        for name in ("one", "two", "three")
    ]
    place.add_challenge(won(finished_once, names[0], None))
    place.promote(names[0], "ann", "the first")
    return place, *names


def decided(work, place, challenger, champion, promote=True, approval=False) -> Retraining:
    found = place.add_challenge(won(work, challenger, champion, promote))
    return retrain.decide(
        place, found, a_run(challenger.split("-")[0]), "data", "flow run 7", approval
    )


def test_the_rule_promotes_or_keeps_and_the_next_one_finds_the_record(registry, finished_once):
    """Won: promoted by the flow run. Lost: kept, logged. The last record alone tells what is no news."""
    place, one, two, three = registry
    assert (
        retrain.latest_retraining(place) is None
        and retrain.find_unchanged(place, a_run("two")) is None
    )
    done = decided(finished_once, place, two, one)
    assert (done.outcome, done.champion, place.champion().who) == ("promoted", two, "flow run 7")
    assert retrain.find_unchanged(place, a_run("two")) == done == retrain.latest_retraining(place)
    lost = decided(finished_once, place, three, two, promote=False)
    assert (lost.outcome, lost.champion, lost.why) == ("kept", two, "made up")
    assert place.log()[-1].what == "keep" and place.champion().version == two
    assert retrain.find_unchanged(place, a_run("three")) == lost
    assert retrain.find_unchanged(place, a_run("two")) is None  # other data since then


def test_a_champion_that_changed_meanwhile_is_not_replaced(registry, finished_once):
    """Compared with one, decided when another is champion: refused, and nothing recorded."""
    place, one, two, three = registry
    decided(finished_once, place, two, one)
    with pytest.raises(RegistryError, match="never compared"):
        decided(finished_once, place, three, one)
    assert place.champion().version == two and retrain.latest_retraining(place).run == "two"


def test_the_champion_s_own_run_changes_nothing(registry, finished_once):
    """Data that changed back give the champion again: kept."""
    place, one, *_ = registry
    done = decided(finished_once, place, one, one)
    assert done.outcome == "kept" and "champion already" in done.why and len(place.log()) == 4


def test_a_repeated_decision_is_the_same(registry, finished_once, monkeypatch):
    """Killed between promotion and record: done again, it says promoted, and the log has one promotion."""
    place, one, two, _ = registry
    with monkeypatch.context() as patch:
        patch.setattr(retrain, "write_retraining", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            decided(finished_once, place, two, one)
    assert place.champion().version == two
    again = place.storage.read(f"challenges/{two}/{one}.json")
    found = challenge.Challenge.model_validate_json(again)
    assert (
        retrain.decide(place, found, a_run("two"), "data", "flow run 8", False).outcome
        == "promoted"
    )
    assert [event.version for event in place.log() if event.what == "promote"] == [one, two]


def test_a_person_s_word(registry, finished_once):
    """Waiting is recorded; yes promotes in that person's name, no keeps; a stale wait is news again."""
    place, one, two, three = registry
    waiting = decided(finished_once, place, two, one, approval=True)
    assert waiting.outcome == "awaiting approval" and place.champion().version == one
    assert retrain.find_unchanged(place, a_run("two")) == waiting
    done = retrain.record_answer(place, waiting, True, "Dr. Ada", "looked at the maps")
    assert retrain.latest_retraining(place) == done and (done.outcome, done.champion) == (
        "promoted",
        two,
    )
    assert (place.champion().who, place.champion().why) == ("Dr. Ada", "looked at the maps")
    waiting = decided(finished_once, place, three, two, approval=True)
    assert retrain.record_answer(place, waiting, False, "Dr. Ada", "odd maps").outcome == "kept"
    assert (place.champion().version, place.log()[-1].why) == (two, "odd maps")
    decided(finished_once, place, three, two, approval=True)
    place.rollback("bob", "back")
    assert retrain.find_unchanged(place, a_run("three")) is None


def paused(name):
    """Return the ids of the paused flow runs of that flow."""
    from prefect import get_client
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName

    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=[name])))
    return [run.id for run in runs if run.state and run.state.is_paused()]


@contextlib.contextmanager
def answering(name, *answers):
    """Give these answers, one after the other, to that flow's run as soon as it is paused; yield the replies.

    How long that takes is not bounded here: a run of the pipeline comes before it, and the test has its own time limit.
    """
    from prefect import get_client

    replies, over = [], threading.Event()

    def give():
        while not (runs := paused(name)):
            if over.wait(0.2):
                return
        for answer in answers:
            with get_client(sync_client=True) as client:
                replies.append(client.resume_flow_run(runs[0], run_input=answer))

    thread = threading.Thread(target=give)
    thread.start()
    try:
        yield replies
    finally:
        over.set()
        thread.join()


@pytest.fixture
def ask(api, monkeypatch):
    """A flow that asks as `retrain` does; it looks for the answer every second."""
    from prefect import flow

    from flows import approval, retrain

    monkeypatch.setattr(approval, "POLL_SECONDS", 1)

    def asking(waiting: Retraining, minutes: float, place: str) -> Retraining:
        return retrain._ask_for_approval(waiting, minutes, place)

    def make(name):
        return flow(name=name)(asking)

    return make


def test_approved_in_the_paused_run(api, ask, registry, finished_once):
    """A form without a name is refused and the run stays paused; a filled one promotes in that name."""
    place, one, two, _ = registry
    waiting = decided(finished_once, place, two, one, approval=True)
    good = {"approve": True, "name": "Dr. Ada", "reason": "looked at it"}
    with answering(
        "ask-yes", {"approve": True, "name": "", "reason": "x"}, {"approve": "?"}, good
    ) as replies:
        done = ask("ask-yes")(waiting, 5.0, place.uri)
    assert [reply.status.value for reply in replies] == ["REJECT", "REJECT", "ACCEPT"]
    assert (
        done.outcome == "promoted"
        and place.champion().version == two
        and place.champion().who == "Dr. Ada"
    )


def test_without_an_answer_the_champion_stays(api, ask, registry, finished_once):
    """After the time limit the run goes on by itself, completes, and says that nobody answered."""
    place, one, two, _ = registry
    waiting = decided(finished_once, place, two, one, approval=True)
    state = ask("ask-nobody")(waiting, 0.05, place.uri, return_state=True)
    assert state.is_completed() and state.result().outcome == "kept"
    assert place.champion().version == one
    assert (place.log()[-1].who, place.log()[-1].why[:9]) == ("time limit", "no answer")


def test_approval_without_a_server_says_so(monkeypatch):
    """No API address: nobody could answer, so nothing is started."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows import approval

    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with (
        temporary_settings({PREFECT_API_URL: None}),
        pytest.raises(CxrError, match="PREFECT_API_URL"),
    ):
        approval.require_server()


def new_images(folder: Path, data: Path) -> None:
    """Add 24 new patients to the training images of `data`."""
    dataset.make_dataset(folder, images=60, size=96, seed=77)
    for label, name in (("NORMAL", "IM-{}-0001.jpeg"), ("PNEUMONIA", "person{}_virus_1.jpeg")):
        for number, path in enumerate(sorted((folder / "train" / label).glob("*.jpeg"))[:12]):
            shutil.copyfile(path, data / "train" / label / name.format(6000 + number))


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_nothing_new_then_new_images_then_a_person(phantoms, tiny, tmp_path, api, monkeypatch):
    """First champion; the same again ends as Unchanged; new images make a challenger, which a person approves.

    The champion scored again, by its export from the registry, gives the scores of its own test. The floors are taken
    away: so small a training reaches none.
    """
    from flows import approval
    from flows.predict import predict
    from flows.retrain import retrain

    for minimum in ("MIN_SENSITIVITY", "MIN_SPECIFICITY"):
        monkeypatch.setattr(challenge_rule, minimum, 0.0)
    monkeypatch.setattr(approval, "POLL_SECONDS", 1)
    data, work = Path(shutil.copytree(phantoms, tmp_path / "data")), tmp_path / "work"
    settings = tiny.model_copy(update={"epochs": 0})
    place = Registry(str(work / "registry"))

    first = retrain(str(data), str(work), training=settings)
    assert first.outcome == "promoted" and place.champion().version == first.challenge.challenger
    before = {
        path: path.stat().st_mtime_ns
        for path in work.glob("runs/*/**/*")
        if path.name != "run.json"
    }

    state = retrain(str(data), str(work), training=settings, return_state=True)
    assert (
        state.name == "Unchanged"
        and state.is_completed()
        and first.challenge.challenger in state.message
    )
    assert before == {
        path: path.stat().st_mtime_ns
        for path in work.glob("runs/*/**/*")
        if path.name != "run.json"
    }
    assert len(place.keys("retrainings/")) == 1

    new_images(tmp_path / "more", data)
    # Whichever wins: the person is to be asked.
    monkeypatch.setattr(challenge_rule, "find_objection", lambda *_, **__: "")
    with answering("retrain", {"approve": True, "name": "Dr. Ada", "reason": "fine"}) as replies:
        second = retrain(
            str(data), str(work), training=settings, approval="required", approval_minutes=10
        )
    assert [reply.status.value for reply in replies] == ["ACCEPT"]
    assert Ingest.read(work / "ingest.json").newly_read == 24
    assert second.run != first.run and second.outcome == "promoted" and second.who == "Dr. Ada"
    asked = second.challenge
    assert (asked.champion, asked.seen, asked.compared) == (
        first.challenge.challenger,
        0,
        asked.images,
    )
    assert place.champion().previous == (first.challenge.challenger,)
    again = read_table(work / "runs" / second.run / "challenge" / f"{asked.champion}.csv")
    own = read_table(work / "runs" / first.run / "scores_test.csv")
    assert (
        list(again["image"]) == list(own["image"])
        and (again["score"] - own["score"]).abs().max() < 1e-5
    )
    assert asked.champion_figures == first.challenge.challenger_figures

    place.rollback("bob", "the maps are odd")
    found = predict(place.uri, str(data / "test"), str(tmp_path / "predictions.csv"))
    table = read_table(tmp_path / "predictions.csv").assign(image=lambda t: "test/" + t["image"])
    both = own.merge(table, on="image", suffixes=("", "_again"))
    assert found.scored >= len(both) == len(own)
    assert (both["score"] - both["score_again"]).abs().max() < 1e-4  # prediction folds the network
    assert found.model_sha256 == place.version(first.challenge.challenger).model_sha256


HOLD = """
import sys
from cxr.storage.workspace import workspace
with workspace.open_workspace(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_at_once_the_second_is_refused_or_waits(tmp_path, api, monkeypatch):
    """While another process is at work in the work folder: one clear error before any work, or, by policy, patience."""
    from flows import retrain
    from tasks import train as train_tasks

    monkeypatch.setattr(workspace, "WAIT", 0.1)
    monkeypatch.setattr(train_tasks, "check_weights", lambda settings: pytest.fail("it began"))
    work = str(tmp_path / "work")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, work],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout.readline() == "held\n"
        state = retrain.retrain("nowhere", work, return_state=True)
        assert state.is_failed() and "another cxr is at work" in state.message
        threading.Timer(1, process.kill).start()
        with pytest.raises(pytest.fail.Exception, match="it began"):
            retrain.retrain("nowhere", work, policy="wait")
        assert process.wait() != 0


def test_the_time_of_a_record_sorts_it(registry, finished_once):
    """The newest record is found by its name, whichever run it was of."""
    place, one, *_ = registry
    asked = won(finished_once, one, one)
    for year, run in ((2026, "zzz"), (2027, "aaa")):
        retrain.write_retraining(place, Retraining(
            when=datetime(year, 1, 1, tzinfo=UTC), run=run, data="d", manifest_sha256="34" * 32, version="1",
            challenge=asked, outcome="kept", who="w", why="y", champion=one,
        ))  # fmt: skip
    assert retrain.latest_retraining(place).run == "aaa"
