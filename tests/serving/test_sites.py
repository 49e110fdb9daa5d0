"""A site: the promise of its threshold, and what is said of a model there."""

import itertools
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta
from sklearn.metrics import brier_score_loss, roc_auc_score

from cxr.core import __version__
from cxr.core.errors import DataError, ModelError, UsageError
from cxr.core.files import file_sha256, read_table, write_table
from cxr.core.settings import FileSettings, SiteSettings
from cxr.data.images.changes.stress_worlds import WORLDS
from cxr.data.manifest.columns import PAIR_COLUMNS, REJECT_COLUMNS
from cxr.data.phantoms import dataset
from cxr.results.cards.model_card import Card
from cxr.serving.prediction import batch_scoring
from cxr.serving.prediction.answers import Network
from cxr.serving.prediction.inputs import ImageToScore
from cxr.serving.sites import apply, card, prior, sample, scoring, verify
from cxr.serving.sites.measurement import Model, judge_sensitivity, measure
from cxr.serving.sites.promise import (
    CONFIDENCE,
    patients_needed,
    promise_threshold,
    promised_rank,
)
from cxr.serving.sites.records import (
    CARD,
    NAME,
    NOT_MEASURED,
    REFERENCE_SCORES,
    SCORES,
    WORLD_SCORES,
    Measurement,
    OperatingFigures,
    Site,
)
from cxr.stages import site_steps
from cxr.stats.calibration import Calibration
from cxr.stats.intervals import Interval
from cxr.storage.local import LocalStorage
from cxr.storage.workspace import shared_files, workspace
from tests.support import darkness
from tests.support.darkness import Darkness


def read_card_of(work: Path) -> Card:
    """Return the card of a finished run's export."""
    return Card.read(next(work.glob("runs/*/export/model_card.json")))


@pytest.mark.parametrize("patients", [59, 92, 93, 137, 400])
def test_the_rank_is_the_highest_that_keeps_the_promise(patients):
    """The share below an order statistic is a Beta variable: it stays below 5 % surely enough."""
    rank = promised_rank(patients, 0.95)
    assert beta.cdf(0.05, rank, patients - rank + 1) >= CONFIDENCE
    assert beta.cdf(0.05, rank + 1, patients - rank) < CONFIDENCE


def test_too_few_patients_are_told_how_many_more_it_needs():
    """58 patients promise nothing, 59 do; what fewer could promise, and the images, are said."""
    assert promised_rank(58, 0.95) == 0
    assert patients_needed(0.95) == 59
    labels = np.repeat([1, 0], [40, 60])
    scores = np.linspace(0.9, 0.1, 100)
    found = promise_threshold(labels, scores, np.arange(100).astype(str), 0.95)
    assert found.threshold is None
    assert found.patients_needed == 19
    assert found.images_needed == 48  # 19 of 40 in every 100
    assert found.attainable == pytest.approx(0.05 ** (1 / 40))
    assert "Too few: 40 patients" in found.sentence()


def test_a_patient_counts_by_the_lowest_of_their_scores():
    """All of a patient's PNEUMONIA images have to be called; NORMAL ones say nothing of that."""
    patients = np.array([*np.repeat(np.arange(60).astype(str), 2), *(["0"] * 3)])
    labels = np.array([1] * 120 + [0] * 3)
    scores = np.array([0.9, 0.5] * 60 + [0.01, 0.4, 0.45])
    found = promise_threshold(labels, scores, patients, 0.95)
    assert (found.patients, found.images, found.rank) == (60, 120, 1)
    assert found.threshold == pytest.approx(0.475)  # half-way to the next lower score


def test_the_promise_is_kept_as_often_as_it_says():
    """Over a thousand samples the threshold misses more than 5 % of patients in about 5 % of them."""
    rng = np.random.default_rng(0)
    patients = np.arange(160).astype(str)
    labels = np.repeat([1, 0], 80)
    kept = 0
    for _ in range(1_000):
        scores = rng.random(160)  # a share t of all patients is below the threshold t
        kept += promise_threshold(labels, scores, patients, 0.95).threshold <= 0.05
    assert 0.95 <= kept / 1_000 <= 0.995


