"""The report page and the pictures of a run, from a work folder made up here."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr import curves, export, metrics, report, selection, settings
from cxr.records import Evaluation, Failure, Ingest, Training, write_table

NAMES = ("MobileNetV2", "DenseNet121")
ODD = "train/NORMAL/<script>alert(1)</script>\n\udcff.jpeg"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Return a work folder with one run that is finished but for its pictures and its report."""
    run = tmp_path / "runs" / "abc"
    trained = [_train(run, name, seed) for seed, name in enumerate(NAMES)]
    failed = [Failure(architecture="VGG16", error="killed <by signal 9>")]
    selection.compare(trained, failed, run)
    chosen = selection.select(trained, failed)
    training = next(one for one in trained if one.architecture == chosen.architecture)
    scores = _scores(run / "scores_test.csv", seed=9)
    test = metrics.figures(scores["label"].to_numpy(), scores["score"].to_numpy(), training.threshold)
    evaluation = Evaluation(
        model_sha256="a" * 64, architecture=training.architecture, threshold=training.threshold, test=test,
        intervals=metrics.wilson(test), reload_max_difference=3e-8, reload_images=64, optimizer_equal=True,
        scores_sha256="12" * 32,
    ).write(run / "evaluation.json")  # fmt: skip
    demo = settings.training_settings("demo")
    export.write_card(run, _ingest(tmp_path), demo, training, chosen, evaluation)
    return tmp_path


def _train(run: Path, name: str, seed: int) -> Training:
    scores = _scores(run / name / "scores_val.csv", seed)
    labels, values = scores["label"].to_numpy(), scores["score"].to_numpy()
    threshold = metrics.operating_point(labels, values, 0.95)
    history = pd.DataFrame(
        {"epoch": [1, 2], "phase": ["frozen", "fine_tune"], "loss": [0.6, 0.4], "val_auroc": [0.7, 0.8]}
    )
    write_table(history, run / name / "history.csv")
    return Training(
        architecture=name, weights="none", weights_sha256="", image_size=64, seed=0, epochs=2, best_epoch=2,
        seconds=61.0, images_per_second=10.0, threshold=threshold, val=metrics.figures(labels, values, threshold),
        model_sha256="cd" * 32, optimizer_sha256="ef" * 32, versions={"keras": "3.15"},
    ).write(run / name / "training.json")  # fmt: skip


def _scores(path: Path, seed: int) -> pd.DataFrame:
    """Write 40 NORMAL and 60 PNEUMONIA with scores that overlap; return them."""
    label = np.repeat([0, 1], [40, 60])
    score = np.clip(np.random.default_rng(seed).normal(0.3 + 0.4 * label, 0.15), 0, 1)
    images, causes = [f"{i}.jpeg" for i in range(100)], np.where(label, "virus", "")
    table = pd.DataFrame({"image": images, "patient_id": images, "etiology": causes})
    table = table.assign(label=label, score=score)
    write_table(table, path)
    return table


def _ingest(work: Path) -> Ingest:
    rejects = pd.DataFrame({"image": [ODD], "reason": ["truncated"], "detail": ["<b>ends</b> too early"]})
    write_table(rejects, work / "rejects.csv")
    counts = {"NORMAL": 40, "PNEUMONIA": 60}
    return Ingest(
        data="/data", root="", found=301, kept=300, rejected={"truncated": 1}, newly_read=301,
        splits=dict.fromkeys(("train", "val", "test"), counts), patients={"train": 9, "val": 9, "test": 9},
        patient_wise=False, split_policy="by patient", manifest_sha256="34" * 32,
    )  # fmt: skip


def _page(work: Path) -> str:
    return report.write(work, work / "runs" / "abc").read_text(encoding="utf-8")


def _pixels(uris: list[str]) -> int:
    return sum(uri.startswith("data:image/png;base64,") for uri in uris)


def test_page_needs_no_network_and_no_script(work: Path):
    """Every src is a picture inside the page, every href a place in it; no script, no style from elsewhere."""
    run = work / "runs" / "abc"
    pictures = curves.draw_comparison(run, NAMES) + curves.draw_evaluation(run)
    page = _page(work)
    sources = re.findall(r'\bsrc\s*=\s*"([^"]*)"', page)
    assert _pixels(sources) == len(sources) == len(pictures) == 6
    assert all(target.startswith("#") for target in re.findall(r'\bhref\s*=\s*"([^"]*)"', page))
    assert not re.search(r"https?://|<script|<link|<iframe|@import|url\(", page)


