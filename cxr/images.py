"""Decode once: the one place where bytes become pixels, in inspection, training and prediction.

What is accepted is lossless to take as gray: L, 1, RGB, palette, and an alpha channel that hides
nothing; a single channel of more than 8 bits where a person says what the full scale is. Everything
else is a reject with a reason out of the closed list, never a guess (the file does not carry the
display window). Which files are looked at at all: `formats`.
"""

import contextlib
import ctypes
import functools
import hashlib
import io
import logging
import math
import re
import threading
import warnings
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, _imaging
from PIL.TiffImagePlugin import TiffImageFile

from cxr import formats, jpeg
from cxr.settings import FileSettings

# What callers that read files need to know before they have the bytes: `formats` says why.
MAX_BYTES = formats.MAX_BYTES
FIRST_BYTES = formats.FIRST_BYTES
KNOWN_SUFFIXES = formats.KNOWN_SUFFIXES
REFUSED_SUFFIXES = formats.REFUSED_SUFFIXES
kind_of = formats.kind_of
too_many_bytes = formats.too_many_bytes

MAX_PIXELS = 100_000_000  # a 10,000 x 10,000 plate; more is a decompression bomb
THUMBNAIL_SIDE = 64
UNIFORM_QUALITY = 90
Pixels = np.ndarray[Any, Any]
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
_PNG_START = 8  # bytes of its signature
# Tags of TIFF and what they may say.
_BITS_PER_SAMPLE = 258
_PHOTOMETRIC = 262
_WHITE_IS_ZERO = 0
_SAMPLE_FORMAT = 339
_UNSIGNED = 1
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
_EXPORT = "export 8 bits with the display window applied"
# A picture of two values is the mask of an organ. JPEG spreads each over a few gray levels.
_MASK_SHARE = 0.9  # of all pixels; the most of any film of 5,339 is 0.76
_MASK_REACH = 8  # gray levels to each side of the two values
_MASK_GAP = 48  # gray levels between them at least: a film with little contrast is no mask


class Rejected(Exception):  # noqa: N818 - a verdict on a file, no error of the program
    """An image that cannot be used: `reason` out of the closed list, and a detail for a person."""

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


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
    with _guarded(data):
        return _decoded(data, bit_depth)


@contextlib.contextmanager
def _guarded(data: bytes) -> Iterator[None]:
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
        return Rejected("unsupported_mode", f"a JPEG of {bits} bits: {_EXPORT}")
    return Rejected("unreadable", f"a damaged or unknown header, starts with {data[:12]!r}")


def _decoded(data: bytes, bit_depth: int | None) -> Decoded:
    if not data:
        raise Rejected("empty_file", "0 bytes")
    oversized = too_many_bytes(len(data))
    if oversized is not None:
        raise Rejected(*oversized)
    image: Image.Image = Image.open(io.BytesIO(data), formats=_FORMATS)
    _check_header(image)
    stored = _bits_per_sample(image, data)
    mode = "I;16" if image.mode.startswith("I;16") else image.mode
    kind = image.format or ""
    container = _container(image)
    if stored > 8:
        scale = _require_scale(image, stored, bit_depth)
        return Decoded(_upright(_scaled(image, scale), image), kind, mode, container, scale)
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


def _bits_per_sample(image: Image.Image, data: bytes) -> int:
    """Return the most bits of any channel, by the header: of 16 Pillow hands on the upper 8."""
    if image.format == "PNG":
        return data[_PNG_START + 16]  # IHDR: length, name, width, height of 4 bytes each, depth
    if isinstance(image, TiffImageFile):
        return int(max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,))))
    return 8


def _require_scale(image: Image.Image, stored: int, bit_depth: int | None) -> int:
    """Return bit_depth where it can scale this picture of more than 8 bits; raises Rejected."""
    single = image.mode.startswith("I;16")
    if isinstance(image, TiffImageFile):
        single = single and set(image.tag_v2.get(_SAMPLE_FORMAT, (_UNSIGNED,))) == {_UNSIGNED}
    if not single or "transparency" in image.info:
        found = f"{stored} bits a channel, {image.mode}"
        raise Rejected("unsupported_mode", f"{found}: {_EXPORT}, or one gray channel")
    if bit_depth is None:
        raise Rejected(
            "unsupported_mode",
            f"{stored} bits a channel: {_EXPORT}, or give the bits in use (--bit-depth, often 12)",
        )
    return bit_depth


def _scaled(image: Image.Image, bit_depth: int) -> Image.Image:
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
    at = _PNG_START
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


def examine(data: bytes, settings: FileSettings) -> Decoded:
    """Return the decoded file where its picture can be a film; raises Rejected.

    Beside all that `decode` rejects: too_small, extreme_shape, flat and mask, with the limits of
    `settings`.
    """
    with _guarded(data):
        decoded = _decoded(data, settings.bit_depth)
        _check_content(decoded.image, gray_counts(decoded.image), settings)
        return decoded


def _check_content(image: Image.Image, counts: Pixels, settings: FileSettings) -> None:
    """Raise Rejected where it cannot be a film; `counts` are of its gray values, int64 (256,)."""
    shorter = min(image.size)
    longer = max(image.size)
    shape = f"{image.width}x{image.height} pixels"
    if shorter < settings.min_side:
        limit = f"expected {settings.min_side} or more on each side (--min-side)"
        raise Rejected("too_small", f"{shape}: {limit}")
    if longer > settings.max_aspect * shorter:
        limit = f"expected at most {settings.max_aspect:g} to 1 (--max-aspect)"
        raise Rejected("extreme_shape", f"{shape}: {limit}")
    _, spread = mean_and_std(counts)
    if spread < settings.min_contrast:
        limit = f"expected {settings.min_contrast:g} or more (--min-contrast)"
        raise Rejected("flat", f"gray values with a deviation of {spread:.1f} of 255: {limit}")
    values = _two_values(counts / counts.sum())
    if values is not None:
        low, high = values
        raise Rejected("mask", f"a picture of two values, {low} and {high} of 255: no film")


