"""The shortcut audit: non-clinical baselines with which every network has to be compared.

They read the file's container with its DICOM tags, the shape of the film (`geometry`), the border of the pixels, and a
32x32 thumbnail. The container is measured again on uniformly encoded pixels, to show what
harmonising takes away. Which pixels a network looks at is another question, for Grad-CAM.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from cxr.core.records import Record
from cxr.data.images.model_input import UNIFORM_QUALITY
from cxr.data.patients import splits
from cxr.data.patients.splits import Array, sample_patients
from cxr.exploration import geometry, signals
from cxr.exploration.baselines import WARNING_LIMIT, Baseline, Study, measure_baseline
from cxr.exploration.give_aways import GiveAway, find_give_aways, warn_of_give_aways
from cxr.storage.arrays import Stored

# 300,000 images must not take hours. Test has a limit of its own: train cannot crowd it out.
MOST_TRAIN_IMAGES = 15_000
MOST_TEST_IMAGES = 5_000


class Audit(Record):
    """The non-clinical baselines of a data set, in eda/audit.json.

    Attributes:
        manifest_sha256: SHA-256 of clean_metadata.csv.
        harmonised: Whether networks are fed uniformly encoded pixels.
        seed: Of samples, folds, classifiers and bootstrap.
        images: How many images were looked at.
        floors: The baselines of container, film shape, border ring and thumbnail. (The key has its
            name from version 0.1. Up to version 0.2 there was none of the shape.)
        container_after: The container's baseline after uniform encoding.
        warning: What to tell a person where the container alone separates the classes, or "".
        shape_warning: What to tell where the films' shape does, or "".
        give_aways: What DICOM tags say that occurs in one class only; none up to version 0.2.
    """

    manifest_sha256: str
    harmonised: bool
    seed: int
    images: int
    floors: tuple[Baseline, ...]
    container_after: Baseline
    warning: str
    shape_warning: str = ""
    give_aways: tuple[GiveAway, ...] = ()

    def baselines(self) -> tuple[Baseline, ...]:
        """Return all baselines as they are shown: the container's two one below the other."""
        container, *others = self.floors
        return (container, self.container_after, *others)

    def warnings(self) -> tuple[str, ...]:
        """Return what to tell a person, nothing where no signal separates the classes."""
        give_away_warning = warn_of_give_aways(self.give_aways)
        return tuple(filter(None, (give_away_warning, self.warning, self.shape_warning)))


def run_audit(
    table: pd.DataFrame,
    pixels: Stored,
    manifest_sha256: str,
    harmonised: bool,
    seed: int = 0,
    on_step: Callable[[str], None] = lambda _: None,
) -> Audit:
    """Measure the non-clinical baselines of the images in train, val and test.

    At most 20,000 images are looked at, of whole patients. Baselines that cannot be estimated are
    None with a note, never an error.

    Args:
        table: The manifest.
        pixels: The cached pixels of its rows, uint8 (n, side, side).
        manifest_sha256: SHA-256 of clean_metadata.csv.
        harmonised: Whether networks are fed uniformly encoded pixels.
        seed: Of samples, folds, classifiers and bootstrap.
        on_step: Called with what is looked at next.

    Returns:
        The record.
    """
    positions = _choose_images(table, seed)
    rows = table.iloc[positions]
    study = Study(
        labels=rows["label"].to_numpy(dtype=np.int64),
        patients=pd.factorize(splits.patient_groups(rows))[0],
        is_test=(rows["split"] == "test").to_numpy(dtype=bool),
        seed=seed,
    )
    on_step("container of the files")
    container = measure_baseline(study, signals.read_container(rows, seed))
    on_step(f"container after uniform encoding (JPEG quality {UNIFORM_QUALITY})")
    uniform = signals.read_uniform_container(pixels, positions, seed)
    container_after = measure_baseline(study, uniform)
    on_step("shape of the films")
    shape = _measure_shape(study, rows, pixels, positions)
    on_step("border ring and thumbnail")
    border, thumbnail = signals.read_border_and_thumbnail(pixels, positions)
    return Audit(
        manifest_sha256=manifest_sha256,
        harmonised=harmonised,
        seed=seed,
        images=len(rows),
        floors=(
            container,
            *shape,
            measure_baseline(study, border),
            measure_baseline(study, thumbnail),
        ),
        container_after=container_after,
        warning=_warn_of_container(container, container_after, harmonised),
        shape_warning=geometry.warn_of_shape(shape),
        give_aways=find_give_aways(table),
    )


def _measure_shape(
    study: Study,
    rows: pd.DataFrame,
    pixels: Stored,
    positions: Array,
) -> tuple[Baseline, ...]:
    """Return the baselines of the films' shape, from the files and from the square pixels."""
    measured = (
        geometry.read_file_aspect(rows),
        *geometry.read_gradient_ratios(pixels, positions),
    )
    return tuple(measure_baseline(study, signal) for signal in measured)


def _choose_images(table: pd.DataFrame, seed: int) -> Array:
    """Return the positions of the images to look at, int (n,), in rising order."""
    is_train = table["split"].isin(["train", "val"]).to_numpy(dtype=bool)
    is_test = (table["split"] == "test").to_numpy(dtype=bool)
    train_rows = np.flatnonzero(is_train)
    test_rows = np.flatnonzero(is_test)
    train = sample_patients(
        table,
        train_rows,
        MOST_TRAIN_IMAGES,
        seed,
    )
    test = sample_patients(table, test_rows, MOST_TEST_IMAGES, seed)
    return np.sort(np.concatenate([train, test]))


def _warn_of_container(
    before: Baseline,
    after: Baseline,
    harmonised: bool,
) -> str:
    """Return what to tell a person where the container alone separates the classes, or ""."""
    worst = before.train
    remaining = after.train
    if (before.test.auroc or 0) > (before.train.auroc or 0):
        worst = before.test
        remaining = after.test
    if worst.auroc is None or worst.auroc <= WARNING_LIMIT:
        return ""
    rest = remaining.note
    if remaining.auroc is not None:
        rest = f"AUROC {remaining.auroc:.3f} remains, by how well the content compresses"
    if harmonised:
        advice = (
            "Networks are fed uniformly encoded pixels: compare their metrics with the "
            "non-clinical baselines"
        )
    else:
        advice = (
            "Networks are fed pixels as the files stored them: harmonise them, or a metric may "
            "be the container's"
        )
    return (
        f"The files' container alone separates the classes: AUROC {worst.auroc:.3f} "
        f"(n = {worst.n:,}), expected at most {WARNING_LIMIT}. It reads {before.features}. "
        f"After uniform encoding of the pixels: {rest}. {advice}"
    )
