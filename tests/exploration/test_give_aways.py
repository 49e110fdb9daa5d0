"""A device, site or window that occurs in one class only is named; clean data sets are not."""

import numpy as np
import pandas as pd
import pytest

from cxr.core.settings import LABEL_NAMES
from cxr.exploration import audit, baselines, give_aways, signals
from cxr.exploration.give_aways import find_give_aways, warn_of_give_aways

DEVICES = {"Agfa": "DX-D 300", "Siemens": "Ysio Max", "GE Healthcare": "Discovery XR656"}


def tagged(patients: int = 150, seed: int = 0, share: float = 0.6) -> pd.DataFrame:
    """Return two films a patient, all tags drawn alike in both classes.

    Args:
        patients: How many patients there are.
        seed: Of all draws.
        share: Of the patients with pneumonia.
    """
    rng = np.random.default_rng(seed)
    number = np.repeat(np.arange(patients), 2)
    label = (rng.random(patients) < share).astype(int)[number]
    maker = rng.choice(list(DEVICES), patients)[number]
    images = len(number)
    return pd.DataFrame(
        {
            "image": [f"film-{place}" for place in range(images)],
            "patient_id": [f"p{patient}" for patient in number],
            "label": label,
            "label_name": np.array(LABEL_NAMES)[label],
            "split": np.array(["train", "train", "val", "test"])[number % 4],
            "width": rng.integers(90, 111, images),
            "height": 80,
            "bytes": rng.integers(3000, 5000, images),
            "mode": "L",
            "format": "DICOM",
            "icc": 0,
            "exif": 0,
            "quantisation": "",
            "manufacturer": maker,
            "device_model": [DEVICES[name] for name in maker],
            "station": rng.choice([f"{place:016x}" for place in range(12)], images),
            "view": rng.choice(["PA", "AP", ""], images),
            "year": rng.choice([str(year) for year in range(2012, 2025)], images),
            "bits_stored": rng.choice(["12", "14"], images),
            "pixel_spacing": rng.choice(["0.1430", "0.1390", "0.2000", ""], images),
            "transfer_syntax": rng.choice(["JPEGLossless", "ExplicitVRLittleEndian"], images),
            "photometric": rng.choice(["MONOCHROME1", "MONOCHROME2"], images),
            "window": rng.choice(["first window LINEAR", "VOI LUT", "full range"], images),
            "modality": rng.choice(["CR", "DX"], images),
        }
    )


def noise(table: pd.DataFrame) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (len(table), 32, 32), dtype=np.uint8)


def test_a_device_that_is_in_one_class_only_is_named_with_its_counts():
    """Thirty patients with pneumonia from a fourth device: its maker and model are named."""
    table = tagged()
    sick = table.loc[table["label"] == 1, "patient_id"].unique()[:30]
    is_there = table["patient_id"].isin(sick)
    table.loc[is_there, ["manufacturer", "device_model"]] = ["Acme", "X1"]
    found = find_give_aways(table)
    assert [(one.column, one.value) for one in found] == [
        ("manufacturer", "Acme"),
        ("device_model", "X1"),
    ]
    assert {(one.label_name, one.images, one.others, one.patients) for one in found} == {
        ("PNEUMONIA", 60, 0, 30)
    }
    warning = warn_of_give_aways(found)
    assert "manufacturer Acme occurs in PNEUMONIA only (60 images of 30 patients)" in warning
    assert "device model X1" in warning


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("manufacturer", ("Agfa", "Siemens")),
        ("transfer_syntax", ("JPEGLossless", "JPEG2000Lossless")),
        ("bits_stored", ("10", "12")),
        ("window", ("VOI LUT", "full range")),
        ("pixel_spacing", ("0.1430", "0.2000")),
        ("view", ("AP", "PA")),
        ("year", ("2019", "2020")),
        ("station", ("0f0f0f0f0f0f0f0f", "a0a0a0a0a0a0a0a0")),
    ],
)
def test_one_site_a_class_is_named_at_once(column: str, values: tuple[str, str]):
    """Each tag is enough alone: both of its values are named, each with its class."""
    table = tagged()
    table[column] = np.array(values)[table["label"]]
    found = find_give_aways(table)
    assert {(one.column, one.value, one.label_name) for one in found} == {
        (column, values[0], "NORMAL"),
        (column, values[1], "PNEUMONIA"),
    }


