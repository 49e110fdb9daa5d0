"""The films' shape is named where it separates the classes, and disease or chance is not taken for it."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.core.files import read_table
from cxr.core.settings import PixelSettings
from cxr.data.images import model_input, pixel_cache
from cxr.data.images.decoding import decoder
from cxr.data.patients import splits
from cxr.data.phantoms import dataset
from cxr.data.phantoms.drawing.anatomy import Anatomy
from cxr.data.phantoms.drawing.chest import draw_chest
from cxr.exploration import audit, baselines, geometry
from cxr.exploration.baselines import Study, measure_baseline
from cxr.exploration.figures import audit_plot
from cxr.results.cards.model_card import Card
from tests.conftest import ROOT, preprocess

SHARED = ROOT.parent / "shared" / "data"
ORIGINALS = SHARED / "full_resolution_sample"
REAL = SHARED / "chest_xray_dev"
SIDE = 224
TRAIN = 40  # patients of a set of phantoms, as many of each class; of test it has half as many
ALL_GEOMETRY = (
    geometry.FILE_ASPECT,
    geometry.OUTSIDE_RATIO,
    geometry.WHOLE_RATIO,
    geometry.LOCAL_RATIO,
)


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch: pytest.MonkeyPatch):
    """A fifth of the bootstrap draws: intervals are compared with wide margins here."""
    monkeypatch.setattr(baselines, "DRAWS", 200)


@lru_cache
def draw_chests(seed: int) -> tuple[Study, np.ndarray]:
    """One square phantom for each patient, drawn as ever: the classes differ in opacities alone."""
    count = TRAIN + TRAIN // 2
    labels = np.arange(count) % 2
    pixels = np.stack(
        [
            draw_chest(
                np.random.default_rng([seed, patient]),
                Anatomy.draw(np.random.default_rng([seed, patient, 1])),
                bool(label),
                SIDE,
            )[0]
            for patient, label in enumerate(labels)
        ]
    )
    study = Study(
        labels=labels,
        patients=np.arange(count),
        is_test=np.arange(count) >= TRAIN,
        seed=seed,
    )
    return study, pixels


def squeeze_films(pixels: np.ndarray, wide: np.ndarray) -> np.ndarray:
    """Make the marked films a quarter wider than the others: these lose what lies at their sides."""
    cut = SIDE // 10
    narrow = [
        np.asarray(Image.fromarray(image[:, cut:-cut]).resize((SIDE, SIDE))) for image in pixels
    ]
    return np.where(wide[:, None, None], pixels, np.stack(narrow))


def measure_pixels(study: Study, pixels: np.ndarray) -> tuple[baselines.Baseline, ...]:
    """Measure the baselines of the gradients."""
    positions = np.arange(len(pixels))
    found = geometry.read_gradient_ratios(pixels, positions)
    return tuple(measure_baseline(study, signal) for signal in found)


def measure_all(table: pd.DataFrame, pixels: np.ndarray) -> tuple[baselines.Baseline, ...]:
    """Measure all baselines of the films' shape, as the audit does."""
    study = Study(
        labels=table["label"].to_numpy(),
        patients=pd.factorize(splits.patient_groups(table))[0],
        is_test=(table["split"] == "test").to_numpy(),
        seed=0,
    )
    aspect = measure_baseline(study, geometry.read_file_aspect(table))
    return (aspect, *measure_pixels(study, pixels))


def test_the_gradient_ratio_is_that_of_numpy_and_turns_with_the_image():
    """Mean absolute differences by numpy.diff; the transposed image has the reciprocal; a flat one has 1."""
    image = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
    image = image // np.arange(1, 49, dtype=np.uint8)[None, :]
    gray = image.astype(float)
    horizontal = np.abs(np.diff(gray, axis=1))[:-1].mean()
    vertical = np.abs(np.diff(gray, axis=0))[:, :-1].mean()
    ratio = geometry.measure_gradient_ratio(image)
    assert ratio == pytest.approx(horizontal / vertical, rel=1e-3)
    assert geometry.measure_gradient_ratio(image.T) == pytest.approx(1 / ratio)
    assert geometry.measure_gradient_ratio(np.full((48, 48), 90, np.uint8)) == 1


def test_squeezing_a_film_raises_its_ratio_by_about_the_squeeze():
    """A smooth picture squeezed to two thirds of its width has a ratio 1.5 times as high."""
    rng = np.random.default_rng(3)
    coarse = Image.fromarray(rng.integers(0, 256, (16, 24), dtype=np.uint8))
    film = coarse.resize((384, 256), Image.Resampling.BICUBIC)
    kept = np.asarray(film.crop((0, 0, 256, 256)))
    squeezed = np.asarray(film.resize((256, 256), Image.Resampling.BICUBIC))
    rise = geometry.measure_gradient_ratio(squeezed) / geometry.measure_gradient_ratio(kept)
    assert rise == pytest.approx(1.5, rel=0.1)


