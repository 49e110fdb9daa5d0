"""Parts of the test set: each figure with its n, and too few said where there are too few."""

import numpy as np
import pandas as pd
import pytest

from cxr.stats.subgroups import TOO_FEW, measure_subgroups


def scores(n: int = 60) -> pd.DataFrame:
    """Return alternating NORMAL (IM) and PNEUMONIA (person, virus for the first half); every fifth score is wrong."""
    at = np.arange(n)
    label = at % 2
    names = [f"test/P/person{i}_virus_1.jpeg" if i % 2 else f"test/N/IM-{i:04d}-1.jpeg" for i in at]
    right = at % 5 > 0
    return pd.DataFrame({
        "image": names, "patient_id": [f"p{i}" for i in at], "etiology": np.where(label == 0, "", np.where(at < n // 2, "virus", "bacteria")),
        "width": 100 + at, "height": 100, "label": label, "score": np.where(right == (label == 1), 0.9, 0.1),
    })  # fmt: skip


def test_sensitivity_by_cause_is_counted_by_hand():
    """Viral: 15 images at odd places below 30, of which 5, 15 and 25 are missed."""
    found = {(s.by, s.group, s.figure): s for s in measure_subgroups(scores(), 0.5)}
    virus = found["cause", "virus", "sensitivity"]
    assert (virus.right, virus.n, virus.patients) == (12, 15, 15) and virus.value == pytest.approx(
        0.8
    )
    assert virus.few == (TOO_FEW > 15) and virus.interval.low < 0.8 < virus.interval.high
    assert ("cause", "virus", "specificity") not in found  # no NORMAL image has a cause


def test_every_image_is_in_one_size_group_and_one_series():
    """The parts of one kind add up to the whole; sizes come from small to large with their bounds."""
    found = measure_subgroups(scores(), 0.5)
    for by in ("image size", "series"):
        assert sum(s.n for s in found if s.by == by) == 60
    sizes = list(dict.fromkeys(s.group for s in found if s.by == "image size"))
    assert [name[:8] for name in sizes] == ["1: small", "2: mediu", "3: large"]


def test_equal_sizes_make_one_group():
    """224x224 images: one size, said as such."""
    table = scores().assign(width=224, height=224)
    assert {s.group for s in measure_subgroups(table, 0.5) if s.by == "image size"} == {
        "all 224x224"
    }


def test_two_images_give_no_made_up_interval():
    """One patient behind a figure: no interval, and `few`."""
    found = measure_subgroups(scores(60).head(2), 0.5)
    assert found and all(s.few and s.interval is None for s in found)


def test_two_thirds_of_one_size_are_parted_from_the_rest():
    """No tercile lies below the largest size: small and large, nobody lost."""
    table = scores().assign(width=np.where(np.arange(60) < 10, 50, 100))
    found = [s for s in measure_subgroups(table, 0.5) if s.by == "image size"]
    assert sum(s.n for s in found) == 60 and {s.group[:8] for s in found} == {
        "1: small",
        "2: large",
    }
