"""The stress worlds' metrics: equal to scikit-learn's, of raw scores, on images chosen by patient."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import recall_score, roc_auc_score

from cxr.core.errors import DataError
from cxr.data.images.changes.stress_worlds import CLEAN, WORLDS
from cxr.models import stress
from cxr.stats.calibration import Calibration


@pytest.fixture
def table() -> pd.DataFrame:
    """Scores of 60 NORMAL and 90 PNEUMONIA images, three of a patient, in every world."""
    rng = np.random.default_rng(4)
    labels = np.repeat([0, 1], [60, 90])
    rows = pd.DataFrame(
        {
            "image": [f"{number}.png" for number in range(150)],
            "patient_id": [f"p{number // 3}" for number in range(150)],
            "label": labels,
        }
    )
    worlds = {
        name: np.clip(rng.normal(0.35 + 0.3 * labels, 0.2), 0.001, 0.999)
        for name in (CLEAN, *WORLDS)
    }
    return rows.assign(**worlds)


PLATT = Calibration(method="platt", reason="", images=150, patients=50, temperature=2, intercept=-1)
STEPS = Calibration(
    method="isotonic",
    reason="",
    images=150,
    patients=50,
    x=(0.0, 0.4, 0.45, 0.6, 0.65, 1.0),
    y=(0.1, 0.1, 0.5, 0.5, 0.9, 0.9),
)


@pytest.mark.parametrize("calibration", [PLATT, STEPS], ids=["platt", "isotonic"])
@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_metrics_are_those_of_scikit_learn(table, tmp_path, calibration, threshold):
    """AUROC of the raw scores, whatever ties the calibration makes; the rest at the calibrated threshold; read from the file."""
    stress.write_world_scores(table, table[[CLEAN, *WORLDS]].to_dict("series"), tmp_path / "s.csv")
    read = stress.read_world_scores(tmp_path / "s.csv")
    found = stress.measure_robustness(read, calibration, threshold)
    assert (found.images, found.patients) == (150, 50)
    assert [world.world for world in found.worlds] == list(WORLDS)
    for world in (found.clean, *found.worlds):
        labels = table["label"]
        raw = table[world.world].to_numpy()
        predicted = calibration.apply(raw) >= threshold
        assert world.auroc == pytest.approx(roc_auc_score(labels, raw))
        assert world.sensitivity == pytest.approx(recall_score(labels, predicted))
        assert world.specificity == pytest.approx(recall_score(labels, predicted, pos_label=0))
        assert world.auroc_interval.low < world.auroc < world.auroc_interval.high
    aurocs = [world.auroc for world in found.worlds]
    assert found.mean_auroc == pytest.approx(np.mean(aurocs))
    assert found.worst.auroc == min(aurocs)


def test_where_nothing_is_called_positive_sensitivity_is_0(table):
    """A threshold above every calibrated score: 0 and 1, with Wilson's intervals, and the AUROC as before."""
    found = stress.measure_robustness(table, STEPS, 0.95)
    assert (found.clean.sensitivity, found.clean.specificity) == (0, 1)
    assert found.clean.sensitivity_interval.method == "Wilson"
    assert found.clean.auroc == pytest.approx(roc_auc_score(table["label"], table[CLEAN]))


def test_patients_that_are_not_known_count_alone(table):
    """Ten images without a patient are ten patients."""
    table.loc[:9, "patient_id"] = ""
    assert stress.measure_robustness(table, PLATT, 0.5).patients == 57


def test_scores_of_one_class_are_an_error(table):
    """A set without NORMAL cannot be measured, and it says so."""
    with pytest.raises(DataError, match="expected both classes"):
        stress.measure_robustness(table[table["label"] == 1], PLATT, 0.5)


def test_images_are_chosen_by_patient_and_as_many_of_each_class(table):
    """The same ones each time, in rising order, whole patients; of a small set all."""
    rows = table.assign(split="test")
    positions = np.arange(20, 150)
    chosen = stress.choose_images(rows, positions, most=40)
    assert np.array_equal(chosen, stress.choose_images(rows, positions, most=40))
    assert np.array_equal(chosen, np.unique(chosen))
    assert set(chosen) <= set(positions)
    labels = rows["label"].to_numpy()[chosen]
    assert 17 <= (labels == 0).sum() <= 20
    assert 17 <= (labels == 1).sum() <= 20
    of_patients = rows.iloc[positions].groupby("patient_id").size()
    for patient, images in rows.iloc[chosen].groupby("patient_id").size().items():
        assert images == of_patients[patient]
    assert np.array_equal(stress.choose_images(rows, positions, most=130), positions)


def test_a_class_of_one_large_patient_is_not_lost(table):
    """Its patient has more images than are wanted: all are scored, for without them nothing can be measured."""
    rows = table.assign(split="test", patient_id="ward", patient_group="ward")
    chosen = stress.choose_images(rows, np.arange(len(rows)), most=40)
    assert set(rows["label"].to_numpy()[chosen]) == {0, 1}
