"""Score images batch by batch with an exported model, in a worker process.

What an image is, and how it is decoded, is decided by the code that inspects training images.
"""

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from cxr.core.files import write_table
from cxr.core.parallel import map_in_order, usable_cores
from cxr.core.settings import DicomOutputSettings, FileSettings
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
from cxr.serving.prediction.inputs import ImageToScore
from cxr.serving.sites.apply import localise_card
from cxr.serving.sites.records import Site
from cxr.serving.structured_reports import film_header
from cxr.serving.structured_reports.report_folder import ReportFolder

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from cxr.data.images.dicom.film import DicomFilm

COLUMNS = ["image", "score", "prediction", "threshold", "status", "reason"]
INSTANCE = "instance"  # the last column, where a DICOM film was scored
REPORTS = "reports"  # the step that tells how many were written
# More than cores: a thread that waits for object storage decodes nothing, and on two cores eight
# threads take no more processor time than two (docs/results.md).
THREADS = max(8, usable_cores())
# Images read and decoded before the network asks, so that a batch waits while another is scored.
AHEAD = 64


class _Reject(NamedTuple):
    """Why an image is not scored."""

    reason: str
    detail: str


class _Film(NamedTuple):
    """A decoded image.

    Attributes:
        pixels: As the network wants them.
        instance: What stands in the column of that name; None for a file that is not DICOM.
        header: What its structured report needs; None where none is to be written, or can be.
    """

    pixels: rejection.Pixels
    instance: str | None = None
    header: "Dataset | None" = None


class _Batch(NamedTuple):
    """Images for one call of the network: their names, and each decoded or why it could not be."""

    names: list[str]
    films: list[_Film | _Reject]


class _ScoredBatch(NamedTuple):
    """The rows of a batch, and its scored films with their scores."""

    rows: list[dict[str, Any]]
    scored: list[tuple[_Film, float]]


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
        dicom: What is kept and written of DICOM films.
        site: Whose threshold and calibration are used; None for the model's own.
    """

    export: Path
    places: tuple[str, ...]
    to_score: tuple[tuple[int, str, str | None, str], ...]
    rejects: tuple[tuple[str, str, str], ...]
    files: FileSettings
    out: Path
    dicom: DicomOutputSettings = DicomOutputSettings()
    site: Site | None = None

    def work(self, emit: Emit) -> None:
        """Load the model, go through the images batch by batch, publish reports and the table."""
        import keras

        card = localise_card(read_card(self.export), self.site)
        storages = [open_data(uri) for uri in self.places]
        for number, _, _, name in self.to_score:
            if is_hidden_key(name):
                storages[number].forget_contents()
        images = [
            ImageToScore(storages[number], key, version, name)
            for number, key, version, name in self.to_score
        ]
        model = model_surgery.fuse_batch_norm(keras.models.load_model(self.export / "model.keras"))
        reports = ReportFolder(self.dicom.dicom_sr, card) if self.dicom.dicom_sr else None
        rows: list[dict[str, Any]] = []
        for batch in score_images(model, images, card, self.files, self.dicom, reports, self.site):
            rows += batch
            emit(Progress(done=len(rows)))
        if reports is not None:
            emit(Progress(step=REPORTS, done=reports.written))
        write_predictions(rows, self.rejects, card, self.out)


def write_predictions(
    rows: list[dict[str, Any]],
    rejects: Iterable[tuple[str, str, str]],
    card: Card,
    path: Path,
) -> None:
    """Write the table of predictions, sorted by image; with instances where there is DICOM.

    Args:
        rows: The rows of the images that a network was asked for.
        rejects: Name, reason and detail of each other file.
        card: The model's card.
        path: Where the table goes.
    """
    rejected = [
        _rejected_row(name, _Reject(reason, detail), card) for name, reason, detail in rejects
    ]
    has_instances = any(INSTANCE in row for row in rows)
    columns = [*COLUMNS, INSTANCE] if has_instances else COLUMNS
    table = pd.DataFrame([*rows, *rejected], columns=columns)
    write_table(table.sort_values("image"), path)


def score_images(
    model: Any,
    images: Sequence[ImageToScore],
    card: Card,
    files: FileSettings,
    dicom: DicomOutputSettings | None = None,
    reports: ReportFolder | None = None,
    site: Site | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each batch of images, scored or rejected, in the order of `images`.

    Images are read and decoded in threads, AHEAD of them or two batches before the model asks.

    Args:
        model: The exported network.
        images: What to score.
        card: The model's card, with the threshold of the site.
        files: What an image must be.
        dicom: What is kept of DICOM films; the defaults where not given.
        reports: Where the structured reports of scored films go; None to write none.
        site: Whose calibration is used; None for the model's own.

    Raises:
        StorageError: An image could not be read, or a report not be written.
    """
    dicom = dicom or DicomOutputSettings()
    size = scoring.even_batch_size(len(images), backend.inference_batch_size())
    ahead = max(AHEAD, 2 * size)

    def decode(image: ImageToScore) -> _Film | _Reject:
        return _decode(image, card, files, dicom)

    def score(batch: _Batch) -> _ScoredBatch:
        return _score_batch(model, batch, size, card, site)

    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(THREADS))
        decoding = map_in_order(decode, images, pool, ahead)
        films = stack.enter_context(contextlib.closing(decoding))
        for batch in batching.map_batches(None, score, _batches(images, films, size)):
            if reports is not None:
                for film, value in batch.scored:
                    reports.add(film.header, value)
            yield batch.rows