def test_films_of_one_class_without_tags_are_named():
    """The negatives came as PNG: that no manufacturer is known tells the class."""
    table = tagged()
    table.loc[table["label"] == 0, ["manufacturer", "device_model"]] = ""
    warning = warn_of_give_aways(find_give_aways(table))
    assert "no manufacturer occurs in NORMAL only" in warning
    assert "manufacturer Agfa occurs in PNEUMONIA only" in warning


def test_nearly_alone_is_named_and_most_is_not():
    """Two NORMAL films among eighty are nearly alone; twenty among eighty are not."""
    for normal_patients, is_named in ((1, True), (10, False)):
        table = tagged()
        for label, count in ((1, 40 - normal_patients), (0, normal_patients)):
            chosen = table.loc[table["label"] == label, "patient_id"].unique()[:count]
            table.loc[table["patient_id"].isin(chosen), "manufacturer"] = "Acme"
        found = [one for one in find_give_aways(table) if one.value == "Acme"]
        assert bool(found) == is_named
        if is_named:
            assert (found[0].images, found[0].others) == (78, 2)
            assert "nearly alone (78 of 80 images of 40 patients)" in warn_of_give_aways((*found,))


def test_fifty_clean_data_sets_are_not_named():
    """Whatever the share of pneumonia, tags that are drawn alike in both classes give nothing away."""
    for seed in range(50):
        table = tagged(seed=seed, share=(0.1, 0.5, 0.9)[seed % 3])
        assert find_give_aways(table) == ()


def test_a_rare_class_is_not_blamed_on_the_devices():
    """Three of a hundred films are positive: a device without one of them is no finding."""
    table = tagged(seed=1, share=0.03)
    assert find_give_aways(table) == ()


def test_many_films_of_few_patients_prove_nothing():
    """Forty films of eight patients come from one device: eight patients may be chance."""
    table = tagged()
    table.loc[table["label"] == 1, "patient_id"] = "p" + pd.Series(
        np.arange(int((table["label"] == 1).sum())) // 5,
        index=table.index[table["label"] == 1],
    ).astype(str)
    table.loc[table["patient_id"].isin([f"p{n}" for n in range(8)]), "station"] = "0123456789abcdef"
    assert "0123456789abcdef" not in {one.value for one in find_give_aways(table)}


def test_tables_without_tags_or_with_one_class_give_nothing_away():
    """Folders of PNG files have no tags; rows set aside do not count."""
    table = tagged()
    plain = table.drop(columns=[*give_aways.TEXTS, *give_aways.NUMBERS], errors="ignore")
    assert find_give_aways(plain) == ()
    table["manufacturer"] = np.array(["Agfa", "Siemens"])[table["label"]]
    assert find_give_aways(table[table["label"] == 1]) == ()
    assert find_give_aways(table.assign(split="excluded")) == ()


def test_the_audit_says_it_first_and_the_container_reads_the_tags(
    monkeypatch: pytest.MonkeyPatch,
):
    """What the tags tell is in the record, in its warnings, and in the container's baseline."""
    monkeypatch.setattr(baselines, "DRAWS", 50)
    table = tagged(100)
    table["manufacturer"] = np.array(["Agfa", "Siemens"])[table["label"]]
    record = audit.run_audit(table, noise(table), "0" * 64, harmonised=True)
    assert record.warnings()[0].startswith("The class can be told from where a film was taken")
    container = record.floors[0]
    assert container.test.auroc is not None and container.test.auroc > 0.95
    for name in ("manufacturer", "bits stored", "pixel spacing", "gray window", "station"):
        assert name in container.features
    assert audit.Audit.model_validate_json(record.model_dump_json()) == record


def test_without_tags_the_container_reads_what_it_read_before():
    """The baselines of folders without tags stay those of earlier versions."""
    table = tagged().drop(columns=[*give_aways.TEXTS, *give_aways.NUMBERS], errors="ignore")
    description = signals.read_container(table, 0).description
    assert description == (
        "bytes per pixel, width, aspect "
        "(the same in all files: height, mode, format, icc, exif, quantisation)"
    )