def test_wider_films_in_one_class_are_named_from_the_pixels_alone():
    """Files of one shape hide the films' shape; the gradients of neck and abdomen give it away."""
    study, pixels = draw_chests(0)
    for wide in (study.labels == 0, study.labels == 1):
        warning = geometry.warn_of_shape(measure_pixels(study, squeeze_films(pixels, wide)))
        assert f"{geometry.OUTSIDE_RATIO}, AUROC" in warning
        assert f"{geometry.WHOLE_RATIO}, AUROC" in warning
        assert "stretch" in warning


def test_opacities_and_shapes_that_do_not_follow_the_class_are_not_named():
    """Opacities alone move the ratios by place (AUROC above 0.75), and nobody is warned of it."""
    for seed in range(3):
        study, pixels = draw_chests(seed)
        clean = measure_pixels(study, pixels)
        by_name = {baseline.signal: baseline.train for baseline in clean}
        assert by_name[geometry.LOCAL_RATIO].auroc > baselines.WARNING_LIMIT
        assert geometry.warn_of_shape(clean) == ""
        wide = np.random.default_rng(seed).random(len(pixels)) < 0.5
        assert geometry.warn_of_shape(measure_pixels(study, squeeze_films(pixels, wide))) == ""


def test_small_sets_are_not_named_by_chance():
    """Random values for 5 to 24 patients of each class, in fifty sets: never a warning."""
    named = []
    for seed in range(50):
        rng = np.random.default_rng(seed)
        count = 2 * int(rng.integers(5, 25))
        study = Study(
            labels=np.arange(2 * count) % 2,
            patients=np.arange(2 * count),
            is_test=np.arange(2 * count) >= count,
            seed=seed,
        )
        noise = rng.integers(0, 256, (2 * count, 32, 32), dtype=np.uint8)
        outside = geometry.read_gradient_ratios(noise, np.arange(2 * count))[0]
        named.append(geometry.warn_of_shape((measure_baseline(study, outside),)))
    assert not any(named)


def separation(
    auroc: float | None,
    low: float | None = None,
    patients: int = 60,
) -> baselines.Separation:
    """A made-up separation of 60 images."""
    interval = None
    if low is not None:
        interval = {"low": low, "high": 1.0, "method": "patient bootstrap", "images": 60}
    return baselines.Separation.model_validate(
        {"n": 60, "positives": 30, "patients": patients, "auroc": auroc, "interval": interval}
    )


@pytest.mark.parametrize(
    ("signal", "train", "test", "named"),
    [
        (geometry.FILE_ASPECT, separation(0.9, 0.8), separation(None), True),
        (geometry.OUTSIDE_RATIO, separation(0.6, 0.5), separation(0.9, 0.8), True),
        (geometry.FILE_ASPECT, separation(1.0), separation(None), True),
        (geometry.FILE_ASPECT, separation(1.0, patients=19), separation(None), False),
        (geometry.FILE_ASPECT, separation(0.8, 0.74), separation(0.8, 0.74), False),
        (geometry.FILE_ASPECT, separation(None), separation(None), False),
        (geometry.WHOLE_RATIO, separation(0.9, 0.8), separation(0.9, 0.8), False),
        (geometry.LOCAL_RATIO, separation(0.9, 0.8), separation(0.9, 0.8), False),
    ],
)
def test_the_rule_of_the_warning(
    signal: str, train: baselines.Separation, test: baselines.Separation, named: bool
):
    """The whole interval above the limit, on train or test; without one 20 patients; two signals only."""
    baseline = baselines.Baseline(signal=signal, features="", train=train, test=test)
    assert bool(geometry.warn_of_shape((baseline,))) == named


