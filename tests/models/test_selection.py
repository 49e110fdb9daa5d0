"""The selection rule on made-up scores: paired tests, lowest specificity, time, seeds."""

import numpy as np
import pytest

from cxr.core.errors import TrainingError
from cxr.core.settings import TrainingSettings
from cxr.models import selection
from cxr.models.selection.members import plan_ensembles
from cxr.models.training.records import Failure, Member
from tests.support.finished import trained


def test_the_fastest_of_those_that_do_not_differ_is_chosen(tmp_path):
    """Two networks alike in all but time, one clearly worse and faster still: the faster of the two."""
    models = [
        trained(tmp_path, "VGG16", seed=1, milliseconds=30),
        trained(tmp_path, "DenseNet121", seed=1, milliseconds=9),
        trained(tmp_path, "MobileNetV2", seed=2, apart=0.1, milliseconds=1),
    ]
    found = selection.select_model(models, [], tmp_path)
    assert (found.name, found.best) == ("DenseNet121", "VGG16")
    verdicts = {each.name: each.verdict for each in found.versus}
    assert verdicts["DenseNet121"] == "" and verdicts["MobileNetV2"].startswith(
        "AUROC significantly lower"
    )
    assert "no significant difference" in found.reason


def test_a_model_that_falls_in_the_stress_worlds_is_not_chosen(tmp_path):
    """As good on the images as they are and faster, but worse in the worlds: the tests there decide, and say so."""
    models = [
        trained(tmp_path, "VGG16", seed=1, milliseconds=30),
        trained(tmp_path, "MobileNetV2", seed=1, milliseconds=1, stressed=0.1),
    ]
    found = selection.select_model(models, [], tmp_path)
    assert found.name == "VGG16"
    (other,) = found.versus
    assert other.verdict.startswith("AUROC in the stress worlds significantly lower")
    assert other.stress_p < 0.05 < other.auroc_p
    assert found.weights == {"clean": 0.5, "stress": 0.5}
    best, last = found.scores
    assert best.name == "VGG16"
    assert best.clean == last.clean
    assert last.score == pytest.approx((last.clean + last.stress) / 2)
    table = selection.write_comparison(models, [], tmp_path)
    assert list(table["name"]) == ["VGG16", "MobileNetV2"]
    assert table["stress_worst_auroc"][1] < table["stress_auroc"][1] < table["val_auroc"][1]


def test_trainings_of_before_the_stress_worlds_are_chosen_by_clean_validation_alone(tmp_path):
    """As their version chose: nothing was weighed and no score was listed, so that `cxr verify` agrees with it."""
    models = [
        trained(tmp_path, name, seed=1, apart=apart).model_copy(update={"robustness": None})
        for name, apart in (("VGG16", 0.45), ("MobileNetV2", 0.1))
    ]
    for model in models:
        (tmp_path / model.name / "scores_val_worlds.csv").unlink()
    found = selection.select_model(models, [], tmp_path)
    assert found.name == "VGG16"
    assert found.weights == {}
    assert found.scores == ()
    assert found.versus[0].stress is None
    assert "validation_score" not in selection.comparison_table(models, [])


def test_a_small_set_that_proves_nothing_does_not_excuse_a_lower_auroc(tmp_path):
    """A difference above the margin is out even where the test is not significant."""
    best, other = (
        trained(tmp_path, "VGG16", seed=1, apart=0.32, milliseconds=30),
        trained(tmp_path, "MobileNetV2", 8, 0.28),
    )
    lower = best.val["auroc"] - other.val["auroc"]
    found = selection.select_model([best, other], [], tmp_path)
    assert lower > selection.AUROC_MARGIN and found.versus[0].auroc_p > 0.05
    assert found.name == "VGG16" and found.versus[0].verdict.startswith("AUROC lower by")


def test_a_model_below_the_lowest_specificity_allowed_is_not_chosen(tmp_path):
    """The faster one has too many false positives; where both do, the reason warns of it."""
    models = [
        trained(tmp_path, "VGG16", 1, milliseconds=30),
        trained(tmp_path, "MobileNetV2", 1, milliseconds=1, specific=0.4),
    ]
    assert selection.select_model(models, [], tmp_path).name == "VGG16"
    low = [each.model_copy(update={"val": each.val | {"specificity": 0.4}}) for each in models]
    assert "do not use it without review" in selection.select_model(low, [], tmp_path).reason


def test_seeds_show_mean_spread_and_rank_and_the_first_is_exported(tmp_path):
    """Three seeds of two architectures: the luckiest seed is not the one exported."""
    models = [
        trained(tmp_path, f"{name}{suffix}", seed=at + 3 * number, apart=apart)
        for number, (name, apart) in enumerate([("VGG16", 0.45), ("MobileNetV2", 0.1)])
        for at, suffix in enumerate(["", "-seed1", "-seed2"])
    ]
    found = selection.select_model(models, [], tmp_path)
    assert found.name == "VGG16" and [each.architecture for each in found.stability] == [
        "VGG16",
        "MobileNetV2",
    ]
    first = found.stability[0]
    assert first.ranks == (1, 1, 1) and len(first.auroc) == 3 and first.std > 0
    assert first.mean == pytest.approx(sum(first.auroc) / 3)
    table = selection.write_comparison(models, [], tmp_path)
    assert len(table) == 6 and set(table["name"]) == {each.name for each in models}


