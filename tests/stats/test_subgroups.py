"""Parts of the test set: each metric with its n, marked where that is too few."""

import numpy as np
import pandas as pd
import pytest

from cxr.stats.subgroups import TOO_FEW, measure_subgroups


def scores(n: int = 60) -> pd.DataFrame:
    """Return alternating NORMAL (IM) and PNEUMONIA (person, virus in the first half).

    Every fifth score is on the wrong side of 0.5.
    """
    row = np.arange(n)
    label = row % 2
    positive_names = [f"test/P/person{i}_virus_1.jpeg" for i in row]
    negative_names = [f"test/N/IM-{i:04d}-1.jpeg" for i in row]
    right = row % 5 > 0
    cause = np.where(row < n // 2, "virus", "bacteria")
    return pd.DataFrame(
        {
            "image": np.where(label == 1, positive_names, negative_names),
            "patient_id": [f"p{i}" for i in row],
            "etiology": np.where(label == 0, "", cause),
            "width": 100 + row,
            "height": 100,
            "label": label,
            "score": np.where(right == (label == 1), 0.9, 0.1),
        }
    )


def test_sensitivity_by_cause_is_counted_by_hand():
    """Viral: 15 images at odd places below 30, of which 5, 15 and 25 are missed."""
    subgroups = {(s.by, s.group, s.figure): s for s in measure_subgroups(scores(), 0.5)}
    virus = subgroups["cause", "virus", "sensitivity"]
    assert (virus.right, virus.n, virus.patients) == (12, 15, 15)
    assert virus.value == pytest.approx(0.8)
    assert virus.few == (TOO_FEW > 15)
    assert virus.interval.low < 0.8 < virus.interval.high
    assert ("cause", "virus", "specificity") not in subgroups  # no NORMAL image has a cause


def test_every_image_is_in_one_size_group_and_one_series():
    """The groups of one kind add up to the whole; sizes come from small to large with bounds."""
    subgroups = measure_subgroups(scores(), 0.5)
    for by in ("image size", "series"):
        assert sum(s.n for s in subgroups if s.by == by) == 60
    sizes = list(dict.fromkeys(s.group for s in subgroups if s.by == "image size"))
    assert [name[:8] for name in sizes] == ["1: small", "2: mediu", "3: large"]


def test_equal_sizes_make_one_group():
    """If all images are 224x224, that is the one group."""
    table = scores().assign(width=224, height=224)
    sizes = {s.group for s in measure_subgroups(table, 0.5) if s.by == "image size"}
    assert sizes == {"all 224x224"}


def test_one_patient_gives_no_interval():
    """One patient behind a metric: no interval, and `few`."""
    subgroups = measure_subgroups(scores(60).head(2), 0.5)
    assert subgroups and all(s.few and s.interval is None for s in subgroups)


def test_a_size_of_two_thirds_is_divided_from_the_rest():
    """No tercile is below the largest size: small and large groups, with every image."""
    table = scores().assign(width=np.where(np.arange(60) < 10, 50, 100))
    subgroups = [s for s in measure_subgroups(table, 0.5) if s.by == "image size"]
    assert sum(s.n for s in subgroups) == 60
    assert {s.group[:8] for s in subgroups} == {"1: small", "2: large"}
