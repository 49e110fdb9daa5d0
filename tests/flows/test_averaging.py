"""`--ensemble` on the command line: the whole pipeline averages networks and exports what comes out."""

import pytest

from cxr.core.files import read_table
from cxr.results.cards.model_card import Card
from tests.conftest import Command


@pytest.mark.slow
def test_a_run_averages_its_architectures(cxr: Command, phantoms, tmp_path):
    """The best of each as one model, told at the end and in the table; what is verified passes; it predicts."""
    flags = (
        "--preset",
        "demo",
        "--image-size",
        "32",
        "--epochs",
        "0",
        "--ensemble",
        "architectures",
    )
    work = tmp_path / "work"
    done = cxr("run", phantoms, "--out", work, "--arch", "MobileNetV2", "VGG16", *flags)
    assert done.returncode == 0, done.stderr[-3000:]
    (run,) = (work / "runs").iterdir()
    assert "ensemble-architectures" in done.stdout
    card = Card.read(run / "export" / "model_card.json")
    assert card.architecture == "ensemble of MobileNetV2, VGG16"
    assert list(read_table(run / "comparison.csv")["status"]) == ["trained"] * 3
    assert cxr("verify", run).returncode == 0
    table = tmp_path / "predictions.csv"
    assert cxr("predict", run / "export", phantoms / "test", "--out", table).returncode == 0
    assert (read_table(table)["status"] == "scored").any()
