"""Score images batch by batch with an exported model, in a worker process.

What an image is, and how it is decoded, is decided by the code that inspects training images.
"""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from cxr.core.parallel import map_in_order, usable_cores
from cxr.core.settings import DicomOutputSettings, FileSettings, ScopeSettings
from cxr.data.patients.hidden_names import is_hidden_key
from cxr.data.patients.hidden_storage import open_data
from cxr.models import scoring
from cxr.models.compute import backend
from cxr.models.compute.worker import Emit, Job, Progress
from cxr.models.features import batching
from cxr.results.cards.model_card import read_card
from cxr.serving.prediction.answers import Network, open_network
from cxr.serving.prediction.decoding import Film, Reject, decode
from cxr.serving.prediction.inputs import ImageToScore
from cxr.serving.prediction.rows import (
    Row,
    rejected_row,
    write_tables,
)
from cxr.serving.sites.apply import localise_card
from cxr.serving.sites.records import Site
from cxr.serving.structured_reports.report_folder import ReportFolder

REPORTS = "reports"  # the step that tells how many were written
# More than cores: a thread that waits for object storage decodes nothing, and on two cores eight
# threads take no more processor time than two (docs/results.md).
THREADS = max(8, usable_cores())
# Images read and decoded before the network asks, so that a batch waits while another is scored.
AHEAD = 64


class _Batch(NamedTuple):
    """Images for one call of the network: their names, and each decoded or why it could not be."""

    names: list[str]
    films: list[Film | Reject]


class _ScoredBatch(NamedTuple):
    """The rows of a batch, and its films that got a prediction, with their scores."""

    rows: list[Row]
    predicted: list[tuple[Film, float]]


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
        measurements: Where the table of measurements goes.
        site: Whose threshold and calibration are used; None for the model's own.
        scope: When the model abstains.
    """

    export: Path
    places: tuple[str, ...]
    to_score: tuple[tuple[int, str, str | None, str], ...]
    rejects: tuple[tuple[str, str, str], ...]
    files: FileSettings
    out: Path
    measurements: Path
    dicom: DicomOutputSettings = DicomOutputSettings()
    site: Site | None = None
    scope: ScopeSettings = ScopeSettings()

    def work(self, emit: Emit) -> None:
        """Load the model, go through the images batch by batch, publish reports and the table."""
        card = localise_card(read_card(self.export), self.site)
        storages = [open_data(uri) for uri in self.places]
        for number, _, _, name in self.to_score:
            if is_hidden_key(name):
                storages[number].forget_contents()
        images = [
            ImageToScore(storages[number], key, version, name)
            for number, key, version, name in self.to_score
        ]
        network = open_network(self.export, card, self.scope, self.site)
        reports = ReportFolder(self.dicom.dicom_sr, card) if self.dicom.dicom_sr else None
        batches = score_images(network, images, self.files, self.dicom, reports)
        measurements = network.limits.measurements if network.limits else []
        write_tables(
            _told(batches, emit), self.rejects, card, self.out, self.measurements, measurements
        )
        if reports is not None:
            emit(Progress(step=REPORTS, done=reports.written))


def _told(batches: Iterator[list[Row]], emit: Emit) -> Iterator[list[Row]]:
    """Yield the rows of each batch, and tell how many there were."""
    done = 0
    for batch in batches:
        yield batch
        done += len(batch)
        emit(Progress(done=done))


def score_images(
    network: Network,
    images: Sequence[ImageToScore],
    files: FileSettings,
    dicom: DicomOutputSettings | None = None,
    reports: ReportFolder | None = None,
) -> Iterator[list[Row]]:
    """Yield the rows of each batch of images, scored, abstained or rejected, in their order.

    Images are read and decoded in threads, AHEAD of them or two batches before the model asks.

    Args:
        network: What scores them.
        images: What to score.
        files: What an image must be.
        dicom: What is kept of DICOM films; the defaults where not given.
        reports: Where the structured reports of films with a prediction go; None to write none.

    Raises:
        StorageError: An image could not be read, or a report not be written.
    """
    dicom = dicom or DicomOutputSettings()
    size = scoring.even_batch_size(len(images), backend.inference_batch_size())
    ahead = max(AHEAD, 2 * size)

    def decode_image(image: ImageToScore) -> Film | Reject:
        return decode(image, network.card, files, dicom)

    def score(batch: _Batch) -> _ScoredBatch:
        return _score_batch(network, batch, size)

    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(THREADS))
        decoding = map_in_order(decode_image, images, pool, ahead)
        films = stack.enter_context(contextlib.closing(decoding))
        for batch in batching.map_batches(None, score, _batches(images, films, size)):
            if reports is not None:
                for film, value in batch.predicted:
                    reports.add(film.header, value)
            yield batch.rows


def _batches(
    images: Sequence[ImageToScore],
    films: Iterator[Film | Reject],
    size: int,
) -> Iterator[_Batch]:
    """Yield batches of `size` images, the last one smaller, as they are asked for."""
    for start in range(0, len(images), size):
        names = [image.name for image in images[start : start + size]]
        yield _Batch(names, list(itertools.islice(films, size)))


def _score_batch(network: Network, batch: _Batch, size: int) -> _ScoredBatch:
    """Return a row for each image of a batch; `size` is the number of places in every batch."""
    rows = []
    names = []
    decoded = []
    for name, film in zip(batch.names, batch.films, strict=True):
        if isinstance(film, Reject):
            rows.append(rejected_row(name, film, network.card))
        else:
            names.append(name)
            decoded.append(film)
    if not decoded:
        return _ScoredBatch(rows, [])
    answers = network.answer(names, decoded, size)
    predicted = [
        (film, float(row["score"]))
        for film, row in zip(decoded, answers, strict=True)
        if row["status"] == "scored"
    ]
    return _ScoredBatch([*rows, *answers], predicted)