def test_the_files_own_shape_is_named_in_the_audit(tmp_path: Path):
    """Files 121 wide in one class and 154 in the other: the audit says so, before and after a file."""
    study, pixels = draw_chests(1)
    table = pd.DataFrame(
        {
            "image": [f"{patient}.jpeg" for patient in study.patients],
            "label": study.labels,
            "label_name": np.where(study.labels == 1, "PNEUMONIA", "NORMAL"),
            "split": np.where(study.is_test, "test", "train"),
            "patient_id": study.patients.astype(str),
            "width": np.where(study.labels == 1, 154, 121),
            "height": 100,
            "bytes": 4000,
            "mode": "L",
            "format": "JPEG",
            "icc": 0,
            "exif": 0,
            "quantisation": "",
        }
    )
    record = audit.run_audit(table, pixels, "0" * 64, True)
    assert f"{geometry.FILE_ASPECT}, AUROC 1.000 (n = 40)" in record.shape_warning
    assert geometry.OUTSIDE_RATIO not in record.shape_warning
    assert record.warnings() == (record.warning, record.shape_warning)
    names = [baseline.signal for baseline in record.baselines()]
    assert names[:2] == ["container", "container after uniform encoding"]
    assert tuple(names[2:6]) == ALL_GEOMETRY
    record.write(tmp_path / "audit.json")
    assert audit.Audit.read(tmp_path / "audit.json") == record


def test_an_audit_of_an_earlier_version_is_read_and_drawn(tmp_path: Path):
    """Version 0.1 measured no shape: four baselines are shown, and nobody is warned of a shape."""
    card = Card.read(Path(__file__).parents[1] / "results" / "earlier" / "model_card.json")
    assert len(card.audit.baselines()) == 4
    assert card.audit.shape_warning == ""
    assert audit_plot.draw_audit(card.audit, tmp_path / "audit.png").is_file()


@pytest.mark.slow
def test_fifty_clean_phantom_sets_are_not_named(tmp_path: Path):
    """Whole sets, with files of random shapes: no warning, though opacities move all pixels' ratio in many."""
    named = []
    moved = []
    for seed in range(50):
        data = tmp_path / f"data-{seed}"
        work = tmp_path / f"work-{seed}"
        dataset.make_dataset(data, images=90, seed=seed, size=96, broken=False)
        kept = PixelSettings(image_size=96)
        preprocess(data, work, kept=kept)
        table = read_table(work / "clean_metadata.csv")
        pixels = pixel_cache.load_pixels(pixel_cache.cache_of(work, kept).folder, table)
        found = measure_all(table, pixels)
        named.append(geometry.warn_of_shape(found))
        [whole] = [baseline for baseline in found if baseline.signal == geometry.WHOLE_RATIO]
        moved.append(whole.train.interval.low > baselines.WARNING_LIMIT)
    assert not any(named)
    assert sum(moved) >= 20


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/data/chest_xray_dev")
def test_the_published_set_is_named_though_all_its_files_are_square(tmp_path: Path):
    """5,200 files of 224x224: gx/gy reaches an AUROC of 0.89 to 0.90 on train, and the warning says it."""
    kept = PixelSettings(image_size=224)
    preprocess(REAL, tmp_path, kept=kept)
    table = read_table(tmp_path / "clean_metadata.csv")
    table = table[table["split"] != "excluded"].reset_index(drop=True)
    pixels = pixel_cache.load_pixels(pixel_cache.cache_of(tmp_path, kept).folder, table)
    found = measure_all(table, pixels)
    by_name = {baseline.signal: baseline.train for baseline in found}
    assert by_name[geometry.FILE_ASPECT].auroc is None
    assert by_name[geometry.WHOLE_RATIO].auroc == pytest.approx(0.893, abs=0.015)
    assert by_name[geometry.OUTSIDE_RATIO].interval.low > 0.85
    assert geometry.OUTSIDE_RATIO in geometry.warn_of_shape(found)


@pytest.mark.slow
@pytest.mark.skipif(not ORIGINALS.is_dir(), reason="no ../shared/data/full_resolution_sample")
def test_the_ratio_outside_the_lungs_is_that_of_the_films_shape(tmp_path: Path):
    """120 originals: it follows the true aspect; divided by it, hardly anything of the classes is left."""
    from scipy.stats import spearmanr
    from sklearn.metrics import roc_auc_score

    preprocess(ORIGINALS, tmp_path)
    table = read_table(tmp_path / "clean_metadata.csv").assign(split="train")
    files = [(ORIGINALS / image).read_bytes() for image in table["image"]]
    pixels = np.stack([model_input.resize(decoder.decode(data).image, 224) for data in files])
    outside, _, _ = geometry.read_gradient_ratios(pixels, np.arange(len(table)))
    ratio = outside.features[:, 0]
    aspect = np.log(table["width"] / table["height"]).to_numpy()
    assert spearmanr(ratio, aspect).statistic > 0.7
    assert roc_auc_score(table["label"], ratio) > 0.9
    assert roc_auc_score(table["label"], ratio - aspect) < 0.65
    warning = geometry.warn_of_shape(measure_all(table, pixels))
    assert f"{geometry.FILE_ASPECT}, AUROC 0.8" in warning
    assert geometry.OUTSIDE_RATIO in warning
