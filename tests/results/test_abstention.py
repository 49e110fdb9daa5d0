"""What a run says of the test images that its model does not answer: record, card, report, check."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.core import plotting
from cxr.core.errors import DataError
from cxr.core.files import read_table, write_table
from cxr.models.training.records import Training
from cxr.results import exporting
from cxr.results.cards import rendering
from cxr.results.cards.model_card import Card
from cxr.results.evaluation.abstention import measurement
from cxr.results.evaluation.abstention.measurement import EVERYTHING, SCOPE, Abstention
from cxr.results.evaluation.abstention.referred_plot import draw_referred
from cxr.results.evaluation.abstention.risk_plot import draw_risk_coverage
from cxr.results.gradcam.plot import draw_gradcam
from cxr.results.report import page
from cxr.results.verify.abstention_checks import abstention_problems
from cxr.results.verify.checks import verify_run

BLURRED = (3, 50, 51)  # rows of test images that the judgements call too blurred


def judge(run: Path) -> pd.DataFrame:
    """Write and return judgements of the test images of a run, of which three are too blurred."""
    images = read_table(run / "scores_test.csv")["image"]
    scope_p = np.linspace(0.02, 1, len(images))
    status = np.full(len(images), "scored", dtype=object)
    reason = np.full(len(images), "", dtype=object)
    for row in BLURRED:
        scope_p[row] = 0.001 * (1 + row)
        status[row] = "abstained"
        reason[row] = "too blurred: p = 0.004"
    columns = {"image": images, "scope_p": scope_p, "status": status, "reason": reason}
    table = pd.DataFrame(columns)
    write_table(table, run / measurement.JUDGEMENTS_NAME)
    return table


@pytest.fixture(scope="module")
def judged_run(finished_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run whose test images were judged; read only."""
    work = tmp_path_factory.mktemp("judged") / "work"
    folder = Path(shutil.copytree(finished_once, work)) / "runs" / "abc"
    judge(folder)
    old = Card.read(folder / "export" / "model_card.json")
    training = Training.read(folder / old.training.name / "training.json")
    record = measurement.write_abstention(folder, training)
    card = old.model_copy(update={"abstention": record})
    card.write(folder / "export" / "model_card.json")
    rendering.write_card_pages(card, folder / "export")
    assert record is not None
    plotting.save_png(draw_risk_coverage(folder, record), folder / "risk_coverage.png")
    page.write_report(folder)
    exporting.write_checksums(folder / "export")
    return folder


@pytest.fixture
def run(judged_run: Path, tmp_path: Path) -> Path:
    """Return a copy of the run that a test may damage."""
    return Path(shutil.copytree(judged_run, tmp_path / "abc"))


def find_policy(record: Abstention, name: str) -> measurement.Policy:
    return next(policy for policy in record.policies if policy.name == name)


def test_the_record_counts_what_is_referred(judged_run: Path):
    """By policy: everything answered, scope, and scope with sets of labels; reasons are counted."""
    record = Abstention.read(judged_run / measurement.NAME)
    everything = find_policy(record, EVERYTHING)
    scope = find_policy(record, SCOPE)
    assert everything.answered and everything.answered.referred == 0
    assert scope.answered and scope.answered.referred == len(BLURRED)
    assert scope.answered.referred_positives == 2
    assert scope.reasons == {"too blurred": 3}
    scores = read_table(judged_run / "scores_test.csv")
    wrong = (scores["score"] >= record.threshold) != (scores["label"] == 1)
    assert everything.answered.wrong == int(wrong.sum())
    assert scope.answered.wrong == int(wrong.drop(list(BLURRED)).sum())
    assert record.summary() == (
        "3 of 100 test images are referred to a person as unlike those of the training "
        "(too blurred: 3)"
    )


def test_sets_of_labels_refer_more_and_need_patients(judged_run: Path):
    """Twenty patients of a class allow a coverage of 0.9; 0.99 says what is missing."""
    record = Abstention.read(judged_run / measurement.NAME)
    at_90 = find_policy(record, "scope, coverage 0.9")
    at_99 = find_policy(record, "scope, coverage 0.99")
    assert at_90.answered and at_90.answered.referred > len(BLURRED)
    assert set(at_90.reasons) <= {"too blurred", "ambiguous", "unlike both classes"}
    assert at_99.answered is None
    assert "expected enough validation patients" in at_99.note


