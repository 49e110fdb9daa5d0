"""Tests of the two-sample test of a batch against any mix of the classes of a reference."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from cxr.stats.drift.two_samples import SIGNIFICANCE_LEVEL, compare_with_reference

NAMES = [f"c{number}" for number in range(8)]
SHIFT = np.linspace(0, 3, 8)  # between the means of the two classes, in standard deviations


def draw(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """Return columns of which most differ between the classes, float (n, 8)."""
    return rng.normal(size=(len(labels), 8)) + labels[:, np.newaxis] * SHIFT


def make_reference(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels = np.repeat([0, 1], [100, 300])
    return draw(rng, labels), labels, np.arange(400).astype(str)


def is_unlike(new: np.ndarray, reference: tuple[np.ndarray, np.ndarray, np.ndarray]) -> bool:
    columns, labels, patients = reference
    found = compare_with_reference(new, columns, labels, patients, NAMES)
    return any(difference.significant for difference in found.differences)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_any_mix_of_the_classes_is_like_the_reference(share: float):
    """Over 200 batches of another prevalence, at most one in a hundred alarms, chance included."""
    rng = np.random.default_rng(5)
    alarms = 0
    for _ in range(200):
        labels = (rng.random(50) < share).astype(int)
        alarms += is_unlike(draw(rng, labels), make_reference(rng))
    assert alarms <= 200 * SIGNIFICANCE_LEVEL + 3


def test_the_mix_that_fits_best_is_found():
    """A batch of 30 % positives is compared with about that mix."""
    rng = np.random.default_rng(6)
    columns, labels, patients = make_reference(rng)
    batch = draw(rng, np.repeat([0, 1], [700, 300]))
    found = compare_with_reference(batch, columns, labels, patients, NAMES)
    assert found.positive_share == pytest.approx(0.3, abs=0.07)


def test_a_shift_that_no_mix_explains_is_found_in_twenty_images():
    """A column that is the same in both classes is shifted by 1.5 standard deviations."""
    rng = np.random.default_rng(7)
    found = 0
    for _ in range(50):
        batch = draw(rng, rng.integers(0, 2, 20))
        batch[:, 0] += 1.5
        found += is_unlike(batch, make_reference(rng))
    assert found >= 40


def test_ten_thousand_images_do_not_alarm_on_nothing():
    """An effect of 0.07 is beyond chance and below the floor."""
    rng = np.random.default_rng(8)
    reference = np.repeat([0, 1], 5000)
    columns = draw(rng, reference)
    batch = draw(rng, rng.integers(0, 2, 10_000))
    batch[:, 0] += 0.25
    found = compare_with_reference(batch, columns, reference, np.arange(10_000).astype(str), NAMES)
    shifted = next(difference for difference in found.differences if difference.name == "c0")
    assert shifted.p < 1e-6
    assert shifted.effect == pytest.approx(0.57, abs=0.01)
    assert not shifted.significant


def test_the_effect_is_that_of_mann_and_whitney():
    """Where both classes are drawn alike, effect and p are SciPy's, ties included."""
    rng = np.random.default_rng(9)
    columns = rng.integers(0, 30, (100, 1)).astype(float)
    new = rng.integers(5, 35, (40, 1)).astype(float)
    labels = np.tile([0, 1], 50)
    columns[labels == 1] = columns[labels == 0]  # both classes hold the same values
    found = compare_with_reference(new, columns, labels, np.arange(100).astype(str), ["c"])
    expected = mannwhitneyu(new[:, 0], columns[:, 0])
    (difference,) = found.differences
    assert difference.effect == pytest.approx(expected.statistic / (40 * 100))


def test_images_of_one_patient_count_as_one():
    """A reference of two patients proves nothing, however many images they have."""
    rng = np.random.default_rng(10)
    labels = np.repeat([0, 1], 200)
    columns = rng.normal(size=(400, 8))
    new = rng.normal(size=(50, 8)) + 1
    of_many = compare_with_reference(new, columns, labels, np.arange(400).astype(str), NAMES)
    of_two = compare_with_reference(new, columns, labels, np.repeat(["a", "b"], 200), NAMES)
    assert any(difference.significant for difference in of_many.differences)
    assert not any(difference.significant for difference in of_two.differences)