@pytest.fixture(scope="module")
def tables() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Scores of a site of 120 patients, in stress worlds, and of the model's validation."""
    rng = np.random.default_rng(1)
    label = np.repeat([0, 1], [60, 80])
    raw = np.clip(rng.normal(0.3 + 0.4 * label, 0.15), 0.001, 0.999)
    patients = [f"p{number}" for number in range(60)] + [f"q{number // 2}" for number in range(80)]
    scores = pd.DataFrame(
        {
            "image": [f"{number}.png" for number in range(140)],
            "patient_id": patients,
            "etiology": "",
            "width": 64,
            "height": 64,
            "label": label,
            "raw_score": raw,
            "score": raw,
            "status": ["abstained" if number % 20 == 0 else "scored" for number in range(140)],
        }
    )
    worlds = scores[["image", "patient_id", "label"]].assign(clean=raw)
    for world in WORLDS:
        worlds[world] = np.clip(raw + rng.normal(0, 0.05, 140), 0, 1)
    reference = pd.DataFrame({"label": label, "score": raw, "patient": patients})
    return scores, worlds, reference


UNFITTED = Calibration(reason="", images=140, patients=100)
MODEL = Model(UNFITTED, 0.45, 80 / 140)


def site_of(tables, found: Measurement | None = None, **changes) -> Site:
    """Return the record of a site with these tables."""
    scores, worlds, reference = tables
    found = found or measure(scores, worlds, reference, MODEL, 0.9, None)
    fields = {
        "name": "north",
        "measured": datetime(2026, 1, 2, tzinfo=UTC),
        "version": __version__,
        "architecture": "MobileNetV2",
        "run": "abc",
        "model_sha256": "0" * 64,
        "model_calibration": MODEL.calibration,
        "model_threshold": MODEL.threshold,
        "model_prevalence": MODEL.prevalence,
        "promised": 0.9,
        "data": "there",
        "images": sample.count_by_class(scores),
        "patients": sample.count_patients(scores),
        "unmeasured": {"duplicate": 2},
        "seen": None,
        "asked_prevalence": None,
        "digests": {},
        "measurement": found,
    }
    return Site(**fields | changes)


@pytest.fixture(scope="module")
def site(tables) -> Site:
    """A measured site, without a folder."""
    return site_of(tables)


@pytest.fixture(scope="module")
def written(tables, site, tmp_path_factory) -> Path:
    """The folder of a site, as `cxr site` writes it; read only, see `folder`."""
    place = tmp_path_factory.mktemp("site")
    for name, table in zip((SCORES, WORLD_SCORES, REFERENCE_SCORES), tables, strict=True):
        write_table(table, place / name)
    record = site.model_copy(update={"digests": scoring.table_digests(place)})
    card.write_card(record, place)
    record.write(place / NAME)
    return place


@pytest.fixture
def folder(written, tmp_path) -> Path:
    """A copy of the folder of a site, which a test may damage."""
    return Path(shutil.copytree(written, tmp_path / "site"))


def test_figures_are_those_of_scikit_learn(tables, site):
    """AUROC and Brier score of the sample, and each interval holds its figure."""
    scores, _, _ = tables
    shipped = site.measurement.shipped
    assert shipped.figures["auroc"] == pytest.approx(
        roc_auc_score(scores["label"], scores["score"])
    )
    assert site.measurement.calibration_quality.brier_after == pytest.approx(
        brier_score_loss(scores["label"], scores["score"])
    )
    for name, interval in shipped.intervals.items():
        assert interval.low <= shipped.figures[name] <= interval.high, name


def test_a_site_has_the_threshold_of_the_rule_and_keeps_the_order(tables, site):
    """Every patient from the rule's rank on is found at the site's threshold, on the site's scores."""
    scores, _, _ = tables
    local = site.apply(scores["score"].to_numpy())
    assert (np.diff(local[np.argsort(scores["score"])]) >= 0).all()
    lowest = pd.Series(local)[scores["label"] == 1].groupby(scores["patient_id"]).min()
    assert (lowest < site.threshold).sum() == site.measurement.promise.rank - 1


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.96, 0.99, "held"), (0.7, 0.94, "not held"), (0.9, 0.97, "not known")],
)
def test_the_verdict_is_that_of_the_interval(low, high, verdict):
    """A promise is held or not where the whole interval says so, else it is said what would tell."""
    middle = (low + high) / 2
    interval = Interval(low=low, high=high, method="Wilson by patient", images=100, patients=90)
    found = OperatingFigures(
        threshold=0.5,
        figures={"n": 150, "sensitivity": middle},
        intervals={"sensitivity": interval},
    )
    said, words = judge_sensitivity(found, 0.95)
    assert said == verdict
    assert ("more labelled images" in words) == (verdict == "not known")


