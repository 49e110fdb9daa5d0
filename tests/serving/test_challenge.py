"""Challenger against champion on made-up scores: the rule, the required rates, images that the champion knew."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.contingency_tables import mcnemar

from cxr.core.errors import DataError
from cxr.exploration import geometry
from cxr.serving.retraining import challenge, challenge_rule
from cxr.stats import metrics
from tests.support.registered import side


def test_the_better_one_wins_and_the_worse_one_never(finished_once, tmp_path):
    """The same two models, once each way: the clearly worse challenger is not promoted, the better one is."""
    good, bad = (
        side(finished_once, tmp_path, name, apart, seed, threshold=0.4)
        for seed, (name, apart) in enumerate([("good", 0.4), ("bad", 0.12)])
    )
    up, down = (
        challenge.compare_with_champion(good, bad),
        challenge.compare_with_champion(bad, good),
    )
    assert up.promote and not down.promote
    assert (up.challenger, up.champion) == ("good", "bad")
    assert up.auroc.difference == pytest.approx(-down.auroc.difference) and up.auroc.p < 0.001
    assert up.auroc.patients == 50 and up.auroc.method == "DeLong, by patient"
    assert "AUROC is lower" in down.reason
    assert up.rule == challenge_rule.RULE and "not lower than" in up.rule


def test_the_figures_are_those_of_the_scores(finished_once, tmp_path):
    """Figures and McNemar's test against scikit-learn's counts and statsmodels, each side at its own threshold."""
    new = side(finished_once, tmp_path, "new", 0.4, threshold=0.6)
    old = side(finished_once, tmp_path, "old", 0.35, seed=1, threshold=0.45)
    found = challenge.compare_with_champion(new, old)
    labels = new.scores["label"].to_numpy()
    assert found.challenger_figures == metrics.compute_metrics(
        labels, new.scores["score"].to_numpy(), 0.6
    )
    assert found.champion_figures == metrics.compute_metrics(
        labels, old.scores["score"].to_numpy(), 0.45
    )
    a, b = (new.scores["score"] >= 0.6) == labels, (old.scores["score"] >= 0.45) == labels
    table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
    assert found.decisions[0].p == pytest.approx(mcnemar(table, exact=True).pvalue)
    assert [each.of for each in found.decisions] == ["all", "positive", "negative"]


def test_a_lower_auroc_is_enough_even_where_no_test_says_so(finished_once, tmp_path):
    """A lower AUROC keeps the champion even where chance may explain it: there is no margin."""
    one, other = (side(finished_once, tmp_path, str(seed), 0.3, seed) for seed in (0, 1))
    pairs = [
        challenge.compare_with_champion(one, other),
        challenge.compare_with_champion(other, one),
    ]
    assert all(found.auroc.p > 0.05 for found in pairs)
    assert sorted(found.promote for found in pairs) == [False, True]


def test_equal_models_may_follow_each_other(finished_once, tmp_path):
    """The very same scores: not lower, not worse, promoted; the tests say p = 1."""
    found = challenge.compare_with_champion(
        side(finished_once, tmp_path, "a", 0.3), side(finished_once, tmp_path, "b", 0.3)
    )
    assert found.promote and found.auroc.p == 1 and found.decisions[0].p == 1


def test_significantly_worse_decisions_keep_the_champion(finished_once, tmp_path):
    """A better ranking with a threshold that calls far too much wrong is no better model."""
    new = side(finished_once, tmp_path, "new", 0.45, threshold=0.72)
    old = side(finished_once, tmp_path, "old", 0.4, seed=1, threshold=0.5)
    found = challenge.compare_with_champion(new, old)
    assert (
        found.auroc.difference > 0
        and found.challenger_figures["sensitivity"] >= challenge_rule.MIN_SENSITIVITY
    )
    assert not found.promote and "decisions are significantly worse" in found.reason


@pytest.mark.parametrize(("threshold", "name"), [(0.05, "specificity"), (0.99, "sensitivity")])
def test_below_the_required_rates_nothing_is_promoted(finished_once, tmp_path, threshold, name):
    """Without a champion, and against a worse one, a model that calls nearly all positive or negative stays out."""
    new = side(finished_once, tmp_path, "new", 0.4, threshold=threshold)
    old = side(finished_once, tmp_path, "old", 0.0, seed=1)
    for found in (
        challenge.compare_with_champion(new, None),
        challenge.compare_with_champion(new, old),
    ):
        assert (
            not found.promote
            and f"The challenger's {name} is 0." in found.reason
            and "below the required" in found.reason
        )


def test_the_first_champion_needs_the_required_rates_alone(finished_once, tmp_path):
    """No champion: no test; sensitivity and specificity decide, and the audit's baselines are shown."""
    found = challenge.compare_with_champion(side(finished_once, tmp_path, "first", 0.4), None)
    assert (
        found.promote and found.auroc is None and found.champion is None and found.decisions == ()
    )
    assert {"container", "border ring", "32x32 thumbnail"} < set(found.audit)
    assert set(geometry.WARNED_OF) < set(found.audit)


def test_images_that_the_champion_saw_are_counted_and_left_out(finished_once, tmp_path):
    """A champion perfect on what it was trained on wins on all images, and loses on those it never saw."""
    new, old = (
        side(finished_once, tmp_path, name, apart, seed, threshold=0.4)
        for seed, (name, apart) in enumerate([("new", 0.2), ("old", 0.0)])
    )
    seen = np.zeros(100, bool)
    seen[:20] = seen[60:] = True  # 20 NORMAL and 20 PNEUMONIA are left
    known = old.scores.assign(
        score=old.scores["score"].where(~seen, old.scores["label"].astype(float))
    )
    old = old._replace(scores=known)
    unfair, fair = (
        challenge.compare_with_champion(new, old),
        challenge.compare_with_champion(new, old, seen),
    )
    assert not unfair.promote and fair.promote
    assert (unfair.seen, fair.seen, fair.images, fair.compared, fair.auroc.images) == (
        None,
        60,
        100,
        40,
        40,
    )
    assert "60 of 100 test images" in fair.reason and "left out" in fair.reason
    seen[20] = True  # 19 NORMAL would be left
    few = challenge.compare_with_champion(new, old, seen)
    assert few.compared == 100 and not few.promote and "favours the champion" in few.reason


def test_scores_of_other_images_are_refused(finished_once, tmp_path):
    """Two tables in another order, or of other images, are never compared."""
    new, old = (
        side(finished_once, tmp_path, "new", 0.4),
        side(finished_once, tmp_path, "old", 0.4, seed=1),
    )
    with pytest.raises(DataError, match="same 100 test images"):
        challenge.compare_with_champion(
            new, old._replace(scores=old.scores[::-1].reset_index(drop=True))
        )


def test_how_many_images_each_model_refers_is_reported_and_decides_nothing(finished_once, tmp_path):
    """The challenger knows its scope, the champion is of a version that did not."""
    new = side(finished_once, tmp_path, "new", 0.4)
    old = side(finished_once, tmp_path, "old", 0.35, seed=1)
    without = challenge.compare_with_champion(new, old)
    assert (without.challenger_referred, without.champion_referred) == (None, None)
    status = ["abstained"] * 7 + ["scored"] * 93
    judgements = pd.DataFrame({"image": new.scores["image"][::-1], "status": status})
    found = challenge.compare_with_champion(new._replace(judgements=judgements), old)
    assert (found.challenger_referred, found.champion_referred) == (7, None)
    assert "Of 100 images the challenger refers 7 to a person" in found.reason
    assert found.challenger_figures == without.challenger_figures
    assert found.promote == without.promote
