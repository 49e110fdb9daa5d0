"""Batch scoring with an exported model and its card, and nothing else.

Done by `child.run`; `predict` is the way in.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr import architectures, backend, child, export, images, manifest, scoring, streams, workspace
from cxr.ahead import in_order
from cxr.errors import DataError
from cxr.export import Card
from cxr.records import read_table, write_table
from cxr.settings import cores
from cxr.storage import Storage, is_local, open_storage

COLUMNS = ["image", "score", "prediction", "threshold", "status", "reason"]
# More than cores: a thread that waits for object storage decodes nothing, and on two cores eight take no more processor
# time than two (docs/results.md).
THREADS = max(8, cores())
AHEAD = 64  # images read and decoded before the network asks: a batch waits while another is scored
_Reject = tuple[str, str]  # reason, detail


def predict(model: str, data: str, out: Path, on_images: Callable[[int, int], None]) -> pd.DataFrame:
    """Score every image below `data` (or the one image it names), publish predictions.csv at `out`, return its rows.

    `model` is an export folder or the model.keras in it. Rejected files are listed with their reason. Raises
    ModelError where the model does not fit its card, DataError where there is nothing to score, DeviceError.
    """
    folder = workspace.fetched_export(model)
    card = export.read_card(folder)
    job = {"export": str(folder), "data": data, "out": str(out.absolute()), "sha256": card.model_sha256}
    child.run(
        __name__, job, out.absolute().parent / f".{out.name}.log", cores(), lambda e: on_images(e["done"], e["of"])
    )
    (out.absolute().parent / f".{out.name}.log").unlink(missing_ok=True)
    return read_table(out)


def main(job: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    """In the child: load the model, go through the images batch by batch, publish the table."""
    import keras

    images.allow_large_headers()
    card = export.read_card(Path(job["export"]))
    storage, keys, rejects = _list(job["data"])
    model = architectures.folded(keras.models.load_model(Path(job["export"]) / "model.keras"))
    rows: list[dict[str, Any]] = [_rejected(key, reason, detail, card) for key, reason, detail in rejects]
    for batch in score_images(model, storage, keys, card):
        rows += batch
        emit({"done": len(rows) - len(rejects), "of": len(keys)})
    write_table(pd.DataFrame(rows, columns=COLUMNS).sort_values("image"), Path(job["out"]))


def _list(data: str) -> tuple[Storage, list[str], list[tuple[str, str, str]]]:
    if "://" not in data and Path(data).is_file():
        return open_storage(str(Path(data).parent)), [Path(data).name], []
    if not is_local(data) and data.lower().endswith(images.SUFFIXES):
        parent, _, name = data.rpartition("/")
        return open_storage(parent), [name], []
    storage = open_storage(data)
    problems = [(entry.key, entry.problem or manifest.by_name(entry.key)) for entry in storage.list()]
    keys = sorted(key for key, problem in problems if problem is None)
    if not keys:
        raise DataError(f"{data}: expected {', '.join(images.SUFFIXES)} images, found none among {len(problems)} files")
    return storage, keys, [(key, *problem) for key, problem in problems if problem]


def score_images(model: Any, storage: Storage, keys: list[str], card: Card) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each batch of images, scored or rejected, in the order of `keys`.

    Images are read and decoded in threads, AHEAD of them before the model asks, or two batches. Raises StorageError.
    """
    size = scoring.even_batch(len(keys), backend.batch())
    with (
        ThreadPoolExecutor(THREADS) as pool,
        contextlib.closing(
            in_order(lambda key: _pixels(storage, key, card), keys, pool, max(AHEAD, 2 * size))
        ) as pixels,
    ):
        parts = ((keys[at : at + size], list(itertools.islice(pixels, size))) for at in range(0, len(keys), size))
        yield from streams.through(None, lambda part: _score_batch(model, part[0], part[1], size, card), parts)


def _pixels(storage: Storage, key: str, card: Card) -> images.Pixels | _Reject:
    try:
        image = images.decode(manifest.read_bytes(storage, key)).image
        return images.for_model(image, card.image_size, card.settings.harmonise)
    except images.Rejected as reject:
        return reject.reason, reject.detail  # the exception itself would keep the half-decoded image in memory


def _score_batch(
    model: Any, keys: list[str], found: list[images.Pixels | _Reject], size: int, card: Card
) -> list[dict[str, Any]]:
    """Return a row for each of `keys`; `size` is the number of places in a batch, the same for every one."""
    decoded = [(key, one) for key, one in zip(keys, found, strict=True) if not isinstance(one, tuple)]
    rows = [_rejected(key, *one, card) for key, one in zip(keys, found, strict=True) if isinstance(one, tuple)]
    if decoded:
        filled = np.resize(np.arange(len(decoded)), size)  # images over again in the places of rejects
        scores = scoring.score(model, np.stack([pixels for _, pixels in decoded]), filled, size)[: len(decoded)]
        calibrated = card.calibration.apply(scores)
        rows += [_scored(key, float(score), card) for (key, _), score in zip(decoded, calibrated, strict=True)]
    return rows


def _scored(key: str, score: float, card: Card) -> dict[str, Any]:
    name = card.labels[int(score >= card.threshold)]
    return dict(zip(COLUMNS, (key, score, name, card.threshold, "scored", ""), strict=True))


def _rejected(key: str, reason: str, detail: str, card: Card) -> dict[str, Any]:
    return dict(zip(COLUMNS, (key, "nan", "", card.threshold, "rejected", f"{reason}: {detail}"), strict=True))
