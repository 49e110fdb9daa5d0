"""Decode once: the one place where bytes become pixels, for inspection, training and prediction alike.

What is accepted is lossless to take as gray: L, 1, RGB, palette, and an alpha channel that hides nothing.
Everything else is a reject with a reason out of the closed list, never a guess (a 16-bit image needs a
display window that the file does not carry).
"""

import hashlib
import io
import math
import warnings
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 100_000_000  # a 10,000 x 10,000 plate; more is a decompression bomb
THUMBNAIL_SIDE = 64
UNIFORM_QUALITY = 90
SUFFIXES = (".jpeg", ".jpg", ".png")
Pixels = np.ndarray[Any, Any]
_SLICE = 16_384
_CUT_WORDS = ("truncated", "broken data", "incomplete")
_ACCEPTED = {"L", "1", "RGB", "P", "LA", "RGBA", "PA"}
# Formats outside this list are not tried: Pillow's rarer decoders are the ones with a history of holes.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")


class Rejected(Exception):
    """An image that cannot be used: `reason` out of the closed list, and a detail for a person."""

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class Decoded(NamedTuple):
    """The pixels (mode L or RGB, upright) and what the file said: true format, stored mode, and the container.

    `container`: icc and exif (1 where the file carries one), quantisation (8 hex digits of the JPEG tables, or "").
    """

    image: Image.Image
    format: str
    mode: str
    container: dict[str, int | str]


def decode(data: bytes) -> Decoded:
    """Return the fully decoded image: mode L where it is gray in content, else RGB.

    Turned upright by its EXIF orientation, as every viewer does. Raises Rejected.
    """
    if not data:
        raise Rejected("empty_file", "0 bytes")
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError:
        raise Rejected("not_an_image", f"starts with {data[:12]!r}") from None
    except Exception as error:  # noqa: BLE001 - decoders raise anything on hostile bytes
        raise Rejected(_reason(error), _words(error)) from None
    _check_header(image)
    stored, kind, container = image.mode, image.format or "", _container(image)
    try:
        image.load()
        image = _upright(image)
    except Exception as error:  # noqa: BLE001
        raise Rejected(_reason(error), _words(error)) from None
    return Decoded(_without_loss(image), kind, stored, container)


def _container(image: Image.Image) -> dict[str, int | str]:
    """Return what the file carries beside its pixels: a network that could see it would not need the lungs."""
    tables = repr(sorted(getattr(image, "quantization", {}).items()))
    digest = hashlib.sha256(tables.encode()).hexdigest()[:8] if image.format == "JPEG" else ""
    return {
        "icc": int("icc_profile" in image.info), "exif": int("exif" in image.info), "quantisation": digest,
    }  # fmt: skip


def _check_header(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise Rejected("too_large", f"{image.width}x{image.height}, more than {MAX_PIXELS:,} pixels")
    if (frames := getattr(image, "n_frames", 1)) > 1:
        raise Rejected("unsupported_mode", f"{frames} frames: expected a single image")
    if image.mode.startswith("I") or image.mode == "F":
        raise Rejected("unsupported_mode", f"{image.mode}: export as 8-bit with the display window applied")
    if image.mode not in _ACCEPTED:
        raise Rejected("unsupported_mode", f"{image.mode}: expected gray, RGB or palette")


def _reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "too_large"
    cut = isinstance(error, EOFError) or any(word in str(error).lower() for word in _CUT_WORDS)
    return "truncated" if cut else "unreadable"


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _upright(image: Image.Image) -> Image.Image:
    if image.getexif().get(0x0112, 1) == 1:
        return image
    return ImageOps.exif_transpose(image)


def _without_loss(image: Image.Image) -> Image.Image:
    """Return mode L or RGB with the same pixels; raises Rejected where that would lose something."""
    if image.mode == "L":
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif image.mode in {"LA", "PA"}:
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        if image.getchannel("A").getextrema() != (255, 255):
            raise Rejected("unsupported_mode", "transparent pixels: their background is unknown")
        image = image.convert("RGB")
    red, green, blue = (channel.tobytes() for channel in image.split())
    return image.getchannel(0) if red == green == blue else image


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


def pixel_sha256(image: Image.Image, pixels: bytes) -> str:
    """Return the SHA-256 of mode, size and pixels (`image.tobytes()`): equal where a re-encoding kept them."""
    digest = hashlib.sha256(f"{image.mode} {image.width} {image.height} ".encode())
    digest.update(pixels)
    return digest.hexdigest()


def perceptual_hashes(thumbnails: Pixels) -> list[str]:
    """Return the 256-bit hash of each 64x64 thumbnail, 64 hex digits: the lowest 16x16 DCT terms over their median.

    Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), section 3.2.1.
    """
    from scipy.fft import dctn

    low = dctn(thumbnails.astype(np.float64), axes=(1, 2))[:, :16, :16].reshape(len(thumbnails), 256)
    bits = np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1)
    return [row.tobytes().hex() for row in bits]


def mean_and_std(pixels: bytes) -> tuple[float, float]:
    """Return mean and standard deviation (0..255) of 8-bit pixels.

    In slices that stay in the processor's cache: four times as fast as ndarray.std, and no large copy.
    float32 sums of 16,384 pixels are right to 1e-6 of the deviation.

    >>> mean_and_std(bytes([0, 255]))
    (127.5, 127.5)
    """
    values = np.frombuffer(pixels, np.uint8)
    total = squares = 0.0
    for start in range(0, len(values), _SLICE):
        part = values[start : start + _SLICE].astype(np.float32)
        total += float(part.sum())
        squares += float(part @ part)
    mean = total / len(values)
    return round(mean, 3), round(math.sqrt(max(0.0, squares / len(values) - mean**2)), 3)


def measure(data: bytes) -> tuple[dict[str, Any], Pixels]:
    """Return everything inspection wants of one file's bytes, from one decoding, and its thumbnail.

    The row: md5, pixel_sha256, width, height (pixels), mode, format, bytes, mean and std of the gray pixels
    (0..255), icc, exif and quantisation. The thumbnail: uint8 (64, 64). Raises Rejected.
    """
    decoded = decode(data)
    image = gray(decoded.image)
    pixels = decoded.image.tobytes()
    mean, std = mean_and_std(pixels if image is decoded.image else image.tobytes())
    row = {
        "md5": hashlib.md5(data, usedforsecurity=False).hexdigest(),
        "pixel_sha256": pixel_sha256(decoded.image, pixels),
        "width": image.width,
        "height": image.height,
        "mode": decoded.mode,
        "format": decoded.format,
        "bytes": len(data),
        "mean": mean,
        "std": std,
        **decoded.container,
    }
    return row, resized(image, THUMBNAIL_SIDE)


def allow_large_headers() -> None:
    """Let `_check_header` decide on size: Pillow's own warning would be printed, not listed."""
    Image.MAX_IMAGE_PIXELS = 2 * MAX_PIXELS
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    warnings.filterwarnings("ignore", message="Palette images with Transparency", category=UserWarning)
    warnings.filterwarnings("ignore", message="(Corrupt|Truncated|Invalid).*", category=UserWarning, module="PIL")