def test_another_mix_of_classes_alone_gives_no_new_calibration(tables):
    """Calibrated scores stay, whatever the sample's share of PNEUMONIA: that is no calibration."""
    rng = np.random.default_rng(5)
    scores, worlds, reference = tables
    score = rng.random(600)
    label = (rng.random(600) < score).astype(int)
    negatives = np.flatnonzero(label == 0)
    kept = np.sort(np.concatenate([np.flatnonzero(label == 1)[:80], negatives]))
    sampled = pd.DataFrame(
        {
            "image": [f"{number}.png" for number in kept],
            "patient_id": [f"p{number}" for number in kept],
            "etiology": "",
            "width": 64,
            "height": 64,
            "label": label[kept],
            "raw_score": score[kept],
            "score": score[kept],
        }
    )
    found = measure(sampled, worlds, reference, Model(UNFITTED, 0.5, 0.5), 0.9, None)
    assert found.calibration.method == "none"
    assert found.line.slope.low < 1 < found.line.slope.high
    assert found.line.intercept.low < 0 < found.line.intercept.high
    assert len(scores) == 140


def test_the_prevalence_is_corrected_on_request_alone(tables):
    """Scores like those on validation are corrected if asked; others, or untested ones, never."""
    scores, _, reference = tables

    def ask(wanted, reference, shown=scores):
        return prior.offer(shown, reference, 0.5, wanted, UNFITTED)

    assert ask(None, reference).shift == 0
    assert ask(0.1, reference).shift == pytest.approx(np.log(1 / 9))
    assert "Corrected from 0.500 to 0.1" in ask(0.1, reference).words
    untested = ask(0.1, None)
    assert untested.shift == 0 and untested.stands is None and "not corrected" in untested.words
    risen = scores.assign(score=scores["score"] ** 0.3)
    refuted = ask(0.1, reference, risen)
    assert refuted.shift == 0 and refuted.stands is False and "speaks against" in refuted.words


def test_images_out_of_scope_are_counted_and_the_others_measured_alone(tables, site):
    """All images have figures; those that a prediction answers have their own, at the site's threshold."""
    answered = site.measurement.answered
    assert site.measurement.abstained == 7
    assert answered.figures["n"] == 133
    assert answered.threshold == site.threshold
    assert site.measurement.local.figures["n"] == 140


def test_what_no_threshold_mends_is_said_first(tables, site):
    """Scores no better than chance, and many images out of scope, stand in sentence and card."""
    assert site.warnings() == ()
    shipped = site.measurement.shipped
    wide = shipped.intervals["auroc"].model_copy(update={"low": 0.4, "high": 0.7})
    unsure = shipped.model_copy(update={"intervals": shipped.intervals | {"auroc": wide}})
    changes = {"shipped": unsure, "abstained": 105}
    other = site_of(tables, site.measurement.model_copy(update=changes))
    assert "no better than chance" in other.warnings()[0]
    assert "abstains from 105 of these 140 images" in other.sentence()
    assert all(warning in card.card_text(other) for warning in other.warnings())


def test_a_site_is_verified_from_its_tables(written):
    """All figures are computed again; the record and the card are those that were written."""
    checks = verify.verify_site(written, "SITE")
    assert [check.problem for check in checks] == [""] * len(checks)


def test_a_changed_score_is_found(folder):
    """A score that was edited shows in the digest and in the calibration, a table that is gone too."""
    record = Site.read(folder / NAME)
    table = read_table(folder / SCORES)
    table["score"] = table["score"].mask(table.index == 139, "0.001")
    write_table(table, folder / SCORES)
    (folder / REFERENCE_SCORES).unlink()
    assert list(verify.digest_problems(record, folder)) == [
        f"{REFERENCE_SCORES} is missing",
        f"{SCORES} changed since the site was measured",
    ]
    (problem,) = verify.score_problems(record, folder)
    assert "not the calibrated raw_score" in problem


def test_a_changed_card_is_found(folder):
    """SITE_CARD.md says what the record says, and nothing else."""
    path = folder / CARD
    path.write_text(path.read_text().replace("PNEUMONIA", "pneumonia", 1))
    (problem,) = verify.card_problems(Site.read(folder / NAME), folder)
    assert CARD in problem


