"""Tests of class-conditional conformal prediction: sets of labels with a coverage that holds."""

import numpy as np
import pytest
from scipy.stats import betabinom

from cxr.core.errors import DataError
from cxr.core.files import read_table
from cxr.stats.abstention.label_sets import AMBIGUOUS, UNLIKE_BOTH, LabelSets, fit_label_sets
from tests.conftest import ROOT

SPLITS = 200


def made_up_patients(rng: np.random.Generator, patients: int) -> dict[str, np.ndarray]:
    """Return images of patients who resemble themselves: one to four of each, by patient."""
    images = rng.integers(1, 5, patients)
    numbers = np.repeat(np.arange(patients), images)
    label = (rng.random(patients) < 0.6).astype(int)
    logit = np.where(label == 1, 1.0, -1.0) + rng.normal(0, 1.0, patients)
    each = logit[numbers] + rng.normal(0, 0.5, len(numbers))
    return {"patient": numbers, "label": label[numbers], "score": 1 / (1 + np.exp(-each))}


def is_within(covered: int, images: int, sets: LabelSets, label: int) -> bool:
    """Return whether a number of covered images is within the 95 % interval that is promised."""
    units = sets.patients[label] + 1
    left_out = int(units * (1 - sets.coverage) + 1e-9)
    chances = betabinom.pmf(np.arange(images + 1), images, units - left_out, left_out)
    up_to = np.cumsum(chances)
    return bool(up_to[covered] >= 0.025 and up_to[covered] - chances[covered] <= 0.975)


def test_each_class_is_covered_over_200_splits_by_patient():
    """The right label of an image of a new patient is in the set at the coverage asked for."""
    rng = np.random.default_rng(3)
    coverage = 0.9
    covered: dict[int, list[float]] = {0: [], 1: []}
    inside = []
    for _ in range(SPLITS):
        data = made_up_patients(rng, 300)
        is_fitted = data["patient"] < 150
        sets = fit_label_sets(
            data["label"][is_fitted],
            data["score"][is_fitted],
            data["patient"][is_fitted].astype(str),
            coverage,
        )
        # One image of each new patient: the units that the promise is about.
        rest = np.flatnonzero(~is_fitted)
        _, first = np.unique(data["patient"][rest], return_index=True)
        new = rest[first]
        contained = sets.contains(data["score"][new])
        for label in (0, 1):
            own = contained[data["label"][new] == label, label]
            covered[label].append(own.mean())
            inside.append(is_within(int(own.sum()), len(own), sets, label))
    for label, shares in covered.items():
        error = np.std(shares) / np.sqrt(SPLITS)
        assert coverage - 3 * error <= np.mean(shares) <= coverage + 0.02 + 3 * error, label
    assert np.mean(inside) >= 0.92


def test_real_scores_are_covered_over_200_splits_by_patient():
    """Of a MobileNetV2 on the published test images, one image of each patient of the other half."""
    table = read_table(ROOT / "docs" / "scores" / "mobilenetv2_test.csv")
    patients = table["patient_id"].to_numpy()
    inside = []
    for seed in range(SPLITS):
        rng = np.random.default_rng(seed)
        names = rng.permutation(np.unique(patients))
        is_fitted = np.isin(patients, names[: len(names) // 2])
        fitted = table[is_fitted]
        sets = fit_label_sets(
            fitted["label"].to_numpy(),
            fitted["score"].to_numpy(),
            fitted["patient_id"].to_numpy(),
            0.9,
        )
        rest = table[~is_fitted].iloc[rng.permutation((~is_fitted).sum())]
        new = rest.drop_duplicates(["patient_id", "label"])
        contained = sets.contains(new["score"].to_numpy())
        for label in (0, 1):
            own = contained[(new["label"] == label).to_numpy(), label]
            inside.append(is_within(int(own.sum()), len(own), sets, label))
    assert np.mean(inside) >= 0.92


def test_p_values_are_those_of_the_formula():
    """Where each patient has one image, p is (1 + images at least as untypical) / (n + 1)."""
    labels = np.array([0, 0, 0, 1, 1, 1, 1])
    scores = np.array([0.1, 0.2, 0.6, 0.4, 0.7, 0.8, 0.9])
    sets = fit_label_sets(labels, scores, np.arange(7).astype(str), 0.6)
    np.testing.assert_allclose(sets.p_values(np.array([0.2]))[0], [3 / 4, 1 / 5])
    np.testing.assert_allclose(sets.p_values(np.array([0.75]))[0], [1 / 4, 3 / 5])


def test_a_patient_counts_once_however_many_images_there_are():
    """Ten images of one patient weigh as much as one image of another."""
    labels = np.array([0] * 12 + [1] * 2)
    scores = np.array([0.9] * 10 + [0.1, 0.2] + [0.8, 0.9])
    patients = ["a"] * 10 + ["b", "c", "d", "e"]
    sets = fit_label_sets(labels, scores, patients, 0.5)
    np.testing.assert_allclose(sets.p_values(np.array([0.5]))[0, 0], (1 + 1) / (3 + 1))


def test_reasons_say_which_labels_fit():
    """Both labels: ambiguous; none: unlike both; one against the threshold: ambiguous, too."""
    labels = np.repeat([0, 1], 100)
    low = np.linspace(0.0, 0.3, 100)
    sets = fit_label_sets(labels, np.concatenate([low, low + 0.7]), np.arange(200), 0.9)
    clear, gap, against = sets.reasons(np.array([0.1, 0.5, 0.2]), 0.15)
    assert clear == ""
    assert gap.startswith(f"{UNLIKE_BOTH}: no label fits at a coverage of 0.9")
    assert against.startswith(f"{AMBIGUOUS}: the threshold says PNEUMONIA")
    mixed = fit_label_sets(labels, np.concatenate([low, low + 0.1]), np.arange(200), 0.9)
    assert mixed.reasons(np.array([0.2]), 0.15)[0].startswith(f"{AMBIGUOUS}: both labels fit")


def test_too_few_patients_for_a_coverage_are_named():
    """With five patients of a class no coverage above 5/6 can be promised."""
    labels = np.repeat([0, 1], 5)
    with pytest.raises(DataError, match=r"--coverage 0\.9: expected enough validation patients"):
        fit_label_sets(labels, np.linspace(0, 1, 10), np.arange(10), 0.9)
