"""Batch scoring with an exported model and its card, and nothing else.

What is an image is judged here, by the rule of training (`scanning`, `images`); the network runs
in a child. `predict` is the way in.
"""

import contextlib
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from cxr.core.errors import DataError
from cxr.core.files import read_table, write_table
from cxr.core.parallel import map_in_order, usable_cores
from cxr.core.records import Record
from cxr.core.settings import LABEL_NAMES, FileSettings
from cxr.data.images import content, model_input
from cxr.data.images.decoding import rejection
from cxr.data.manifest import shard_inspection
from cxr.data.negatives import polarity
from cxr.data.survey import file_kinds
from cxr.models import layers, scoring
from cxr.models.compute import backend, worker
from cxr.models.compute.worker import Emit, Job, Progress
from cxr.models.features import batching
from cxr.results import exporting
from cxr.results.model_card import Card, read_card
from cxr.serving import registry
from cxr.serving.prediction_inputs import ImageToScore, Inputs, find_images
from cxr.storage.addresses import open_storage
from cxr.storage.workspace import workspace

COLUMNS = ["image", "score", "prediction", "threshold", "status", "reason"]
# More than cores: a thread that waits for object storage decodes nothing, and on two cores eight
# take no more processor time than two (docs/results.md).
THREADS = max(8, usable_cores())
AHEAD = 64  # images read and decoded before the network asks: a batch waits while another is scored
SHOWN = 6  # reasons in one sentence
_Reject = tuple[str, str]  # reason, detail


class Predictions(Record):
    """Where the table of scores is, which model made it, and how many images it lists.

    `images` = `scored` + `rejected`; `positive` of the scored ones are called PNEUMONIA; `reasons`
    count the rejected ones by reason, the most frequent first.
    """

    out: str
    model: str
    model_sha256: str
    threshold: float
    images: int
    scored: int
    positive: int
    rejected: int
    reasons: dict[str, int]

    def sentence(self) -> str:
        """Return the counts in one sentence.

        >>> Predictions(out="p.csv", model="", model_sha256="", threshold=0.5, images=4, scored=3,
        ...             positive=1, rejected=1, reasons={"truncated": 1}).sentence()
        '3 scored (1 PNEUMONIA), 1 rejected (1 truncated): p.csv'
        """
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.reasons.items())
        why = f" ({reasons})" if reasons else ""
        return (
            f"{self.scored} scored ({self.positive} {LABEL_NAMES[1]}), "
            f"{self.rejected} rejected{why}: {self.out}"
        )


def predict(
    model: str,
    data: Sequence[str],
    out: str,
    on_images: Callable[[int, int], None],
    files: FileSettings,
) -> Predictions:
    """Score every image at the addresses `data`, and publish predictions.csv.

    The table lists what was rejected too, with its reason.

    Args:
        model: An export folder, the model.keras in it, or a registry, which means its champion.
        data: Images, folders or S3 prefixes.
        out: Where the table goes, a path or s3://….
        on_images: Told how many images are done, and of how many, at first of none.
        files: Which files are looked at, and what an image must be.

    Returns:
        What the published table holds, counted.

    Raises:
        DataError: Where there is nothing at `data`, or no image of it could be scored. In the
            second case the table is there.
        ModelError: Where there is no model, or it does not fit its card.
        DeviceError: Where the driver of a graphics processor fails.
    """
    with registry.find_model(model) as address, workspace.open_output(out) as path:
        folder = exporting.find_export(address)
        card = read_card(folder)
        files = _with_depth_of(card, files)
        found = find_images(data, out, files)
        if found.wanted:
            on_images(0, len(found.wanted))
            _score_in_child(folder, found, files, path, on_images)
        else:
            _publish([], found.rejects, card, path)
        table = read_table(path)
    if not (table["status"] == "scored").any():
        raise DataError(_nothing_scored(found, table, data, out))
    return _counted(table, card, out)


def _counted(table: pd.DataFrame, card: Card, out: str) -> Predictions:
    scored = int((table["status"] == "scored").sum())
    return Predictions(
        out=out,
        model=f"{card.architecture}, run {card.run}",
        model_sha256=card.model_sha256,
        threshold=card.threshold,
        images=len(table),
        scored=scored,
        positive=int((table["prediction"] == LABEL_NAMES[1]).sum()),
        rejected=len(table) - scored,
        reasons=_counts_by_reason(table),
    )


def _counts_by_reason(table: pd.DataFrame) -> dict[str, int]:
    """Return how many images were not scored, by reason, the most frequent first."""
    reasons = table.loc[table["status"] != "scored", "reason"]
    return dict(Counter(reason.partition(":")[0] for reason in reasons).most_common())


def _with_depth_of(card: Card, files: FileSettings) -> FileSettings:
    """Return the settings with the bit depth of the model's training, where none is given.

    Raises:
        DataError: Another one is given: the same film would have other gray values than in training.
    """
    trained = card.data.reading.bit_depth
    if trained is None or files.bit_depth == trained:
        return files
    if files.bit_depth is not None:
        raise DataError(
            f"--bit-depth {files.bit_depth}: the model was trained with --bit-depth {trained}: leave it out"
        )
    return files.model_copy(update={"bit_depth": trained})


