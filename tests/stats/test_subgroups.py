"""Parts of the test set: each metric with its n, marked where that is too few."""

import numpy as np
import pandas as pd
import pytest

from cxr.stats.subgroups import ATTRIBUTES, TOO_FEW, compare_subgroups, divisions, measure_subgroups
from cxr.stats.subgroups.differences import permutation_p_value


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


def with_attributes(n: int = 400, seed: int = 0, **columns: object) -> pd.DataFrame:
    """Return two images a patient, both classes, from two devices, of all ages, all predicted alike."""
    rng = np.random.default_rng(seed)
    patient = np.arange(n) // 2
    label = patient % 2
    is_right = rng.random(n) > 0.15
    by_patient = rng.permutation(n // 2)[patient]
    table = pd.DataFrame(
        {
            "image": [f"film-{number}" for number in range(n)],
            "patient_id": [f"p{number}" for number in patient],
            "etiology": "",
            "width": 100,
            "height": 100,
            "age": [str(float(number % 90)) for number in by_patient],
            "sex": np.where(by_patient % 2, "F", "M"),
            "view": np.where(by_patient % 5, "PA", "AP"),
            "year": [str(2015 + number % 4) for number in by_patient],
            "manufacturer": np.where(by_patient % 3, "Agfa", "Siemens"),
            "device_model": np.where(by_patient % 3, "DX-D", "Ysio"),
            "label": label,
            "score": np.where(is_right == (label == 1), 0.9, 0.1),
        }
    )
    return table.assign(**columns)


def test_what_tags_say_divides_the_test_set():
    """Bands of age in the order of years; every image is in one group of each division."""
    subgroups = measure_subgroups(with_attributes(), 0.5)
    divisions = list(dict.fromkeys(s.by for s in subgroups))
    # One model of each manufacturer: device would be the same division again.
    assert divisions == ["image size", "age", "sex", "view", "manufacturer", "year"]
    for by in divisions:
        assert sum(s.n for s in subgroups if s.by == by) == 400
    ages = list(dict.fromkeys(s.group for s in subgroups if s.by == "age"))
    assert ages == ["0-4 years", "5-17 years", "18-39 years", "40-64 years", "65 years or more"]


def test_an_age_belongs_to_the_band_of_its_completed_years():
    """A child is four until its fifth birthday."""
    bands = {
        "0-4 years": ("0", "4.99"),
        "5-17 years": ("5", "17.9"),
        "18-39 years": ("18", "39.5"),
        "40-64 years": ("40", "64.9"),
        "65 years or more": ("65", "101"),
    }
    for band, ages in bands.items():
        for age in ages:
            groups = divisions.divide(with_attributes(4, age=age))["age"]
            assert groups.names == (band,)


def test_unknown_values_are_a_group_that_no_test_compares():
    """A quarter of the films says no sex: shown, last, and left out of the comparison."""
    table = with_attributes()
    table.loc[table.index < 100, "sex"] = ""
    groups = list(dict.fromkeys(s.group for s in measure_subgroups(table, 0.5) if s.by == "sex"))
    assert groups == ["F", "M", "not known"]
    test = next(t for t in compare_subgroups(table, 0.5) if t.by == "sex")
    assert test.compared == ("F", "M") and test.left_out == ()


def test_without_attributes_and_with_empty_ones_the_divisions_are_as_before():
    """Folders of PNG files have no ages: nothing is shown of them."""
    table = with_attributes().drop(columns=list(ATTRIBUTES))
    expected = measure_subgroups(table, 0.5)
    assert {s.by for s in expected} == {"image size"}
    empty = table.assign(**dict.fromkeys(ATTRIBUTES, ""))
    assert measure_subgroups(empty, 0.5) == expected


def test_many_devices_and_years_become_few_groups():
    """At most eight groups of a division: the rarest devices together, years in fives."""
    rows = np.arange(400)
    table = with_attributes(
        device_model=[f"model {number % 30}" for number in rows],
        year=[str(2001 + number % 20) for number in rows],
    )
    subgroups = measure_subgroups(table, 0.5)
    devices = list(dict.fromkeys(s.group for s in subgroups if s.by == "device"))
    assert len(devices) == 8 and devices[-1].startswith("others (")
    years = list(dict.fromkeys(s.group for s in subgroups if s.by == "year"))
    assert years == ["2000-2004", "2005-2009", "2010-2014", "2015-2019", "2020-2024"]


def test_one_image_a_patient_gives_the_p_value_of_scipys_permuted_chi_square():
    """The statistic is Pearson's chi-square then; SciPy permutes the same hypothesis."""
    from scipy.stats import MonteCarloMethod, chi2_contingency

    rng = np.random.default_rng(3)
    groups = rng.integers(0, 3, 150)
    right = rng.random(150) < np.array([0.8, 0.9, 0.65])[groups]
    table = np.array([[(groups == g)[right == value].sum() for g in range(3)] for value in (0, 1)])
    expected = chi2_contingency(
        table, correction=False, method=MonteCarloMethod(n_resamples=9_999, rng=rng)
    ).pvalue
    found = permutation_p_value(groups, np.arange(150), right)
    assert 0.001 < expected < 0.2
    assert found == pytest.approx(expected, abs=0.008)


def test_images_of_one_patient_are_no_independent_draws():
    """Ten equal images of each patient: p is that of the patients, not that of ten times as many."""
    rng = np.random.default_rng(1)
    groups = np.repeat([0, 1], 30)
    right = rng.random(60) < np.where(groups, 0.95, 0.75)
    by_patient = permutation_p_value(groups, np.arange(60), right)
    repeated = permutation_p_value(
        np.repeat(groups, 10), np.repeat(np.arange(60), 10), np.repeat(right, 10)
    )
    as_if_independent = permutation_p_value(
        np.repeat(groups, 10), np.arange(600), np.repeat(right, 10)
    )
    assert repeated == pytest.approx(by_patient, abs=0.01)
    assert as_if_independent < by_patient / 10


@pytest.mark.parametrize("value", [True, False])
def test_where_all_patients_are_alike_nothing_differs(value: bool):
    """Every image right, or every one wrong: p is 1."""
    groups = np.repeat([0, 1], 20)
    assert permutation_p_value(groups, np.arange(40) // 2, np.full(40, value)) == 1


def test_a_group_in_which_the_model_fails_is_named():
    """Of the films taken AP half of the positives are missed; nothing else differs."""
    table = with_attributes(800)
    is_missed = (table["view"] == "AP") & (table["label"] == 1) & (table.index % 4 < 3)
    table.loc[is_missed, "score"] = 0.1
    significant = [test for test in compare_subgroups(table, 0.5) if test.significant]
    assert [(test.by, test.figure, test.lowest) for test in significant] == [
        ("view", "sensitivity", "AP")
    ]
    assert significant[0].sentence().startswith("Sensitivity differs by view: 0.")


def test_twenty_models_that_are_alike_everywhere_are_hardly_ever_blamed():
    """At the level of 5 % one of twenty sets is expected to have a difference."""
    blamed = 0
    for seed in range(20):
        tests = compare_subgroups(with_attributes(seed=seed), 0.5)
        assert len(tests) == 10  # age, sex, view, manufacturer, year
        blamed += any(test.significant for test in tests)
    assert blamed <= 4  # the chance of more is 0.3 %


def test_groups_of_few_images_are_not_compared():
    """Ten films of each view but one: nothing is tested, and which groups have too few is said."""
    view = np.where(np.arange(400) < 40, "AP", "PA")
    test = next(
        t
        for t in compare_subgroups(with_attributes(view=view), 0.5)
        if (t.by, t.figure) == ("view", "sensitivity")
    )
    assert (test.compared, test.left_out) == (("AP", "PA"), ())
    assert test.p is not None
    view = np.where(np.arange(400) < 30, "AP", "PA")
    test = next(
        t
        for t in compare_subgroups(with_attributes(view=view), 0.5)
        if (t.by, t.figure) == ("view", "sensitivity")
    )
    assert (test.compared, test.left_out) == (("PA",), ("AP",))
    assert test.p is None and test.p_holm is None and not test.significant
