"""The report page and the pictures of a run, from a work folder made up here."""

import re
from pathlib import Path

import pandas as pd
import pytest

from cxr.core import formatting
from cxr.core.files import write_table
from cxr.data.labels.books import LabelBooks
from cxr.models.training.records import Training
from cxr.results.cards import rendering
from cxr.results.cards.model_card import Card
from cxr.results.evaluation import Evaluation
from cxr.results.metric_table import METRIC_NAMES
from cxr.results.plots.histories import History, draw_histories
from cxr.results.plots.pictures import draw_comparison, draw_evaluation
from cxr.results.report.page import write_report
from tests.support.finished import NAMES


@pytest.fixture
def work(finished_work: Path) -> Path:
    """Return a work folder with one run that is finished but for its pictures."""
    return finished_work


def _page(work: Path) -> str:
    return write_report(work / "runs" / "abc").read_text(encoding="utf-8")


def _pixels(uris: list[str]) -> int:
    return sum(uri.startswith("data:image/png;base64,") for uri in uris)


def test_page_needs_no_network_and_no_script(work: Path):
    """Every src is a picture inside the page, every href a place in it; no script, no style from elsewhere."""
    run = work / "runs" / "abc"
    pictures = draw_comparison(run, NAMES) + draw_evaluation(run)
    page = _page(work)
    sources = re.findall(r'\bsrc\s*=\s*"([^"]*)"', page)
    assert _pixels(sources) == len(sources) == len(pictures) == 9
    assert all(target.startswith("#") for target in re.findall(r'\bhref\s*=\s*"([^"]*)"', page))
    assert not re.search(r"https?://|<script|<link|<iframe|@import|url\(", page)


def test_page_links_lead_somewhere(work: Path):
    """Each entry of the page's own navigation names a heading that is there."""
    page = _page(work)
    targets = re.findall(r'href="#([^"]+)"', page)
    assert targets and set(targets) <= set(re.findall(r'id="([^"]+)"', page))


def test_the_history_goes_on_from_the_fit_of_the_head_that_was_kept():
    """At epoch 0 a point for each fit; fine-tuning's line starts at the best; of a tie in epochs the best is the kept."""
    history = pd.DataFrame(
        {
            "epoch": [0.0, 0.0, 1.0],
            "phase": ["frozen", "frozen", "fine_tune"],
            "val_auroc": [0.7, 0.8, 0.9],
            "loss": [0.5, 0.4, 0.3],
        }
    )
    axes = draw_histories({"VGG16": History(history, 0)}).axes[0]
    points, line, kept = (each.get_xydata().tolist() for each in axes.get_lines())
    assert points == [[0.0, 0.7], [0.0, 0.8]]
    assert line == [[0.0, 0.8], [1.0, 0.9]]
    assert kept == [[0.0, 0.8]]


def test_time_and_memory_of_each_stage_are_shown_and_nothing_of_a_benchmark(work: Path):
    """A record of version 0.1 still holds a benchmark's `limit`: it is read, not shown, and not written again."""
    path = work / "runs" / "abc" / NAMES[0] / "training.json"
    assert '"limit"' not in path.read_text()
    path.write_text(path.read_text().replace('"memory": 900.0', '"memory": 900.0, "limit": 12.0'))
    training = Training.read(path)
    assert training.stages[0].limit == 12.0
    page = _page(work)
    table = page[page.index("<h3>Time and memory</h3>") : page.index('id="data"')]
    assert "31 s" in table and "9.7" in table and "900 MB" in table
    assert "limit" not in table
    training.write(path)
    assert '"limit"' not in path.read_text()


def test_page_has_all_figures_of_the_evaluation(work: Path):
    """Each figure with its interval, each proportion with its counts, and the missed by cause."""
    page, evaluation = _page(work), Evaluation.read(work / "runs" / "abc" / "evaluation.json")
    test = evaluation.test
    for name, words in METRIC_NAMES.items():
        row = re.search(rf'<th scope="row">{re.escape(words)}</th>.*', page)
        assert row and f"<strong>{formatting.format_metric(test[name])}</strong>" in row[0]
        ends = evaluation.intervals[name]
        assert f"{ends.low:.3f} to {ends.high:.3f}" in row[0]
    assert f"{test['tp']} of 60 true positives" in page
    assert f"{test['tn']} of 40 true negatives" in page
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
    (draw_evaluation(run)[0]).rename(run / "data" / "modes.png")
    assert _page(work).count("<img") == 7


