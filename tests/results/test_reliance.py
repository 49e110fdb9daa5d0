"""What a network uses: the warning, on phantom sets whose label can or cannot be read off the border.

A logistic regression of coarse pixels stands in for the network: it uses whatever separates the classes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cxr.data.images.border import border_mask
from cxr.data.images.changes.masks import CENTRE_HIDDEN, MASKS
from cxr.data.phantoms.films import draw_film
from cxr.data.phantoms.plan import plan_images
from cxr.results.evaluation import reliance
from cxr.results.evaluation.reliance import MaskMetrics
from cxr.stats.intervals import Interval

SIDE = 64
CELLS = 16  # in each direction, of what the stand-in sees
IMAGES = 240
Pixels = np.ndarray[Any, Any]
Flaw = Callable[[Pixels], None]


def mark_corner(image: Pixels) -> None:
    """Draw a bright mark in the upper left corner, as of a side marker."""
    image[2:6, 2:6] = 230


def brighten_border(image: Pixels) -> None:
    """Make the border a little brighter."""
    ring = border_mask(*image.shape)
    image[ring] = np.minimum(255, image[ring].astype(int) + 40).astype(np.uint8)


def keep(image: Pixels) -> None:
    """Change nothing."""


def features(images: Pixels) -> Pixels:
    """Return the mean of each cell of images, float (n, CELLS * CELLS)."""
    step = SIDE // CELLS
    cells = images.reshape(-1, CELLS, step, CELLS, step).mean(axis=(2, 4))
    return cells.reshape(-1, CELLS * CELLS)


def examine(seed: int, flaw: Flaw) -> str:
    """Fit the stand-in on the train images of a phantom set; return the warning on its test images.

    Args:
        seed: Of the set.
        flaw: What is done to the images with PNEUMONIA.
    """
    planned = plan_images(np.random.default_rng(seed), IMAGES)
    pixels = np.empty((IMAGES, SIDE, SIDE), np.uint8)
    for row, image in enumerate(planned):
        film, _ = draw_film(image, seed, SIDE)
        pixels[row] = film.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        if image.label == 1:
            flaw(pixels[row])
    labels = np.array([image.label for image in planned])
    patients = np.array([f"p{image.patient}" for image in planned])
    is_test = np.array([image.key.startswith("test/") for image in planned])
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    classifier.fit(features(pixels[~is_test]), labels[~is_test])
    scores = reliance.score_masks(
        lambda shown: classifier.predict_proba(features(shown[np.arange(len(shown))]))[:, 1],
        pixels[is_test],
        ["the digest"] * int(is_test.sum()),
    )
    rows = pd.DataFrame({"label": labels[is_test], "patient_id": patients[is_test]})
    masks = reliance.measure_masks(rows.assign(**scores))
    fewest = reliance.count_fewest_patients(rows)
    return reliance.warn_of_reliance(masks, len(rows), fewest)


@pytest.mark.parametrize("flaw", [mark_corner, brighten_border])
def test_a_set_whose_label_can_be_read_off_the_border_is_named(flaw: Flaw):
    """A mark in a corner, and a border that is brighter: each named, with the AUROC, in a sentence."""
    for seed in range(2):
        warning = examine(seed, flaw)
        assert "uses what is no lung" in warning
        assert "expected an interval from 0.75 or less" in warning


def test_a_clean_set_is_not_named():
    """The same two sets without the flaw."""
    assert [examine(seed, keep) for seed in range(2)] == ["", ""]


@pytest.mark.slow
def test_of_fifty_clean_sets_none_is_named():
    """A warning that comes by chance would be switched off in the reader's head."""
    named = [seed for seed in range(100, 150) if examine(seed, keep)]
    assert named == []


@pytest.mark.slow
@pytest.mark.parametrize("flaw", [mark_corner, brighten_border])
def test_of_ten_sets_with_a_shortcut_all_are_named(flaw: Flaw):
    """The rule finds what it is there for whichever set it is."""
    assert all(examine(seed, flaw) for seed in range(100, 110))


def masked(auroc: float, low: float | None) -> Sequence[MaskMetrics]:
    """Return metrics behind every mask: these with the centre hidden, perfect ones elsewhere."""
    interval = None
    if low is not None:
        interval = Interval(low=low, high=1.0, method="patient bootstrap", images=40, patients=40)
    return [
        MaskMetrics(
            mask=name,
            description="",
            auroc=auroc if name == CENTRE_HIDDEN else 1.0,
            auroc_interval=interval if name == CENTRE_HIDDEN else None,
        )
        for name in MASKS
    ]


@pytest.mark.parametrize(
    ("auroc", "low", "patients", "named"),
    [
        (0.90, 0.76, 10, True),
        (0.90, 0.75, 10, False),
        (0.90, 0.76, 9, False),
        (1.0, None, 10, True),
        (1.0, None, 9, False),
        (0.5, None, 10, False),
    ],
)
def test_the_rule_is_as_it_is_written(auroc: float, low: float | None, patients: int, named: bool):
    """The lower end must be above the limit, of enough patients; an AUROC of 1 has no interval and counts as its own."""
    assert bool(reliance.warn_of_reliance(masked(auroc, low), 40, patients)) == named


def test_masks_are_measured_as_scikit_learn_does():
    """AUROC of each column of raw scores; the interval holds it; patients of the smaller class are counted."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [30, 50])
    rows = pd.DataFrame({"label": labels, "patient_id": [f"p{i // 2}" for i in range(80)]})
    scores = {mask: np.clip(rng.normal(0.4 + 0.1 * labels, 0.2), 0, 1) for mask in MASKS}
    for measured in reliance.measure_masks(rows.assign(**scores)):
        assert measured.auroc == pytest.approx(roc_auc_score(labels, scores[measured.mask]))
        assert measured.auroc_interval
        assert measured.auroc_interval.low < measured.auroc < measured.auroc_interval.high
    assert reliance.count_fewest_patients(rows) == 15
    rows["patient_id"] = ""  # nobody is known: each image counts alone
    assert reliance.count_fewest_patients(rows) == 30
