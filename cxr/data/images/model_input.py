"""What a model sees of an image: gray, resized and, where asked for, encoded like all others."""

import io

import numpy as np
from PIL import Image, ImageOps

from cxr.data.images.decoding import decoder
from cxr.data.images.decoding.decoder import rejecting_errors
from cxr.data.images.decoding.rejection import Pixels

THUMBNAIL_SIDE = 64
UNIFORM_QUALITY = 90


def decode_kept_image(data: bytes, bit_depth: int, inverted: bool) -> Image.Image:
    """Return the image of a kept file, mode L or RGB: what every stage after inspection uses.

    Args:
        data: The file's bytes.
        bit_depth: As the manifest says: 8, or the N by which a deeper picture was scaled.
        inverted: Whether the file is a negative that was inverted.

    Raises:
        Rejected: Where it is not readable any more.
    """
    with rejecting_errors(data):
        image = decoder.decode_unguarded(data, bit_depth if bit_depth > 8 else None).image
        return ImageOps.invert(image) if inverted else image


def to_gray(image: Image.Image) -> Image.Image:
    """Return the image as mode L (ITU-R 601 luma where it has colour)."""
    return image if image.mode == "L" else image.convert("L")


def resize(image: Image.Image, side: int) -> Pixels:
    """Return gray pixels as uint8 of shape (side, side): an antialiased bilinear resize of the whole image.

    The resizing contract of every model trained here: the aspect is not kept, nothing is cropped.
    """
    return np.asarray(
        to_gray(image).resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    )


def prepare_for_model(image: Image.Image, side: int, harmonise: bool) -> Pixels:
    """Return what a model sees of an image, uint8 (side, side): resized and, if `harmonise`, encoded like all others.

    The last step every pixel went through is then the same JPEG encoding, so that traces of a file's own
    compression do not tell where it came from.
    """
    pixels = resize(image, side)
    return np.asarray(Image.open(io.BytesIO(encode_uniformly(pixels)))) if harmonise else pixels


def encode_uniformly(pixels: Pixels) -> bytes:
    """Return gray pixels (uint8, h x w) as a JPEG of quality UNIFORM_QUALITY."""
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=UNIFORM_QUALITY)
    return encoded.getvalue()
