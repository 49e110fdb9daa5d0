"""The stress test of a run: in the report, the card and the check of a run; runs of before that have none."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.core.files import read_table, write_table
from cxr.core.formatting import format_metric
from cxr.data.images.changes.masks import CENTRE_HIDDEN, MASKS
from cxr.data.images.changes.stress_worlds import WORLDS
from cxr.results import evaluation, exporting
from cxr.results.cards import rendering
from cxr.results.cards.model_card import Card
from cxr.results.evaluation import StressTest, read_stress_test
from cxr.results.evaluation.robustness import SCORES_NAME
from cxr.results.evaluation.stress_plot import draw_stress
from cxr.results.evaluation.worlds_plot import draw_worlds
from cxr.results.report import page
from cxr.results.verify.checks import verify_run


@pytest.fixture
def run(finished_work: Path) -> Path:
    """Return the folder of a finished run."""
    return finished_work / "runs" / "abc"


def problems(run: Path) -> str:
    """Return every problem of a run, one a line."""
    return "\n".join(check.problem for check in verify_run(run))


def edit(path: Path, change) -> None:
    """Change the content of a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def measure_again(run: Path) -> StressTest:
    """Write robustness.json and the card again from scores_test_worlds.csv; return the record."""
    old = StressTest.read(run / "robustness.json")
    card = Card.read(run / "export" / "model_card.json")
    table = read_table(run / SCORES_NAME)
    measured = evaluation.stress_metrics(table, card.calibration, card.threshold)
    new = old.model_copy(update=measured).write(run / "robustness.json")
    card.model_copy(update={"robustness": new}).write(run / "export" / "model_card.json")
    return new


def forget(run: Path) -> None:
    """Make a run one of a version that scored no test images in stress worlds."""
    (run / "robustness.json").unlink()
    (run / SCORES_NAME).unlink()
    card = Card.read(run / "export" / "model_card.json")
    forgotten = {"robustness": None, "version": "0.1.0"}
    card.model_copy(update=forgotten).write(run / "export" / "model_card.json")
    exporting.write_checksums(run / "export")


def change_numbers(content: dict) -> None:
    """Change one number of each part of robustness.json, and the warning."""
    content["worlds"]["worlds"][11].update(specificity=0.999)
    content["worlds"]["clean"]["auroc_interval"].update(low=0.9999)
    content["masks"][0].update(auroc=0.123)
    content.update(fewest_patients=3, warning="nothing")


def test_changed_numbers_are_found(run: Path):
    """In a world, of clean images, behind a mask, of patients, and the warning; the card has others, too."""
    edit(run / "robustness.json", change_numbers)
    found = problems(run)
    for sentence in (
        "specificity is 0.999, the scores give",
        "low is 0.9999, the scores give",
        "auroc is 0.123, the scores give",
        "fewest_patients is 3",
        "warning is nothing",
        "its robustness is not that of the run",
    ):
        assert sentence in found


def test_changed_scores_are_found(run: Path):
    """A score of a world, by its digest and what comes of it; clean scores that are not those of the test."""
    table = read_table(run / SCORES_NAME)
    table.loc[:30, "noisy"] = "0.5"
    table.loc[0, "clean"] = "0.123"
    write_table(table, run / SCORES_NAME)
    found = problems(run)
    assert "is not the file that was measured" in found
    assert "clean scores of scores_test_worlds.csv are not those of scores_test.csv" in found
    assert "auroc is" in found
    table.loc[0, "image"] = "of another run.png"
    write_table(table, run / SCORES_NAME)
    assert "has images that are not in scores_test.csv" in problems(run)


def test_a_record_that_is_gone_is_missed(run: Path):
    """A run of this version has one: taking it away hides nothing."""
    (run / "robustness.json").unlink()
    found = problems(run)
    assert "robustness.json is missing" in found
    assert "its robustness is not that of the run" in found


def test_a_run_of_before_is_verified_and_reported(run: Path):
    """Without worlds no problem but a note; report and card say that they were not measured."""
    forget(run)
    checks = verify_run(run)
    assert [check.problem for check in checks if check.problem] == []
    stress_check = next(check for check in checks if "stress worlds" in check.what)
    assert stress_check.note.startswith("not measured by cxr 0.1.0")
    text = page.report_page(run)
    section = text[text.index('<h2 id="robustness">') : text.index('<h2 id="training">')]
    assert "Not measured" in section
    card = Card.read(run / "export" / "model_card.json")
    assert card.robustness is None
    assert "Not measured" in rendering.card_text(card)


