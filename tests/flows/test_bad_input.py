"""Data that nothing can be learnt of: a clear error or "not estimable", never a crash or a made-up number."""

import shutil

import numpy as np
import pandas as pd
import pytest

from cxr.core.errors import DataError
from cxr.core.settings import SplitSettings
from cxr.data.phantoms import dataset
from cxr.models import selection
from cxr.results import evaluation
from cxr.stats import calibration, metrics, thresholds
from tests.conftest import preprocess
from tests.support.finished import scores, trained


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Sixty phantoms without broken files: read only."""
    folder = tmp_path_factory.mktemp("clean") / "data"
    dataset.make_dataset(folder, images=60, size=64, broken=False)
    return folder


@pytest.fixture
def data(clean, tmp_path):
    return shutil.copytree(clean, tmp_path / "data")


def test_one_class_only(data, tmp_path):
    """No NORMAL image anywhere: both classes were expected."""
    for folder in list(data.glob("*/NORMAL")):
        shutil.rmtree(folder)
    with pytest.raises(DataError, match="both classes"):
        preprocess(data, tmp_path / "work")


def test_a_class_missing_in_test(data, tmp_path):
    """The hold-out has one class: which split and which label is said."""
    shutil.rmtree(data / "test" / "NORMAL")
    with pytest.raises(DataError, match=r"test/NORMAL|test has no NORMAL image"):
        preprocess(data, tmp_path / "work")


def test_train_missing(data, tmp_path):
    """A hold-out alone cannot be trained on."""
    shutil.rmtree(data / "train")
    shutil.rmtree(data / "val")
    with pytest.raises(DataError, match="there is no train: found test"):
        preprocess(data, tmp_path / "work")


def test_test_and_val_missing(data, tmp_path):
    """Both are carved by patient, and the policy says so."""
    shutil.rmtree(data / "test")
    shutil.rmtree(data / "val")
    record = preprocess(data, tmp_path / "work")
    assert record.split_policy.startswith("test carved from train") and record.patient_wise


def test_five_images(data, tmp_path):
    """Too few patients to divide: how many there are is said."""
    for number, path in enumerate(sorted(data.rglob("*.jpeg"))):
        if number % 12:
            path.unlink()
    for folder in data.glob("*/*"):
        if not any(folder.iterdir()):
            folder.rmdir()
    for folder in data.glob("*"):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    with pytest.raises(DataError, match=r"expected both classes|at least 2 patients"):
        preprocess(data, tmp_path / "work")


def test_all_images_of_one_patient(data, tmp_path):
    """One patient cannot be on two sides."""
    with pytest.raises(DataError, match=r"found 1 patients"):
        preprocess(data, tmp_path / "work", SplitSettings(patient_key="regex:(?P<patient>jpeg)"))


def test_every_image_a_duplicate(data, tmp_path):
    """One picture under both labels is none; under one label it is one, which is too few."""
    paths = sorted(data.rglob("*.jpeg"))
    for path in paths[1:]:
        path.write_bytes(paths[0].read_bytes())
    with pytest.raises(DataError, match=r"none of .* can be used|cannot carve|both classes"):
        preprocess(data, tmp_path / "work")


def test_constant_scores_have_figures_but_no_interval_of_their_auroc():
    """AUROC 0.5, everything called PNEUMONIA, calibration and interval of the AUROC not estimable."""
    rng = np.random.default_rng(0)
    labels, values = rng.integers(0, 2, 100), np.full(100, 0.4)
    table = pd.DataFrame({
        "image": [f"IM-{i:04d}-1.jpeg" for i in range(100)], "patient_id": [f"p{i}" for i in range(100)], "etiology": "",
        "width": 64, "height": 64, "label": labels, "raw_score": values, "score": values,
    })  # fmt: skip
    fitted = calibration.fit_calibration(labels, values, table["patient_id"])
    assert fitted.method == "none" and "all 100 scores are the same" in fitted.reason
    point = thresholds.choose_operating_point(labels, values)
    found = evaluation.test_metrics(table, point.threshold)
    assert (found["test"]["auroc"], found["test"]["sensitivity"]) == (0.5, 1.0)
    assert (
        found["intervals"]["auroc"] is None
        and found["intervals"]["accuracy"].low < found["test"]["accuracy"]
    )


def test_nan_scores_are_refused_everywhere():
    """A network that diverged has no figures: the number of such scores is said."""
    labels, values = np.array([0, 1, 0, 1]), np.array([0.1, np.nan, 0.2, 0.9])
    for look in (
        lambda: metrics.compute_metrics(labels, values, 0.5), lambda: thresholds.choose_operating_point(labels, values),
        lambda: calibration.fit_calibration(labels, values, ["a", "b", "c", "d"]),
    ):  # fmt: skip
        with pytest.raises(DataError, match="1 scores"):
            look()


def test_changed_test_labels_change_no_threshold(tmp_path):
    """All that is chosen comes from validation: whatever the test labels say, choice and threshold stay."""
    models = [trained(tmp_path, name, seed) for seed, name in enumerate(("MobileNetV2", "VGG16"))]
    found = []
    for swap in (False, True):
        table = scores(tmp_path / "scores_test.csv", seed=9)
        table["label"] = 1 - table["label"] if swap else table["label"]
        chosen = selection.select_model(models, [], tmp_path)
        training = next(one for one in models if one.name == chosen.name)
        found.append(
            (
                chosen,
                training.operating_point,
                evaluation.test_metrics(table, training.threshold)["test"]["auroc"],
            )
        )
    assert found[0][:2] == found[1][:2] and found[0][2] == pytest.approx(1 - found[1][2])
