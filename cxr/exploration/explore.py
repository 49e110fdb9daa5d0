"""The exploration stage: write all of eda/, from the manifest and the cached pixels."""

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
from cxr.data.images import model_input, pixel_cache
from cxr.data.images.changes import augmentation
from cxr.data.images.decoding.rejection import Pixels
from cxr.data.manifest import scanning
from cxr.data.manifest.records import Ingest
from cxr.data.patients import splits
from cxr.data.patients.hidden_storage import open_data
from cxr.exploration import audit, shift, summary
from cxr.exploration.figures import audit_plot, distributions, samples, shift_plot
from cxr.storage.arrays import Rows
from cxr.storage.base import Storage

AUGMENTED_IMAGES = 4  # train images whose augmentation is shown
AUGMENTATIONS = 5  # of each
SHOWN_SIDE = 224  # pixels: what is drawn of a sample is smaller
STEPS = ("pictures", "augmentation", "shortcut audit", "shift")
MEASUREMENTS = 2  # raised where audit or shift get another signal
# Settings on which the numbers of audit and shift depend, and those on which any picture depends.
_NUMBER_SETTINGS = {"image_size", "harmonise", "seed"}
_PICTURE_SETTINGS = _NUMBER_SETTINGS | {"augmentation"}


class Exploration(Record):
    """What was explored, in eda/exploration.json.

    Attributes:
        manifest_sha256: SHA-256 of the clean_metadata.csv that was explored.
        settings: Digest of the settings on which the pictures depend.
        numbers: Digest of the settings on which audit and shift depend; "" in records of version
            0.1.
        measurements: Which signals audit and shift knew: 1 up to version 0.2. Work folders of
            earlier ones are explored again, and can be trained on as they are.
        class_weights: Weight of each label in the loss.
        counts: Images by split and label name.
        figures: Names of the figures in eda/.
    """

    manifest_sha256: str
    settings: str
    numbers: str = ""
    measurements: int = 1
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
    """Write all of eda/: figures, numbers, audit, distribution shift and, last, the record.

    Nothing is done where the record of this data, these settings and today's signals is there.

    Args:
        work: The work folder.
        ingest: The record of its manifest.
        settings: Those of the training that follows.
        cache: The pixel cache of the manifest.
        on_step: Called with the name of each of STEPS before it is done.

    Returns:
        The record.
    """
    path = work / "eda" / "exploration.json"
    digest = _digest(settings, _PICTURE_SETTINGS)
    if path.is_file():
        earlier = Exploration.read(path)
        if (
            earlier.manifest_sha256 == ingest.manifest_sha256
            and earlier.settings == digest
            and earlier.measurements == MEASUREMENTS
        ):
            return earlier
    table = read_table(work / "clean_metadata.csv")
    with timing.time_stage(work / timing.FOLDER, "explore", len(table)):
        figures = _write_exploration(
            work,
            table,
            ingest,
            settings,
            cache,
            on_step,
        )
    record = Exploration(
        manifest_sha256=ingest.manifest_sha256,
        settings=digest,
        numbers=_digest(settings, _NUMBER_SETTINGS),
        measurements=MEASUREMENTS,
        class_weights=splits.class_weights(ingest.splits["train"]),
        counts=ingest.splits,
        figures=figures,
    )
    return record.write(path)


def _write_exploration(
    work: Path,
    table: pd.DataFrame,
    ingest: Ingest,
    settings: TrainingSettings,
    cache: Path,
    on_step: Callable[[str], None],
) -> tuple[str, ...]:
    """Write everything below eda/ but its record; return the names of the figures."""
    folder = work / "eda"
    manifest_sha256 = ingest.manifest_sha256
    pixels = pixel_cache.load_pixels(cache, table)
    used = table[table["split"] != EXCLUDED]
    originals = OriginalImages(
        table,
        pixels,
        open_data(ingest.data, ingest.reading.follow_links),
        scanning.inspection_folder(work, ingest.data, ingest.reading),
    )

    on_step(STEPS[0])
    figures = distributions.draw_all(
        used,
        folder,
        originals.read,
        settings.seed,
    )
    _write_json(splits.class_weights(ingest.splits["train"]), folder / "class_weights.json")
    _write_json(summary.summarise(used), folder / "eda.json")

    on_step(STEPS[1])
    figures.append(_draw_augmentation(used, originals, settings, folder))

    on_step(STEPS[2])
    audited = audit.run_audit(
        table,
        pixels,
        manifest_sha256,
        settings.harmonise,
        settings.seed,
    )
    audited.write(folder / "audit.json")

    on_step(STEPS[3])
    shifted = shift.measure_shift(
        table,
        pixels,
        manifest_sha256,
        settings.seed,
    )
    shifted.write(folder / "shift.json")
    figures.append(audit_plot.draw_audit(audited, folder / "shortcuts.png"))
    figures.append(shift_plot.draw_shift(shifted, folder / "shift.png"))
    return tuple(path.name for path in figures)


