"""Images of more than 8 bits: how many bits a file has, and how they become 8."""

import functools

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from cxr.data.images.decoding.rejection import EXPORT_HINT, PNG_START, Pixels, Rejected

# Tags of TIFF and what they may say.
_BITS_PER_SAMPLE = 258
_PHOTOMETRIC = 262
_WHITE_IS_ZERO = 0
_SAMPLE_FORMAT = 339
_UNSIGNED = 1


def bits_per_sample(image: Image.Image, data: bytes) -> int:
    """Return the most bits of any channel, by the header: of 16 Pillow hands on the upper 8."""
    if image.format == "PNG":
        return data[PNG_START + 16]  # IHDR: length, name, width, height of 4 bytes each, depth
    if isinstance(image, TiffImageFile):
        return int(max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,))))
    return 8


def require_scale(image: Image.Image, stored: int, bit_depth: int | None) -> int:
    """Return bit_depth where it can scale this picture of more than 8 bits; raises Rejected."""
    single = image.mode.startswith("I;16")
    if isinstance(image, TiffImageFile):
        single = single and set(image.tag_v2.get(_SAMPLE_FORMAT, (_UNSIGNED,))) == {_UNSIGNED}
    if not single or "transparency" in image.info:
        found = f"{stored} bits a channel, {image.mode}"
        raise Rejected("unsupported_mode", f"{found}: {EXPORT_HINT}, or one gray channel")
    if bit_depth is None:
        raise Rejected(
            "unsupported_mode",
            f"{stored} bits a channel: {EXPORT_HINT}, or give the bits in use (--bit-depth, often 12)",
        )
    return bit_depth


def scale_to_8_bits(image: Image.Image, bit_depth: int) -> Image.Image:
    """Return mode L of one deep channel: 0 to 2^bit_depth - 1 as 0 to 255; raises Rejected."""
    image.load()
    values = np.asarray(image)
    highest = int(values.max())
    if highest >= 2**bit_depth:
        raise Rejected(
            "unsupported_mode",
            f"a value of {highest:,}, more than {2**bit_depth - 1:,}, the white of {bit_depth} bits: "
            "correct --bit-depth",
        )
    pixels = _grays(bit_depth)[values]
    if isinstance(image, TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        pixels = 255 - pixels  # as Pillow does where there are 8 bits
    return Image.fromarray(pixels)


@functools.lru_cache
def _grays(bit_depth: int) -> Pixels:
    """Return the gray of each value of `bit_depth` bits, rounded: uint8 (2^bit_depth,)."""
    white = 2**bit_depth - 1
    values = np.arange(white + 1, dtype=np.uint32)
    grays: Pixels = ((values * 510 + white) // (2 * white)).astype(np.uint8)
    return grays