def test_card_and_report_show_it(judged_run: Path):
    """The table of policies and the picture; the page of a run without says that it is missing."""
    text = (judged_run / "export" / "MODEL_CARD.md").read_text()
    report = (judged_run / "report.html").read_text()
    assert "| scope | 97 of 100 | 3 |" in text
    assert "Where the model does not answer" in report
    assert "3 of 100 test images are referred" in report
    assert 'alt="risk coverage' in report
    card = Card.read(judged_run / "export" / "model_card.json")
    without = rendering.card_text(card.model_copy(update={"abstention": None}))
    assert "did not learn a scope" in without


def test_verify_computes_it_again(judged_run: Path):
    """A whole run passes every check, and says nothing of a part that it could not check."""
    checks = verify_run(judged_run)
    assert not any(check.problem or check.note for check in checks)


def test_verify_finds_what_was_changed(run: Path):
    """Another count, judgements that were changed, a record or judgements that are gone."""
    path = run / measurement.NAME
    content = json.loads(path.read_text())
    content["policies"][1]["answered"]["referred"] = 2
    path.write_text(json.dumps(content))
    table = read_table(run / measurement.JUDGEMENTS_NAME)
    write_table(table.assign(reason=""), run / measurement.JUDGEMENTS_NAME)
    problems = "\n".join(abstention_problems(run))
    assert "referred is 2, the scores give" in problems
    assert "scope_test.csv is not the file that was measured" in problems
    (run / measurement.JUDGEMENTS_NAME).unlink()
    assert list(abstention_problems(run)) == [
        "scope_test.csv is missing: delete export.json, run again"
    ]
    path.unlink()
    assert "abstention.json is missing" in next(abstention_problems(run))


def test_judgements_of_other_images_are_refused(judged_run: Path):
    """A table that lacks an image is of another test set."""
    judgements = measurement.read_judgements(judged_run)
    assert judgements is not None
    scores = read_table(judged_run / "scores_test.csv")
    with pytest.raises(DataError, match=r"expected scope_test.csv to have the 100 images"):
        measurement.abstention_metrics(scores, judgements.tail(99), scores, 0.5)


def test_a_run_without_judgements_has_no_record(run: Path):
    """One that is left over from another model is removed."""
    (run / measurement.JUDGEMENTS_NAME).unlink()
    card = Card.read(run / "export" / "model_card.json")
    assert measurement.write_abstention(run, card.training) is None
    assert measurement.read_abstention(run) is None


def test_the_gallery_shows_the_least_likely_first(run: Path):
    """Three of a hundred images in one row; none where nothing is referred."""
    scores = read_table(run / "scores_test.csv")
    pixels = np.full((len(scores), 32, 32), 100, np.uint8)
    judgements = measurement.read_judgements(run)
    assert judgements is not None
    path = draw_referred(pixels, scores, judgements, run)
    assert path is not None
    with Image.open(path) as picture:
        assert picture.width > picture.height
    nothing = judgements.assign(status="scored")
    assert draw_referred(pixels, scores, nothing, run) is None
    assert not path.exists()


def test_saliency_maps_say_of_which_images_there_is_no_prediction(monkeypatch, tmp_path: Path):
    """The name of an image out of scope has the reason under it; the others have none."""
    shown: list[Any] = []
    monkeypatch.setattr(plotting, "save_png", lambda figure, path, _: shown.append(figure) or path)
    table = pd.DataFrame(
        {
            "image": ["a.png", "b.png"],
            "label": [1, 1],
            "score": [0.9, 0.8],
            "status": ["scored", "abstained"],
            "reason": ["", "too blurred: p = 0.003"],
        }
    )
    draw_gradcam(
        np.zeros((2, 32, 32), np.uint8), np.zeros((2, 7, 7)), table, 0.5, tmp_path / "gradcam.png"
    )
    (figure,) = shown
    captions = [axes.get_xlabel() for axes in figure.axes]
    assert "a\nscore 0.900, label PNEUMONIA" in captions
    assert "b\nscore 0.800, label PNEUMONIA\ntoo blurred" in captions
    assert any("have no prediction" in text.get_text().replace("\n", " ") for text in figure.texts)
