"""Predictions of a model with a scope: what is abstained from, what is handed on, and a model without one."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.core.errors import ModelError
from cxr.core.settings import FileSettings, ScopeSettings
from cxr.models.compute import worker
from cxr.models.scope import Scope, ScopeReference, neighbours, properties, write_scope
from cxr.models.scope.reference import measure_images
from cxr.results.cards.model_card import Card
from cxr.serving.prediction import publishing
from cxr.serving.prediction.answers import Network, find_limits
from cxr.serving.prediction.batch_scoring import PredictionJob
from cxr.serving.prediction.decoding import Film, Reject
from cxr.serving.prediction.predictions import Predictions
from cxr.serving.prediction.rows import (
    MEASURED_COLUMNS,
    read_measurements,
    rejected_row,
    scored_row,
    write_tables,
)

CUT = 6
WIDTH = 46
SIDE = 64


class Opened:
    """A network whose features are the first pixels of an image, and whose score is its mean gray."""

    def predict_on_batch(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Return features (n, d) and scores (n, 1)."""
        flat = pixels.reshape(len(pixels), -1).astype(np.float32)
        return [flat[:, :WIDTH], flat.mean(axis=1, keepdims=True) / 255]


def images(count: int, seed: int, low: int = 100, high: int = 140) -> np.ndarray:
    """Made-up images, uint8 (n, side, side)."""
    rng = np.random.default_rng(seed)
    return rng.integers(low, high, (count, SIDE, SIDE), dtype=np.uint8)


def learned_scope(sha256: str) -> Scope:
    """The scope of images of middle grays: 150 of train, 120 of validation, of a patient each."""

    def features(pixels: np.ndarray) -> np.ndarray:
        return pixels.reshape(len(pixels), -1)[:, :WIDTH].astype(np.float32)

    train = images(150, 1)
    val = images(120, 2)
    learned = neighbours.learn_neighbours(features(train), CUT)
    film = properties.typical_film(properties.film_cells(train))
    measured = measure_images(learned, film, features(val), val)
    rows = pd.DataFrame(
        {"score": val.mean(axis=(1, 2)) / 255, "label": np.arange(120) % 2, "patient": range(120)}
    )
    record = ScopeReference(
        model_sha256=sha256, train_images=150, train_patients=150, val_images=120, val_patients=120
    )
    return Scope(record, pd.concat([rows, measured], axis=1), learned, film)