def _nothing_scored(found: Inputs, table: pd.DataFrame, data: Sequence[str], out: str) -> str:
    """Return in one sentence why no image could be scored."""
    where = data[0] if len(data) == 1 else f"{len(data)} addresses"
    if all(one.kind != "image" for one in found.judged):
        return f"{where}: {file_kinds.explain_no_images(found.judged)}; {out} lists them"
    if len(table) == 1:
        return f"{where}: not scored: {table['reason'][0]}"
    counts = [f"{count} {reason}" for reason, count in _counts_by_reason(table).items()]
    return (
        f"{where}: none of {len(table)} files could be scored ({', '.join(counts[:SHOWN])}): "
        f"{out} lists each with its reason"
    )


def _score_in_child(
    folder: Path,
    found: Inputs,
    files: FileSettings,
    path: Path,
    on_images: Callable[[int, int], None],
) -> None:
    """Have a child score the images and publish the table at `path`."""
    places = list(dict.fromkeys(one.storage.uri for one in found.wanted))
    numbers = {uri: number for number, uri in enumerate(places)}
    job = PredictionJob(
        export=folder,
        places=tuple(places),
        to_score=tuple(
            (numbers[one.storage.uri], one.key, one.version, one.name) for one in found.wanted
        ),
        rejects=tuple(found.rejects),
        files=files,
        out=path.absolute(),
    )
    log = path.absolute().parent / f".cxr-predict-{os.getpid()}.log"
    count = len(found.wanted)
    worker.run_job(job, log, usable_cores(), lambda progress: on_images(int(progress.done), count))
    log.unlink(missing_ok=True)


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
        storages = [open_storage(uri) for uri in self.places]
        wanted = [
            ImageToScore(storages[number], key, version, name)
            for number, key, version, name in self.to_score
        ]
        model = layers.fuse_batch_norm(keras.models.load_model(self.export / "model.keras"))
        rows: list[dict[str, Any]] = []
        for batch in score_images(model, wanted, card, self.files):
            rows += batch
            emit(Progress(done=len(rows)))
        _publish(rows, self.rejects, card, self.out)


def _publish(
    rows: list[dict[str, Any]],
    rejects: Iterable[tuple[str, str, str]],
    card: Card,
    path: Path,
) -> None:
    rejected = [_rejected(name, reason, detail, card) for name, reason, detail in rejects]
    write_table(pd.DataFrame([*rows, *rejected], columns=COLUMNS).sort_values("image"), path)


def score_images(
    model: Any, wanted: Sequence[ImageToScore], card: Card, files: FileSettings
) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each batch of images, scored or rejected, in the order of `wanted`.

    Images are read and decoded in threads, AHEAD of them before the model asks, or two batches.
    Raises StorageError.
    """
    size = scoring.even_batch_size(len(wanted), backend.inference_batch_size())
    most = max(AHEAD, 2 * size)
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(THREADS))
        decoding = map_in_order(lambda one: _pixels(one, card, files), wanted, pool, most)
        pixels = stack.enter_context(contextlib.closing(decoding))
        parts = (
            ([one.name for one in wanted[at : at + size]], list(itertools.islice(pixels, size)))
            for at in range(0, len(wanted), size)
        )
        yield from batching.map_batches(
            None,
            lambda part: _score_batch(model, part[0], part[1], size, card),
            parts,
        )


def _pixels(one: ImageToScore, card: Card, files: FileSettings) -> rejection.Pixels | _Reject:
    try:
        ((_, answer),) = one.storage.read_many([(one.key, one.version)])
        image = content.examine(shard_inspection.require_bytes(answer), files).image
        if card.data.polarity is not None:
            _require_film(image, card.data.polarity)
        return model_input.prepare_for_model(image, card.image_size, card.settings.harmonise)
    except rejection.Rejected as reject:
        # The exception itself would keep the half-decoded image in memory.
        return reject.reason, reject.detail


def _require_film(image: Image.Image, reference: polarity.Reference) -> None:
    """Raise Rejected for what looks like the negative of a film of the model's training."""
    thumbnail = model_input.resize(image, model_input.THUMBNAIL_SIDE)
    if polarity.find_suspects(reference, thumbnail[np.newaxis])[0]:
        raise rejection.Rejected(
            "negative",
            "bright where the films of the training are dark: invert it, then score it again",
        )


def _score_batch(
    model: Any, names: list[str], found: list[rejection.Pixels | _Reject], size: int, card: Card
) -> list[dict[str, Any]]:
    """Return a row for each of `names`; `size` is the number of places in every batch."""
    both = list(zip(names, found, strict=True))
    decoded = [(name, one) for name, one in both if not isinstance(one, tuple)]
    rows = [_rejected(name, *one, card) for name, one in both if isinstance(one, tuple)]
    if decoded:
        filled = np.resize(np.arange(len(decoded)), size)  # over again in the places of rejects
        pixels = np.stack([pixels for _, pixels in decoded])
        scores = scoring.score_images(model, pixels, filled, size)[: len(decoded)]
        calibrated = card.calibration.apply(scores)
        for (name, _), score in zip(decoded, calibrated, strict=True):
            rows.append(_scored(name, float(score), card))
    return rows


def _scored(name: str, score: float, card: Card) -> dict[str, Any]:
    label = card.labels[int(score >= card.threshold)]
    return dict(zip(COLUMNS, (name, score, label, card.threshold, "scored", ""), strict=True))


def _rejected(name: str, reason: str, detail: str, card: Card) -> dict[str, Any]:
    words = f"{reason}: {detail}"
    return dict(zip(COLUMNS, (name, "nan", "", card.threshold, "rejected", words), strict=True))
