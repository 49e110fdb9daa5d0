"""Decode an image file: the one place where bytes become pixels."""

import contextlib
import ctypes
import functools
import hashlib
import io
import logging
import re
import threading
import warnings
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, _imaging
from PIL.TiffImagePlugin import TiffImageFile

from cxr.data.images.decoding import formats, jpeg
from cxr.data.images.decoding.bit_depth import bits_per_sample, require_scale, scale_to_8_bits
from cxr.data.images.decoding.rejection import EXPORT_HINT, PNG_START, Pixels, Rejected

# What callers that read files need to know before they have the bytes: `formats` says why.
MAX_BYTES = formats.MAX_BYTES
FIRST_BYTES = formats.FIRST_BYTES
KNOWN_SUFFIXES = formats.KNOWN_SUFFIXES
REFUSED_SUFFIXES = formats.REFUSED_SUFFIXES
kind_of = formats.kind_of
too_many_bytes = formats.too_many_bytes
MAX_PIXELS = 100_000_000  # a 10,000 x 10,000 plate; more is a decompression bomb
_CUT_WORDS = (
    "truncated",
    "broken data",
    "incomplete",
    "corrupt jpeg data",
    "premature end",
    "cut after",
    "checksum",
    "marker type",
)
_ACCEPTED = {"L", "1", "RGB", "P", "LA", "RGBA", "PA"}
# Formats outside this list are not tried: Pillow's rarer decoders are the ones with a history of
# holes. GIF is tried to say what it is; an MPO opens as JPEG.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
_JPEGS = {"JPEG", "MPO"}
# What turns an image upright, by its EXIF orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Decoded(NamedTuple):
    """The pixels and what the file said.

    Attributes:
        image: Mode L or RGB, upright.
        format: The true one, whatever the name says.
        mode: As stored.
        container: icc and exif (1 where the file carries one), quantisation (8 hex digits of the
            JPEG tables, or "").
        bit_depth: 8, or the N of a deeper picture, whose 0..2^N-1 became 0..255.
        pixels: Those of `image`, uint8 (h, w) or (h, w, 3), where the decoder left them in an array;
            asking Pillow for them is a copy.
    """

    image: Image.Image
    format: str
    mode: str
    container: dict[str, int | str]
    bit_depth: int = 8
    pixels: Pixels | None = None


def decode(data: bytes, bit_depth: int | None = None) -> Decoded:
    """Return the fully decoded image: mode L where it is gray in content, else RGB.

    Turned upright by its EXIF orientation, as every viewer does.

    Args:
        data: A whole file.
        bit_depth: Bits in use in a single channel of more than 8: white is 2^bit_depth - 1. None:
            such pictures are rejected.

    Raises:
        Rejected: It is not wholly and surely readable; whatever a decoder raises becomes this.
    """
    with rejecting_errors(data):
        return decode_unguarded(data, bit_depth)


@contextlib.contextmanager
def rejecting_errors(data: bytes) -> Iterator[None]:
    """Turn into Rejected whatever the reading of one file raises: anything, on hostile bytes."""
    _quieten_decoders()
    try:
        yield
    except Rejected:
        raise
    except UnidentifiedImageError:
        raise _unidentified(data) from None
    except Exception as error:  # noqa: BLE001
        raise Rejected(_reason(error), _words(error)) from None


def _unidentified(data: bytes) -> Rejected:
    """Return why the header of this file could not be read."""
    kind = kind_of(data[:FIRST_BYTES])
    if kind != "image":
        return Rejected("not_an_image", f"{kind + ', ' if kind else ''}starts with {data[:12]!r}")
    bits = jpeg.precision(data) if data[:1] == b"\xff" else None
    if bits is not None and bits != 8:
        return Rejected("unsupported_mode", f"a JPEG of {bits} bits: {EXPORT_HINT}")
    return Rejected("unreadable", f"a damaged or unknown header, starts with {data[:12]!r}")


def decode_unguarded(data: bytes, bit_depth: int | None) -> Decoded:
    """Decode an image file; whatever the decoders raise passes through."""
    if not data:
        raise Rejected("empty_file", "0 bytes")
    oversized = too_many_bytes(len(data))
    if oversized is not None:
        raise Rejected(*oversized)
    image: Image.Image = Image.open(io.BytesIO(data), formats=_FORMATS)
    _check_header(image)
    stored = bits_per_sample(image, data)
    mode = "I;16" if image.mode.startswith("I;16") else image.mode
    kind = image.format or ""
    container = _container(image)
    if stored > 8:
        scale = require_scale(image, stored, bit_depth)
        return Decoded(_upright(scale_to_8_bits(image, scale), image), kind, mode, container, scale)
    if mode not in _ACCEPTED:
        raise Rejected("unsupported_mode", f"{mode}: expected gray, RGB or palette")
    if kind in _JPEGS:
        pixels = _jpeg(image, data)
        as_stored = Image.fromarray(pixels)
        upright = _upright(as_stored, image)
        at_hand = pixels if upright is as_stored else None
        return Decoded(upright, kind, mode, container, pixels=at_hand)
    if kind == "PNG":
        _check_checksums(data)
    image.load()
    return Decoded(_without_loss(_upright(image, image)), kind, mode, container)


