"""Score images batch by batch with an exported model, in a worker process.

What an image is, and how it is decoded, is decided by the code that inspects training images.
"""

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from cxr.core.files import write_table
from cxr.core.parallel import map_in_order, usable_cores
from cxr.core.settings import FileSettings
from cxr.data.images import content, model_input
from cxr.data.images.decoding import rejection
from cxr.data.inverted_films import polarity
from cxr.data.manifest import shard_inspection
from cxr.data.patients.hidden_names import is_hidden_key
from cxr.data.patients.hidden_storage import open_data
from cxr.models import scoring
from cxr.models.compute import backend
from cxr.models.compute.worker import Emit, Job, Progress
from cxr.models.features import batching
from cxr.models.networks import model_surgery
from cxr.results.model_card import Card, read_card
from cxr.serving.prediction_inputs import ImageToScore

COLUMNS = ["image", "score", "prediction", "threshold", "status", "reason"]
# More than cores: a thread that waits for object storage decodes nothing, and on two cores eight
# threads take no more processor time than two (docs/results.md).
THREADS = max(8, usable_cores())
# Images read and decoded before the network asks, so that a batch waits while another is scored.
AHEAD = 64


class _Reject(NamedTuple):
    """Why an image is not scored."""

    reason: str
    detail: str


class _Batch(NamedTuple):
    """Images for one call of the network: their names, and the pixels of each or why it has none."""

    names: list[str]
    pixels: list[rejection.Pixels | _Reject]


class PredictionJob(Job):
    """Score images with an exported model.

    Attributes:
        export: The export folder of the model.
        places: The storages that the images are in, as URIs.
        to_score: Of each image the number of its storage in `places`, its key and version there,
            and its name in the table.
        rejects: Name, reason and detail of each file that is not scored.
        files: What an image must be.
        out: Where the table goes.
    """

    export: Path
    places: tuple[str, ...]
    to_score: tuple[tuple[int, str, str | None, str], ...]
    rejects: tuple[tuple[str, str, str], ...]
    files: FileSettings
    out: Path

    def work(self, emit: Emit) -> None:
        """Load the model, go through the images batch by batch, publish the table."""
        import keras

        card = read_card(self.export)
        storages = [open_data(uri) for uri in self.places]
        for number, _, _, name in self.to_score:
            if is_hidden_key(name):
                storages[number].forget_contents()
        images = [
            ImageToScore(storages[number], key, version, name)
            for number, key, version, name in self.to_score
        ]
        model = model_surgery.fuse_batch_norm(keras.models.load_model(self.export / "model.keras"))
        rows: list[dict[str, Any]] = []
        for batch in score_images(model, images, card, self.files):
            rows += batch
            emit(Progress(done=len(rows)))
        write_predictions(rows, self.rejects, card, self.out)


def write_predictions(
    rows: list[dict[str, Any]],
    rejects: Iterable[tuple[str, str, str]],
    card: Card,
    path: Path,
) -> None:
    """Write the table of predictions, sorted by image.

    Args:
        rows: The rows of the images that a network was asked for.
        rejects: Name, reason and detail of each other file.
        card: The model's card.
        path: Where the table goes.
    """
    rejected = [
        _rejected_row(name, _Reject(reason, detail), card) for name, reason, detail in rejects
    ]
    table = pd.DataFrame([*rows, *rejected], columns=COLUMNS)
    write_table(table.sort_values("image"), path)


def score_images(
    model: Any,
    images: Sequence[ImageToScore],
    card: Card,
    files: FileSettings,
) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each batch of images, scored or rejected, in the order of `images`.

    Images are read and decoded in threads, AHEAD of them or two batches before the model asks.

    Args:
        model: The exported network.
        images: What to score.
        card: The model's card.
        files: What an image must be.

    Raises:
        StorageError: An image could not be read.
    """
    size = scoring.even_batch_size(len(images), backend.inference_batch_size())
    ahead = max(AHEAD, 2 * size)

    def decode(image: ImageToScore) -> rejection.Pixels | _Reject:
        return _decode(image, card, files)

    def score(batch: _Batch) -> list[dict[str, Any]]:
        return _score_batch(model, batch, size, card)

    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(THREADS))
        decoding = map_in_order(decode, images, pool, ahead)
        pixels = stack.enter_context(contextlib.closing(decoding))
        yield from batching.map_batches(None, score, _batches(images, pixels, size))


def _batches(
    images: Sequence[ImageToScore],
    pixels: Iterator[rejection.Pixels | _Reject],
    size: int,
) -> Iterator[_Batch]:
    """Yield batches of `size` images, the last one smaller, as they are asked for."""
    for start in range(0, len(images), size):
        names = [image.name for image in images[start : start + size]]
        yield _Batch(names, list(itertools.islice(pixels, size)))


def _decode(
    image: ImageToScore,
    card: Card,
    files: FileSettings,
) -> rejection.Pixels | _Reject:
    """Read and decode one image; return its pixels as the network wants them, or why it has none."""
    try:
        ((_, answer),) = image.storage.read_many([(image.key, image.version)])
        decoded = content.examine(shard_inspection.require_bytes(answer), files).image
        if card.data.polarity is not None:
            _require_not_inverted(decoded, card.data.polarity)
        return model_input.prepare_for_model(decoded, card.image_size, card.settings.harmonise)
    except rejection.Rejected as error:
        # The exception itself would keep the half-decoded image in memory.
        return _Reject(error.reason, error.detail)


def _require_not_inverted(
    image: Image.Image,
    reference: polarity.Reference,
) -> None:
    """Raise Rejected for what looks like the negative of a film of the model's training."""
    thumbnail = model_input.resize(image, model_input.THUMBNAIL_SIDE)
    if polarity.find_suspects(reference, thumbnail[np.newaxis])[0]:
        raise rejection.Rejected(
            "negative",
            "bright where the films of the training are dark: invert it, then score it again",
        )


def _score_batch(
    model: Any,
    batch: _Batch,
    size: int,
    card: Card,
) -> list[dict[str, Any]]:
    """Return a row for each image of a batch; `size` is the number of places in every batch."""
    rows = []
    names = []
    decoded = []
    for name, pixels in zip(batch.names, batch.pixels, strict=True):
        if isinstance(pixels, _Reject):
            rows.append(_rejected_row(name, pixels, card))
        else:
            names.append(name)
            decoded.append(pixels)
    if not decoded:
        return rows
    # Every batch has the same shape, so that the network is compiled once: images that could be
    # decoded are repeated in the places of those that could not.
    positions = np.resize(np.arange(len(decoded)), size)
    scores = scoring.score_images(model, np.stack(decoded), positions, size)[: len(decoded)]
    calibrated = card.calibration.apply(scores)
    for name, score in zip(names, calibrated, strict=True):
        rows.append(_scored_row(name, float(score), card))
    return rows


def _scored_row(name: str, score: float, card: Card) -> dict[str, Any]:
    """Return the row of an image that was scored."""
    return {
        "image": name,
        "score": score,
        "prediction": card.labels[int(score >= card.threshold)],
        "threshold": card.threshold,
        "status": "scored",
        "reason": "",
    }


def _rejected_row(name: str, reject: _Reject, card: Card) -> dict[str, Any]:
    """Return the row of an image that was not scored."""
    return {
        "image": name,
        "score": "nan",
        "prediction": "",
        "threshold": card.threshold,
        "status": "rejected",
        "reason": f"{reject.reason}: {reject.detail}",
    }