def test_the_report_has_every_world_and_mask_beside_the_baselines(run: Path):
    """AUROC, sensitivity, specificity with intervals; the worst is marked; validation stands beside it."""
    card = Card.read(run / "export" / "model_card.json")
    stress_test = read_stress_test(run)
    assert card.robustness == stress_test
    text = page.report_page(run)
    section = text[text.index('<h2 id="robustness">') : text.index('<h2 id="training">')]
    for world in (stress_test.worlds.clean, *stress_test.worlds.worlds):
        row = section[section.index(f'<th scope="row">{world.world}') :]
        row = row[: row.index("</tr>")]
        for value in (world.auroc, world.sensitivity, world.specificity):
            assert format_metric(value) in row
        assert format_metric(world.auroc_interval.low) in row
        assert ("worst" in row) == (world == stress_test.worlds.worst)
    for mask in stress_test.masks:
        assert f"{card.architecture}: {mask.mask}</th>" in section
        assert format_metric(mask.auroc) in section
    for baseline in card.audit.baselines():
        assert f"Baseline: {baseline.signal}" in section
    assert "Nothing to warn of" in section
    assert "AUROC on validation" in section
    assert stress_test.summary() in rendering.card_text(card)


def test_a_network_that_reads_the_border_is_named_in_report_and_card(run: Path):
    """Scores that follow the label with the centre hidden: at the top of the report, in its section, in the card."""
    table = read_table(run / SCORES_NAME)
    table[CENTRE_HIDDEN] = np.where(table["label"] == 1, 0.9, 0.1)
    write_table(table, run / SCORES_NAME)
    stress_test = measure_again(run)
    assert "it still has AUROC 1.000 (interval from 1.000" in stress_test.warning
    text = page.report_page(run)
    assert text.count("uses what is no lung") == 2
    assert text.index("<strong>Shortcut.</strong>") < text.index('<h2 id="validity">')
    card = Card.read(run / "export" / "model_card.json")
    assert f"**{stress_test.warning}.**" in rendering.card_text(card)


def test_too_few_patients_are_not_judged(run: Path):
    """Two patients of a class: no warning whatever the scores, and the report says why."""
    table = read_table(run / SCORES_NAME)
    table[CENTRE_HIDDEN] = np.where(table["label"] == 1, 0.9, 0.1)
    table["patient_id"] = np.where(table["label"] == 1, table["patient_id"], "one")
    write_table(table, run / SCORES_NAME)
    stress_test = measure_again(run)
    assert (stress_test.fewest_patients, stress_test.warning) == (1, "")
    assert "Not judged: a class has 1 patients, and the rule needs 10" in page.report_page(run)


def test_the_figure_has_a_row_for_each_world_clean_on_top(run: Path):
    """Both metrics on one scale, which holds every interval."""
    measured = read_stress_test(run).worlds
    left, right = draw_stress(measured).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["clean", *WORLDS]
    heights = left.get_yticks()
    assert (np.diff(heights) > 0).all()
    assert left.get_ylim()[0] > left.get_ylim()[1]  # the first row is the upper one
    assert left.get_xlim() == right.get_xlim()
    lowest = min(world.specificity_interval.low for world in measured.worlds)
    assert right.get_xlim()[0] < lowest


def test_worlds_and_masks_are_drawn_on_the_image_in_the_middle_of_each_class(tmp_path: Path):
    """Two PNG files that a report can carry, and the images are chosen by their scores."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (10, 32, 32)).astype(np.uint8)
    rows = pd.DataFrame({"label": [0] * 5 + [1] * 5, "pixel_sha256": [f"{n}" for n in range(10)]})
    taken: list[int] = []

    class Counted:
        shape = pixels.shape

        def __getitem__(self, position):
            taken.append(int(position))
            return pixels[position]

    scores = np.array([0.1, 0.5, 0.3, 0.2, 0.4, 0.9, 0.6, 0.8, 0.7, 1.0])
    paths = draw_worlds(Counted(), rows, scores, tmp_path)
    assert [path.name for path in paths] == ["worlds.png", "masks.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    assert all(path.stat().st_size < 700_000 for path in paths)
    assert taken == [2, 7]
    assert len(MASKS) == 4
