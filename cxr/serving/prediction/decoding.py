"""Decode an image for a network, by the code that inspects training images, or say why not."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from cxr.core.settings import DicomOutputSettings, FileSettings
from cxr.data.images import content, model_input
from cxr.data.images.decoding import rejection
from cxr.data.inverted_films import polarity
from cxr.data.manifest import shard_inspection
from cxr.results.cards.model_card import Card
from cxr.serving.prediction.inputs import ImageToScore
from cxr.serving.structured_reports import film_header

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from cxr.data.images.dicom.film import DicomFilm

_INSTANCE = "instance"


class Reject(NamedTuple):
    """Why an image is not scored."""

    reason: str
    detail: str


class Film(NamedTuple):
    """A decoded image.

    Attributes:
        pixels: As the network wants them.
        instance: What stands in the column of that name; None for a file that is not DICOM.
        header: What its structured report needs; None where none is to be written, or can be.
        device: Manufacturer and model of the device of a DICOM film, as far as they are known.
    """

    pixels: rejection.Pixels
    instance: str | None = None
    header: "Dataset | None" = None
    device: str = ""


def decode(
    image: ImageToScore,
    card: Card,
    files: FileSettings,
    dicom: DicomOutputSettings,
) -> Film | Reject:
    """Read and decode one image; return what the network wants of it, or why there is nothing.

    Args:
        image: Which one.
        card: The card of the network.
        files: What an image must be.
        dicom: What is kept of DICOM films.

    Raises:
        StorageError: It could not be read.
    """
    try:
        ((_, answer),) = image.storage.read_many([(image.key, image.version)])
        data = shard_inspection.require_bytes(answer)
        examined = content.examine(data, files)
        if card.data.polarity is not None:
            _require_polarity(examined.image, card.data.polarity)
        pixels = model_input.prepare_for_model(
            examined.image, card.image_size, card.settings.harmonise
        )
        source = examined.decoded.dicom
        if source is None:
            return Film(pixels)
        header = film_header.read_header(data) if dicom.dicom_sr else None
        described = source.describe()
        device = f"{described['manufacturer']} {described['device_model']}".strip()
        return Film(pixels, _instance_of(source, described, dicom), header, device)
    except rejection.Rejected as error:
        # The exception itself would keep the half-decoded image in memory.
        return Reject(error.reason, error.detail)


def _instance_of(
    film: "DicomFilm",
    described: dict[str, str],
    dicom: DicomOutputSettings,
) -> str:
    """Return by what a DICOM film is known in the table."""
    if not dicom.keep_uids:
        return described[_INSTANCE]
    tags = film.tags
    return tags.text("SOPInstanceUID") or tags.text("MediaStorageSOPInstanceUID")


def _require_polarity(
    image: Image.Image,
    reference: polarity.Reference,
) -> None:
    """Raise Rejected for what looks like the negative of a film of the model's training."""
    thumbnails = model_input.resize(image, model_input.THUMBNAIL_SIDE)[np.newaxis]
    if not polarity.find_suspects(reference, thumbnails)[0]:
        return
    if polarity.find_turned(reference, thumbnails)[0]:
        raise rejection.Rejected(
            "rotated by 90 degrees", "lies on its side: turn it upright, then score it again"
        )
    raise rejection.Rejected(
        "negative",
        "bright where the films of the training are dark: invert it, then score it again",
    )