@pytest.fixture(scope="module")
def export(finished_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export folder with a scope."""
    folder = tmp_path_factory.mktemp("scope") / "export"
    shutil.copytree(next((finished_once / "runs").iterdir()) / "export", folder)
    write_scope(folder, learned_scope(Card.read_from(folder).model_sha256))
    return folder


def answers(export: Path, settings: ScopeSettings) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of three images like those of training and one that is not, and what was measured."""
    card = Card.read_from(export)
    limits = find_limits(export, card, settings, None)
    network = Network(Opened(), card, None, limits)
    films = [Film(image) for image in [*images(3, 3), *images(1, 4, 0, 255)]]
    films[2] = films[2]._replace(instance="hidden", device="Agfa DX-D")
    rows = network.answer(["a", "b", "c", "strange"], films, 8)
    return rows, limits.measurements if limits else []


def test_an_image_out_of_scope_keeps_its_score_and_has_no_prediction(export: Path, tmp_path: Path):
    """Its row says abstained and why, with its p; the others are scored, with theirs."""
    rows, _ = answers(export, ScopeSettings())
    write_tables(
        [rows], [("z.txt", "not_an_image", "text")], Card.read_from(export), tmp_path / "p.csv"
    )
    table = pd.read_csv(tmp_path / "p.csv", keep_default_na=False).set_index("image")
    assert list(table["status"]) == ["scored", "scored", "scored", "abstained", "rejected"]
    strange = table.loc["strange"]
    assert strange["prediction"] == "" and 0 < float(strange["score"]) < 1
    assert strange["reason"].endswith("p = 0.008, the smallest that 120 patients allow")
    assert float(strange["scope_p"]) == pytest.approx(1 / 121)
    assert (table.loc[["a", "b", "c"], "prediction"] != "").all()
    assert (table.loc[["a", "b", "c"], "scope_p"].astype(float) > 0.01).all()
    assert table.loc["z.txt", "scope_p"] == "" and table.loc["c", "instance"] == "hidden"


def test_too_few_patients_for_the_rate_are_told(export: Path, caplog: pytest.LogCaptureFixture):
    """120 validation patients cannot hold a rate of 0.1 %: a person is told what that means."""
    find_limits(export, Card.read_from(export), ScopeSettings(), None)
    assert not caplog.records
    find_limits(export, Card.read_from(export), ScopeSettings(scope_rate=0.001), None)
    assert "120 validation patients allow no p below 0.008" in caplog.text


def test_a_rate_of_0_lets_every_image_be_predicted(export: Path):
    """The p-value is still told."""
    rows, _ = answers(export, ScopeSettings(scope_rate=0))
    assert {row["status"] for row in rows} == {"scored"}
    assert min(row["scope_p"] for row in rows) == pytest.approx(1 / 121)


def test_measurements_are_handed_on(export: Path, tmp_path: Path):
    """A row for each image with a score, in their order: what was measured, the device and the day."""
    rows, names = answers(export, ScopeSettings())
    card = Card.read_from(export)
    write_tables([rows[:1], rows[1:]], [], card, tmp_path / "p.csv", tmp_path / "m.csv", names)
    measured = read_measurements(tmp_path / "m.csv")
    assert list(measured) == [*MEASURED_COLUMNS, *names]
    assert list(measured["image"]) == ["a", "b", "c", "strange"]
    assert list(measured["device"]) == ["", "", "Agfa DX-D", ""]
    assert pd.to_datetime(measured["day"]).notna().all()
    assert {str(measured[name].dtype) for name in ["score", "scope_p", *names]} == {"float64"}
    assert measured["features"].idxmax() == 3
    assert {"c0", "sharpness", "upright"} <= set(names)


def test_tables_are_the_same_in_parts(export: Path, tmp_path: Path, monkeypatch):
    """Few rows are in memory at a time, and not one byte is another."""
    made, names = answers(export, ScopeSettings())
    made.append(rejected_row("torn", Reject("truncated", "ends early"), Card.read_from(export)))
    written = []
    for part_rows in (1, 5_000):
        monkeypatch.setattr("cxr.serving.prediction.rows.PART_ROWS", part_rows)
        paths = [tmp_path / f"{name}-{part_rows}.csv" for name in ("p", "m")]
        batches = [made[:2], [], made[2:]]
        rejects = [("a.txt", "not_an_image", "text")]
        write_tables(batches, rejects, Card.read_from(export), paths[0], paths[1], names)
        written.append([path.read_bytes() for path in paths])
    assert written[0] == written[1]
    assert [len(data.splitlines()) for data in written[0]] == [1 + 6, 1 + 4]


def test_a_rate_that_an_export_cannot_use_is_told(
    finished_once: Path, tmp_path: Path, monkeypatch, caplog
):
    """An earlier version's has no scope: one line in the log, and predictions.json has it; not by default."""
    monkeypatch.setattr(worker, "run_job", score_all)
    path = tmp_path / "films" / "a.png"
    path.parent.mkdir()
    Image.fromarray(images(1, 0)[0]).save(path)
    export = str(finished_once / "runs" / "abc" / "export")
    for scope, lines in ((ScopeSettings(scope_rate=0.05), 1), (ScopeSettings(), 0)):
        caplog.clear()
        found = publishing.predict(
            export,
            [str(path)],
            str(tmp_path / "p.csv"),
            lambda *_: None,
            FileSettings(),
            scope=scope,
        )
        told = [text for text in caplog.messages if "--scope-rate 0.05 is not used" in text]
        assert len(told) == lines
        assert Predictions.read(tmp_path / "p.json").unused == found.unused == "".join(told)


def score_all(job: PredictionJob, *_: Any) -> None:
    """Stand in for the worker: every image has the same score, and nothing is measured."""
    card = Card.read_from(job.export)
    scored = [scored_row(name, 0.75, card) for _, _, _, name in job.to_score]
    write_tables([scored], job.rejects, card, job.out, job.measurements)


def test_a_coverage_abstains_where_no_one_label_fits(export: Path):
    """Scores say nothing here, so both labels fit, or neither; what is out of scope is said first."""
    rows, _ = answers(export, ScopeSettings(coverage=0.9))
    kinds = [row["reason"].partition(":")[0] for row in rows]
    assert set(kinds[:3]) <= {"ambiguous", "unlike both classes"}
    assert kinds[3] not in {"", "ambiguous", "unlike both classes"}


def test_a_model_without_a_scope_predicts_as_before(finished_once: Path):
    """Nothing is abstained from and no p is told; a coverage, which needs the scope, is refused."""
    earlier = next((finished_once / "runs").iterdir()) / "export"
    card = Card.read_from(earlier)
    assert find_limits(earlier, card, ScopeSettings(), None) is None
    with pytest.raises(ModelError, match="export it again, or leave --coverage out"):
        find_limits(earlier, card, ScopeSettings(coverage=0.9), None)


def test_the_scope_of_another_model_is_refused(export: Path, tmp_path: Path):
    """What one model was made for says nothing of another."""
    other = shutil.copytree(export, tmp_path / "other")
    write_scope(other, learned_scope("f" * 64))
    with pytest.raises(ModelError, match="scope is that of another model"):
        find_limits(other, Card.read_from(other), ScopeSettings(), None)
