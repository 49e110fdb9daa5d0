"""Operating points against every point of scikit-learn's ROC curve, and worked examples."""

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


def sensitivities_and_specificities(labels, scores):
    false_positive_rates, sensitivities, _ = roc_curve(labels, scores, drop_intermediate=False)
    return sensitivities, 1 - false_positive_rates


@settings(deadline=None, max_examples=150)
@given(rows=sets, wanted=some.sampled_from([0.3, 0.5, 0.8, 0.95, 1.0]))
def test_sensitivity_rule_is_the_best_point_of_the_roc_curve(rows, wanted):
    """No threshold with the sensitivity asked for has a better specificity, or then sensitivity."""
    labels = np.array([label for label, _ in rows])
    scores = np.array([score for _, score in rows])
    point = choose_operating_point(labels, scores, Rule(min_sensitivity=wanted))
    sensitivity, specificity = sensitivities_and_specificities(labels, scores)
    best = specificity[sensitivity >= wanted - 1e-12].max()
    assert point.specificity == pytest.approx(best)
    assert point.sensitivity == pytest.approx(sensitivity[np.isclose(specificity, best)].max())
    assert point.sensitivity >= wanted - 1e-12


@settings(deadline=None, max_examples=100)
@given(
    rows=sets,
    ratio=some.sampled_from([0.01, 0.5, 1, 7, 1000]),
    prevalence=some.sampled_from([None, 0.02, 0.6]),
)
def test_youden_and_cost_are_the_best_points_of_the_roc_curve(rows, ratio, prevalence):
    """The highest sensitivity + specificity and the lowest expected cost of all points."""
    labels = np.array([label for label, _ in rows])
    scores = np.array([score for _, score in rows])
    sensitivity, specificity = sensitivities_and_specificities(labels, scores)
    point = choose_operating_point(labels, scores, Rule(name="youden"))
    assert point.sensitivity + point.specificity == pytest.approx((sensitivity + specificity).max())

    assumed = prevalence or labels.mean()

    def cost(sensitivity, specificity):
        return ratio * assumed * (1 - sensitivity) + (1 - assumed) * (1 - specificity)

    point = choose_operating_point(
        labels, scores, Rule(name="cost", cost_ratio=ratio, prevalence=prevalence)
    )
    assert cost(point.sensitivity, point.specificity) == pytest.approx(
        cost(sensitivity, specificity).min()
    )
    assert point.prevalence == pytest.approx(assumed)


@pytest.mark.parametrize(
    ("wanted", "kept"), [(0.95, 19), (0.9, 18), (0.55, 11), (0.951, 20), (1.0, 20)]
)
def test_exact_fractions_are_exact(wanted, kept):
    """0.95 of 20 positives is 19, not 20 for a rounding error; 0.951 needs the twentieth."""
    # Classes alternate, so that each further true positive costs one false positive.
    labels = np.tile([1, 0], 20)
    scores = np.linspace(0.9, 0.1, 40)
    point = choose_operating_point(labels, scores, Rule(min_sensitivity=wanted))
    assert point.sensitivity == kept / 20
    assert point.specificity == pytest.approx(1 - (kept - 1) / 20)


def test_threshold_lies_half_way_between_neighbours():
    """0.3 is negative, 0.5 positive: 0.4. A true positive that costs nothing is taken."""
    point = choose_operating_point(
        np.array([0, 0, 1, 1]), np.array([0.1, 0.3, 0.5, 0.9]), Rule(min_sensitivity=0.5)
    )
    assert (point.threshold, point.sensitivity, point.specificity) == (0.4, 1.0, 1.0)
    assert (point.images, point.positives) == (4, 2)
    assert (point.min_sensitivity, point.cost_ratio) == (0.5, None)


def test_cost_of_a_false_negative_moves_the_threshold():
    """At 1:1 a tie goes to fewer false negatives, at 1:3 to fewer false positives."""
    labels = np.array([1, 0, 1, 0])
    scores = np.array([0.8, 0.6, 0.4, 0.2])
    even = choose_operating_point(labels, scores, Rule(name="cost", cost_ratio=1))
    assert even.threshold == pytest.approx(0.3)  # one false positive; at 0.7, one false negative
    assert choose_operating_point(
        labels, scores, Rule(name="cost", cost_ratio=1 / 3)
    ).threshold == pytest.approx(0.7)
    rare = choose_operating_point(labels, scores, Rule(name="cost", cost_ratio=1, prevalence=0.01))
    assert (rare.threshold, rare.sensitivity) == (pytest.approx(0.7), 0.5)
    strictest = choose_operating_point(labels, 1 - scores, Rule(name="cost", cost_ratio=0.1))
    # No positive prediction at all is allowed, where it costs least.
    assert (strictest.sensitivity, strictest.specificity) == (0.0, 1.0)


