"""The labelled sample of a site: which images are measured, and whether they are enough."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from cxr.core.errors import DataError
from cxr.core.files import file_sha256, read_table
from cxr.core.formatting import format_count
from cxr.core.settings import LABEL_NAMES
from cxr.data.leakage import repair
from cxr.data.manifest.columns import REJECT_COLUMNS
from cxr.results.cards.model_card import Card
from cxr.serving.registry import Registry
from cxr.serving.registry.files import digest_seen, mark_seen
from cxr.stats.calibration.fitting import MIN_PATIENTS
from cxr.stats.intervals import number_patients
from cxr.stats.metrics import Vector

SEEN = "seen_in_training"
_SEEN_DETAIL = "the model was trained, or its threshold chosen, on this picture or this patient"


class Sample(NamedTuple):
    """What is measured at a site.

    Attributes:
        rows: One row for each image, as in a manifest.
        unmeasured: The other files: image, reason, detail.
        seen: How many of these the model knew; None where that cannot be known.
        notes: What was given and not used, in sentences.
    """

    rows: pd.DataFrame
    unmeasured: pd.DataFrame
    seen: int | None
    notes: tuple[str, ...]


def choose_images(
    rows: pd.DataFrame,
    pairs: pd.DataFrame,
    rejects: pd.DataFrame,
    seen: Vector | None,
    notes: tuple[str, ...] = (),
) -> Sample:
    """Return what is measured: no near-duplicates, and nothing that the model knows from training.

    Args:
        rows: The distinct images of the sample, as in a manifest.
        pairs: The near-duplicates among them.
        rejects: The files that are no such images: image, reason, detail.
        seen: Which of the rows the model knows, bool (n,); None where that cannot be known.
        notes: What was given and not used, in sentences.
    """
    aside = pd.DataFrame(columns=REJECT_COLUMNS)
    if seen is not None:
        known = rows.loc[seen, "image"]
        aside = pd.DataFrame({"image": known, "reason": SEEN, "detail": _SEEN_DETAIL})
        rows = rows[~seen].reset_index(drop=True)
    both_left = pairs["image_a"].isin(rows["image"]) & pairs["image_b"].isin(rows["image"])
    # A sample has no splits: of a picture that it holds twice one is as good as the other.
    as_one_split = rows.assign(source_split="train")
    kept, copies = repair.remove_near_duplicates(as_one_split, pairs[both_left])
    unmeasured = pd.concat([rejects[REJECT_COLUMNS], aside, copies[REJECT_COLUMNS]])
    return Sample(
        rows=kept.reset_index(drop=True),
        unmeasured=unmeasured.sort_values(["image", "reason"]).reset_index(drop=True),
        seen=None if seen is None else int(seen.sum()),
        notes=notes,
    )


def find_seen(
    model: str,
    export: Path,
    card: Card,
    rows: pd.DataFrame,
    patient_key: str,
) -> Vector | None:
    """Return which images show a picture or a patient that the model had in training, bool (n,).

    A registry keeps digests of them; an export folder that is still in its work folder has its
    manifest three folders above. Elsewhere it cannot be known, which is None.

    Args:
        model: What a person gave: a registry, or an export folder.
        export: The export folder on this machine.
        card: The model's card.
        rows: The images, as in a manifest.
        patient_key: How their patients are read.
    """
    champion = None if model.endswith(".keras") else Registry(model).champion()
    if champion is not None:
        return Registry(model).seen(champion.version, rows, patient_key)
    parents = export.resolve().parents
    if len(parents) < 3:
        return None
    manifest = parents[2] / "clean_metadata.csv"
    if not manifest.is_file() or file_sha256(manifest) != card.data.manifest_sha256:
        return None
    known = digest_seen(read_table(manifest), card.data.leakage.patient_key)
    return mark_seen(rows, known, patient_key)


def count_by_class(rows: pd.DataFrame) -> dict[str, int]:
    """Return how many images each class has.

    Args:
        rows: Rows with label.
    """
    return {name: int((rows["label"] == label).sum()) for label, name in enumerate(LABEL_NAMES)}


def count_patients(rows: pd.DataFrame) -> dict[str, int]:
    """Return how many patients each class has; an image without one counts alone.

    Args:
        rows: Rows with label and patient_id.
    """
    numbers = pd.Series(number_patients(rows["patient_id"].to_numpy()), index=rows.index)
    return {
        name: int(numbers[rows["label"] == label].nunique())
        for label, name in enumerate(LABEL_NAMES)
    }


def require_enough(sample: Sample, place: str) -> None:
    """Raise DataError where a sample says nothing of a model: too few patients of a class.

    Args:
        sample: The sample.
        place: Where it is, for the message.
    """
    images = count_by_class(sample.rows)
    patients = count_patients(sample.rows)
    if min(patients.values()) >= MIN_PATIENTS:
        return
    found = ", ".join(
        f"{format_count(images[name], f'{name} images')} of "
        f"{format_count(patients[name], 'patients')}"
        for name in LABEL_NAMES
    )
    short = [name for name in LABEL_NAMES if patients[name] < MIN_PATIENTS]
    advice = f"label images of more {' and '.join(short)} patients"
    if all(images[name] >= MIN_PATIENTS for name in short):
        advice += ", or say with --patient-key whose they are"
    if sample.seen:
        advice += f" ({sample.seen} were set aside: the model knows them from its training)"
    raise DataError(
        f"{place}: too few to measure a model on: expected at least {MIN_PATIENTS} patients of each "
        f"class, found {found}: {advice}"
    )
