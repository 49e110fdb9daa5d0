"""Everything that inspection wants to know of one image, from one decoding."""

import hashlib

from PIL import ImageOps

from cxr.core.settings import FileSettings
from cxr.data.images.content import check_content, gray_counts, mean_and_std
from cxr.data.images.decoding import decoder
from cxr.data.images.decoding.decoder import Measured, rejecting_errors
from cxr.data.images.hashing import pixel_sha256
from cxr.data.images.model_input import THUMBNAIL_SIDE, resize


def measure_image(
    data: bytes, settings: FileSettings | None = None, invert: bool = False
) -> Measured:
    """Decode one file's bytes and measure the image.

    Args:
        data: A whole file.
        settings: What a picture must be; the defaults where not given.
        invert: Measure the negative: 255 less each pixel. md5 and bytes stay those of the file.

    Raises:
        Rejected: As `examine` does.
    """
    with rejecting_errors(data):
        limits = settings or FileSettings()
        decoded = decoder.decode_unguarded(data, limits.bit_depth)
        upright = ImageOps.invert(decoded.image) if invert else decoded.image
        pixels = None if invert else decoded.pixels
        counts = gray_counts(upright)
        check_content(upright, counts, limits)
        mean, std = mean_and_std(counts)
        row = {
            "md5": hashlib.md5(data, usedforsecurity=False).hexdigest(),
            "pixel_sha256": pixel_sha256(upright, pixels),
            "width": upright.width,
            "height": upright.height,
            "mode": decoded.mode,
            "format": decoded.format,
            "bytes": len(data),
            "bit_depth": decoded.bit_depth,
            "mean": mean,
            "std": std,
            **decoded.container,
        }
        return Measured(row, resize(upright, THUMBNAIL_SIDE), upright)