def test_page_links_lead_somewhere(work: Path):
    """Each entry of the page's own navigation names a heading that is there."""
    page = _page(work)
    targets = re.findall(r'href="#([^"]+)"', page)
    assert targets and set(targets) <= set(re.findall(r'id="([^"]+)"', page))


def test_page_has_all_figures_of_the_evaluation(work: Path):
    """Each proportion with its counts and interval; AUROC and AUPRC without an interval that nobody computed."""
    page, evaluation = _page(work), Evaluation.read(work / "runs" / "abc" / "evaluation.json")
    test = evaluation.test
    for name, words in report.MEASURES.items():
        row = re.search(rf'<th scope="row">{re.escape(words)}</th>.*', page)
        assert row and f"<strong>{export.figure(test[name])}</strong>" in row[0]
        ends = evaluation.intervals.get(name)
        shown = f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else "interval not computed"
        assert shown in row[0]
    assert f"{test['tp']} of 60 pneumonias found" in page
    assert f"{test['tn']} of 40 normals left alone" in page
    assert f"{test['fn']} <small>of 60</small>" in page
    assert f"{test['fp']} <small>of 40</small>" in page
    assert f"virus {test['fn']} of 60" in page


def test_odd_names_and_errors_are_escaped(work: Path):
    """A file name with markup, a line break and an undecodable byte is shown as text, as is an error."""
    page = _page(work)
    assert r"train/NORMAL/&lt;script&gt;alert(1)&lt;/script&gt;\n\udcff.jpeg" in page
    assert "&lt;b&gt;ends&lt;/b&gt; too early" in page
    assert "killed &lt;by signal 9&gt;" in page
    assert "<script" not in page and "<b>ends" not in page


def test_warnings_are_visible(work: Path):
    """Random starting weights, a split that is not patient-wise and the intended use stand on the page."""
    page = _page(work)
    assert "Not a medical device." in page
    assert "started from random weights" in page
    assert "The split is not patient-wise" in page


def test_missing_pictures_are_left_out(work: Path):
    """Without any picture, then with one, the page is written; it has exactly what is there."""
    assert "<img" not in _page(work)
    run = work / "runs" / "abc"
    (work / "eda").mkdir()
    (curves.draw_evaluation(run)[0]).rename(work / "eda" / "modes.png")
    assert _page(work).count("<img") == 4


def test_first_rejects_are_shown_and_all_are_counted(work: Path):
    """Of 250 rejects the page shows 200 and says where all of them are."""
    rows = pd.DataFrame({"image": [f"reject-{i}.jpeg" for i in range(250)], "reason": "truncated", "detail": ""})
    write_table(rows, work / "rejects.csv")
    page = _page(work)
    assert len(re.findall(r"reject-\d+\.jpeg", page)) == 200
    assert "holds all 250" in page


def test_not_estimable_figure_is_said(work: Path):
    """A test precision that cannot be computed is named so, not shown as a number."""
    card_path = work / "runs" / "abc" / "export" / "model_card.json"
    card = export.Card.read(card_path)
    evaluation = card.evaluation.model_copy(update={"test": card.evaluation.test | {"precision": None}})
    card.model_copy(update={"evaluation": evaluation}).write(card_path)
    assert "<strong>not estimable</strong>" in _page(work)


@pytest.mark.parametrize("names", [NAMES[:1], NAMES])
def test_comparison_is_drawn_for_one_or_more_architectures(work: Path, names: tuple[str, ...]):
    """Both pictures are PNG files, whole, at the paths returned; nothing temporary stays."""
    run = work / "runs" / "abc"
    drawn = curves.draw_comparison(run, names)
    assert [path.name for path in drawn] == ["roc_val.png", "histories.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)
    assert not list(run.glob(".writing-*"))


def test_evaluation_is_drawn_when_nothing_is_called_pneumonia(work: Path):
    """A threshold above every score leaves PPV without a value: four pictures are drawn all the same."""
    run = work / "runs" / "abc"
    evaluation = Evaluation.read(run / "evaluation.json")
    evaluation.model_copy(update={"threshold": 1.5}).write(run / "evaluation.json")
    assert len(curves.draw_evaluation(run)) == 4
