"""The exploration stage: figures from the manifest, a few sample images read again, the augmentation shown."""

import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr import augmentation, child, eda, images
from cxr.records import Ingest, Record, as_json, publishing, read_table
from cxr.settings import Augmentation, TrainingSettings, cores
from cxr.storage import Storage, open_storage

SAMPLES = 4


class Exploration(Record):
    """eda/exploration.json: for which data and augmentation the figures were drawn, and their names."""

    manifest_sha256: str
    augmentation: Augmentation
    class_weights: dict[int, float]
    counts: dict[str, dict[str, int]]
    figures: tuple[str, ...]


def explore(work: Path, ingest: Ingest, settings: TrainingSettings) -> Exploration:
    """Write the figures, class_weights.json, eda.json and last exploration.json under work/eda; return the record.

    Returns the record at once where it is there for this data and augmentation.
    """
    folder, table = work / "eda", read_table(work / "clean_metadata.csv")
    done = folder / "exploration.json"
    if done.is_file():
        before = Exploration.read(done)
        if (before.manifest_sha256, before.augmentation) == (ingest.manifest_sha256, settings.augmentation):
            return before
    storage = open_storage(ingest.data)
    weights = eda.class_weights(table)
    figures = eda.draw_all(table, folder, partial(_sample, storage), settings.seed)
    _draw_augmentation(table, storage, folder, settings)
    _write_json(weights, folder / "class_weights.json")
    _write_json(eda.summary(table), folder / "eda.json")
    names = (*(path.name for path in figures), "augmentation.png")
    return Exploration(
        manifest_sha256=ingest.manifest_sha256, augmentation=settings.augmentation, class_weights=weights,
        counts=ingest.splits, figures=names,
    ).write(done)  # fmt: skip


def _sample(storage: Storage, key: str) -> Any:
    images.allow_large_headers()
    return np.asarray(images.gray(images.decode(storage.read(key)).image))


def _draw_augmentation(table: pd.DataFrame, storage: Storage, folder: Path, settings: TrainingSettings) -> None:
    train = table[table["split"] == "train"]
    chosen = pd.concat(
        [rows.sample(min(len(rows), SAMPLES // 2), random_state=settings.seed) for _, rows in train.groupby("label")]
    )
    originals = np.stack([images.resized(images.decode(storage.read(key)).image, 224) for key in chosen["image"]])
    with tempfile.TemporaryDirectory() as scratch:
        stack = Path(scratch) / "originals.npy"
        np.save(stack, originals)
        job = {
            "originals": str(stack), "names": list(chosen["label_name"]), "folder": str(folder),
            "augmentation": settings.augmentation.model_dump(), "seed": settings.seed,
        }  # fmt: skip
        child.run(augmentation.__name__, job, folder / ".augmentation.log", cores(), lambda event: None)


def _write_json(value: Any, path: Path) -> None:
    with publishing(path) as temporary:
        temporary.write_text(json.dumps(as_json(value), indent=2) + "\n")
