"""What a file in another format is compared with: the model's answers to the test images, and these images."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr.core.errors import CxrError
from cxr.core.files import read_table
from cxr.data.images import pixel_cache
from cxr.data.manifest.records import Ingest
from cxr.data.patients.hidden_storage import open_data
from cxr.models import runs
from cxr.models.training.records import Training
from cxr.results.evaluation.abstention.measurement import read_judgements
from cxr.serving.formats.proof import Expected, Films
from cxr.serving.formats.reader import MODES
from cxr.storage.arrays import Stored

MOST_FILMS = 32  # of test, that reader.py reads from their files
_BLOCK = 256  # images whose pixels are in memory at a time


def read_expected(
    run: Path,
    training: Training,
    work: Path,
    cache: Path,
    folder: Path,
) -> Expected:
    """Return what the model said of the test images, and put these images where a proof finds them.

    Args:
        run: The run's folder.
        training: The record of the model.
        work: The folder of an open work folder.
        cache: The folder of the pixel cache.
        folder: Where their pixels go, and some of the films.
    """
    scores = read_table(run / "scores_test.csv")
    table = runs.read_manifest(work)
    rows = table.set_index("image", drop=False).loc[scores["image"]]
    images = pixel_cache.load_pixels(cache, rows)
    pixels = folder / "pixels.npy"
    _write_pixels(images, pixels)
    return Expected(
        scores=scores,
        judgements=read_judgements(run),
        threshold=training.threshold,
        pixels=pixels,
        films=_fetch_films(rows, images, runs.read_ingest(work), folder),
    )


def _write_pixels(images: Stored, path: Path) -> None:
    """Write all pixels as one array, few of which are in memory at a time."""
    written = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.uint8, shape=(len(images), *images[[0]].shape[1:])
    )
    for start in range(0, len(images), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(images)))
        written[block] = images[block]
    written.flush()


def _fetch_films(rows: pd.DataFrame, images: Stored, ingest: Ingest, folder: Path) -> Films:
    """Copy some test images as files, evenly spread, those that reader.py does not read left out."""
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), MOST_FILMS)).round().astype(int)
    readable = [place for place in chosen.tolist() if _is_readable(rows.iloc[place])]
    note = ""
    if len(readable) < len(chosen):
        note = (
            f"{len(chosen) - len(readable)} of {len(chosen)} are DICOM, of more than 8 bits or "
            "inverted, which reader.py does not read"
        )
    paths = []
    digests = []
    try:
        storage = open_data(ingest.data, ingest.reading.follow_links)
        for place in readable:
            row = rows.iloc[place]
            data = storage.read(row["image"])
            if hashlib.md5(data, usedforsecurity=False).hexdigest() != row["md5"]:
                continue
            path = folder / f"film_{place}"
            path.write_bytes(data)
            paths.append(path)
            digests.append(hashlib.sha256(images[[place]].tobytes()).hexdigest())
    except (CxrError, OSError):
        note = "the images of DATA could not be read any more: pixels are those of the cache alone"
    return Films(tuple(paths), tuple(digests), note)


def _is_readable(row: "pd.Series[Any]") -> bool:
    """Return whether reader.py reads an image as this project does, by its row in the manifest."""
    is_plain = int(row.get("bit_depth", 8)) == 8 and not int(row.get("inverted", 0))
    return is_plain and row["format"] != "DICOM" and row["mode"] in MODES
