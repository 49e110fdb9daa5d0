"""Tests of the verdict on a batch of images."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr.core.errors import ModelError
from cxr.core.settings import ScopeSettings
from cxr.results.cards.model_card import Card
from cxr.serving.prediction.answers import find_limits
from cxr.serving.prediction.batch_verdict import judge_batch


def make_images(rng: np.random.Generator, images: int) -> pd.DataFrame:
    """Return measurements of images of both classes, two of each patient."""
    label = rng.integers(0, 2, images)
    return pd.DataFrame(
        {
            "score": np.clip(0.3 + 0.4 * label + rng.normal(0, 0.1, images), 0, 1),
            "label": label,
            "patient": np.arange(images) // 2,
            "c0": label + rng.normal(size=images),
            "c1": rng.normal(size=images),
            "sharpness": rng.normal(100, 10, images),
        }
    )


@pytest.fixture
def validation() -> pd.DataFrame:
    return make_images(np.random.default_rng(0), 400)


def test_images_of_the_same_source_are_alike(validation: pd.DataFrame):
    """The sentence says with how many images and measurements they were compared."""
    batch = make_images(np.random.default_rng(1), 60).drop(columns=["label", "patient"])
    verdict = judge_batch(batch, validation)
    assert verdict.verdict == "alike"
    assert verdict.sentence == (
        "no difference between these 60 images and the training data was found "
        "(4 measurements, 400 validation images)"
    )
    assert verdict.reference_patients == 200
    assert len(verdict.differences) == 4


def test_images_of_another_source_are_named_with_what_differs(validation: pd.DataFrame):
    """Signals are named, components of the features are counted."""
    batch = make_images(np.random.default_rng(2), 1124)
    batch["sharpness"] += 30
    batch["c1"] -= 3
    verdict = judge_batch(batch, validation)
    assert verdict.verdict == "unlike"
    assert verdict.sentence.startswith("these 1,124 images are not like the training data (")
    assert "sharpness higher than in 99 % of it; 1 component of the features)" in verdict.sentence
    assert verdict.sentence.endswith("the figures of the card do not apply here")


def test_pneumonia_alone_is_no_other_source(validation: pd.DataFrame):
    """A batch of one class is like that class of validation."""
    batch = make_images(np.random.default_rng(3), 400)
    verdict = judge_batch(batch[batch["label"] == 1], validation)
    assert verdict.verdict == "alike"
    assert verdict.positive_share == pytest.approx(1.0, abs=0.1)


def test_scores_of_a_site_are_not_compared(validation: pd.DataFrame):
    """A site calibrates the scores otherwise: they say nothing of the images."""
    batch = make_images(np.random.default_rng(4), 100)
    batch["score"] = 0.99
    assert judge_batch(batch, validation).verdict == "unlike"
    assert judge_batch(batch, validation, with_scores=False).verdict == "alike"


def test_too_few_images_or_no_reference_are_said(validation: pd.DataFrame):
    """Nineteen images, three validation patients, or an export of an earlier version."""
    batch = make_images(np.random.default_rng(5), 19)
    few = judge_batch(batch, validation)
    assert few.verdict == "too few"
    assert few.sentence.startswith("19 images: too few to say")
    small = judge_batch(make_images(np.random.default_rng(6), 50), validation.head(6))
    assert small.verdict == "too few"
    assert small.sentence.startswith("the model has 3 validation patients")
    old = judge_batch(batch, None)
    assert old.verdict == "unknown"
    assert "export it again" in old.sentence


@pytest.mark.parametrize(
    ("settings", "flag"),
    [(ScopeSettings(strict=True), "--strict"), (ScopeSettings(coverage=0.9), "--coverage 0.9")],
)
def test_what_needs_a_reference_is_refused_without_one(
    settings: ScopeSettings, flag: str, finished_once: Path, tmp_path: Path
):
    """Before any image is scored; without these flags such a model is used as ever."""
    (path,) = finished_once.glob("runs/*/export/model_card.json")
    card = Card.read(path)
    with pytest.raises(ModelError, match=f"{flag}: expected a model with its scope"):
        find_limits(tmp_path, card, settings, None)
    assert find_limits(tmp_path, card, ScopeSettings(), None) is None
