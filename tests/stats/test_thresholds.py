"""Operating points against every threshold that scikit-learn's ROC curve offers, and worked examples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from pydantic import ValidationError
from sklearn.metrics import roc_curve

from cxr.core.errors import DataError
from cxr.stats.thresholds import Rule, choose_operating_point

# Few distinct values, so that ties are common; both classes are there.
sets = some.lists(
    some.tuples(
        some.integers(0, 1),
        some.sampled_from([0.0, 0.1, 0.25, 0.3, 0.7, 0.9, np.nextafter(0.9, 1), 1.0]),
    ),
    min_size=2,
    max_size=40,
).filter(lambda rows: len({label for label, _ in rows}) == 2)


def curve(labels, scores):
    false_alarms, sensitivity, _ = roc_curve(labels, scores, drop_intermediate=False)
    return sensitivity, 1 - false_alarms


@settings(deadline=None, max_examples=150)
@given(rows=sets, wanted=some.sampled_from([0.3, 0.5, 0.8, 0.95, 1.0]))
def test_sensitivity_rule_is_the_best_point_of_the_roc_curve(rows, wanted):
    """No threshold keeps the sensitivity with a higher specificity, nor that specificity with a higher sensitivity."""
    labels, scores = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    found = choose_operating_point(labels, scores, Rule(min_sensitivity=wanted))
    sensitivity, specificity = curve(labels, scores)
    best = specificity[sensitivity >= wanted - 1e-12].max()
    assert found.specificity == pytest.approx(best)
    assert found.sensitivity == pytest.approx(sensitivity[np.isclose(specificity, best)].max())
    assert found.sensitivity >= wanted - 1e-12


@settings(deadline=None, max_examples=100)
@given(
    rows=sets,
    ratio=some.sampled_from([0.01, 0.5, 1, 7, 1000]),
    prevalence=some.sampled_from([None, 0.02, 0.6]),
)
def test_youden_and_cost_are_the_best_points_of_the_roc_curve(rows, ratio, prevalence):
    """The highest sensitivity + specificity, the lowest expected cost: against every point, both ends included."""
    labels, scores = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    sensitivity, specificity = curve(labels, scores)
    found = choose_operating_point(labels, scores, Rule(name="youden"))
    assert found.sensitivity + found.specificity == pytest.approx((sensitivity + specificity).max())

    at = prevalence or labels.mean()

    def cost(sensitivity, specificity):
        return ratio * at * (1 - sensitivity) + (1 - at) * (1 - specificity)

    found = choose_operating_point(
        labels, scores, Rule(name="cost", cost_ratio=ratio, prevalence=prevalence)
    )
    assert cost(found.sensitivity, found.specificity) == pytest.approx(
        cost(sensitivity, specificity).min()
    )
    assert found.prevalence == pytest.approx(at)


@pytest.mark.parametrize(
    ("wanted", "kept"), [(0.95, 19), (0.9, 18), (0.55, 11), (0.951, 20), (1.0, 20)]
)
def test_exact_fractions_are_exact(wanted, kept):
    """0.95 of 20 ill images is 19, not 20 for a rounding error; 0.951 needs the twentieth."""
    # Ill and healthy take turns from the top, so that each more caught costs one false alarm.
    labels, scores = np.tile([1, 0], 20), np.linspace(0.9, 0.1, 40)
    found = choose_operating_point(labels, scores, Rule(min_sensitivity=wanted))
    assert found.sensitivity == kept / 20
    assert found.specificity == pytest.approx(1 - (kept - 1) / 20)


def test_threshold_lies_half_way_between_neighbours():
    """The worked example: 0.3 is healthy, 0.5 ill, so 0.4; a score more is caught where it costs nothing."""
    found = choose_operating_point(
        np.array([0, 0, 1, 1]), np.array([0.1, 0.3, 0.5, 0.9]), Rule(min_sensitivity=0.5)
    )
    assert (found.threshold, found.sensitivity, found.specificity) == (0.4, 1.0, 1.0)
    assert (found.images, found.positives, found.min_sensitivity, found.cost_ratio) == (
        4,
        2,
        0.5,
        None,
    )


def test_cost_of_a_missed_one_moves_the_threshold():
    """Scores 0.8 ill, 0.6 healthy, 0.4 ill, 0.2 healthy: at 1:1 a tie goes to fewer missed, at 1:3 one is missed."""
    labels, scores = np.array([1, 0, 1, 0]), np.array([0.8, 0.6, 0.4, 0.2])
    even = choose_operating_point(labels, scores, Rule(name="cost", cost_ratio=1))
    assert even.threshold == pytest.approx(0.3)  # one false alarm; at 0.7 it would be one missed
    assert choose_operating_point(
        labels, scores, Rule(name="cost", cost_ratio=1 / 3)
    ).threshold == pytest.approx(0.7)
    rare = choose_operating_point(labels, scores, Rule(name="cost", cost_ratio=1, prevalence=0.01))
    assert (rare.threshold, rare.sensitivity) == (pytest.approx(0.7), 0.5)
    nobody = choose_operating_point(labels, 1 - scores, Rule(name="cost", cost_ratio=0.1))
    assert (nobody.sensitivity, nobody.specificity) == (
        0.0,
        1.0,
    )  # calling no one is allowed, where it is cheapest


def test_words_carry_n_and_prevalence():
    """Each rule is one sentence that a person can read, with n and prevalence."""
    labels, scores = np.array([0, 0, 0, 1]), np.array([0.1, 0.2, 0.3, 0.9])
    rules = [
        Rule(),
        Rule(name="youden"),
        Rule(name="fixed", threshold=0.5),
        Rule(name="cost", cost_ratio=10),
    ]
    words = [choose_operating_point(labels, scores, rule).words for rule in rules]
    assert all(each.endswith("on 4 validation images (prevalence 0.250).") for each in words)
    assert (
        "at least 0.95" in words[0]
        and "(0.5)" in words[2]
        and "one false negative counts as 10 false positives" in words[3]
    )


def test_constant_scores_call_everyone():
    """All scores equal: everything is called pneumonia, sensitivity 1, specificity 0."""
    for rule in (Rule(), Rule(name="youden"), Rule(name="cost", cost_ratio=5)):
        found = choose_operating_point(np.array([0, 1, 1]), np.full(3, 0.5), rule)
        assert (found.sensitivity, found.specificity, found.threshold) == (1.0, 0.0, 0.5)


def test_what_cannot_be_chosen_is_said():
    """One class, none at all and NaN are errors with n; a threshold given in advance needs no second class."""
    for labels in ([1, 1], []):
        with pytest.raises(DataError, match=rf"not estimable \(n = {len(labels)}\)"):
            choose_operating_point(np.array(labels), np.full(len(labels), 0.2))
    with pytest.raises(DataError, match="1 scores that are not"):
        choose_operating_point(np.array([0, 1]), np.array([0.1, np.nan]))
    found = choose_operating_point(
        np.array([1, 1]), np.array([0.0, 0.6]), Rule(name="fixed", threshold=0.0)
    )
    assert (found.threshold, found.sensitivity, found.specificity) == (0.0, 1.0, None)


@pytest.mark.parametrize(
    "wrong",
    [{"name": "fixed"}, {"name": "cost"}, {"min_sensitivity": 0}, {"min_sensitivity": 1.1}, {"name": "best"},
     {"name": "cost", "cost_ratio": -1}, {"name": "cost", "cost_ratio": 1, "prevalence": 1}, {"sensitivity": 0.9}],
)  # fmt: skip
def test_a_rule_without_its_number_is_refused(wrong):
    """Nothing has a silent default of 0.5: a rule needs its number, within bounds, spelt right."""
    with pytest.raises(ValidationError):
        Rule(**wrong)