def test_first_rejects_are_shown_and_all_are_counted(work: Path):
    """Of 250 rejects the page shows 200 and says where all of them are."""
    rows = pd.DataFrame(
        {"image": [f"reject-{i}.jpeg" for i in range(250)], "reason": "truncated", "detail": ""}
    )
    write_table(rows, work / "runs" / "abc" / "data" / "rejects.csv")
    page = _page(work)
    assert len(re.findall(r"reject-\d+\.jpeg", page)) == 200
    assert "holds all 250" in page


def test_not_estimable_figure_is_said(work: Path):
    """A test precision that cannot be computed is named so, not shown as a number."""
    card_path = work / "runs" / "abc" / "export" / "model_card.json"
    card = Card.read(card_path)
    evaluation = card.evaluation.model_copy(
        update={"test": card.evaluation.test | {"precision": None}}
    )
    card.model_copy(update={"evaluation": evaluation}).write(card_path)
    assert "<strong>not estimable</strong>" in _page(work)


@pytest.mark.parametrize("names", [NAMES[:1], NAMES])
def test_comparison_is_drawn_for_one_or_more_architectures(work: Path, names: tuple[str, ...]):
    """Both pictures are PNG files, whole, at the paths returned; nothing temporary stays."""
    run = work / "runs" / "abc"
    drawn = draw_comparison(run, names)
    assert [path.name for path in drawn] == ["roc_val.png", "histories.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)
    assert not list(run.glob(".writing-*"))


def test_evaluation_is_drawn_when_nothing_is_called_pneumonia(work: Path):
    """A threshold above every score leaves PPV without a value: seven pictures are drawn all the same."""
    run = work / "runs" / "abc"
    evaluation = Evaluation.read(run / "evaluation.json")
    evaluation.model_copy(update={"threshold": 1.5}).write(run / "evaluation.json")
    assert len(draw_evaluation(run)) == 7


def test_the_trust_section_holds_every_check(work: Path):
    """Leakage by reading, baselines beside the network, shift, subgroups, calibration and the paired tests are there."""
    page = _page(work)
    for words in (
        "person+etiology/one-normal", "border", "32x32 thumbnail", "container after uniform encoding",
        "differences within the classes were tested", "cause: virus", "of the saliency lies in the border",
        "ECE by chance", "DeLong p (Holm)", "patients drawn with replacement, 2,000 times (50 patients)",
    ):  # fmt: skip
        assert words in page, words
    assert re.search(r"The .* alone reaches AUROC 0\.\d+ on test; \w+ reaches", page)


def test_each_point_of_the_card_has_its_own_line(work: Path):
    """A block tag at the end of a template's line would swallow the line's end: nine points, nine lines."""
    text = (work / "runs" / "abc" / "export" / "MODEL_CARD.md").read_text()
    assert text.count("- **") == len(re.findall(r"^- \*\*", text, re.M)) == 9


def test_allowed_leakage_is_a_warning(work: Path):
    """A run that went on in spite of leakage says so at the top, and in the card for people."""
    path = work / "runs" / "abc" / "export" / "model_card.json"
    card = Card.read(path)
    leaking = card.data.leakage.model_copy(update={"pairs_left": 3, "allowed": True})
    card = card.model_copy(
        update={"data": card.data.model_copy(update={"leakage": leaking})}
    ).write(path)
    assert "Leakage was allowed." in _page(
        work
    ) and "Leakage was allowed: 3 pairs" in rendering.card_text(card)


def test_labels_of_a_table_say_what_the_model_tells_apart(work: Path):
    """Card and page have the choice of --negative, what uncertain means, and the rule for rows."""
    books = LabelBooks(
        table="nih.csv", collection="nih", title="NIH ChestX-ray14", rule="rows count together",
        positive=("Pneumonia",), negative=("No Finding",), uncertain="ignore", rows=3, used=2,
        rows_without_image=1, rows_of_several_images=0, repeated=0, images=2,
        labelled={"NORMAL": 1, "PNEUMONIA": 1}, without_row=0, without_label={},
        findings={"Pneumonia": 1, "No Finding": 1}, uncertain_findings={},
    )  # fmt: skip
    path = work / "runs" / "abc" / "export" / "model_card.json"
    card = Card.read(path)
    for negative, words in (
        (("No Finding",), "Pneumonia against No Finding; films with other findings alone"),
        (("others",), "Pneumonia against every film without, whatever else it shows"),
    ):
        labels = books.model_copy(update={"negative": negative})
        data = card.data.model_copy(update={"labels": labels})
        changed = card.model_copy(update={"data": data}).write(path)
        text = rendering.card_text(changed)
        assert f"**What the model tells apart: {words}" in text
        assert "Uncertain findings: ignore. How several rows of a film were settled: rows" in text
        assert f"What the model tells apart: {words}" in _page(work)