def test_failed_architectures_are_named_and_none_trained_is_an_error(tmp_path):
    """The run goes on without the failed one, and ends where none is left."""
    failed = Failure(name="VGG16", architecture="VGG16", error="out of memory")
    one = trained(tmp_path, "DenseNet121")
    assert selection.select_model([one], [failed], tmp_path).failed == {"VGG16": "out of memory"}
    assert list(selection.write_comparison([one], [failed], tmp_path)["status"]) == [
        "trained",
        "failed",
    ]
    with pytest.raises(TrainingError, match="VGG16: out of memory"):
        selection.select_model([], [failed], tmp_path)


def ensemble_of(run, name: str, members, seed: int = 1, **options):
    """Write a training that averages others, and return its record."""
    record = trained(run, name, seed, **options)
    (run / name / "history.csv").unlink()
    return record.model_copy(
        update={
            "architecture": f"ensemble of {len(members)} networks",
            "members": tuple(
                Member(training=one.name, epoch=None, auroc=0.9, auprc=0.9, model_sha256="")
                for one in members
            ),
        }
    ).write(run / name / "training.json")


def test_an_ensemble_that_was_asked_for_is_chosen_and_its_members_stay_in_the_table(tmp_path):
    """Though a member is as good and faster: ensembles alone are candidates; stability is that of the networks."""
    members = [
        trained(tmp_path, f"MobileNetV2{suffix}", seed=seed, milliseconds=1)
        for seed, suffix in enumerate(["", "-seed1", "-seed2"])
    ]
    ensemble = ensemble_of(tmp_path, "ensemble-architectures", members, milliseconds=3)
    found = selection.select_model([*members, ensemble], [], tmp_path)
    assert found.name == ensemble.name and found.eligible == (ensemble.name,)
    assert "it is the only candidate" in found.reason and not found.versus
    assert [one.architecture for one in found.stability] == ["MobileNetV2"]
    assert len(found.stability[0].auroc) == 3
    table = selection.write_comparison([*members, ensemble], [], tmp_path).set_index("name")
    assert (
        table.loc[ensemble.name, "members"] == "MobileNetV2, MobileNetV2-seed1, MobileNetV2-seed2"
    )
    assert np.isnan(table.loc[ensemble.name, "epochs"]) and table.loc["MobileNetV2", "epochs"] == 2
    assert "members" not in selection.comparison_table(members, [])


def test_where_no_ensemble_could_be_made_a_single_network_is_chosen_and_that_is_told(tmp_path):
    """The reason stands among the failures of the run."""
    one = trained(tmp_path, "MobileNetV2")
    failed = Failure(name="ensemble-architectures", architecture="", error="expected at least 2")
    found = selection.select_model([one], [failed], tmp_path)
    assert found.name == "MobileNetV2"
    assert found.failed == {"ensemble-architectures": "expected at least 2"}


def test_the_choice_does_not_depend_on_which_training_ended_first(tmp_path):
    """`cxr verify` reads the trainings in the order of their folders: it finds the same records."""
    models = [
        trained(tmp_path, name, seed, milliseconds=seed)
        for seed, name in enumerate(("VGG16", "DenseNet121", "MobileNetV2"), 1)
    ]
    first = selection.select_model(models, [], tmp_path)
    assert selection.select_model(models[::-1], [], tmp_path) == first
    assert selection.comparison_table(models, []).equals(
        selection.comparison_table(models[::-1], [])
    )


def test_what_is_averaged_follows_from_the_setting(tmp_path):
    """All seeds of each architecture; the best seed of each; the last three epochs of each training."""
    names = ("VGG16", "MobileNetV2", "VGG16-seed1", "MobileNetV2-seed1")
    models = [
        trained(tmp_path, name, seed, apart=apart).model_copy(update={"epochs": 7})
        for seed, (name, apart) in enumerate(zip(names, (0.2, 0.4, 0.4, 0.2), strict=True))
    ]

    def plans(kind):
        settings = TrainingSettings(arch=("MobileNetV2", "VGG16"), seeds=2, ensemble=kind, epochs=7)
        return {
            plan.name: [(source.training, source.epoch) for source in plan.sources]
            for plan in plan_ensembles(settings, models)
        }

    assert plans("none") == {}
    assert plans("seeds") == {
        "ensemble-seeds-MobileNetV2": [("MobileNetV2", None), ("MobileNetV2-seed1", None)],
        "ensemble-seeds-VGG16": [("VGG16", None), ("VGG16-seed1", None)],
    }
    assert plans("architectures") == {
        "ensemble-architectures": [("MobileNetV2", None), ("VGG16-seed1", None)]
    }
    assert plans("epochs")["ensemble-epochs-VGG16-seed1"] == [
        ("VGG16-seed1", epoch) for epoch in (5, 6, 7)
    ]
    assert len(plans("epochs")) == 4
