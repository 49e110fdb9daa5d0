"""The events that flows send: names, resources, payloads, and what happens where they cannot be sent."""

import logging
from datetime import UTC, datetime
from typing import Any

import pytest
from prefect.events import Event
from prefect.settings import PREFECT_API_URL, temporary_settings

from cxr.core.errors import CxrError
from cxr.serving.registry import Registry
from cxr.serving.retraining.retrain import Retraining
from flows.commands import registry as commands
from flows.server import prefect_api
from tasks import events
from tests.support.registered import exported, won


@pytest.fixture
def sent(monkeypatch) -> list[Event]:
    """The events that are sent, each of them one that Prefect takes, with an API configured."""
    kept = []

    def emit(event: str, resource: dict[str, str], payload: dict[str, Any]) -> None:
        kept.append(
            Event(event=event, resource=resource, payload=payload, occurred=datetime.now(UTC))
        )

    monkeypatch.setattr(events, "emit_event", emit)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        yield kept


def retraining_of(work, outcome) -> Retraining:
    """A retraining in which `new` was judged against `old`."""
    return Retraining(
        when=datetime.now(UTC),
        run="abc",
        data="data",
        manifest_sha256="34" * 32,
        version="1",
        challenge=won(work, "new", "old"),
        outcome=outcome,
        who="flow run 7",
        why="no worse",
        champion="new" if outcome == "promoted" else "old",
    )


def test_each_event_has_its_name_its_resource_and_a_sentence(sent, finished_once):
    """Automations go by name and resource, people read the sentence, programs the details."""
    done = retraining_of(finished_once, "promoted")
    events.data_changed("s3://bucket/films", "13 files, +12", 13, "ab" * 32)
    events.gate_failed("/data/films", "data leakage: 3 pairs")
    events.drift("/data/monitor", "scores fell", {"signal": "score"})
    events.challenger_judged("s3://bucket/work/registry", done)
    events.champion_changed("s3://bucket/work/registry", done)
    assert [(each.event, each.resource.id) for each in sent] == [
        ("cxr.data.changed", "cxr.data.s3-bucket-films"),
        ("cxr.gate.failed", "cxr.data.data-films"),
        ("cxr.drift", "cxr.monitor.data-monitor"),
        ("cxr.challenger.judged", "cxr.registry.s3-bucket-work-registry"),
        ("cxr.champion.changed", "cxr.registry.s3-bucket-work-registry"),
    ]
    assert all(each.resource.name and each.payload["text"] for each in sent)
    judged, changed = (each.payload for each in sent[-2:])
    assert judged["outcome"] == "promoted" and judged["challenger"] == "new"
    assert (changed["before"], changed["champion"]) == ("old", "new")
    assert "no worse" in changed["text"] and "flow run 7" in changed["text"]


def test_a_judgement_that_waits_for_a_person_says_so(sent, finished_once):
    """The champion has not changed yet."""
    events.challenger_judged("registry", retraining_of(finished_once, "awaiting approval"))
    (judged,) = sent
    assert "awaiting approval" in judged.payload["text"] and judged.payload["champion"] == "old"


def test_an_event_that_cannot_be_sent_costs_a_warning(sent, monkeypatch, caplog):
    """The run goes on, and its log has the sentence."""

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("the server is away")

    monkeypatch.setattr(events, "emit_event", refuse)
    with caplog.at_level(logging.WARNING):
        events.gate_failed("/data/films", "data leakage: 3 pairs")
    assert "the server is away" in caplog.text and "3 pairs" in caplog.text


def test_a_long_sentence_is_cut(sent):
    """The server refuses large events."""
    events.gate_failed("/data/films", "x" * 10**6)
    assert len(sent[0].payload["text"]) == events.MOST_CHARACTERS


def test_without_a_server_nothing_is_sent(sent):
    """Prefect would start a server of its own for it."""
    with temporary_settings({PREFECT_API_URL: None}):
        events.gate_failed("/data/films", "data leakage: 3 pairs")
    assert sent == []


@pytest.fixture
def registry(finished_once, tmp_path) -> Registry:
    """A registry with two versions, neither of which is the champion yet."""
    found = Registry(str(tmp_path / "registry"))
    source = finished_once / "runs" / "abc" / "export"
    for name in ("one", "two"):
        found.register(exported(source, tmp_path / name, name, name.encode()), "me")
    return found


def test_a_champion_of_a_person_s_choice_is_an_event(sent, registry, monkeypatch, capsys):
    """`promote` and `rollback` send what a retraining sends, and say so; the champion again sends nothing."""
    monkeypatch.setattr(prefect_api, "configured", lambda: "http://127.0.0.1:9/api")
    monkeypatch.setattr(prefect_api, "find_problem", lambda: "")
    one, two = (version.name for version in registry.versions())
    for name in (one, two, two):
        commands.promote(
            name, why="agreed", registry=registry.uri, who="ann", against_the_rule=True
        )
    commands.rollback(why="false alarms", registry=registry.uri, who="bob")
    assert {each.event for each in sent} == {"cxr.champion.changed"}
    changes = [(each.payload["before"], each.payload["champion"]) for each in sent]
    assert changes == [(None, one), (one, two), (two, one)]
    assert "rollback by bob): false alarms" in sent[-1].payload["text"]
    assert sent[0].resource.id == events.resource_id("registry", registry.uri)
    assert capsys.readouterr().out.count("event: cxr.champion.changed, sent to") == 3


def test_a_champion_changes_without_a_server(sent, registry, monkeypatch, capsys):
    """None is started: nothing is said where none is named, and one line where it does not answer."""
    one, two = (version.name for version in registry.versions())
    monkeypatch.setattr(prefect_api, "configured", lambda: None)
    commands.promote(one, why="agreed", registry=registry.uri, against_the_rule=True)
    assert "event" not in "".join(capsys.readouterr())

    def refuse() -> None:
        raise CxrError("Prefect cannot read its settings")

    monkeypatch.setattr(prefect_api, "configured", refuse)
    commands.promote(two, why="agreed", registry=registry.uri, against_the_rule=True)
    monkeypatch.setattr(prefect_api, "configured", lambda: "http://127.0.0.1:9/api")
    commands.rollback(why="false alarms", registry=registry.uri)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "cxr: no event was sent: Prefect cannot read its settings"
    assert lines[1].startswith("cxr: no event was sent: http://127.0.0.1:9/api")
    assert len(lines) == 2
    assert sent == []
