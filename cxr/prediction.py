"""Batch scoring with an exported model and its card, and nothing else.

Run as `python -m cxr.prediction` by `child.run`; `predict` is the way in.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydantic

from cxr import child, images, manifest, scoring, workspace
from cxr.errors import DataError, ModelError
from cxr.export import Card
from cxr.records import file_sha256, read_table, write_table
from cxr.settings import cores
from cxr.storage import Storage, is_local, open_storage

COLUMNS = ["image", "score", "prediction", "threshold", "status", "reason"]
_BATCH = 32


def predict(model: str, data: str, out: Path, on_images: Callable[[int, int], None]) -> pd.DataFrame:
    """Score every image below `data` (or the one image it names), publish predictions.csv at `out`, return its rows.

    `model` is an export folder or the model.keras in it. Rejected files are listed with their reason. Raises
    ModelError where the model does not fit its card, DataError where there is nothing to score.
    """
    folder = workspace.fetched(model.rpartition("/")[0] if model.endswith(".keras") else model)
    card = read_card(folder)
    job = {"export": str(folder), "data": data, "out": str(out.absolute()), "sha256": card.model_sha256}
    child.run(
        __name__, job, out.absolute().parent / f".{out.name}.log", cores(), lambda e: on_images(e["done"], e["of"])
    )
    (out.absolute().parent / f".{out.name}.log").unlink(missing_ok=True)
    return read_table(out)


def read_card(folder: Path) -> Card:
    """Return the card beside a model whose bytes are those that the card names; ModelError otherwise."""
    try:
        card = Card.read(folder / "model_card.json")
    except FileNotFoundError:
        raise ModelError(f"{folder}: expected an export folder with model.keras and model_card.json") from None
    except (pydantic.ValidationError, json.JSONDecodeError) as error:
        raise ModelError(f"{folder / 'model_card.json'} cannot be read: {str(error).splitlines()[0]}") from error
    if not (folder / "model.keras").is_file():
        raise ModelError(f"{folder}: model.keras is missing beside its card")
    if file_sha256(folder / "model.keras") != card.model_sha256:
        raise ModelError(f"{folder}: model.keras is not the file its card describes (SHA-256 differs): export again")
    return card


def main(job: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    """In the child: load the model, go through the images batch by batch, publish the table."""
    import keras

    child.limit_threads()
    images.allow_large_headers()
    card = read_card(Path(job["export"]))
    storage, keys, rejects = _list(job["data"])
    model = keras.models.load_model(Path(job["export"]) / "model.keras")
    rows: list[dict[str, Any]] = [_rejected(key, reason, detail, card) for key, reason, detail in rejects]
    for start in range(0, len(keys), _BATCH):
        rows += _score_batch(model, storage, keys[start : start + _BATCH], card)
        emit({"done": min(start + _BATCH, len(keys)), "of": len(keys)})
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


def _score_batch(model: Any, storage: Storage, keys: list[str], card: Card) -> list[dict[str, Any]]:
    pixels: list[images.Pixels] = []
    scored: list[str] = []
    rows: list[dict[str, Any]] = []
    for key in keys:
        try:
            image = images.decode(manifest.read_bytes(storage, key)).image
            pixels.append(images.for_model(image, card.image_size, card.settings.harmonise))
            scored.append(key)
        except images.Rejected as reject:
            rows.append(_rejected(key, reject.reason, reject.detail, card))
    if scored:
        scores = card.calibration.apply(scoring.score(model, np.stack(pixels), np.arange(len(scored))))
        rows += [_scored(key, float(score), card) for key, score in zip(scored, scores, strict=True)]
    return rows


def _scored(key: str, score: float, card: Card) -> dict[str, Any]:
    name = card.labels[int(score >= card.threshold)]
    return dict(zip(COLUMNS, (key, score, name, card.threshold, "scored", ""), strict=True))


def _rejected(key: str, reason: str, detail: str, card: Card) -> dict[str, Any]:
    return dict(zip(COLUMNS, (key, "nan", "", card.threshold, "rejected", f"{reason}: {detail}"), strict=True))


if __name__ == "__main__":
    child.serve(main)
