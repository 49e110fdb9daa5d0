"""Distribution shift is found where it is, not found where it is not, and never made up."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr.core.settings import LABEL_NAMES
from cxr.data.images.border import border_mask
from cxr.exploration import shift
from cxr.exploration.figures import shift_plot

SIDE = 16


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch: pytest.MonkeyPatch):
    """A fifth of the bootstrap draws: intervals are compared with wide margins here."""
    monkeypatch.setattr(shift, "DRAWS", 200)


def data(
    per_group: int = 24,
    images: int = 2,
    splits: tuple[str, ...] = ("train", "val", "test"),
    seed: int = 0,
):
    """Patients with two images each in every split and class, all drawn alike; pixels of noise."""
    rng = np.random.default_rng(seed)
    groups = [
        (split, label, patient)
        for split in splits
        for label in (0, 1)
        for patient in range(per_group)
    ]
    rows = [
        {
            "image": f"{split}/{label}/{patient}-{number}.jpeg", "label": label, "label_name": LABEL_NAMES[label],
            "split": split, "patient_id": f"{split}-{label}-{patient}", "mean": rng.normal(120, 10),
            "std": rng.normal(60, 5), "width": 100, "height": 80, "bytes": int(rng.integers(3000, 5000)),
        }
        for split, label, patient in groups for number in range(images)
    ]  # fmt: skip
    pixels = rng.integers(0, 256, (len(rows), SIDE, SIDE), dtype=np.uint8)
    return pd.DataFrame(rows), pixels


def differences(table: pd.DataFrame, pixels: np.ndarray, **keys: object) -> pd.DataFrame:
    frame = (
        shift.measure_shift(table, pixels, "0" * 64)
        .table()
        .set_index(["label_name", "compared", "signal"])
    )
    return frame.sort_index()


def test_splits_drawn_alike_do_not_differ():
    """Nine signals, two classes, two pairs; width, height and aspect are constant, so 24 tests are made."""
    record = shift.measure_shift(*data(), "0" * 64)
    assert record.tests == 24
    assert len(record.differences) == 36
    assert record.sentences() == []


def test_a_darker_test_set_is_found_in_its_class_alone():
    """Only the NORMAL patients of test are 18 gray values darker: one sentence, and p by hand from scipy."""
    table, pixels = data()
    dark = (table["split"] == "test") & (table["label"] == 0)
    table.loc[dark, "mean"] -= 18
    record = shift.measure_shift(table, pixels, "0" * 64)
    [sentence] = record.sentences()
    assert sentence.startswith(
        "NORMAL, train against test: brightness (mean) is lower in test (median 118 to 10"
    )
    assert "p < 0.001 after Holm, n = 24 and 24 patients" in sentence
    row = differences(table, pixels).loc[("NORMAL", "test", "mean")]
    assert row["effect"] < 0.1
    assert row["low"] <= row["effect"] <= row["high"]
    assert row["p_holm"] == pytest.approx(row["p"] * 24)  # the smallest of 24
    assert (row["n_train"], row["n_compared"]) == (24, 24)


def test_effect_and_p_are_those_of_scipy_on_patient_means():
    """Two images per patient become one mean: 24 against 24, never 48 against 48."""
    from scipy.stats import mannwhitneyu

    table, pixels = data(seed=3)
    own = table[table["label"] == 1].groupby(["split", "patient_id"])["std"].mean()
    expected = mannwhitneyu(own["val"], own["train"])
    row = differences(table, pixels).loc[("PNEUMONIA", "val", "std")]
    assert row["effect"] == pytest.approx(expected.statistic / 24**2)
    assert row["p"] == pytest.approx(expected.pvalue)


def test_copies_of_a_patients_image_change_nothing():
    """Ten times the images of the same patients: the same patients, the same p."""
    table, pixels = data()
    ten = pd.concat([table] * 10, ignore_index=True)
    columns = ["effect", "p", "n_train", "n_compared"]
    once, often = (
        differences(table, pixels)[columns],
        differences(ten, np.concatenate([pixels] * 10))[columns],
    )
    pd.testing.assert_frame_equal(once, often, check_exact=False)


def test_a_significant_but_small_difference_is_trivial():
    """400 patients evenly over 100 gray values, in test 7.5 higher: p < 0.001, the effect 0.57, nobody is warned."""
    table, pixels = data(400, 1, ("train", "test"))
    table["mean"] = np.tile(np.arange(400) / 4, 4) + 7.5 * (table["split"] == "test")
    row = differences(table, pixels).loc[("NORMAL", "test", "mean")]
    assert row["p_holm"] < 0.01
    assert row["effect"] == pytest.approx(0.572, abs=0.001)
    assert not row["significant"]


def test_a_squeezed_test_set_is_seen_in_the_gradients():
    """Every second column left out squeezes the films of test: a higher ratio, in both classes."""
    table, pixels = data()
    pixels[:] = np.repeat(pixels[:, :, : SIDE // 2], 2, axis=2)
    of_test = (table["split"] == "test").to_numpy()
    pixels[of_test] = np.tile(pixels[of_test][:, :, ::2], 2)
    rows = differences(table, pixels).xs("test", level="compared")
    for label_name in LABEL_NAMES:
        row = rows.loc[(label_name, "gradient_ratio")]
        assert row["significant"]
        assert row["median_compared"] > 1.5 * row["median_train"]


def test_blur_and_a_bright_border_are_seen_in_the_pixels():
    """A flat image has no sharpness; a white border has a mean of 255."""
    flat = np.zeros((SIDE, SIDE), np.uint8)
    flat[border_mask(SIDE, SIDE)] = 255
    table, pixels = data()
    pixels[table["split"] == "test"] = flat
    rows = differences(table, pixels).xs("test", level="compared")
    assert rows.loc[("NORMAL", "border"), "median_compared"] == 255
    assert rows.loc[("NORMAL", "sharpness"), "significant"]
    assert rows.loc[("PNEUMONIA", "border"), "significant"]


def test_a_constant_signal_is_no_difference_and_no_test():
    """All widths are 100: effect 0.5, no p, a note."""
    row = differences(*data()).loc[("NORMAL", "test", "width")]
    assert (row["effect"], row["significant"]) == (0.5, False)
    assert pd.isna(row["p"])
    assert row["note"] == "no difference: the same value in every image"


@pytest.mark.parametrize(
    "case", ["no test", "one class", "five images", "one patient", "constant pixels", "excluded"]
)
def test_poor_data_is_not_estimable_and_still_drawn(case: str, tmp_path: Path):
    """Never a crash, a warning (an error here) or a made-up number."""
    table, pixels = data(4 if case == "five images" else 10)
    keep = np.ones(len(table), bool)
    if case == "no test":
        keep = (table["split"] == "train").to_numpy()
    elif case == "one class":
        keep = (table["label"] == 1).to_numpy()
    elif case == "five images":
        keep = np.arange(len(table)) < 5
    elif case == "one patient":
        table["patient_id"] = "p"
    elif case == "constant pixels":
        pixels[:] = 7
    else:
        table["split"] = "excluded"
    table, pixels = table[keep], pixels[keep]
    record = shift.measure_shift(table, pixels, "0" * 64)
    frame = record.table()
    if case == "constant pixels":
        pixel_signals = frame["signal"].isin(["sharpness", "border", "gradient_ratio"])
        assert (frame.loc[pixel_signals, "effect"] == 0.5).all()
    else:
        missing = frame["effect"].isna()
        assert missing.any()
        assert frame.loc[missing, "note"].str.match(r"not estimable \(n = \d+\)").all()
    assert shift.Shift.model_validate_json(record.model_dump_json()) == record
    assert shift_plot.draw_shift(record, tmp_path / "shift.png").is_file()


def test_images_without_a_patient_stand_alone():
    """48 images of 24 patients without their ids are 48 patients."""
    table, pixels = data()
    assert (
        differences(table.assign(patient_id=""), pixels).loc[("NORMAL", "test", "mean"), "n_train"]
        == 48
    )


def test_the_figure_is_a_small_png(tmp_path: Path):
    """Under 300 kB: reports carry it inside them."""
    path = shift_plot.draw_shift(
        shift.measure_shift(*data(), "0" * 64), tmp_path / "eda" / "shift.png"
    )
    assert path.stat().st_size < 300_000
    with Image.open(path) as image:
        assert image.format == "PNG"


def test_equal_data_and_seed_give_an_equal_record():
    """Intervals are drawn with the seed."""
    assert shift.measure_shift(*data(), "0" * 64, seed=4) == shift.measure_shift(
        *data(), "0" * 64, seed=4
    )


def test_older_patients_in_test_are_found_where_ages_are_known():
    """Ages of two thirds of the films: those count, and another data set has no such signal."""
    table, pixels = data()
    rng = np.random.default_rng(5)
    ages = np.where(table["split"] == "test", 60, 30) + rng.integers(-5, 6, len(table))
    table["age"] = [str(float(age)) if place % 6 < 4 else "" for place, age in enumerate(ages)]
    record = shift.measure_shift(table, pixels, "0" * 64)
    found = record.table().set_index(["label_name", "compared", "signal"]).sort_index()
    age = found.loc[("NORMAL", "test", "age")]
    assert age["significant"] and age["effect"] > 0.95
    assert (age["n_train"], age["n_compared"]) == (16, 16)
    assert not found.loc[("NORMAL", "val", "age"), "significant"]
    assert any("age (years) is higher in test (median 30" in text for text in record.sentences())
    assert "pixel_spacing" not in set(record.table()["signal"])
