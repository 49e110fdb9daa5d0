"""Decode an image file: the one place where bytes become pixels."""

import contextlib
import hashlib
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from cxr.core.errors import CxrError
from cxr.data.images.decoding import formats, jpeg, png
from cxr.data.images.decoding.bit_depth import bits_per_sample, require_scale, scale_to_8_bits
from cxr.data.images.decoding.pillow_setup import configure_pillow
from cxr.data.images.decoding.rejection import EXPORT_HINT, Pixels, Rejected

if TYPE_CHECKING:
    from cxr.data.images.dicom.film import DicomFilm

# Formats outside this list are not tried: Pillow's rarer decoders are the ones with a history of
# security holes. GIF is opened only to name it in the reject; an MPO opens as JPEG.
_OPENED_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
_JPEG_FORMATS = {"JPEG", "MPO"}
# Pillow's modes of 8 bits or less that can be gray or RGB without a loss.
_ACCEPTED_MODES = {
    "1",  # black and white
    "L",  # gray
    "LA",  # gray with alpha
    "P",  # palette
    "PA",  # palette with alpha
    "RGB",
    "RGBA",
}
# Words by which decoders say that data are missing or damaged, in lower case.
_DAMAGE_WORDS = (
    "truncated",
    "broken data",
    "incomplete",
    "corrupt jpeg data",
    "premature end",
    "cut after",
    "checksum",
    "marker type",
)
_LONGEST_DETAIL = 200  # characters of an error's text
_ORIENTATION = 0x0112  # the EXIF tag
# What turns an image upright, by its EXIF orientation (1 is upright).
_UPRIGHT_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Decoded(NamedTuple):
    """The pixels of a file and what the file says of them.

    Attributes:
        image: Mode L or RGB, upright.
        format: The true one, whatever the file's name says.
        mode: Pillow's mode of the pixels as they are stored.
        container: icc and exif (1 if the file carries one, else 0), quantisation (8 hex digits of
            the digest of the JPEG tables, or "").
        bit_depth: 8, or the N of a deeper image whose 0 to 2^N - 1 became 0 to 255.
        pixels: Those of `image`, uint8 (height, width) or (height, width, 3), if the decoder left
            them in an array, else None. Asking Pillow for them makes a copy.
    """

    image: Image.Image
    format: str
    mode: str
    container: dict[str, int | str]
    bit_depth: int = 8
    pixels: Pixels | None = None
    dicom: "DicomFilm | None" = None


def decode(
    data: bytes,
    bit_depth: int | None = None,
    window: str = "",
    views: Sequence[str] = (),
) -> Decoded:
    """Decode a whole image and turn it upright by its EXIF orientation, as viewers do.

    Args:
        data: The file.
        bit_depth: Bits in use in images of one channel and more than 8 bits, whose white is
            2^bit_depth - 1. With None such images are rejected.
        window: The name of the window by which a DICOM film is shown; the first one if not given.
        views: The views of DICOM films that are used; none for all.

    Returns:
        The image in mode L if it is gray in content, else in RGB.

    Raises:
        Rejected: It is not wholly and surely readable. Whatever a decoder raises becomes this.
    """
    with rejecting_errors(data):
        if formats.kind_of(data[: formats.FIRST_BYTES]) == "dicom":
            return _decode_dicom(data, window, views)
        return _decode(data, bit_depth)


@contextlib.contextmanager
def rejecting_errors(data: bytes) -> Iterator[None]:
    """Raise Rejected for any error in a `with` block that reads one file or its decoded image.

    Hostile bytes can make decoders raise anything, also later, when pixels are copied or counted.

    Args:
        data: The file, of which the reject tells.
    """
    configure_pillow()
    try:
        yield
    except (Rejected, CxrError):  # a missing salt is no fault of a file
        raise
    except UnidentifiedImageError:
        raise _rejection_of_unidentified(data) from None
    except Exception as error:  # noqa: BLE001 - see above
        detail = f"{type(error).__name__}: {error}"[:_LONGEST_DETAIL]
        raise Rejected(_reason(error), detail) from None


def _rejection_of_unidentified(data: bytes) -> Rejected:
    """Return the reject of a file whose header Pillow could not read."""
    beginning = f"starts with {data[:12]!r}"
    kind = formats.kind_of(data[: formats.FIRST_BYTES])
    if kind == "":
        return Rejected("not_an_image", beginning)
    if kind != "image":
        return Rejected("not_an_image", f"{kind}, {beginning}")
    is_jpeg = data[:1] == b"\xff"
    precision = jpeg.read_precision(data) if is_jpeg else None
    if precision is not None and precision != 8:
        detail = f"a JPEG of {precision} bits: {EXPORT_HINT}"
        return Rejected("unsupported_mode", detail)
    return Rejected("unreadable", f"a damaged or unknown header, {beginning}")


def _reason(error: Exception) -> str:
    """Return the reject reason for an error of a decoder."""
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "too_large"
    if isinstance(error, EOFError):
        return "truncated"
    text = str(error).lower()
    if any(word in text for word in _DAMAGE_WORDS):
        return "truncated"
    return "unreadable"


