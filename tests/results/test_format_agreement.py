"""Formats on the test images: what is compared, the rule by which a file is published, and its verification."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from cxr.core.files import file_sha256, read_table, write_table
from cxr.models.selection import Selection
from cxr.models.training.records import Training
from cxr.results import exporting
from cxr.results.cards.model_card import Card
from cxr.results.evaluation.formats import agreement, records
from cxr.results.evaluation.formats.agreement import find_objection, measure_agreement
from cxr.results.evaluation.formats.files import digest, size
from cxr.results.evaluation.formats.pipeline import build_pipeline
from cxr.results.evaluation.formats.records import Format, FormatTest
from cxr.results.verify.checks import _checksum_problems
from cxr.results.verify.format_checks import format_problems
from cxr.serving.registry import Registry

THRESHOLD = 0.5


def scored(images: int = 400) -> pd.DataFrame:
    """Return made-up test images, half of each class, a patient each; no score is near the threshold."""
    rng = np.random.default_rng(0)
    label = np.arange(images) % 2
    score = np.clip(rng.normal(0.3 + 0.4 * label, 0.15), 0.01, 0.99)
    score = np.where(np.abs(score - THRESHOLD) < 0.01, 0.52, score)
    names = [f"{number}.png" for number in range(images)]
    return pd.DataFrame({"image": names, "patient_id": names, "label": label, "score": score})


def judged(scores: pd.DataFrame, abstained: int) -> pd.DataFrame:
    status = np.where(np.arange(len(scores)) < abstained, "abstained", "scored")
    return pd.DataFrame({"image": scores["image"], "status": status})


def test_what_is_compared_is_each_score_each_decision_each_abstention():
    """Counts by hand; the order of the judgements does not matter; no abstention where nothing was judged."""
    scores = scored()
    other = scores.assign(score=scores["score"] + 5e-5, status="scored")
    other.loc[0, "status"] = "abstained"
    judgements = judged(scores, 2).iloc[::-1]
    found = measure_agreement(scores, judgements, other, THRESHOLD, "float32")
    assert found.largest_difference == pytest.approx(5e-5) and found.decisions_changed == 0
    assert found.abstentions_changed == 1 and found.comparison is None
    assert find_objection(found) == "1 of 400 abstentions differ"
    without = measure_agreement(scores, None, other, THRESHOLD, "float32")
    assert without.abstentions_changed == 1
    other = scores.assign(status="scored")
    flipped = other["score"].idxmax()
    other.loc[flipped, "score"] = THRESHOLD - 1e-9
    found = measure_agreement(scores, None, other, THRESHOLD, "float32")
    assert found.decisions_changed == 1
    assert "scores differ by up to 0.4" in find_objection(found)
    assert "1 of 400 decisions differ" in find_objection(found)


def test_a_score_at_the_threshold_is_positive_on_both_sides_without_tolerance():
    """Equal at the threshold: no change; a rounding error below it: one decision, and the distance is told."""
    scores = scored()
    scores.loc[0, "score"] = THRESHOLD
    same = measure_agreement(scores, None, scores.assign(status="scored"), THRESHOLD, "float32")
    assert same.decisions_changed == 0 and same.nearest_threshold == 0 and not find_objection(same)
    below = scores.assign(status="scored")
    below.loc[0, "score"] = np.nextafter(THRESHOLD, 0)
    assert measure_agreement(scores, None, below, THRESHOLD, "float32").decisions_changed == 1


def test_reduced_precision_is_published_where_it_is_shown_not_to_be_inferior():
    """400 images: noise of 1e-3 passes; five newly missed of 200 do not (SciPy's Wilson interval); 20 images show nothing."""
    scores = scored()
    noise = np.random.default_rng(1).normal(0, 1e-3, 400).clip(-4e-3, 4e-3)
    close = scores.assign(score=scores["score"] + noise, status="scored")
    found = measure_agreement(scores, None, close, THRESHOLD, "float16")
    assert found.decisions_changed == 0 and not find_objection(found)
    missed = close.copy()
    positive = scores.index[(scores["label"] == 1) & (scores["score"] > THRESHOLD)][:5]
    missed.loc[positive, "score"] = 0.499
    found = measure_agreement(scores, None, missed, THRESHOLD, "int8")
    high = binomtest(5, 200).proportion_ci(method="wilson").high
    assert found.comparison.newly_missed.high == pytest.approx(high)
    objection = find_objection(found)
    assert f"PNEUMONIA images newly missed: up to {high:.1%} of 200" in objection
    abstaining = measure_agreement(scores, judged(scores, 40), close, THRESHOLD, "int8")
    assert "images of which the abstention changes" in find_objection(abstaining)
    few = measure_agreement(scores[:20], None, close[:20], THRESHOLD, "float16")
    assert "images newly missed: up to 27.8% of 10" in find_objection(few)


def test_a_worse_ranking_is_inferior_whatever_its_decisions_are():
    """Scores above the threshold in reverse order: the AUROC's interval is below the margin."""
    scores = scored()
    upper = scores["score"] >= THRESHOLD
    reversed_scores = scores["score"].where(~upper, THRESHOLD + 1 - scores["score"])
    reversed_scores = reversed_scores.clip(upper=0.99)
    found = measure_agreement(
        scores, None, scores.assign(score=reversed_scores, status="scored"), THRESHOLD, "int8"
    )
    assert found.decisions_changed == 0 and found.comparison.auroc.low < -agreement.AUROC_MARGIN
    assert "the 95 % interval of the AUROC's difference begins at -0.0" in find_objection(found)


@pytest.fixture
def run(finished_work):
    """A finished run with a made-up ONNX file and a SavedModel that answer as the model does, but for rounding."""
    run = finished_work / "runs" / "abc"
    export = run / "export"
    training = Training.read(run / Selection.read(run / "selection.json").name / "training.json")
    scores = read_table(run / "scores_test.csv")
    (export / "model.onnx").write_bytes(b"not a network")
    (export / "saved_model" / "variables").mkdir(parents=True)
    (export / "saved_model" / "saved_model.pb").write_bytes(b"not a graph")
    (export / "saved_model" / "variables" / "variables.index").write_bytes(b"no variables")
    raw = scores["raw_score"] * (1 - 1e-9)
    answers = [
        pd.DataFrame(
            {
                "file": file,
                "image": scores["image"],
                "raw_score": raw,
                "score": training.calibration.apply(raw.to_numpy()),
                "status": "scored",
            }
        )
        for file in ("model.onnx", "saved_model")
    ]
    write_table(pd.concat(answers), run / records.SCORES_NAME)
    table = read_table(run / records.SCORES_NAME)
    formats = [
        Format(
            name=name,
            precision="float32",
            file=file,
            published=True,
            sha256=digest(export / file),
            bytes=size(export / file),
            runtime="a runtime 1.0",
            agreement=measure_agreement(
                scores, None, table[table["file"] == file], training.threshold, "float32"
            ),
        )
        for name, file in {"onnx": "model.onnx", "savedmodel": "saved_model"}.items()
    ]
    FormatTest(
        model_sha256=training.model_sha256,
        threshold=training.threshold,
        arrays_sha256="",
        scores_sha256=file_sha256(run / records.SCORES_NAME),
        formats=tuple(formats),
    ).write(run / records.NAME)
    card = Card.read(export / "model_card.json")
    build_pipeline(card.run, card.settings, training, None).write(export / "pipeline.json")
    exporting.write_card(run, card.settings, training, card.selection)
    exporting.write_checksums(export)
    return run


def problems(run) -> str:
    card = Card.read(run / "export" / "model_card.json")
    return "\n".join([*format_problems(run, card), *_checksum_problems(run)])


def edit(path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_an_edited_proof_and_a_file_that_was_not_proven_are_found(run):
    """Files, one of them in a folder; answers; figures; what decides beside the network; all else passes."""
    assert "model.onnx" not in problems(run) and "pipeline" not in problems(run)
    edit(run / "formats.json", lambda r: r["formats"][0]["agreement"].update(decisions_changed=3))
    assert "model.onnx: decisions_changed is 3, the scores give 0" in problems(run)
    edit(run / "export" / "pipeline.json", lambda record: record.update(threshold=0.9))
    assert "pipeline.json: threshold is 0.9" in problems(run)
    (run / "export" / "saved_model" / "variables" / "variables.index").write_bytes(b"others")
    assert "saved_model: is not the file that was proven" in problems(run)
    assert "saved_model/variables/variables.index changed since it was exported" in problems(run)
    table = read_table(run / records.SCORES_NAME)
    table.loc[0, ["raw_score", "score"]] += 0.3
    write_table(table, run / records.SCORES_NAME)
    found = problems(run)
    assert "scores_test_formats.csv is not the file that was measured" in found
    assert "score is not the calibrated raw_score" in found and "against the rule" in found


def test_a_registry_keeps_every_file_of_every_format(run, tmp_path):
    """A SavedModel is a folder of files: they are registered, and come back byte for byte."""
    export = run / "export"
    edit_card = Card.read(export / "model_card.json")
    edit_card.model_copy(update={"model_sha256": file_sha256(export / "model.keras")}).write(
        export / "model_card.json"
    )
    exporting.write_checksums(export)
    registry = Registry(str(tmp_path / "registry"))
    version = registry.register(export, "a test")
    assert {"saved_model/variables/variables.index", "model.onnx", "pipeline.json"} <= set(
        version.files
    )
    restored = registry.restore(version.name, tmp_path / "restored")
    for name in version.files:
        assert (restored / name).read_bytes() == (export / name).read_bytes(), name
