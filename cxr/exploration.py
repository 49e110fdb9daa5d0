"""The exploration stage: figures from the manifest, a few sample images read again, the augmentation shown."""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr import audit, augmentation, eda, images, pixels, shift, timing
from cxr.errors import DataError
from cxr.records import EXCLUDED, Ingest, Record, as_json, publishing, read_table
from cxr.settings import TrainingSettings
from cxr.storage import Storage, open_storage

SAMPLES, VARIANTS = 4, 5
STEPS = ("pictures", "augmentation", "shortcut audit", "shift")


class Exploration(Record):
    """eda/exploration.json: for which data and settings the figures were drawn, and their names."""

    manifest_sha256: str
    settings: str
    class_weights: dict[int, float]
    counts: dict[str, dict[str, int]]
    figures: tuple[str, ...]


def explore(
    work: Path,
    ingest: Ingest,
    settings: TrainingSettings,
    cache: Path,
    on_step: Callable[[str], None] = lambda _: None,
) -> Exploration:
    """Write all of eda/ (figures, numbers, shortcut audit, shift) and last exploration.json; return that record.

    `cache` is the pixel cache of these rows. Returns the record at once where it is there for this data and the
    settings that matter here.
    """
    folder, table = work / "eda", read_table(work / "clean_metadata.csv")
    done, wanted = folder / "exploration.json", _settings(settings)
    if done.is_file():
        before = Exploration.read(done)
        if (before.manifest_sha256, before.settings) == (ingest.manifest_sha256, wanted):
            return before
    with timing.timed(work / timing.FOLDER, "explore", len(table)):
        figures = _draw(work, table, ingest, settings, cache, on_step)
    return Exploration(
        manifest_sha256=ingest.manifest_sha256,
        settings=wanted,
        counts=ingest.splits,
        figures=figures,
        class_weights=eda.class_weights(table[table["split"] != EXCLUDED]),
    ).write(done)


def _draw(
    work: Path,
    table: pd.DataFrame,
    ingest: Ingest,
    settings: TrainingSettings,
    cache: Path,
    on_step: Callable[[str], None],
) -> tuple[str, ...]:
    """Write everything below eda/ but its record; return the names of the figures."""
    folder = work / "eda"
    on_step(STEPS[0])
    storage, used = open_storage(ingest.data), table[table["split"] != EXCLUDED]
    figures = eda.draw_all(used, folder, partial(_sample, storage, used), settings.seed)
    _write_json(eda.class_weights(used), folder / "class_weights.json")
    _write_json(eda.summary(used), folder / "eda.json")
    on_step(STEPS[1])
    _draw_augmentation(used, storage, folder, settings)
    held = pixels.load(cache, table)
    on_step(STEPS[2])
    audited = audit.audit(
        table, held, ingest.manifest_sha256, settings.harmonise, settings.seed
    ).write(folder / "audit.json")
    on_step(STEPS[3])
    shifted = shift.shift(table, held, ingest.manifest_sha256, settings.seed).write(
        folder / "shift.json"
    )
    drawn = (
        audit.draw(audited, folder / "shortcuts.png"),
        shift.draw(shifted, folder / "shift.png"),
    )
    return (*(path.name for path in figures), "augmentation.png", *(path.name for path in drawn))


def require(work: Path, ingest: Ingest, settings: TrainingSettings) -> None:
    """Raise DataError where eda/ (class weights, audit, shift) is missing or of other data or settings."""
    path = work / "eda" / "exploration.json"
    found = Exploration.read(path) if path.is_file() else None
    if not found or (found.manifest_sha256, found.settings) != (
        ingest.manifest_sha256,
        _settings(settings),
    ):
        what = (
            "is of other data or settings (image size, harmonise, augmentation, seed)"
            if found
            else "is missing"
        )
        raise DataError(
            f"{path} {what}: run `cxr eda --out {work}` with the flags of the training first"
        )


def _settings(settings: TrainingSettings) -> str:
    """Return the digest of the settings that the exploration depends on."""
    chosen = settings.model_dump(
        mode="json", include={"augmentation", "image_size", "harmonise", "seed"}
    )
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


def _sample(storage: Storage, rows: pd.DataFrame, key: str) -> Any:
    """Return the gray pixels of one of the manifest's `rows`, uint8 (h, w)."""
    row = rows[rows["image"] == key].iloc[0]
    return np.asarray(images.gray(pixels.picture(storage.read(key), row)))


def _draw_augmentation(
    table: pd.DataFrame, storage: Storage, folder: Path, settings: TrainingSettings
) -> None:
    train = table[table["split"] == "train"]
    chosen = pd.concat(
        [
            rows.sample(min(len(rows), SAMPLES // 2), random_state=settings.seed)
            for _, rows in train.groupby("label")
        ]
    )
    read = [pixels.picture(storage.read(row["image"]), row) for _, row in chosen.iterrows()]
    originals = np.stack([images.resized(image, 224) for image in read])
    variants = [
        [
            augmentation.augmented(one, key, view + 1, settings.augmentation)
            for view in range(VARIANTS)
        ]
        for one, key in zip(originals, chosen["pixel_sha256"], strict=True)
    ]
    eda.draw_augmentation(
        originals, np.array(variants), list(chosen["label_name"]), settings.augmentation, folder
    )


def _write_json(value: Any, path: Path) -> None:
    with publishing(path) as temporary:
        temporary.write_text(json.dumps(as_json(value), indent=2) + "\n")
