"""`cxr monitor`: what it prints, the page it writes, and its exit status."""

import numpy as np
import pytest

from cxr.core.errors import UsageError
from cxr.core.files import write_table
from cxr.results.cards.model_card import Card
from flows.commands.monitor import monitor
from tests.support import monitored


@pytest.fixture
def place(finished_once, tmp_path):
    """A function that makes a store of 300 images, shifted by so many standard deviations."""
    card = Card.read(finished_once / "runs" / "abc" / "export" / "model_card.json")
    rng = np.random.default_rng(0)
    validation = monitored.measure(rng, 300)

    def make(shift):
        folder = str(tmp_path / f"watched-{shift}")
        measured = monitored.at_work(monitored.measure(rng, 200, shift=shift))
        monitored.append(folder, card, measured, validation)
        return folder

    return make


def test_drift_ends_with_status_3_where_it_is_asked_for(place, tmp_path, capsys):
    """Without --strict, and without drift, the end is a normal one; the page is written before."""
    page = tmp_path / "page.html"
    monitor(place(0), strict=True)
    assert "no drift found in " in capsys.readouterr().out
    drifted = place(2)
    monitor(drifted)
    with pytest.raises(SystemExit) as ended:
        monitor(drifted, out=page, strict=True)
    assert ended.value.code == 3 and page.is_file()
    assert capsys.readouterr().out.count("DRIFT since 2026-03-01 in ") == 2


def test_late_labels_need_the_tables_of_predictions(place, tmp_path, capsys):
    """One without the other is wrong usage; together they give real figures."""
    truth = monitored.measure(np.random.default_rng(1), 100)
    measured = monitored.at_work(truth)
    write_table(monitored.predictions(measured), tmp_path / "predictions.csv")
    labels = truth[["label", "patient"]].assign(image=measured["image"])
    write_table(labels, tmp_path / "labels.csv")
    with pytest.raises(UsageError, match="expected --labels FILE and --predictions TABLE together"):
        monitor("anywhere", labels=tmp_path / "labels.csv")
    folder = place(0)
    tables = (tmp_path / "predictions.csv",)
    monitor(folder, labels=tmp_path / "labels.csv", predictions=tables)
    assert f"{len(truth)} images with a label: sensitivity" in capsys.readouterr().out
