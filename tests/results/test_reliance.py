"""What a network uses: the warning, on phantom sets whose label can or cannot be read off the border.

A small network of fixed filters stands in for the real one: it is trained on random area crops, too, pools over
the whole image, and uses whatever separates the classes.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cxr.core.settings import Augmentation
from cxr.data.images.border import border_mask
from cxr.data.images.changes import augmentation
from cxr.data.images.changes.masks import BORDER_EXCHANGED, CENTRE_HIDDEN, DESCRIPTIONS
from cxr.data.images.changes.stress_worlds import CLEAN
from cxr.data.phantoms.films import draw_film
from cxr.data.phantoms.plan import plan_images
from cxr.results.evaluation import reliance
from cxr.results.evaluation.reliance import MaskMetrics
from cxr.stats.comparison import Difference
from cxr.stats.intervals import Interval

SIDE = 64
IMAGES = 320
AUGMENTATIONS = 3
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
    """Return statistics of gray levels, blobs and edges at three scales, float (n, 54)."""
    pixels = images.astype(np.float32)
    pooled = []
    for sigma in (1, 2, 4):
        smooth = ndimage.gaussian_filter(pixels, (0, sigma, sigma))
        wide = ndimage.gaussian_filter(pixels, (0, 1.6 * sigma, 1.6 * sigma))
        edges = np.hypot(np.gradient(smooth, axis=1), np.gradient(smooth, axis=2))
        for response in (smooth, smooth - wide, edges):
            flat = response.reshape(len(images), -1)
            pooled += [flat.mean(1), flat.std(1), flat.max(1), flat.min(1)]
            pooled += list(np.percentile(flat, (10, 90), axis=1))
    return np.stack(pooled, axis=1)


def draw_set(seed: int, flaw: Flaw) -> tuple[Pixels, pd.DataFrame]:
    """Return the images of a phantom set, and label, patient_id, is_test and digest of each."""
    planned = plan_images(np.random.default_rng(seed), IMAGES)
    pixels = np.empty((IMAGES, SIDE, SIDE), np.uint8)
    for row, image in enumerate(planned):
        film, _ = draw_film(image, seed, SIDE)
        pixels[row] = film.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        if image.label == 1:
            flaw(pixels[row])
    rows = pd.DataFrame(
        {
            "label": [image.label for image in planned],
            "patient_id": [f"p{image.patient}" for image in planned],
            "is_test": [image.key.startswith("test/") for image in planned],
            "digest": [hashlib.sha256(image.tobytes()).hexdigest() for image in pixels],
        }
    )
    return pixels, rows


def train(pixels: Pixels, rows: pd.DataFrame) -> Any:
    """Fit the stand-in on images and random area crops of them."""
    versions = [pixels]
    for index in range(1, AUGMENTATIONS + 1):
        changed = [
            augmentation.augment(image, key, index, Augmentation())
            for image, key in zip(pixels, rows["digest"], strict=True)
        ]
        versions.append(np.stack(changed))
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=3000))
    labels = np.tile(rows["label"], len(versions))
    return classifier.fit(features(np.concatenate(versions)), labels)


def examine(seed: int, flaw: Flaw) -> str:
    """Train the stand-in on a phantom set; return the warning on its test images.

    Args:
        seed: Of the set.
        flaw: What is done to the images with PNEUMONIA.
    """
    pixels, rows = draw_set(seed, flaw)
    is_test = rows["is_test"].to_numpy()
    classifier = train(pixels[~is_test], rows[~is_test])
    test = rows[is_test]
    scores = reliance.score_masks(
        lambda shown: classifier.predict_proba(features(shown[np.arange(len(shown))]))[:, 1],
        pixels[is_test],
        list(test["digest"]),
        test["label"].to_numpy(),
    )
    scores[CLEAN] = classifier.predict_proba(features(pixels[is_test]))[:, 1]
    masks = reliance.measure_masks(test.assign(**scores))
    fewest = reliance.count_fewest_patients(test)
    return reliance.warn_of_reliance(masks, len(test), fewest)


@pytest.mark.parametrize("flaw", [mark_corner, brighten_border])
def test_a_set_whose_label_can_be_read_off_the_border_is_named(flaw: Flaw):
    """A mark in a corner, and a border that is brighter: each named, in one sentence with the AUROC."""
    warning = examine(100, flaw)
    assert "uses what is no lung" in warning
    assert "with borders of the other class its AUROC falls from 1.000 to" in warning


def test_a_clean_set_is_not_named():
    """The same set without the flaw."""
    assert examine(100, keep) == ""


@pytest.mark.slow
@pytest.mark.parametrize("first", range(200, 250, 10))
def test_of_fifty_clean_sets_none_is_named(first: int):
    """A warning that comes by chance would soon be read by nobody: ten sets at a time."""
    named = [seed for seed in range(first, first + 10) if examine(seed, keep)]
    assert named == []


@pytest.mark.slow
@pytest.mark.parametrize("flaw", [mark_corner, brighten_border])
def test_of_ten_sets_with_a_shortcut_all_are_named(flaw: Flaw):
    """The rule finds what it is there for whichever set it is."""
    missed = [seed for seed in range(200, 210) if not examine(seed, flaw)]
    assert missed == []


def masked(
    auroc: float, low: float | None, loss: float, loss_low: float | None
) -> Sequence[MaskMetrics]:
    """Return metrics behind every mask: these with the centre hidden and with the border exchanged."""
    interval = None
    if low is not None:
        interval = Interval(low=low, high=1.0, method="patient bootstrap", images=40, patients=40)
    difference = Difference(
        auroc_a=1.0,
        auroc_b=1.0 - loss,
        difference=loss,
        standard_error=0.01,
        low=loss_low,
        high=None if loss_low is None else 1.0,
        z=None,
        p=None,
        method="DeLong, by patient",
        images=40,
        patients=40,
    )
    return [
        MaskMetrics(
            mask=name,
            description="",
            auroc=auroc if name == CENTRE_HIDDEN else 1.0,
            auroc_interval=interval if name == CENTRE_HIDDEN else None,
            loss=difference if name == BORDER_EXCHANGED else None,
        )
        for name in DESCRIPTIONS
    ]


@pytest.mark.parametrize(
    ("auroc", "low", "loss", "loss_low", "patients", "named"),
    [
        (0.90, 0.76, 0.0, 0.0, 10, "centre"),
        (0.90, 0.75, 0.0, 0.0, 10, ""),
        (0.90, 0.76, 0.0, 0.0, 9, ""),
        (1.0, None, 0.0, 0.0, 10, "centre"),
        (0.5, None, 0.0, 0.0, 10, ""),
        (0.5, 0.4, 0.3, 0.16, 10, "other class"),
        (0.5, 0.4, 0.3, 0.15, 10, ""),
        (0.5, 0.4, 0.3, 0.16, 9, ""),
        (0.5, 0.4, 1.0, None, 10, "other class"),
    ],
)
def test_the_rule_is_as_it_is_written(
    auroc: float, low: float | None, loss: float, loss_low: float | None, patients: int, named: str
):
    """The lower end must be above its limit, of enough patients; without an interval the value itself must be."""
    masks = masked(auroc, low, loss, loss_low)
    warning = reliance.warn_of_reliance(masks, 40, patients)
    assert named in warning
    assert bool(named) == bool(warning)


def test_masks_are_measured_as_scikit_learn_does():
    """AUROC of each column of raw scores and its loss against clean; patients of the smaller class are counted."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [30, 50])
    rows = pd.DataFrame({"label": labels, "patient_id": [f"p{i // 2}" for i in range(80)]})
    scores = {
        name: np.clip(rng.normal(0.4 + 0.1 * labels, 0.2), 0, 1) for name in (CLEAN, *DESCRIPTIONS)
    }
    clean = roc_auc_score(labels, scores[CLEAN])
    for measured in reliance.measure_masks(rows.assign(**scores)):
        auroc = roc_auc_score(labels, scores[measured.mask])
        assert measured.auroc == pytest.approx(auroc)
        assert measured.auroc_interval
        assert measured.auroc_interval.low < auroc < measured.auroc_interval.high
        assert measured.loss
        assert measured.loss.difference == pytest.approx(clean - auroc)
    assert reliance.count_fewest_patients(rows) == 15
    rows["patient_id"] = ""  # nobody is known: each image counts alone
    assert reliance.count_fewest_patients(rows) == 30


def test_each_image_gets_the_border_of_one_of_the_other_class():
    """Its own centre, and around it the gray of an image of the other label; three of one class share two of the other."""
    labels = np.array([0, 0, 0, 1, 1])
    pixels = np.stack([np.full((SIDE, SIDE), 10 + position) for position in range(5)]).astype(
        np.uint8
    )
    seen: list[Pixels] = []

    def look(shown: Any) -> Pixels:
        seen.append(shown[np.arange(5)])
        return np.zeros(5)

    names = list(reliance.score_masks(look, pixels, ["e", "d", "c", "b", "a"], labels))
    exchanged = seen[names.index(BORDER_EXCHANGED)]
    ring = border_mask(SIDE, SIDE)
    assert [image[SIDE // 2, SIDE // 2] for image in exchanged] == [10, 11, 12, 13, 14]
    borders = [np.unique(image[ring]).tolist() for image in exchanged]
    assert borders == [[14], [13], [14], [11], [12]]
