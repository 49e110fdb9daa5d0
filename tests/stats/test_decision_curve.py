"""Decision curves against the dcurves package, and what thresholds mean among 1,000 films."""

import numpy as np
import pandas as pd
import pytest

from cxr.core.errors import DataError
from cxr.stats.calibration.consequences import EVERY_FILM, NO_FILM, Policy, measure_policy
from cxr.stats.calibration.decision_curve import (
    THRESHOLDS,
    DecisionCurve,
    DecisionPoint,
    measure_decision_curve,
    net_benefit,
    treat_all_benefit,
)


def simulate(n=400, seed=0, separation=2.0):
    """Return labels, scores that are probabilities, and patients of two images each."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.4).astype(int)
    evidence = rng.normal(separation * (labels - 0.5), 1)
    scores = 1 / (1 + np.exp(-(separation * evidence + np.log(0.4 / 0.6))))
    return labels, scores, [f"p{i // 2}" for i in range(n)]


@pytest.mark.parametrize("prevalence", [None, 0.05])
def test_net_benefit_is_that_of_the_dcurves_package(prevalence):
    """To 1e-9, at the prevalence of the labels and at another one, also of scores on a threshold."""
    from dcurves import dca

    labels, scores, _ = simulate()
    scores[:20] = 0.25
    expected = dca(
        data=pd.DataFrame({"label": labels, "score": scores}),
        outcome="label",
        modelnames=["score"],
        thresholds=list(THRESHOLDS),
        prevalence=prevalence,
    ).set_index("model")["net_benefit"]
    ours = net_benefit(labels, scores, prevalence=prevalence)
    of_all = treat_all_benefit(prevalence or float(labels.mean()))
    assert np.abs(ours - expected["score"].to_numpy()).max() < 1e-9
    assert np.abs(of_all - expected["all"].to_numpy()).max() < 1e-9


def test_a_curve_has_the_net_benefits_with_intervals_around_them():
    """Each point lies within its interval, and the plain policy is the same function of prevalence."""
    labels, scores, patients = simulate()
    curve = measure_decision_curve(labels, scores, patients)
    assert (curve.images, curve.patients) == (400, 200)
    assert [point.model for point in curve.points] == pytest.approx(net_benefit(labels, scores))
    assert [point.treat_all for point in curve.points] == pytest.approx(
        treat_all_benefit(curve.prevalence)
    )
    assert all(point.low <= point.model <= point.high for point in curve.points)
    assert curve == measure_decision_curve(labels, scores, patients)


def test_intervals_take_patients_as_the_units():
    """Each image four times over is no more evidence: the interval stays as wide."""
    labels, scores, patients = simulate(100)
    once = measure_decision_curve(labels, scores, patients, thresholds=(0.5,)).points[0]
    often = measure_decision_curve(
        np.tile(labels, 4), np.tile(scores, 4), patients * 4, thresholds=(0.5,)
    ).points[0]
    assert often.low == pytest.approx(once.low) and often.high == pytest.approx(once.high)


def test_the_interval_covers_the_true_net_benefit():
    """In 200 samples of a population whose net benefit is known, about 95 of 100 intervals hold it."""
    truth = net_benefit(*simulate(200_000, seed=99)[:2], thresholds=(0.3,))[0]
    covered = 0
    for seed in range(200):
        labels, scores, patients = simulate(300, seed)
        point = measure_decision_curve(labels, scores, patients, (0.3,), draws=300).points[0]
        covered += point.low <= truth <= point.high
    assert 180 <= covered <= 198


def test_a_model_without_knowledge_is_useful_nowhere():
    """Scores that say nothing: nowhere better for sure than both plain policies, and it is said."""
    labels, _, patients = simulate()
    curve = measure_decision_curve(labels, np.full(400, labels.mean()), patients)
    assert curve.useful_ranges() == []
    assert curve.sentence().startswith("At no threshold probability")


def test_a_gap_in_usefulness_is_said():
    """Two stretches of thresholds are told apart, not joined to one."""
    gains = [0.1, 0.1, -0.1, None, 0.1]
    points = tuple(
        DecisionPoint(threshold=t, model=0.1, low=0, high=0.2, treat_all=0, gain_low=gain)
        for t, gain in zip((0.1, 0.2, 0.3, 0.4, 0.5), gains, strict=True)
    )
    curve = DecisionCurve(images=9, patients=9, prevalence=0.4, points=points)
    assert curve.useful_ranges() == [(0.1, 0.2), (0.5, 0.5)]
    assert "10 to 20 %, or 50 to 50 %" in curve.sentence()


@pytest.mark.parametrize(
    ("labels", "thresholds", "prevalence", "words"),
    [
        ([1, 1], (0.5,), None, "both classes"),
        ([0, 1], (1.0,), None, "threshold probabilities"),
        ([0, 1], (0.5,), 1.5, "prevalence above 0"),
    ],
)
def test_what_has_no_net_benefit_is_an_error(labels, thresholds, prevalence, words):
    """One class, a threshold of 1 and a prevalence of 1.5 are refused by name."""
    with pytest.raises(DataError, match=words):
        net_benefit(np.array(labels), np.array([0.2, 0.8]), thresholds, prevalence)


def test_films_of_1000_are_the_shares_at_the_prevalence():
    """At a prevalence of 10 %, sensitivity 0.9 and specificity 0.8: 90 found, 10 missed, 180 in error."""
    costs = Policy(name="x", threshold=0.5, sensitivity=0.9, specificity=0.8).per_thousand(0.1)
    assert (costs.found.value, costs.missed.value) == (pytest.approx(90), pytest.approx(10))
    assert costs.false_alarms.value == pytest.approx(180)
    assert costs.ppv == pytest.approx(90 / 270)
    assert EVERY_FILM.per_thousand(0.1).false_alarms.value == 900
    assert NO_FILM.per_thousand(0.1).missed.value == 100 and NO_FILM.per_thousand(0.1).ppv is None


def test_net_benefit_and_films_of_1000_say_the_same():
    """Net benefit is what is found less the false alarms at the odds of the threshold, per film."""
    labels, scores, patients = simulate()
    policy = measure_policy("x", labels, scores, patients, 0.2)
    costs = policy.per_thousand(0.05)
    expected = (costs.found.value - costs.false_alarms.value * 0.2 / 0.8) / 1000
    assert net_benefit(labels, scores, (0.2,), 0.05)[0] == pytest.approx(expected)
    assert costs.missed.low <= costs.missed.value <= costs.missed.high
    assert costs.found.low + costs.missed.high == pytest.approx(50)
