"""The exploration stage: figures from the manifest, a few sample images read again, the augmentation shown."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from cxr.core import timing
from cxr.core.errors import DataError
from cxr.core.files import as_json, atomic_write, read_table
from cxr.core.records import Record
from cxr.core.settings import EXCLUDED, TrainingSettings
from cxr.data import splits
from cxr.data.images import augmentation, model_input, pixel_cache
from cxr.data.images.decoding import rejection
from cxr.data.manifest import scanning
from cxr.data.manifest.records import Ingest
from cxr.exploration import audit, audit_plot, distributions, samples, shift, shift_plot, summary
from cxr.storage.addresses import open_storage
from cxr.storage.arrays import Rows
from cxr.storage.base import Storage

SAMPLES, VARIANTS = 4, 5
SHOWN_SIDE = 224  # pixels: what is drawn of a sample is smaller
STEPS = ("pictures", "augmentation", "shortcut audit", "shift")


class Exploration(Record):
    """eda/exploration.json: for which data and settings the figures were drawn, and their names.

    `settings` is the digest of all that the pictures depend on, `numbers` of what the audit and the
    shift depend on; "" in records of version 0.1.
    """

    manifest_sha256: str
    settings: str
    numbers: str = ""
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
    table = read_table(work / "clean_metadata.csv")
    done = work / "eda" / "exploration.json"
    wanted = _digest(settings, _PICTURES)
    if done.is_file():
        before = Exploration.read(done)
        if (before.manifest_sha256, before.settings) == (ingest.manifest_sha256, wanted):
            return before
    with timing.time_stage(work / timing.FOLDER, "explore", len(table)):
        figures = _draw(work, table, ingest, settings, cache, on_step)
    return Exploration(
        manifest_sha256=ingest.manifest_sha256,
        settings=wanted,
        numbers=_digest(settings, _NUMBERS),
        counts=ingest.splits,
        figures=figures,
        class_weights=splits.class_weights(ingest.splits["train"]),
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
    used = table[table["split"] != EXCLUDED]
    held = pixel_cache.load_pixels(cache, table)
    inspection = scanning.inspection_folder(work, ingest.data, ingest.reading)
    pictures = Pictures(table, held, open_storage(ingest.data), inspection)
    figures = distributions.draw_all(used, folder, pictures.of, settings.seed)
    _write_json(splits.class_weights(ingest.splits["train"]), folder / "class_weights.json")
    _write_json(summary.summarise(used), folder / "eda.json")
    on_step(STEPS[1])
    _draw_augmentation(used, pictures, folder, settings)
    on_step(STEPS[2])
    audited = audit.run_audit(
        table, held, ingest.manifest_sha256, settings.harmonise, settings.seed
    ).write(folder / "audit.json")
    on_step(STEPS[3])
    shifted = shift.measure_shift(table, held, ingest.manifest_sha256, settings.seed).write(
        folder / "shift.json"
    )
    drawn = (
        audit_plot.draw_audit(audited, folder / "shortcuts.png"),
        shift_plot.draw_shift(shifted, folder / "shift.png"),
    )
    return (*(path.name for path in figures), "augmentation.png", *(path.name for path in drawn))


def require_exploration(work: Path, ingest: Ingest, settings: TrainingSettings) -> None:
    """Raise DataError where the audit and the shift are missing or of other data or settings.

    The model card and the report quote them. Training itself needs nothing of eda/.
    """
    path = work / "eda" / "exploration.json"
    found = Exploration.read(path) if path.is_file() else None
    if found and found.manifest_sha256 == ingest.manifest_sha256:
        if found.numbers == _digest(settings, _NUMBERS):
            return
        if not found.numbers and found.settings == _digest(settings, _PICTURES):
            return
    what = "is of other data or settings (image size, harmonise, seed)" if found else "is missing"
    raise DataError(
        f"{path} {what}: run `cxr explore --out {work}` with the flags of the training first"
    )


_NUMBERS = {"image_size", "harmonise", "seed"}
_PICTURES = _NUMBERS | {"augmentation"}


def _digest(settings: TrainingSettings, names: set[str]) -> str:
    """Return the digest of these settings, 64 hex digits."""
    chosen = settings.model_dump(mode="json", include=names)
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


class Pictures:
    """Pictures of some images of the manifest, for a person to look at.

    They come from the cached pixels where these are as large as what is drawn. Originals are read
    again only for smaller ones.

    Args:
        table: The manifest.
        cached: The pixels of its rows.
        storage: Where DATA is.
        inspection: Where the inspection of DATA is remembered.
    """

    def __init__(self, table: pd.DataFrame, cached: Rows, storage: Storage, inspection: Path):
        self._table = table
        self._cached = cached
        self._storage = storage
        self._inspection = inspection

    def of(self, key: str) -> rejection.Pixels:
        """Return the gray pixels of one image, uint8 (h, w), in its own shape."""
        at = int(np.flatnonzero(self._table["image"] == key)[0])
        row = self._table.iloc[at]
        if self._cached.shape[1] < SHOWN_SIDE:
            version = scanning.versions(self._inspection, [key]).get(key)
            return np.asarray(
                model_input.to_gray(pixel_cache.original(self._storage, row, version))
            )
        scale = self._cached.shape[1] / max(row["width"], row["height"])
        size = (max(1, round(row["width"] * scale)), max(1, round(row["height"] * scale)))
        return np.asarray(Image.fromarray(self._cached[at]).resize(size))


def _draw_augmentation(
    table: pd.DataFrame, pictures: Pictures, folder: Path, settings: TrainingSettings
) -> None:
    train = table[table["split"] == "train"]
    chosen = pd.concat(
        [
            rows.sample(min(len(rows), SAMPLES // 2), random_state=settings.seed)
            for _, rows in train.groupby("label")
        ]
    )
    originals = np.stack(
        [
            model_input.resize(Image.fromarray(pictures.of(key)), SHOWN_SIDE)
            for key in chosen["image"]
        ]
    )
    variants = [
        [
            augmentation.augment(one, key, view + 1, settings.augmentation)
            for view in range(VARIANTS)
        ]
        for one, key in zip(originals, chosen["pixel_sha256"], strict=True)
    ]
    samples.draw_augmentation(
        originals, np.array(variants), list(chosen["label_name"]), settings.augmentation, folder
    )


def _write_json(value: Any, path: Path) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(as_json(value), indent=2) + "\n")
