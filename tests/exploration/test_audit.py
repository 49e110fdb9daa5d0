"""The non-clinical baselines find what gives the classes away, and are never made up."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.core.files import read_table
from cxr.core.settings import LABEL_NAMES
from cxr.data.images import model_input
from cxr.data.images.decoding import decoder
from cxr.data.patients.splits import sample_patients
from cxr.exploration import audit, baselines, geometry
from cxr.exploration.figures import audit_plot
from tests.conftest import ROOT, preprocess

SIDE = 32
ORIGINALS = ROOT.parent / "shared" / "data" / "full_resolution_sample"


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch: pytest.MonkeyPatch):
    """A fifth of the bootstrap draws: intervals are compared with wide margins here."""
    monkeypatch.setattr(baselines, "DRAWS", 200)


def data(
    train: int = 60, test: int = 30, seed: int = 0, **changed: object
) -> tuple[pd.DataFrame, np.ndarray]:
    """Two images a patient, both classes alike in every file's container; pixels of noise around gray."""
    rng = np.random.default_rng(seed)
    groups = [
        (s, label, n)
        for s, count in (("train", train), ("test", test))
        for label in (0, 1)
        for n in range(count)
    ]
    rows = [
        {
            "image": f"{split}/{label}/{n}.jpeg", "label": label, "label_name": LABEL_NAMES[label],
            "split": "val" if split == "train" and n < 4 else split, "patient_id": f"{split}-{label}-{n // 2}",
            "width": int(rng.integers(90, 111)), "height": 80, "bytes": int(rng.integers(3000, 5000)), "mode": "L", "format": "JPEG",
            "icc": 0, "exif": 0, "quantisation": "071f0329",
        }
        for split, label, n in groups
    ]  # fmt: skip
    stack = rng.normal(128, 20, (len(rows), SIDE, SIDE)).clip(0, 255).astype(np.uint8)
    return pd.DataFrame(rows).assign(**changed), stack


def audited(table: pd.DataFrame, stack: np.ndarray, **keys: object) -> audit.Audit:
    return audit.run_audit(table, stack, "0" * 64, **({"harmonised": True} | keys))


def test_nothing_is_found_where_the_classes_are_alike():
    """Random bytes and noise: every AUROC is near 0.5 for 60 to 120 images, and nobody is warned."""
    record = audited(*data())
    assert record.warnings() == ()
    for baseline in record.baselines():
        for part in (baseline.train, baseline.test):
            assert 0.3 < part.auroc < 0.7
            assert part.interval.low < part.auroc < part.interval.high
    assert [baseline.signal for baseline in record.floors] == [
        "container",
        *(geometry.FILE_ASPECT, geometry.OUTSIDE_RATIO, geometry.WHOLE_RATIO, geometry.LOCAL_RATIO),
        "border ring",
        "32x32 thumbnail",
    ]


@pytest.mark.parametrize(
    "column", ["icc", "exif", "quantisation", "mode", "format", "width", "bytes"]
)
def test_a_container_that_gives_the_label_away_is_found_and_harmonising_takes_it_away(column: str):
    """Each thing a file says is enough alone; after uniform encoding only noise is left."""
    table, stack = data()
    told = {
        "quantisation": ["a", "b"],
        "mode": ["L", "RGB"],
        "format": ["JPEG", "PNG"],
        "width": [100, 140],
    }
    told |= {"bytes": [3000, 5000]}
    table[column] = [told.get(column, [0, 1])[label] for label in table["label"]]
    record = audited(table, stack)
    container = record.floors[0]
    assert container.train.auroc > 0.99
    assert container.test.auroc > 0.99
    assert record.container_after.test.interval.low < 0.5
    assert "AUROC 1.000" in record.warning
    assert f"at most {baselines.WARNING_LIMIT}" in record.warning


def test_the_warning_says_whether_networks_see_the_files():
    """Harmonised or not decides what a person has to do."""
    table, stack = data(icc=lambda rows: rows["label"])
    assert "fed uniformly encoded pixels" in audited(table, stack).warning
    assert "harmonise them" in audited(table, stack, harmonised=False).warning


def test_the_border_ring_sees_the_border_alone():
    """A bright corner is found by ring and thumbnail, a bright centre by the thumbnail alone."""
    for place, ring in ((slice(0, 3), True), (slice(12, 20), False)):
        table, stack = data()
        stack[table["label"] == 1, place, place] = 220
        *_, border, thumbnail = audited(table, stack).floors
        assert thumbnail.test.auroc > 0.95
        assert (border.test.auroc > 0.95) == ring
        assert ring or border.test.interval.low < 0.5


def test_a_patient_is_never_on_both_sides_of_a_fold():
    """Each patient's pictures are alike and say nothing of the class: 0.5 by patients, near 1 by images."""
    table, stack = data(120, 40, patient_id="")
    table["patient_id"] = [
        f"{split}-{n // 20}" for n, split in enumerate(table["split"].replace("val", "train"))
    ]
    table["label"] = (
        pd.factorize(table["patient_id"])[0] % 2
    )  # 12 patients of train, 6 of each class
    rng = np.random.default_rng(1)
    faces = rng.integers(60, 190, (table["patient_id"].nunique(), SIDE, SIDE))
    stack[:] = faces[pd.factorize(table["patient_id"])[0]] + rng.integers(0, 9, stack.shape)
    by_patient = audited(table, stack).floors[-1].train
    by_image = audited(table.assign(patient_id=""), stack).floors[-1].train
    assert by_patient.auroc < 0.9
    assert by_image.auroc > 0.99
    assert (by_patient.n, by_patient.patients, by_image.patients) == (240, 12, 240)