def _decode(data: bytes, bit_depth: int | None) -> Decoded:
    """Decode a file; whatever the decoders raise passes through."""
    if not data:
        raise Rejected("empty_file", "0 bytes")
    oversized = formats.too_many_bytes(len(data))
    if oversized is not None:
        raise Rejected(*oversized)
    opened: Image.Image = Image.open(
        io.BytesIO(data),
        formats=_OPENED_FORMATS,
    )
    _check_header(opened)
    stored_bits = bits_per_sample(opened, data)
    file_format = opened.format or ""
    mode = "I;16" if opened.mode.startswith("I;16") else opened.mode
    container = _describe_container(opened)
    if stored_bits > 8:
        scale = require_scale(opened, stored_bits, bit_depth)
        scaled = scale_to_8_bits(opened, scale)
        return Decoded(
            _upright(scaled, opened),
            file_format,
            mode,
            container,
            scale,
        )
    if mode not in _ACCEPTED_MODES:
        raise Rejected("unsupported_mode", f"{mode}: expected gray, RGB or palette")
    if file_format in _JPEG_FORMATS:
        pixels = _decode_jpeg(opened, data)
        stored = Image.fromarray(pixels)
        upright = _upright(stored, opened)
        pixels_at_hand = pixels if upright is stored else None
        return Decoded(
            upright,
            file_format,
            mode,
            container,
            pixels=pixels_at_hand,
        )
    if file_format == "PNG":
        png.check_checksums(data)
    opened.load()
    image = _as_gray_or_rgb(_upright(opened, opened))
    return Decoded(image, file_format, mode, container)


def _decode_dicom(data: bytes, window: str, views: Sequence[str]) -> Decoded:
    """Decode a DICOM file."""
    # Imported late: most runs have no DICOM file, and what reads them need not be installed.
    from cxr.data.images.dicom.film import decode_film

    oversized = formats.too_many_bytes(len(data))
    if oversized is not None:
        raise Rejected(*oversized)
    film = decode_film(data, window, views)
    container: dict[str, int | str] = {"icc": 0, "exif": 0, "quantisation": ""}
    return Decoded(
        Image.fromarray(film.pixels),
        "DICOM",
        "L",
        container,
        pixels=film.pixels,
        dicom=film,
    )


def _check_header(image: Image.Image) -> None:
    """Raise Rejected for what the header alone rules out."""
    if image.width * image.height > formats.MAX_PIXELS:
        detail = f"{image.width}x{image.height}, more than {formats.MAX_PIXELS:,} pixels"
        raise Rejected("too_large", detail)
    if image.format == "GIF":
        raise Rejected("unsupported_mode", "GIF: expected a format for photographs: export as PNG")
    # The first image of an MPO is the film, the next one its preview.
    if image.format != "MPO" and _has_second_frame(image):
        raise Rejected("unsupported_mode", "several frames or pages: expected a single image")


def _has_second_frame(image: Image.Image) -> bool:
    if not isinstance(image, TiffImageFile):
        return bool(getattr(image, "n_frames", 1) > 1)
    try:
        image.seek(1)  # n_frames would walk through all of a file with millions of pages
    except EOFError:
        return False
    return True


def _describe_container(image: Image.Image) -> dict[str, int | str]:
    """Return what the file carries beside its pixels.

    Where this differs between the classes, the label can be told without looking at the lungs.
    """
    quantisation = ""
    if image.format in _JPEG_FORMATS:
        tables = getattr(image, "quantization", {})
        text = repr(sorted(tables.items()))
        digest = hashlib.sha256(text.encode())
        quantisation = digest.hexdigest()[:8]
    return {
        "icc": int("icc_profile" in image.info),
        "exif": int("exif" in image.info),
        "quantisation": quantisation,
    }


def _decode_jpeg(opened: Image.Image, data: bytes) -> Pixels:
    """Return the pixels of a JPEG whose header Pillow has read.

    Returns:
        uint8 (height, width) if they are gray in content, else (height, width, 3).
    """
    channels = 1 if opened.mode == "L" else 3
    try:
        pixels = jpeg.decode_pixels(
            data,
            opened.width,
            opened.height,
            channels,
        )
    except jpeg.DamagedError as error:
        if channels == 3 and "subsampling" in str(error):
            detail = "a rare chroma subsampling: export as an ordinary JPEG or PNG"
            raise Rejected("unsupported_mode", detail) from None
        raise Rejected(_reason(error), str(error)) from None
    first = pixels[:, :, 0]
    for channel in range(1, channels):
        if not np.array_equal(first, pixels[:, :, channel]):
            return pixels
    return np.ascontiguousarray(first)


def _upright(image: Image.Image, opened: Image.Image) -> Image.Image:
    """Turn an image upright by the EXIF orientation of the file it was decoded from.

    Loading a TIFF already does that, and removes the orientation: load before calling this.

    Args:
        image: The decoded image, which may be `opened` itself.
        opened: The file as Pillow opened it.
    """
    orientation = opened.getexif().get(_ORIENTATION, 1)
    if orientation not in _UPRIGHT_TRANSPOSES:
        return image
    if image is opened:
        return ImageOps.exif_transpose(image)
    return image.transpose(_UPRIGHT_TRANSPOSES[orientation])


def _as_gray_or_rgb(image: Image.Image) -> Image.Image:
    """Convert to mode L or RGB without changing a pixel.

    Raises:
        Rejected: There are transparent pixels, whose colour depends on an unknown background.
    """
    if image.mode == "L" and "transparency" not in image.info:
        return image
    if image.mode == "1" and "transparency" not in image.info:
        return image.convert("L")
    image = _without_alpha(image)
    red, green, blue = image.split()
    if red.tobytes() == green.tobytes() == blue.tobytes():
        return red
    return image


def _without_alpha(image: Image.Image) -> Image.Image:
    """Convert to mode RGB; raises Rejected if there are transparent pixels."""
    has_alpha = image.mode in {"LA", "PA"} or "transparency" in image.info
    if has_alpha:
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        extremes = image.getchannel("A").getextrema()
        if extremes != (255, 255):
            raise Rejected("unsupported_mode", "transparent pixels: their background is unknown")
    if image.mode == "RGB":
        return image  # `convert` would copy it
    return image.convert("RGB")