def test_another_model_s_site_is_refused(folder, finished_once):
    """The site names its model; a prediction with another one stops and says both."""
    other = read_card_of(finished_once)
    with pytest.raises(ModelError, match="was measured with another model"):
        apply.load_site(str(folder), other)
    own = other.model_copy(update={"model_sha256": "0" * 64})
    assert apply.load_site(str(folder), own).name == "north"
    assert apply.load_site(str(folder / NAME), own).name == "north"
    assert apply.load_site("", other) is None


def test_what_is_no_site_is_refused(tmp_path, folder, finished_once):
    """A folder without site.json, a record of a newer version and a torn one each have a sentence."""
    other = read_card_of(finished_once)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ModelError, match="that `cxr site` wrote"):
        apply.load_site(str(empty), other)
    path = folder / NAME
    text = path.read_text()
    path.write_text(text.replace('"schema_version": 3', '"schema_version": 99'))
    with pytest.raises(DataError, match="schema version 99"):
        apply.load_site(str(folder), other)
    path.write_text(text[:400])
    with pytest.raises(DataError, match="damaged"):
        apply.load_site(str(folder), other)


def rows_of(labels: list[int], patients: list[str]) -> pd.DataFrame:
    """Return rows of a manifest with these labels and patients."""
    count = len(labels)
    return pd.DataFrame(
        {
            "image": [f"{number}.png" for number in range(count)],
            "label": labels,
            "patient_id": patients,
            "pixel_sha256": [f"{number:064d}" for number in range(count)],
            "source_split": "",
        }
    )


NO_PAIRS = pd.DataFrame(columns=PAIR_COLUMNS)
NO_REJECTS = pd.DataFrame(columns=REJECT_COLUMNS)


@pytest.mark.parametrize(
    ("labels", "patients", "found"),
    [
        ([1] * 40, [""] * 40, "0 NORMAL images of 0 patients"),
        ([0] * 5 + [1] * 5, [""] * 10, "5 NORMAL images of 5 patients, 5 PNEUMONIA"),
        ([0] * 50 + [1] * 50, ["one"] * 100, "say with --patient-key whose they are"),
    ],
    ids=["one class", "ten images", "one patient"],
)
def test_a_sample_that_says_nothing_is_refused(labels, patients, found):
    """One class, ten images, all one patient: what was expected, what was found, what to do."""
    chosen = sample.choose_images(rows_of(labels, patients), NO_PAIRS, NO_REJECTS, None)
    with pytest.raises(DataError, match="expected at least 10 patients of each class") as error:
        sample.require_enough(chosen, "DATA")
    assert found in str(error.value)


def test_what_the_model_knows_and_copies_are_set_aside_by_name():
    """Images of the training, and the second of two near-duplicates, are listed, not measured."""
    rows = rows_of([0, 0, 1, 1], ["a", "b", "c", "d"])
    pair = {"image_a": "1.png", "image_b": "3.png", "variant": "same", "distance": 0}
    pairs = pd.DataFrame([pair | {"correlation": 1.0}])
    pairs.loc[1] = ["2.png", "0.png", "same", 0, 1.0]
    rejects = pd.DataFrame([["broken.png", "truncated", "ends early"]], columns=REJECT_COLUMNS)
    seen = np.array([True, False, False, False])
    rows["label"] = [0, 1, 1, 1]
    chosen = sample.choose_images(rows, pairs, rejects, seen)
    assert list(chosen.rows["image"]) == ["1.png", "2.png"]
    assert dict(zip(chosen.unmeasured["image"], chosen.unmeasured["reason"], strict=True)) == {
        "0.png": sample.SEEN,
        "3.png": "near_duplicate",
        "broken.png": "truncated",
    }
    assert chosen.seen == 1


def test_images_of_the_training_are_found_by_the_work_folder(finished_once, tmp_path):
    """The manifest three folders above an export tells; one that the card does not name does not."""
    work = tmp_path / "work"
    export = work / "runs" / "r" / "export"
    export.mkdir(parents=True)
    manifest = rows_of([0, 1], ["a", "b"]).assign(split=["train", "test"])
    write_table(manifest, work / "clean_metadata.csv")
    known = read_card_of(finished_once)
    data = known.data.model_copy(
        update={"manifest_sha256": file_sha256(work / "clean_metadata.csv")}
    )
    rows = rows_of([0, 1], ["x", "y"])
    own = known.model_copy(update={"data": data})
    seen = sample.find_seen(str(export), export, own, rows, "person")
    assert seen.tolist() == [True, False]
    assert sample.find_seen(str(export), export, known, rows, "person") is None