def test_rules_are_described_with_n_and_prevalence():
    """Each rule is one sentence for people, with its number, n and prevalence."""
    labels = np.array([0, 0, 0, 1])
    scores = np.array([0.1, 0.2, 0.3, 0.9])
    rules = [
        Rule(),
        Rule(name="youden"),
        Rule(name="fixed", threshold=0.5),
        Rule(name="cost", cost_ratio=10),
    ]
    words = [choose_operating_point(labels, scores, rule).words for rule in rules]
    ending = "on 4 validation images (prevalence 0.250)."
    assert all(sentence.endswith(ending) for sentence in words)
    assert "at least 0.95" in words[0]
    assert "Youden" in words[1]
    assert "(0.5)" in words[2]
    assert "one false negative counts as 10 false positives" in words[3]


def test_constant_scores_are_all_positive():
    """All scores equal: every image is predicted positive, sensitivity 1, specificity 0."""
    for rule in (Rule(), Rule(name="youden"), Rule(name="cost", cost_ratio=5)):
        point = choose_operating_point(np.array([0, 1, 1]), np.full(3, 0.5), rule)
        assert (point.sensitivity, point.specificity, point.threshold) == (1.0, 0.0, 0.5)


def test_invalid_input_is_an_error():
    """One class, no image and NaN are errors with n; a fixed threshold needs no second class."""
    for labels in ([1, 1], []):
        with pytest.raises(DataError, match=rf"not estimable \(n = {len(labels)}\)"):
            choose_operating_point(np.array(labels), np.full(len(labels), 0.2))
    with pytest.raises(DataError, match="1 scores that are not"):
        choose_operating_point(np.array([0, 1]), np.array([0.1, np.nan]))
    point = choose_operating_point(
        np.array([1, 1]), np.array([0.0, 0.6]), Rule(name="fixed", threshold=0.0)
    )
    assert (point.threshold, point.sensitivity, point.specificity) == (0.0, 1.0, None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "fixed"},
        {"name": "cost"},
        {"min_sensitivity": 0},
        {"min_sensitivity": 1.1},
        {"name": "best"},
        {"name": "cost", "cost_ratio": -1},
        {"name": "cost", "cost_ratio": 1, "prevalence": 1},
        {"sensitivity": 0.9},
    ],
)
def test_a_rule_without_its_number_is_refused(wrong):
    """No rule has a silent default of 0.5: it needs its number, within bounds, spelt right."""
    with pytest.raises(ValidationError):
        Rule(**wrong)


@pytest.mark.parametrize("name", ["sensitivity", "youden"])
def test_several_sets_of_scores_count_alike(name):
    """As if each image as it is and in each world were an image of its own; said in words; counted once."""
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], [40, 60])
    sets = np.clip(0.3 + 0.4 * labels[:, None] + rng.normal(0, 0.2, (100, 3)), 0, 1)
    rule = Rule(name=name)
    found = choose_operating_point(labels, sets, rule)
    apart = choose_operating_point(np.tile(labels, 3), sets.T.ravel(), rule)
    assert (found.threshold, found.sensitivity) == (apart.threshold, apart.sensitivity)
    assert found.specificity == apart.specificity
    assert (found.images, found.positives, found.worlds) == (100, 60, 2)
    assert "on 100 validation images, as they are and in 2 stress worlds alike" in found.words


def test_the_cost_of_a_balanced_sample_is_that_of_its_set():
    """Given the prevalence of validation, the threshold is that of a set with as many positives."""
    scores = np.linspace(0, 1, 41)[1:]
    labels = (np.random.default_rng(0).random(40) < scores).astype(int)
    rule = Rule(name="cost", cost_ratio=3)
    found = choose_operating_point(labels, scores, rule, prevalence=0.1)
    same = choose_operating_point(labels, scores, rule.model_copy(update={"prevalence": 0.1}))
    assert found.threshold == same.threshold
    assert found.prevalence == 0.1


def test_the_sensitivity_is_kept_over_the_sets_of_each_kind():
    """It is the lowest of the thresholds that the kinds ask for by themselves; Youden's is that of all sets."""
    rng = np.random.default_rng(4)
    labels = np.repeat([0, 1], [50, 50])
    sets = np.clip(0.3 + 0.4 * labels[:, None] + rng.normal(0, 0.15, (100, 4)), 0, 1)
    sets[:, 2:] = np.clip(sets[:, 2:] - 0.15, 0, 1)
    kinds = ["clean", "gray", "detail", "detail"]
    found = choose_operating_point(labels, sets, kinds=kinds)
    alone = [
        choose_operating_point(labels, sets[:, columns]).threshold for columns in ([0], [1], [2, 3])
    ]
    assert found.threshold == min(alone)
    assert (sets[labels == 1][:, 2:] >= found.threshold).mean() >= 0.95
    assert "in 3 stress worlds, over those of each kind (gray, detail)" in found.words
    youden = Rule(name="youden")
    assert (
        choose_operating_point(labels, sets, youden, kinds=kinds).threshold
        == choose_operating_point(labels, sets, youden).threshold
    )
