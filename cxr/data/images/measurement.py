"""Everything that inspection wants to know of an image, from one decoding."""

import hashlib
from typing import Any, NamedTuple

from PIL import Image

from cxr.core.settings import FileSettings
from cxr.data.images import content
from cxr.data.images.decoding.decoder import rejecting_errors
from cxr.data.images.decoding.rejection import Pixels
from cxr.data.images.hashing import pixel_sha256
from cxr.data.images.model_input import THUMBNAIL_SIDE, resize


class MeasuredImage(NamedTuple):
    """The measurements of one file.

    Attributes:
        row: md5, pixel_sha256, width, height (pixels), mode, format, bytes, bit_depth, mean and std
            of the gray pixels (0 to 255), icc, exif and quantisation; of DICOM also dicom_patient
            and the columns of `DicomFilm.describe`.
        thumbnail: uint8 (64, 64).
        image: What was measured, mode L or RGB, upright. The pixels for training come from it.
    """

    row: dict[str, Any]
    thumbnail: Pixels
    image: Image.Image


def measure_image(
    data: bytes,
    settings: FileSettings | None = None,
    invert: bool = False,
) -> MeasuredImage:
    """Decode a file and measure its image.

    Args:
        data: The file.
        settings: What an image must be, by default FileSettings().
        invert: Measure the negative: 255 less each pixel. md5 and bytes stay those of the file.

    Raises:
        Rejected: The image cannot be a film, see `content.examine`.
        UsageError: It is DICOM, and no salt is set.
    """
    with rejecting_errors(data):
        examined = content.examine(
            data,
            settings or FileSettings(),
            invert,
        )
        decoded = examined.decoded
        image = examined.image
        mean, std = content.mean_and_std(examined.gray_counts)
        row = {
            "md5": hashlib.md5(data, usedforsecurity=False).hexdigest(),
            "pixel_sha256": pixel_sha256(image, examined.pixels),
            "width": image.width,
            "height": image.height,
            "mode": decoded.mode,
            "format": decoded.format,
            "bytes": len(data),
            "bit_depth": decoded.bit_depth,
            "mean": mean,
            "std": std,
            **decoded.container,
        }
        if decoded.dicom is not None:
            row |= decoded.dicom.describe()
        return MeasuredImage(row, resize(image, THUMBNAIL_SIDE), image)