def require_exploration(
    work: Path,
    ingest: Ingest,
    settings: TrainingSettings,
) -> None:
    """Check that audit and shift are there for this data and these settings.

    The model card and the report quote them. Training itself needs nothing of eda/.

    Args:
        work: The work folder.
        ingest: The record of its manifest.
        settings: Those of the training.

    Raises:
        DataError: They are missing, or of other data or settings.
    """
    path = work / "eda" / "exploration.json"
    problem = "is missing"
    if path.is_file():
        if _is_current(Exploration.read(path), ingest, settings):
            return
        problem = "is of other data or settings (image size, harmonise, seed)"
    raise DataError(
        f"{path} {problem}: run `cxr explore --out {work}` with the flags of the training first"
    )


def _is_current(
    record: Exploration,
    ingest: Ingest,
    settings: TrainingSettings,
) -> bool:
    """Return whether the numbers of audit and shift are of this data and these settings."""
    if record.manifest_sha256 != ingest.manifest_sha256:
        return False
    if record.numbers:
        return record.numbers == _digest(settings, _NUMBER_SETTINGS)
    # Version 0.1 kept the digest for the pictures alone.
    return record.settings == _digest(settings, _PICTURE_SETTINGS)


def _digest(settings: TrainingSettings, names: set[str]) -> str:
    """Return the digest of some of the settings, 64 hex digits."""
    chosen = settings.model_dump(mode="json", include=names)
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


class OriginalImages:
    """Images of the manifest in their own shape, for a person to look at.

    They come from the cached pixels where these are as large as what is drawn. Only otherwise are
    the original files read again.

    Args:
        table: The manifest.
        cached: The cached pixels of its rows.
        storage: Where DATA is.
        inspection: Folder of the inspection of DATA.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        cached: Rows,
        storage: Storage,
        inspection: Path,
    ):
        self._table = table
        self._cached = cached
        self._storage = storage
        self._inspection = inspection

    def read(self, key: str) -> Pixels:
        """Return the gray pixels of one image, uint8 (height, width).

        Args:
            key: The column `image` of the manifest.
        """
        position = int(np.flatnonzero(self._table["image"] == key)[0])
        row = self._table.iloc[position]
        cached_side = self._cached.shape[1]
        if cached_side < SHOWN_SIDE:
            version = scanning.versions(self._inspection, [key]).get(key)
            original = pixel_cache.original(self._storage, row, version)
            return np.asarray(model_input.to_gray(original))
        scale = cached_side / max(row["width"], row["height"])
        width = max(1, round(row["width"] * scale))
        height = max(1, round(row["height"] * scale))
        square = Image.fromarray(self._cached[position])
        return np.asarray(square.resize((width, height)))


def _draw_augmentation(
    table: pd.DataFrame,
    originals: OriginalImages,
    settings: TrainingSettings,
    folder: Path,
) -> Path:
    """Draw some train images of both classes as training sees them; return the path."""
    train = table[table["split"] == "train"]
    per_class = AUGMENTED_IMAGES // 2
    chosen = pd.concat(
        [
            members.sample(min(len(members), per_class), random_state=settings.seed)
            for _, members in train.groupby("label")
        ]
    )
    resized = []
    augmented = []
    for image, key in zip(chosen["image"], chosen["pixel_sha256"], strict=True):
        original = Image.fromarray(originals.read(image))
        pixels = model_input.resize(original, SHOWN_SIDE)
        resized.append(pixels)
        augmented.append(
            [
                augmentation.augment(
                    pixels,
                    key,
                    number,
                    settings.augmentation,
                )
                for number in range(1, AUGMENTATIONS + 1)
            ]
        )
    return samples.draw_augmentation(
        np.stack(resized),
        np.array(augmented),
        list(chosen["label_name"]),
        settings.augmentation,
        folder,
    )


def _write_json(value: Any, path: Path) -> None:
    """Publish a value as JSON."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(as_json(value), indent=2) + "\n")
