"""Tests of what the command and the task `predict` say of a batch that is not like the training data."""

from typing import Any

import pytest

import cxr
from cxr.core.errors import DataError
from cxr.core.settings import DicomOutputSettings, FileSettings, ScopeSettings
from cxr.serving.prediction.batch_verdict import BatchVerdict
from cxr.serving.prediction.predictions import Predictions
from flows.commands import stages
from tasks import predict as predict_tasks

SENTENCE = "these 30 images are not like the training data (darker): the figures do not apply here"


@pytest.fixture
def unlike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every prediction be of thirty images that are not like the training data."""
    verdict = BatchVerdict(verdict="unlike", sentence=SENTENCE, images=30)

    def predict(*_: Any) -> Predictions:
        return Predictions(
            out="p.csv",
            model="MobileNetV2, run r",
            model_sha256="",
            threshold=0.5,
            images=30,
            scored=20,
            positive=8,
            rejected=0,
            reasons={},
            abstained=10,
            abstained_reasons={"too blurred": 10},
            verdict=verdict,
        )

    monkeypatch.setattr(cxr, "predict", predict)


@pytest.mark.usefixtures("unlike")
def test_the_verdict_stands_above_the_counts(capsys: pytest.CaptureFixture[str]):
    """Without --strict the exit status stays 0."""
    stages.predict("export", ("images",), out="p.csv")
    verdict, counts = capsys.readouterr().out.splitlines()
    assert verdict == f"T{SENTENCE[1:]}."
    assert counts == "20 scored (8 PNEUMONIA), 10 abstained (too blurred: 10), 0 rejected: p.csv"


@pytest.mark.usefixtures("unlike")
def test_strict_ends_with_status_three(capsys: pytest.CaptureFixture[str]):
    """The verdict and the counts are printed all the same."""
    with pytest.raises(SystemExit) as ended:
        stages.predict("export", ("images",), out="p.csv", scope=ScopeSettings(strict=True))
    assert ended.value.code == 3
    assert "10 abstained" in capsys.readouterr().out


@pytest.mark.usefixtures("unlike")
def test_prefect_shows_the_verdict_and_what_was_abstained_from(monkeypatch: pytest.MonkeyPatch):
    """In the artifact of the run; with strict the task fails after it."""
    shown: dict[str, Any] = {}
    monkeypatch.setattr(
        predict_tasks,
        "create_table_artifact",
        lambda rows, key, description: shown.update(rows=rows, key=key, description=description),
    )
    score_images = predict_tasks.score_images.fn
    arguments = ("export", ["images"], "p.csv", FileSettings(), None, DicomOutputSettings())
    score_images(*arguments, ScopeSettings())
    assert shown["description"].startswith(f"**T{SENTENCE[1:]}.**")
    assert {"what": "abstained: too blurred", "images": 10} in shown["rows"]
    shown.clear()
    with pytest.raises(DataError, match=r"not like the training data .* has the scores"):
        score_images(*arguments, ScopeSettings(strict=True))
    assert shown["key"] == "predictions"
