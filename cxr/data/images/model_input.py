"""What a model sees of an image: gray, resized and, unless that is switched off, encoded alike."""

import io

import numpy as np
from PIL import Image, ImageOps

from cxr.data.images.decoding import decoder
from cxr.data.images.decoding.decoder import rejecting_errors
from cxr.data.images.decoding.rejection import Pixels

THUMBNAIL_SIDE = 64
UNIFORM_QUALITY = 90


def decode_kept_image(
    data: bytes,
    bit_depth: int,
    inverted: bool,
    window: str = "",
) -> Image.Image:
    """Decode an image of the manifest, as every stage after inspection uses it.

    Args:
        data: The file.
        bit_depth: As the manifest says: 8, or the N by which a deeper image was scaled.
        inverted: Whether the file is a negative that was inverted.
        window: The name of the window by which a DICOM film is shown; the first one if not given.

    Returns:
        Mode L or RGB, upright.

    Raises:
        Rejected: It is not readable any more.
    """
    with rejecting_errors(data):
        scale = bit_depth if bit_depth > 8 else None
        image = decoder.decode(data, scale, window).image
        if inverted:
            return ImageOps.invert(image)
        return image


def to_gray(image: Image.Image) -> Image.Image:
    """Return the image in mode L, its luma by ITU-R BT.601 if it has colour."""
    if image.mode == "L":
        return image
    return image.convert("L")


def resize(image: Image.Image, side: int) -> Pixels:
    """Resize the whole image to a gray square, by antialiased bilinear interpolation.

    Every model trained here relies on this: the aspect is not kept, and nothing is cropped.

    Args:
        image: Of any mode and size.
        side: Of the square, in pixels.

    Returns:
        uint8 (side, side).
    """
    # The reducing gap shrinks large images by a whole number first, which is faster.
    resized = to_gray(image).resize(
        (side, side),
        Image.Resampling.BILINEAR,
        reducing_gap=2.0,
    )
    return np.asarray(resized)


def prepare_for_model(
    image: Image.Image,
    side: int,
    harmonise: bool,
) -> Pixels:
    """Return what a model sees of an image.

    Args:
        image: Of any mode and size.
        side: Of the model's input, in pixels.
        harmonise: Encode the pixels as JPEG of one quality and decode them again, so that traces of
            each file's own compression do not tell where it came from.

    Returns:
        uint8 (side, side).
    """
    pixels = resize(image, side)
    if not harmonise:
        return pixels
    file = io.BytesIO(encode_uniformly(pixels))
    return np.asarray(Image.open(file))


def encode_uniformly(pixels: Pixels) -> bytes:
    """Encode gray pixels as JPEG of quality UNIFORM_QUALITY.

    Args:
        pixels: uint8 (height, width).
    """
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    image.save(buffer, "JPEG", quality=UNIFORM_QUALITY)
    return buffer.getvalue()