def test_a_prediction_uses_the_threshold_and_calibration_of_the_site(phantoms, finished_once, site):
    """Scores are the site's, the threshold in the table is its own, and predictions follow it."""
    storage = LocalStorage(phantoms)
    keys = sorted(entry.key for entry in storage.list("test/NORMAL"))
    wanted = [ImageToScore(storage, key, None, key) for key in keys]
    own = read_card_of(finished_once)

    def rows(place: Site | None) -> pd.DataFrame:
        shown = apply.localise_card(own, place)
        batches = batch_scoring.score_images(
            Network(Darkness(), shown, place), wanted, FileSettings()
        )
        table = pd.DataFrame(list(itertools.chain.from_iterable(batches)))
        return table[table["status"] == "scored"]

    shipped = rows(None)
    local = rows(site)
    assert np.allclose(local["score"], site.apply(shipped["score"].to_numpy()))
    assert set(local["threshold"]) == {site.threshold}
    assert list(local["prediction"] == "PNEUMONIA") == list(local["score"] >= site.threshold)
    assert "measured 2026-01-02 on 140 images" in apply.describe_use(site)


@pytest.mark.slow
def test_a_site_on_s3_is_found_and_verified(written, finished_once, moto_bucket):
    """It is published with its record last, and read back for a prediction and for verify."""
    address = f"{moto_bucket.uri}/sites/north"
    with workspace.open_workspace(address) as place:
        shutil.copytree(written, place, dirs_exist_ok=True)
    own = read_card_of(finished_once).model_copy(update={"model_sha256": "0" * 64})
    assert apply.load_site(address, own) == Site.read(written / NAME)
    checks = verify.verify_site(workspace.fetch_folder(address), address)
    assert [check.problem for check in checks] == [""] * len(checks)
    assert shared_files.in_publishing_order(["site.json", "a.csv", "z.csv"])[-1] == "site.json"


def test_a_refused_sample_leaves_no_folder(finished_once, tmp_path):
    """A folder that was there stays, with what is in it."""
    data = tmp_path / "data"
    dataset.make_dataset(data, images=20, size=64, seed=3, broken=False)
    export = finished_once / "runs" / "abc" / "export"
    here = tmp_path / "south"
    here.mkdir()
    (here / "notes.txt").write_text("of ours")
    for out in (tmp_path / "north", here):
        with pytest.raises(DataError, match="too few to measure"):
            site_steps.measure_site(str(export), str(data), str(out))
    assert not (tmp_path / "north").exists()
    assert (here / "notes.txt").read_text() == "of ours"


@pytest.mark.slow
def test_a_site_is_measured_from_a_folder_of_images(finished_work, tmp_path, monkeypatch):
    """From labelled folders to site.json: counts add up, the tables verify, the model is as it was."""
    darkness.install(monkeypatch)
    data = tmp_path / "data"
    dataset.make_dataset(data, images=90, size=96, seed=3)
    export = next((finished_work / "runs").iterdir()) / "export"
    before = file_sha256(export / "model.keras")
    out = tmp_path / "sites" / "north"
    seen_by = []
    found = site_steps.measure_site(
        str(export),
        str(data),
        str(out),
        settings=SiteSettings(min_sensitivity=0.8),
        on_progress=lambda *step: seen_by.append(step),
    )
    assert found.name == "north"
    listed = len(read_table(out / NOT_MEASURED))
    assert sum(found.images.values()) + listed == len([p for p in data.rglob("*") if p.is_file()])
    assert sum(found.unmeasured.values()) == listed
    assert file_sha256(export / "model.keras") == before
    assert not [check for check in verify.verify_site(out, "north") if check.problem]
    assert {step[0] for step in seen_by} == {"inspect images", "score images"}
    assert not list(out.glob(".sample*"))
    with pytest.raises(UsageError, match="lies in"):
        site_steps.measure_site(str(export), str(data), str(data / "sites"))
