"""What the flow `monitor` shows of a monitoring store, and that it says an alarm once."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxr.results.cards.model_card import Card
from cxr.serving.monitoring import read_monitor
from cxr.serving.monitoring.figures import CAPTIONS
from tasks import monitor
from tasks.pages import monitoring as monitoring_page
from tests.support import monitored


class Variables:
    """The variables of a Prefect server."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        """Return a value, None if it was never set."""
        return self.values.get(name)

    def set(self, name: str, value: Any, overwrite: bool) -> None:
        """Set a value."""
        assert overwrite
        self.values[name] = value


@pytest.fixture
def said(monkeypatch) -> list[tuple[str, str, dict[str, Any]]]:
    """The events of drift that are sent."""
    kept = []
    monkeypatch.setattr(monitor, "Variable", Variables())
    monkeypatch.setattr(monitor.events, "drift", lambda *what: kept.append(what))
    return kept


@pytest.fixture
def card(finished_once) -> Card:
    return Card.read(finished_once / "runs" / "abc" / "export" / "model_card.json")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def test_an_alarm_is_said_once_and_a_new_one_again(said, card, rng, tmp_path):
    """A daily look at the same drift starts one retraining; drift of the next model starts another."""
    place = str(tmp_path / "store")
    validation = monitored.measure(rng, 300)
    fine = monitored.at_work(monitored.measure(rng, 100), "2026-03-01")
    monitored.append(place, card, fine, validation)
    assert not monitor.say_once(read_monitor(place)) and not said
    darker = monitored.measure(rng, 200, shift=1.0)
    monitored.append(place, card, monitored.at_work(darker, "2026-03-02", prefix="new"), validation)
    assert monitor.say_once(read_monitor(place))
    assert [monitor.say_once(read_monitor(place)) for _ in range(3)] == [False] * 3
    ((address, sentence, details),) = said
    assert address == place and sentence.startswith("DRIFT")
    assert details["alarm"] and details["raised"][0]["raised"] == "2026-03-02"
    retrained = card.model_copy(update={"model_sha256": "ef" * 32, "run": "def"})
    monitored.append(
        place, retrained, monitored.at_work(darker, "2026-03-20", prefix="later"), validation
    )
    assert monitor.say_once(read_monitor(place)) and len(said) == 2


def test_the_page_has_the_verdict_the_alarms_and_the_days(card, rng, tmp_path):
    """What a person looks at when an alarm came: what drifted, since when, how much there was each day."""
    place = str(tmp_path / "store")
    validation = monitored.measure(rng, 300)
    for day in range(1, 21):
        shift = 1.5 if day > 15 else 0.0
        images = monitored.at_work(
            monitored.measure(rng, 30, shift=shift), f"2026-03-{day:02d}", prefix=f"day {day}"
        )
        monitored.append(place, card, images, validation, rejected=("not_an_image", "polarity"))
    report = read_monitor(place)
    (stream,) = report.streams
    picture = tmp_path / "evidence.png"
    Image.new("L", (8, 8)).save(picture)
    page = monitoring_page.page(report, {stream.name: [picture]})
    assert page.count("](data:image/png;base64,") == 1 and CAPTIONS["evidence"] in page
    assert page.startswith("# Drift\n") and page.count(stream.sentence()) == 1
    assert all(alarm.sentence() in page for alarm in stream.verdict.alarms)
    rows = [line for line in page.splitlines() if line.startswith("| 2026-03-")]
    assert len(rows) == monitoring_page.LAST_DAYS and rows[-1].startswith("| 2026-03-20 |")
    cells = [cell.strip() for cell in rows[-1].strip("|").split("|")]
    last = stream.days[max(stream.days)]
    assert cells[1:5] == [
        str(count) for count in (last.images, last.positive, last.abstained, last.rejected)
    ]
    assert "Performance without labels: not known" in page