def _container(image: Image.Image) -> dict[str, int | str]:
    """Return what the file carries beside its pixels: who could see it would not need the lungs."""
    tables = repr(sorted(getattr(image, "quantization", {}).items()))
    digest = hashlib.sha256(tables.encode()).hexdigest()[:8] if image.format in _JPEGS else ""
    return {
        "icc": int("icc_profile" in image.info),
        "exif": int("exif" in image.info),
        "quantisation": digest,
    }


def _check_header(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise Rejected(
            "too_large", f"{image.width}x{image.height}, more than {MAX_PIXELS:,} pixels"
        )
    if image.format == "GIF":
        raise Rejected("unsupported_mode", "GIF: expected a format for photographs: export as PNG")
    # The first picture of an MPO is the film, the next one its preview.
    if image.format != "MPO" and _has_more(image):
        raise Rejected("unsupported_mode", "several frames or pages: expected a single image")


def _has_more(image: Image.Image) -> bool:
    """Return whether there is a second frame or page."""
    if not isinstance(image, TiffImageFile):
        return bool(getattr(image, "n_frames", 1) > 1)
    try:
        image.seek(1)  # n_frames would walk through all of a file with millions of pages
    except EOFError:
        return False
    return True


def _jpeg(image: Image.Image, data: bytes) -> Pixels:
    """Return the pixels of a JPEG of which Pillow has read the header.

    Returns:
        uint8 (h, w) where they are gray in content, else (h, w, 3).
    """
    channels = 1 if image.mode == "L" else 3
    try:
        pixels = jpeg.pixels(data, image.width, image.height, channels)
    except jpeg.DamagedError as error:
        words = str(error)
        if channels == 3 and "subsampling" in words:
            words = "a rare chroma subsampling: export as an ordinary JPEG or PNG"
            raise Rejected("unsupported_mode", words) from None
        raise Rejected(_reason(error), words) from None
    first = pixels[:, :, 0]
    gray = channels == 1 or all(np.array_equal(first, pixels[:, :, other]) for other in (1, 2))
    return np.ascontiguousarray(first) if gray else pixels


def _check_checksums(data: bytes) -> None:
    """Raise Rejected where a chunk of a PNG that its pixels depend on is not as it was written."""
    at = PNG_START
    whole = memoryview(data)
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        name = data[at + 4 : at + 8]
        if name == b"IEND":
            return
        written = data[end : end + 4]
        critical = name[:1].isupper() and len(written) == 4
        if critical and zlib.crc32(whole[at + 4 : end]) != int.from_bytes(written, "big"):
            chunk = name.decode("latin-1")
            raise Rejected("truncated", f"wrong checksum of the chunk {chunk} at byte {at:,}")
        at = end + 4


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "too_large"
    cut = isinstance(error, EOFError) or any(word in str(error).lower() for word in _CUT_WORDS)
    return "truncated" if cut else "unreadable"


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _upright(pixels: Image.Image, header: Image.Image) -> Image.Image:
    """Return `pixels` turned by the EXIF orientation in `header`, which may be the same image."""
    turn = _TURNS.get(header.getexif().get(0x0112, 1))
    if turn is None:
        return pixels
    return ImageOps.exif_transpose(pixels) if pixels is header else pixels.transpose(turn)


def _without_loss(image: Image.Image) -> Image.Image:
    """Return mode L or RGB with the same pixels; raises Rejected where that would lose some."""
    if "transparency" in image.info or image.mode in {"LA", "PA"}:
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        if image.getchannel("A").getextrema() != (255, 255):
            raise Rejected("unsupported_mode", "transparent pixels: their background is unknown")
        image = image.convert("RGB")
    if image.mode == "L":
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "P":
        image = image.convert("RGB")
    red, green, blue = (channel.tobytes() for channel in image.split())
    return image.getchannel(0) if red == green == blue else image


class Measured(NamedTuple):
    """Everything that inspection wants of one file, from one decoding.

    Attributes:
        row: md5, pixel_sha256, width, height (pixels), mode, format, bytes, bit_depth, mean and std
            of the gray pixels (0..255), icc, exif and quantisation.
        thumbnail: uint8 (64, 64).
        image: What was measured, mode L or RGB, upright: the pixels that training reads come from it.
    """

    row: dict[str, Any]
    thumbnail: Pixels
    image: Image.Image


_PILLOW = ("ignore", None, Warning, re.compile(r"PIL\."), 0)  # a filter, as `warnings` keeps them
_CHANGING = threading.Lock()


def _quieten_decoders() -> None:
    """See to it that what decoders warn of is neither printed nor an error.

    `warnings.catch_warnings` is no way: it swaps the filters of all threads. The filter is put in
    place once, and again where somebody reset the filters.
    """
    _set_up_pillow()
    if _PILLOW not in warnings.filters:
        with _CHANGING:
            warnings.filterwarnings("ignore", module=r"PIL\.")


@functools.cache
def _set_up_pillow() -> None:
    """Let `_check_header` decide on size, and keep decoders' messages from log and terminal."""
    Image.MAX_IMAGE_PIXELS = 2 * MAX_PIXELS
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    # Nothing to silence in a Pillow without libtiff, no way to in one that hides its names.
    with contextlib.suppress(OSError, AttributeError):
        tiff = ctypes.CDLL(_imaging.__file__)
        tiff.TIFFSetErrorHandler(None)
        tiff.TIFFSetWarningHandler(None)


def allow_large_headers() -> None:
    """Do what `decode` does first, for code that opens images itself."""
    _quieten_decoders()