def test_figures_of_test_are_those_of_scikit_learn():
    """Fitted on train + val, applied once: AUROC, sensitivity and specificity at 0.5, by hand."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    table, stack = data()
    stack[table["label"] == 1, :4] += 6
    test = (table["split"] == "test").to_numpy()
    cells, labels = stack.reshape(len(stack), -1).astype(np.float32), table["label"].to_numpy()
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000)).fit(
        cells[~test], labels[~test]
    )
    scores = model.predict_proba(cells[test])[:, 1]
    record = audited(table, stack).floors[-1].test
    assert record.auroc == pytest.approx(roc_auc_score(labels[test], scores), abs=1e-3)
    assert record.sensitivity == pytest.approx((scores[labels[test] == 1] >= 0.5).mean(), abs=0.04)
    assert record.specificity == pytest.approx((scores[labels[test] == 0] < 0.5).mean(), abs=0.04)
    assert record.sensitivity_interval.low <= record.sensitivity <= record.sensitivity_interval.high
    assert (record.n, record.positives, record.patients) == (60, 30, 30)


@pytest.mark.parametrize(
    "case", ["one class", "five images", "one patient", "constant", "no train", "excluded"]
)
def test_poor_data_is_not_estimable_and_still_drawn(case: str, tmp_path: Path):
    """Never a crash, a warning (an error here) or a made-up number: None, and the reason with n."""
    table, stack = data()
    if case == "one class":
        keep = (table["label"] == 1).to_numpy()
    elif case == "five images":
        keep = np.isin(np.arange(len(table)), [0, 1, 60, 61, 130])
    elif case == "no train":
        keep = (table["split"] == "test").to_numpy()
    else:
        keep = np.ones(len(table), bool)
    table, stack = table[keep].copy(), stack[keep].copy()
    if case == "one patient":
        table["patient_id"] = "p"
    elif case == "constant":
        stack[:] = 90
        table["bytes"] = 4000
        table["width"] = 100
    elif case == "excluded":
        table["split"] = "excluded"
    record = audited(table, stack)
    for baseline in record.baselines():
        for part in (baseline.train, baseline.test):
            assert (part.auroc, part.interval, part.sensitivity) == (None, None, None)
            assert part.note.startswith(f"not estimable (n = {part.n}): ")
    assert record.warnings() == ()
    assert audit.Audit.model_validate_json(record.model_dump_json()) == record
    assert audit_plot.draw_audit(record, tmp_path / "audit.png").is_file()


def test_without_test_images_train_still_has_a_baseline(tmp_path: Path):
    """The test part is not estimable (n = 0)."""
    record = audited(*data(test=0))
    assert record.floors[0].train.auroc is not None
    assert record.floors[0].test.note == "not estimable (n = 0): no image"
    assert audit_plot.draw_audit(record, tmp_path / "audit.png").is_file()


def test_sampling_takes_whole_patients_up_to_the_limit():
    """Of 120 images in pairs at most 31 are 30: no patient is halved, another seed takes others."""
    table, _ = data()
    rows = np.flatnonzero(table["split"] == "test")
    chosen, again, other = (sample_patients(table, rows, 31, seed) for seed in (0, 0, 1))
    assert len(chosen) == 30
    assert (table.iloc[chosen].groupby("patient_id").size() == 2).all()
    assert (chosen == again).all()
    assert set(chosen) != set(other)
    assert (sample_patients(table, rows, 60, 0) == rows).all()


def test_large_tables_are_sampled(monkeypatch: pytest.MonkeyPatch):
    """Train and test have limits of their own, so that a large train cannot crowd out test."""
    monkeypatch.setattr(audit, "MOST_TRAIN_IMAGES", 80)
    monkeypatch.setattr(audit, "MOST_TEST_IMAGES", 40)
    record = audited(*data())
    assert record.images == 120
    assert (record.floors[0].train.n, record.floors[0].test.n) == (80, 40)


def test_equal_data_and_seed_give_an_equal_record():
    """Folds, trees and bootstrap draws come from the seed."""
    assert audited(*data(seed=2), seed=3) == audited(*data(seed=2), seed=3)


def test_the_figure_is_a_small_png_even_without_an_interval(tmp_path: Path):
    """A small PNG for the report; a perfect separation has no interval and is drawn as a point."""
    table, stack = data(icc=lambda rows: rows["label"])
    record = audited(table, stack)
    assert record.floors[0].test.interval is None
    assert record.floors[0].test.note.startswith("no interval")
    path = audit_plot.draw_audit(record, tmp_path / "eda" / "audit.png")
    assert path.stat().st_size < 300_000
    with Image.open(path) as image:
        assert image.format == "PNG"


@pytest.mark.slow
def test_the_originals_container_separates_and_harmonising_takes_much_of_it_away(tmp_path: Path):
    """120 published originals: an ICC profile in every NORMAL and in no PNEUMONIA, bytes per pixel nearly so."""
    if not ORIGINALS.is_dir():
        pytest.skip("no ../shared/data/full_resolution_sample beside the checkout")
    preprocess(ORIGINALS, tmp_path)
    table = read_table(tmp_path / "clean_metadata.csv")
    assert (pd.to_numeric(table["icc"]) == 1 - table["label"]).all()
    files = [(ORIGINALS / image).read_bytes() for image in table["image"]]
    stack = np.stack([model_input.resize(decoder.decode(data).image, 224) for data in files])
    record = audited(table.assign(split="train"), stack)
    before, after = record.floors[0].train, record.container_after.train
    assert before.auroc >= 0.95
    assert after.auroc < before.auroc - 0.02
    assert after.interval.high < 0.995
    assert record.floors[0].test.auroc is None
    assert record.warning
