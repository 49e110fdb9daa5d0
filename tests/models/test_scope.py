"""The scope of a model: p-values of patients, distances in features, properties of pixels, verdicts, files."""

import hashlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter
from sklearn.neighbors import NearestNeighbors

from cxr.core.errors import ModelError
from cxr.data.phantoms.drawing.anatomy import Anatomy
from cxr.data.phantoms.drawing.chest import draw_chest
from cxr.models.scope import (
    Scope,
    ScopeReference,
    conformal,
    neighbours,
    properties,
    read_scope,
    write_scope,
)
from cxr.models.scope.reference import ARRAYS_NAME, NAME, SIGNALS, measure_images
from cxr.models.scope.verdicts import describe_shortage, judge_images

CUT = 12  # statistics at the cut of made-up features
WIDTH = CUT + 40
SIDE = 64
PATIENTS = 120


def features(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Made-up features; pooled ones are positive, as after a ReLU."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).normal(0, 1, (WIDTH, WIDTH))
    mixed = rng.normal(shift, 1, (count, WIDTH)) @ mixing
    mixed[:, CUT:] = np.abs(mixed[:, CUT:])
    return mixed.astype(np.float32)


def phantom_films(count: int, seed: int) -> np.ndarray:
    """Phantom films as a network takes them, uint8 (n, side, side)."""
    films = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        film, _ = draw_chest(rng, Anatomy.draw(rng), pneumonia=number % 2 == 1, size=SIDE)
        films.append(film)
    return np.stack(films)


@pytest.fixture(scope="module")
def films() -> np.ndarray:
    return phantom_films(PATIENTS, 1)


@pytest.fixture(scope="module")
def scope(films: np.ndarray) -> Scope:
    """The scope of made-up features and phantom films, one of each validation patient."""
    learned = neighbours.learn_neighbours(features(300, 1), CUT)
    film = properties.typical_film(properties.film_cells(films[:40]))
    measured = measure_images(learned, film, features(PATIENTS, 2), films)
    rows = pd.DataFrame(
        {
            "score": np.linspace(0, 1, PATIENTS).astype(np.float32),
            "label": np.arange(PATIENTS, dtype=np.int8) % 2,
            "patient": np.arange(PATIENTS, dtype=np.int32),
        }
    )
    record = ScopeReference(
        model_sha256="0" * 64,
        train_images=150,
        train_patients=90,
        val_images=PATIENTS,
        val_patients=PATIENTS,
    )
    return Scope(record, pd.concat([rows, measured], axis=1), learned, film)


def reason_of(scope: Scope, pixels: np.ndarray, shift: float = 5.0, rate: float = 0.01) -> str:
    """The reason for one image whose features lie `shift` away from training."""
    measured = scope.measure(features(1, 9, shift), pixels[np.newaxis])
    (judgement,) = scope.judge(measured, rate)
    assert judgement.status == ("abstained" if judgement.reason else "scored")
    return judgement.reason


def test_the_p_value_counts_patients_not_images():
    """Ten strange images of one patient count as one; without repeats it is the usual p-value."""
    reference = np.array([1.0, 2.0, 3.0, 4.0])
    (p,) = conformal.p_values(np.array([2.5]), reference, np.arange(4))
    assert p == pytest.approx((1 + 2) / 5)
    repeated = np.append(reference, [9.0] * 10)
    patients = np.append(np.arange(4), [4] * 10)
    (p,) = conformal.p_values(np.array([5.0]), repeated, patients)
    assert p == pytest.approx((1 + 1) / 6)
    assert conformal.smallest_p(5) == conformal.p_values(np.array([99.0]), repeated, patients)[0]


def test_p_values_are_valid_though_images_of_a_patient_are_alike():
    """Of 200 x 200 new patients with one image each, at most the nominal share has a lower p-value."""
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(200):
        sizes = rng.integers(1, 8, 99)
        patients = np.repeat(np.arange(99), sizes)
        reference = rng.normal(0, 1, 99)[patients] + rng.normal(0, 0.2, len(patients))
        new = rng.normal(0, 1, 200) + rng.normal(0, 0.2, 200)
        found = conformal.p_values(new, reference, patients)
        shares.append([(found <= rate).mean() for rate in (0.01, 0.05, 0.2)])
    assert (np.mean(shares, axis=0) <= [0.0125, 0.055, 0.21]).all()
    assert np.mean(shares, axis=0)[2] > 0.15, "it is no idle bound"


def test_distances_are_those_of_scikit_learn():
    """The distance at the cut is that to the fifth neighbour among standardised images of train."""
    train = features(300, 1)
    new = features(20, 3)
    learned = neighbours.learn_neighbours(train, CUT)
    scale = train[:, :CUT].std(axis=0)
    nearest = NearestNeighbors(n_neighbors=neighbours.NEIGHBOUR).fit(train[:, :CUT] / scale)
    at_cut = np.log(nearest.kneighbors(new[:, :CUT] / scale)[0][:, -1])
    nearest.fit(learned.pooled)
    pooled = np.log(nearest.kneighbors(learned.components(new))[0][:, -1])
    parts = np.stack([at_cut, pooled], axis=1)
    expected = ((parts - learned.balance[:, 0]) / learned.balance[:, 1]).mean(axis=1)
    assert np.allclose(learned.distances(new), expected, atol=0.02)


def test_far_features_get_the_smallest_p_and_near_ones_do_not(scope: Scope, films: np.ndarray):
    """An image far from training is abstained from with a reason in words; one like it is scored."""
    reason = reason_of(scope, films[0])
    assert reason == ("features far from training: p = 0.008, the smallest that 120 patients allow")
    assert reason_of(scope, films[0], shift=0.0) == ""
    assert reason_of(scope, films[0], rate=0.0) == "", "a rate of 0 lets every image through"


def test_what_is_strange_is_said(scope: Scope, films: np.ndarray):
    """Negatives, turned, blurred and noisy films and what is no film are told apart."""
    film = films[1]
    blurred = np.asarray(Image.fromarray(film).filter(ImageFilter.GaussianBlur(4)))
    noise = np.random.default_rng(0).normal(0, 60, film.shape)
    noisy = np.clip(film + noise, 0, 255).astype(np.uint8)
    stripes = np.tile(np.uint8([0, 255]), (SIDE, SIDE // 2))
    expected = {
        "negative of a film": 255 - film,
        "rotated by 90 degrees": np.rot90(film),
        "rotated by 180 degrees": np.rot90(film, 2),
        "too blurred": blurred,
        "too noisy": noisy,
        "not a chest film like those of training": stripes,
    }
    found = {kind: reason_of(scope, pixels).partition(":")[0] for kind, pixels in expected.items()}
    assert found == {kind: kind for kind in expected}


def test_too_few_patients_for_the_rate_still_show_what_is_far_beyond(
    scope: Scope, films: np.ndarray
):
    """With 120 patients no rate of 0.1 % can be promised: only what lies far beyond all is marked."""
    assert "smallest that 120 patients allow" in reason_of(scope, films[0], 20.0, rate=0.001)
    farthest = scope.validation.sort_values("features").tail(1)
    (judgement,) = scope.judge(farthest.assign(features=farthest["features"] + 0.01), 0.001)
    assert judgement.status == "scored"


def test_fewer_than_20_patients_call_nothing_out_of_scope(scope: Scope):
    """Their spread is not known either: nothing is marked, however far, and the shortage is said."""
    few = scope.validation[scope.validation["patient"] < 19]
    far = few.tail(1).assign(features=few["features"].max() + 1e6)
    (judgement,) = judge_images(far, few, 0.01)
    assert judgement.status == "scored"
    assert "19 validation patients are too few" in describe_shortage(19, 0.01)
    assert "no image is called so" not in describe_shortage(20, 0.01)


def test_a_scope_is_read_as_it_was_written(scope: Scope, films: np.ndarray, tmp_path):
    """The files hold arrays without pickles, no image, and judge as the scope that was learned."""
    record = write_scope(tmp_path, scope)
    data = (tmp_path / ARRAYS_NAME).read_bytes()
    assert record.arrays_sha256 == hashlib.sha256(data).hexdigest()
    assert record.arrays_bytes == len(data)
    back = read_scope(tmp_path)
    assert back is not None and back.reference == record
    assert list(back.validation) == list(scope.validation)
    assert list(back.validation)[-len(SIGNALS) :] == list(SIGNALS)
    assert np.allclose(back.validation, scope.validation, atol=1e-5)
    new = features(10, 4)
    measured = back.measure(new, films[:10])
    assert np.allclose(measured, scope.measure(new, films[:10]), atol=0.02)
    with np.load(tmp_path / ARRAYS_NAME, allow_pickle=False) as arrays:
        assert max(arrays[name].size for name in arrays) < films.size


def test_a_model_of_an_earlier_version_has_no_scope(tmp_path):
    """Where neither file is there, nothing is known; nothing fails."""
    assert read_scope(tmp_path) is None


@pytest.mark.parametrize("damage", ["cut short", "gone", "other"])
def test_a_damaged_scope_is_refused(scope: Scope, tmp_path, damage: str):
    """A scope that is not what its record says is never used."""
    write_scope(tmp_path, scope)
    arrays = tmp_path / ARRAYS_NAME
    if damage == "cut short":
        arrays.write_bytes(arrays.read_bytes()[:-9])
    elif damage == "gone":
        arrays.unlink()
    else:
        (tmp_path / NAME).write_text("{}")
    with pytest.raises(ModelError, match="export again"):
        read_scope(tmp_path)
