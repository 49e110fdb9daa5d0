"""Images of more than 8 bits: how many bits a file has, and how they are scaled to 8."""

import functools

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from cxr.data.images.decoding import png
from cxr.data.images.decoding.rejection import EXPORT_HINT, Pixels, Rejected

# Tags of TIFF 6.0 and their values.
_BITS_PER_SAMPLE = 258
_PHOTOMETRIC = 262
_WHITE_IS_ZERO = 0
_SAMPLE_FORMAT = 339
_UNSIGNED = 1


def bits_per_sample(image: Image.Image, data: bytes) -> int:
    """Return the bits of the deepest channel, by the file's header.

    Pillow's mode does not tell: of colour with 16 bits it hands on the upper 8.

    Args:
        image: As Pillow opened it.
        data: The file.
    """
    if image.format == "PNG":
        return png.read_bit_depth(data)
    if isinstance(image, TiffImageFile):
        bits_of_channels = image.tag_v2.get(_BITS_PER_SAMPLE, (1,))
        return int(max(bits_of_channels))
    return 8


def require_scale(
    image: Image.Image,
    stored_bits: int,
    bit_depth: int | None,
) -> int:
    """Return the bit depth by which an image of more than 8 bits can be scaled.

    Args:
        image: As Pillow opened it.
        stored_bits: Bits per sample in the file.
        bit_depth: Bits in use, as the user gave them, or None.

    Raises:
        Rejected: It has more than one channel, signed or floating values, or no bit depth is given.
    """
    if not _has_one_unsigned_channel(image):
        detail = f"{stored_bits} bits a channel, {image.mode}: {EXPORT_HINT}, or one gray channel"
        raise Rejected("unsupported_mode", detail)
    if bit_depth is None:
        remedy = f"{EXPORT_HINT}, or give the bits in use (--bit-depth, often 12)"
        raise Rejected("unsupported_mode", f"{stored_bits} bits a channel: {remedy}")
    return bit_depth


def _has_one_unsigned_channel(image: Image.Image) -> bool:
    if not image.mode.startswith("I;16") or "transparency" in image.info:
        return False
    if not isinstance(image, TiffImageFile):
        return True
    sample_formats = image.tag_v2.get(_SAMPLE_FORMAT, (_UNSIGNED,))
    return set(sample_formats) == {_UNSIGNED}


def scale_to_8_bits(image: Image.Image, bit_depth: int) -> Image.Image:
    """Scale one deep channel to 8 bits: 0 to 2^bit_depth - 1 becomes 0 to 255, rounded.

    Args:
        image: One unsigned channel of up to 16 bits.
        bit_depth: Bits in use.

    Returns:
        Mode L; black is 0, also where the file says that white is.

    Raises:
        Rejected: A value needs more bits.
    """
    image.load()
    values = np.asarray(image)
    highest = int(values.max())
    white = 2**bit_depth - 1
    if highest > white:
        detail = f"a value of {highest:,}, more than {white:,}, the white of {bit_depth} bits"
        raise Rejected("unsupported_mode", f"{detail}: correct --bit-depth")
    pixels = _gray_levels(bit_depth)[values]
    if _is_white_zero(image):
        pixels = 255 - pixels  # as Pillow does with 8 bits
    return Image.fromarray(pixels)


def _is_white_zero(image: Image.Image) -> bool:
    if not isinstance(image, TiffImageFile):
        return False
    photometric = image.tag_v2.get(_PHOTOMETRIC)
    return bool(photometric == _WHITE_IS_ZERO)


@functools.lru_cache
def _gray_levels(bit_depth: int) -> Pixels:
    """Return the gray level of each value of `bit_depth` bits, uint8 (2^bit_depth,)."""
    white = 2**bit_depth - 1
    values = np.arange(white + 1, dtype=np.uint32)
    # This is round(255 * value / white) in whole numbers.
    gray_levels: Pixels = (values * 510 + white) // (2 * white)
    return gray_levels.astype(np.uint8)