def _batches(
    images: Sequence[ImageToScore],
    films: Iterator[_Film | _Reject],
    size: int,
) -> Iterator[_Batch]:
    """Yield batches of `size` images, the last one smaller, as they are asked for."""
    for start in range(0, len(images), size):
        names = [image.name for image in images[start : start + size]]
        yield _Batch(names, list(itertools.islice(films, size)))


def _decode(
    image: ImageToScore,
    card: Card,
    files: FileSettings,
    dicom: DicomOutputSettings,
) -> _Film | _Reject:
    """Read and decode one image; return what the network wants of it, or why there is nothing."""
    try:
        ((_, answer),) = image.storage.read_many([(image.key, image.version)])
        data = shard_inspection.require_bytes(answer)
        examined = content.examine(data, files)
        if card.data.polarity is not None:
            _require_not_inverted(examined.image, card.data.polarity)
        pixels = model_input.prepare_for_model(
            examined.image, card.image_size, card.settings.harmonise
        )
        source = examined.decoded.dicom
        if source is None:
            return _Film(pixels)
        header = film_header.read_header(data) if dicom.dicom_sr else None
        return _Film(pixels, _instance_of(source, dicom), header)
    except rejection.Rejected as error:
        # The exception itself would keep the half-decoded image in memory.
        return _Reject(error.reason, error.detail)


def _instance_of(film: "DicomFilm", dicom: DicomOutputSettings) -> str:
    """Return by what a DICOM film is known in the table.

    Raises:
        Rejected: A tag is nonsense: inspection for training rejects the film, too.
    """
    described = film.describe()
    if not dicom.keep_uids:
        return described[INSTANCE]
    tags = film.tags
    return tags.text("SOPInstanceUID") or tags.text("MediaStorageSOPInstanceUID")


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
    site: Site | None,
) -> _ScoredBatch:
    """Return a row for each image of a batch; `size` is the number of places in every batch."""
    rows = []
    names = []
    decoded = []
    for name, film in zip(batch.names, batch.films, strict=True):
        if isinstance(film, _Reject):
            rows.append(_rejected_row(name, film, card))
        else:
            names.append(name)
            decoded.append(film)
    if not decoded:
        return _ScoredBatch(rows, [])
    # Every batch has the same shape, so that the network is compiled once: images that could be
    # decoded are repeated in the places of those that could not.
    positions = np.resize(np.arange(len(decoded)), size)
    pixels = np.stack([film.pixels for film in decoded])
    scores = scoring.score_images(model, pixels, positions, size)[: len(decoded)]
    own = card.calibration.apply(scores)
    calibrated = (site.apply(own) if site else own).tolist()
    for name, film, score in zip(names, decoded, calibrated, strict=True):
        row = _scored_row(name, score, card)
        if film.instance is not None:
            row[INSTANCE] = film.instance
        rows.append(row)
    return _ScoredBatch(rows, list(zip(decoded, calibrated, strict=True)))


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
