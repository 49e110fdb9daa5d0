"""`cxr verify`: a whole run passes; whatever is changed by hand is found."""

import json

import pytest
from scipy.special import expit, logit
from sklearn.metrics import average_precision_score, roc_auc_score

from cxr.core.errors import DataError
from cxr.core.files import read_table, write_table
from cxr.models.training import averaging
from cxr.models.training.records import Member
from cxr.results.evaluation import Evaluation
from cxr.results.verify.checks import verify_run
from cxr.results.verify.differences import count_misfits
from cxr.results.verify.member_checks import member_problems
from cxr.stats.metrics import compute_metrics
from tests.support.finished import trained


@pytest.fixture
def run(finished_work):
    return finished_work / "runs" / "abc"


def problems(run, table=None) -> str:
    return "\n".join(check.problem for check in verify_run(run, table))


def edit(path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_finished_run_passes_every_check(run):
    """Nothing was changed: no problem, from the run folder or from its export folder."""
    assert problems(run).strip() == "" == problems(run / "export").strip()


def test_a_confusion_matrix_that_does_not_fit_its_accuracy_is_found(run):
    """One false positive less, the accuracy as before."""
    edit(run / "evaluation.json", lambda found: found["test"].update(fp=found["test"]["fp"] - 1))
    assert "not 100 and 60" in problems(run)
    edit(run / "evaluation.json", lambda found: found["test"].update(tn=found["test"]["tn"] + 1))
    assert "accuracy is" in problems(run) and "fp is" in problems(run)


@pytest.mark.parametrize("figure", ["auroc", "sensitivity", "precision"])
def test_a_better_figure_than_the_scores_give_is_found(run, figure):
    """In the record of the test, and in the card."""
    edit(run / "evaluation.json", lambda found: found["test"].update({figure: 0.999}))
    assert f"{figure} is 0.999, the scores give" in problems(run)
    assert "its evaluation is not that of the run" in problems(run)


def test_an_interval_made_narrower_is_found(run):
    """The bootstrap is repeated with the same draws."""
    edit(run / "evaluation.json", lambda found: found["intervals"]["auroc"].update(low=0.99))
    assert "intervals auroc low is 0.99" in problems(run)


def test_a_difference_between_subgroups_that_is_left_out_or_edited_is_found(run):
    """The permutation tests are repeated with the same draws; a record without them is another's."""
    edit(run / "evaluation.json", lambda r: r["subgroup_tests"][-3].update(p=0.001))
    assert "subgroup_tests" in problems(run)
    edit(run / "evaluation.json", lambda r: r.update(subgroup_tests=None))
    assert "subgroup_tests is None" in problems(run)


def test_a_changed_score_a_changed_threshold_a_changed_choice_are_found(run):
    """scores_test.csv no longer has its digest; a threshold and a choice that the rules do not give."""
    table = read_table(run / "scores_test.csv")
    table.loc[0, "raw_score"] = 0.42
    write_table(table, run / "scores_test.csv")
    assert "not the file that was evaluated" in problems(
        run
    ) and "not the calibrated raw_score" in problems(run)
    name = json.loads((run / "selection.json").read_text())["name"]
    edit(run / name / "training.json", lambda found: found["operating_point"].update(threshold=0.1))
    assert "operating_point threshold is 0.1, the scores give 0" in problems(run)
    edit(run / "selection.json", lambda found: found.update(name="VGG16"))
    assert "name is VGG16, the scores give" in problems(run)


def test_an_edited_page_and_an_exported_file_that_changed_are_found(run):
    """MODEL_CARD.md, report.html and model.keras, each edited by one word."""
    for path in (run / "export" / "MODEL_CARD.md", run / "report.html"):
        path.write_text(path.read_text().replace("PNEUMONIA", "pneumonia", 1))
    (run / "export" / "model.keras").write_bytes(b"another model")
    found = problems(run)
    assert (
        "MODEL_CARD.md is not what" in found
        and "report.html is not what" in found
        and "model.keras changed" in found
    )


def test_a_table_that_quotes_the_run_is_checked(run, tmp_path):
    """A Markdown table as in the README: right as the card writes it, wrong by a digit, absent."""
    card = run / "export" / "MODEL_CARD.md"
    assert problems(run, card).strip() == ""
    wrong = tmp_path / "README.md"
    auroc = f"{Evaluation.read(run / 'evaluation.json').test['auroc']:.3f}"
    wrong.write_text(card.read_text().replace(f"| AUROC | {auroc} |", "| AUROC | 1.000 |"))
    assert "AUROC: 1.000" in problems(run, wrong)
    wrong.write_text("no table")
    assert "expected rows such as" in problems(run, wrong)


def test_what_is_no_finished_run_is_an_error(run, tmp_path):
    """An empty folder: what was expected is said; a file that is gone is a problem, not a crash."""
    with pytest.raises(DataError, match="expected a finished run"):
        verify_run(tmp_path)
    (run / "scores_test.csv").unlink()
    assert "cannot be checked" in problems(run)


def test_counts_that_fit_have_no_misfit():
    """Metrics of any scores fit their own counts."""
    table = [0, 1, 1, 0], [0.1, 0.9, 0.2, 0.6]
    import numpy as np

    assert count_misfits(compute_metrics(np.array(table[0]), np.array(table[1]), 0.5)) == []


@pytest.mark.parametrize(
    ("path", "change"),
    [
        (
            "export/model_card.json",
            lambda card: card["audit"]["floors"][0]["test"].update(auroc=0.4),
        ),
        ("export/model_card.json", lambda card: card["attention"].update(border_share=0.01)),
        (
            "export/model_card.json",
            lambda card: card["data"]["leakage"].update(near_pairs=0, removed=99),
        ),
        (
            "export/model_card.json",
            lambda card: card["operating_point"].update(words="chosen wisely"),
        ),
        (
            "export/model_card.json",
            lambda card: card["usefulness"]["curve"]["points"][9].update(gain_low=0.5),
        ),
        (
            "export/model_card.json",
            lambda card: card["usefulness"]["policies"][1].update(sensitivity=0.999),
        ),
        ("selection.json", lambda found: found["versus"][0].update(auroc_p=0.9)),
        ("selection.json", lambda found: found["stability"][0].update(mean=0.999)),
        (
            "MobileNetV2/training.json",
            lambda found: found["calibration_quality"].update(ece_after=0.001),
        ),
    ],
)
def test_any_figure_of_the_records_is_compared(run, path, change):
    """Baselines, saliency, leakage, words, p values, means, calibration: what the scores do not give is found."""
    before = json.loads((run / path).read_text())
    edit(run / path, change)
    assert json.loads((run / path).read_text()) != before and problems(run).strip()


def test_files_left_out_and_rows_left_out_are_found(run):
    """An emptied SHA256SUMS; a misclassified image taken out of scores_test.csv; a changed comparison.csv."""
    (run / "export" / "SHA256SUMS").write_text("")
    assert "model.keras is not listed" in problems(run)
    write_table(read_table(run / "scores_test.csv").iloc[1:], run / "scores_test.csv")
    assert "has not the images of test" in problems(run)
    (run / "comparison.csv").write_text(
        (run / "comparison.csv").read_text().replace("trained", "failed", 1)
    )
    assert "comparison.csv is not what the trainings give" in problems(run)


def test_a_run_passes_wherever_it_is_moved_and_whatever_its_work_folder_does(run, tmp_path):
    """The run keeps what its report tells of the data: other data in the work folder, or another place, change nothing."""
    (run.parent.parent / "rejects.csv").write_text("image,reason,detail\n")
    assert problems(run.rename(tmp_path / "elsewhere")).strip() == ""


def test_an_empty_table_is_a_problem_and_no_crash(run):
    """scores_val.csv without a byte: said, with the file's name."""
    (run / "MobileNetV2" / "scores_val.csv").write_text("")
    assert "expected a table with a line of column names" in problems(run)


def test_the_scores_of_an_ensemble_are_those_of_its_members(tmp_path):
    """From members.csv alone: another raw score, a better figure of a member, another model in its folder are found."""
    members = [trained(tmp_path, "VGG16", seed=1), trained(tmp_path, "DenseNet121", seed=2)]
    own = [read_table(tmp_path / one.name / "scores_val.csv") for one in members]
    logits = logit([table["raw_score"].to_numpy() for table in own])
    names = {one.name: logits[number] for number, one in enumerate(members)}
    folder = tmp_path / "ensemble"
    write_table(own[0][["image", "label"]].assign(**names), folder / averaging.MEMBERS)
    record = members[0].model_copy(
        update={
            "name": "ensemble",
            "members": tuple(
                Member(
                    training=one.name,
                    epoch=None,
                    auroc=roc_auc_score(table["label"], table["raw_score"]),
                    auprc=average_precision_score(table["label"], table["raw_score"]),
                    model_sha256=one.model_sha256,
                )
                for one, table in zip(members, own, strict=True)
            ),
        }
    )
    scores = own[0].assign(raw_score=expit(logits.mean(axis=0)))
    assert list(member_problems(tmp_path, record, scores)) == []
    assert list(member_problems(tmp_path, members[0], scores)) == [], "a single network has none"
    (problem,) = member_problems(tmp_path, record, own[0])
    assert problem == "raw_score is not the mean of the logits in members.csv"
    better = record.members[0].model_copy(update={"auroc": 0.999, "model_sha256": "another"})
    changed = record.model_copy(update={"members": (better, record.members[1])})
    figure, model = member_problems(tmp_path, changed, scores)
    assert figure.startswith("VGG16 auroc is 0.999, the scores give 0.9")
    assert model == "VGG16: it was made of another model than is in VGG16"