def _two_values(shares: Pixels) -> tuple[int, int] | None:
    """Return the two gray values that a picture consists of, or None; shares are float64 (256,)."""
    near = np.convolve(shares, np.ones(2 * _MASK_REACH + 1), "same")
    first = int(near.argmax())
    apart = np.abs(np.arange(256) - first) >= _MASK_GAP
    second = int(np.where(apart, near, -1).argmax())
    # A gray value can be near to both only where they are closer than they may be.
    if near[first] + near[second] < _MASK_SHARE or near[second] == 0:
        return None
    low, high = sorted(_commonest(shares, value) for value in (first, second))
    return low, high


def _commonest(shares: Pixels, value: int) -> int:
    """Return the gray value with the largest share within _MASK_REACH of `value`."""
    lowest = max(0, value - _MASK_REACH)
    return lowest + int(shares[lowest : value + _MASK_REACH + 1].argmax())


def pixels_of(data: bytes, bit_depth: int, inverted: bool) -> Image.Image:
    """Return the image of a kept file, mode L or RGB: what every stage after inspection uses.

    Args:
        data: The file's bytes.
        bit_depth: As the manifest says: 8, or the N by which a deeper picture was scaled.
        inverted: Whether the file is a negative that was inverted.

    Raises:
        Rejected: Where it is not readable any more.
    """
    with _guarded(data):
        image = _decoded(data, bit_depth if bit_depth > 8 else None).image
        return ImageOps.invert(image) if inverted else image


def gray(image: Image.Image) -> Image.Image:
    """Return the image as mode L (ITU-R 601 luma where it has colour)."""
    return image if image.mode == "L" else image.convert("L")


def resized(image: Image.Image, side: int) -> Pixels:
    """Return gray pixels as uint8 of shape (side, side): an antialiased bilinear resize of the whole image.

    The resizing contract of every model trained here: the aspect is not kept, nothing is cropped.
    """
    return np.asarray(gray(image).resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0))


def for_model(image: Image.Image, side: int, harmonise: bool) -> Pixels:
    """Return what a model sees of an image, uint8 (side, side): resized and, if `harmonise`, encoded like all others.

    The last step every pixel went through is then the same JPEG encoding, so that traces of a file's own
    compression do not tell where it came from.
    """
    pixels = resized(image, side)
    return np.asarray(Image.open(io.BytesIO(uniform_jpeg(pixels)))) if harmonise else pixels


def uniform_jpeg(pixels: Pixels) -> bytes:
    """Return gray pixels (uint8, h x w) as a JPEG of quality UNIFORM_QUALITY."""
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=UNIFORM_QUALITY)
    return encoded.getvalue()


def pixel_sha256(image: Image.Image, pixels: Pixels | None = None) -> str:
    """Return the SHA-256 of mode, size and pixels: equal where a re-encoding kept them.

    `pixels` are the image's own in an array without gaps, where there is one.
    """
    digest = hashlib.sha256(f"{image.mode} {image.width} {image.height} ".encode())
    digest.update(image.tobytes() if pixels is None else pixels.data)
    return digest.hexdigest()


def perceptual_hashes(thumbnails: Pixels) -> list[str]:
    """Return the 256-bit hash of each 64x64 thumbnail, 64 hex digits: the lowest 16x16 DCT terms over their median.

    Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), section 3.2.1.
    """
    from scipy.fft import dctn

    low = dctn(thumbnails.astype(np.float64), axes=(1, 2))[:, :16, :16].reshape(
        len(thumbnails), 256
    )
    bits = np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1)
    return [row.tobytes().hex() for row in bits]


def gray_counts(image: Image.Image) -> Pixels:
    """Return how many pixels each gray value has, int64 (256,)."""
    return np.array(gray(image).histogram(), np.int64)


def mean_and_std(counts: Pixels) -> tuple[float, float]:
    """Return mean and standard deviation (0..255) of gray values with these counts, int64 (256,).

    Exact until the last division: the sums are whole numbers.

    >>> mean_and_std(gray_counts(Image.frombytes("L", (2, 1), bytes([0, 255]))))
    (127.5, 127.5)
    """
    levels = np.arange(256)
    pixels = int(counts.sum())
    mean = int(counts @ levels) / pixels
    squares = int(counts @ levels**2) / pixels
    return round(mean, 3), round(math.sqrt(max(0.0, squares - mean**2)), 3)


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


def measure(data: bytes, settings: FileSettings | None = None, invert: bool = False) -> Measured:
    """Decode one file's bytes and measure the image.

    Args:
        data: A whole file.
        settings: What a picture must be; the defaults where not given.
        invert: Measure the negative: 255 less each pixel. md5 and bytes stay those of the file.

    Raises:
        Rejected: As `examine` does.
    """
    with _guarded(data):
        limits = settings or FileSettings()
        decoded = _decoded(data, limits.bit_depth)
        upright = ImageOps.invert(decoded.image) if invert else decoded.image
        pixels = None if invert else decoded.pixels
        counts = gray_counts(upright)
        _check_content(upright, counts, limits)
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
        return Measured(row, resized(upright, THUMBNAIL_SIDE), upright)


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
