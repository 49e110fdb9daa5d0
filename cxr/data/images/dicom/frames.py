"""Stored values of a DICOM film, whatever the transfer syntax: what decoders need not check is here.

Decoders are chosen by what the data are, not by what the header says. Sizes are compared before any
decoder is called, so that damaged bytes cannot ask for memory.
"""

import itertools
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cxr.data.images.decoding import formats, jpeg
from cxr.data.images.decoding.rejection import EXPORT_HINT, Pixels, Rejected
from cxr.data.images.dicom.elements import PickedElements, PixelElement
from cxr.data.images.dicom.tags import Tags

if TYPE_CHECKING:
    from collections.abc import Callable

_RLE = "1.2.840.10008.1.2.5"
_START_OF_JPEG = b"\xff\xd8"
_START_OF_CODESTREAM = b"\xff\x4f\xff\x51"  # JPEG 2000 (ITU-T T.800, A.5.1), HTJ2K too
_END_OF_CODESTREAM = b"\xff\xd9"  # of JPEG, JPEG-LS and JPEG 2000 alike
_JPEG_LS_FRAME = 0xF7  # ITU-T T.87, C.2.2
_LOSSLESS_FRAME = 0xC3
_FRAME_MARKERS = {0xC0, 0xC1, 0xC2, _LOSSLESS_FRAME, _JPEG_LS_FRAME}


class Layout(NamedTuple):
    """How values are stored (DICOM PS3.3, C.7.6.3).

    Attributes:
        rows: Rows.
        columns: Columns.
        allocated: BitsAllocated, 8 or 16.
        stored: BitsStored.
        high_bit: HighBit.
        is_signed: Whether the values are in two's complement.
    """

    rows: int
    columns: int
    allocated: int
    stored: int
    high_bit: int
    is_signed: bool

    @property
    def lowest(self) -> int:
        """The lowest value that can be stored."""
        return -(1 << self.stored - 1) if self.is_signed else 0

    @property
    def highest(self) -> int:
        """The highest value that can be stored."""
        return self.lowest + (1 << self.stored) - 1


class _Frame(NamedTuple):
    """What the header of compressed data says: size in pixels, bits of a sample, their number."""

    width: int
    height: int
    bits: int
    samples: int


def read_layout(tags: Tags) -> Layout:
    """Return how the values of a film are stored.

    Raises:
        Rejected: The tags are missing or nonsense (bad_tags), the film is too_large, or has colour
            or 1, 24 or 32 bits (unsupported_mode).
    """
    rows = _require_whole(tags, "Rows", 1, 65_535)
    columns = _require_whole(tags, "Columns", 1, 65_535)
    if rows * columns > formats.MAX_PIXELS:
        detail = f"{columns}x{rows}, more than {formats.MAX_PIXELS:,} pixels"
        raise Rejected("too_large", detail)
    photometric = tags.text("PhotometricInterpretation").upper()
    samples = tags.whole("SamplesPerPixel")
    if samples not in {None, 1} or photometric not in {"MONOCHROME1", "MONOCHROME2"}:
        found = "colour or no PhotometricInterpretation"
        raise Rejected("unsupported_mode", f"{found}: expected one gray channel, {EXPORT_HINT}")
    allocated = _require_whole(tags, "BitsAllocated", 1, 64)
    if allocated not in {8, 16}:
        raise Rejected("unsupported_mode", f"{allocated} bits allocated: expected 8 or 16")
    stored = _require_whole(tags, "BitsStored", 1, allocated)
    high_bit = tags.whole("HighBit")
    if high_bit is None:
        high_bit = stored - 1
    if not stored - 1 <= high_bit < allocated:
        raise Rejected("bad_tags", f"HighBit {high_bit} of {stored} bits in {allocated}")
    is_signed = tags.whole("PixelRepresentation") == 1
    return Layout(rows, columns, allocated, stored, high_bit, is_signed)


def _require_whole(tags: Tags, keyword: str, low: int, high: int) -> int:
    """Return a whole number within bounds; nothing that stands in the tag is shown."""
    number = tags.whole(keyword)
    if number is None:
        raise Rejected("bad_tags", f"{keyword}: expected a whole number, found none")
    if not low <= number <= high:
        raise Rejected("bad_tags", f"{keyword}: expected {low} to {high}, found {number}")
    return number


def read_stored_values(picked: PickedElements, layout: Layout) -> Pixels:
    """Decode the one frame of a film.

    Args:
        picked: The elements, with pixels.
        layout: How they are stored.

    Returns:
        The values as stored, int32 (rows, columns), within `layout.lowest` and `layout.highest`.

    Raises:
        Rejected: The data are damaged (truncated), of another size or kind than the tags say
            (bad_tags), or in a transfer syntax that is not read (unsupported_mode).
    """
    pixels = picked.pixels
    if pixels is None:
        raise Rejected("no_pixels", "no pixel data: expected a film")
    if pixels.is_encapsulated:
        container = _decode_frame(_join_fragments(pixels), picked.syntax, layout)
    else:
        container = _read_plain(pixels, picked, layout)
    return _as_stored_values(container, layout)


def _join_fragments(pixels: PixelElement) -> bytes:
    """Return the data of the frame."""
    total = sum(len(fragment) for fragment in pixels.fragments)
    if not total:
        raise Rejected("no_pixels", "compressed pixel data without a byte")
    return b"".join(pixels.fragments)


def _read_plain(pixels: PixelElement, picked: PickedElements, layout: Layout) -> Pixels:
    """Return uncompressed values as they are in memory, uint8 or uint16 (rows, columns)."""
    if len(pixels.fragments[0]) == 0:
        raise Rejected("no_pixels", "pixel data without a byte")
    data = pixels.fragments[0]
    row_bytes = layout.columns * layout.allocated // 8
    expected = layout.rows * row_bytes
    # A byte of padding makes the length even; less than a row more is taken for padding, too.
    if not expected <= len(data) < expected + max(2, row_bytes):
        sizes = f"{layout.columns}x{layout.rows} of {layout.allocated} bits"
        detail = f"{sizes} are {expected:,} bytes, found {len(data):,}"
        raise Rejected("bad_tags", f"{detail}: Rows and Columns do not fit the pixels")
    order = "<" if picked.is_little_endian else ">"
    if layout.allocated == 16:
        values = np.frombuffer(data, f"{order}u2", expected // 2)
        return values.astype(np.uint16).reshape(layout.rows, layout.columns)
    if picked.is_little_endian or not pixels.is_words or len(data) % 2:
        values = np.frombuffer(data, np.uint8, expected)
        return values.reshape(layout.rows, layout.columns)
    words = np.frombuffer(data, ">u2").astype("<u2")  # two pixels a word, the first in its low byte
    return words.view(np.uint8)[:expected].reshape(layout.rows, layout.columns)


def _as_stored_values(container: Pixels, layout: Layout) -> Pixels:
    """Return the bits in use as numbers, int32; bits beside them can be of an overlay."""
    values = container.astype(np.int32)
    values >>= layout.high_bit + 1 - layout.stored
    values &= 2**layout.stored - 1
    if layout.is_signed:
        half = 2 ** (layout.stored - 1)
        values = (values ^ half) - half  # two's complement
    return values


def _decode_frame(data: bytes, syntax: str, layout: Layout) -> Pixels:
    """Return the values of compressed data, uint8 or uint16 (rows, columns)."""
    if syntax == _RLE:
        return _decode_rle(data, layout)
    frame = _read_frame(data)
    if frame is None:
        detail = "a transfer syntax that is not read: save it as JPEG Lossless or uncompressed"
        raise Rejected("unsupported_mode", detail)
    if frame.samples != 1:
        raise Rejected("unsupported_mode", f"{frame.samples} channels: expected one gray channel")
    if (frame.width, frame.height) != (layout.columns, layout.rows):
        found = f"{frame.width}x{frame.height} pixels in {layout.columns}x{layout.rows}"
        raise Rejected("bad_tags", f"{found}: Rows and Columns do not fit the pixels")
    if frame.bits > 16:
        raise Rejected("unsupported_mode", f"{frame.bits} bits: expected at most 16")
    return _decode_by_kind(data, frame, layout)


def _read_frame(data: bytes) -> _Frame | None:
    """Return what the header of JPEG, JPEG-LS or JPEG 2000 says; None where it is none of these."""
    if data.startswith(_START_OF_JPEG):
        return _read_jpeg_frame(data)
    start = data.find(_START_OF_CODESTREAM, 0, 4096)
    if start < 0:
        return None
    try:
        right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
        samples, precision = struct.unpack_from(">HB", data, start + 40)
    except struct.error:
        raise Rejected("truncated", "the header of the JPEG 2000 data ends early") from None
    return _Frame(right - left, bottom - top, (precision & 0x7F) + 1, samples)


def _read_jpeg_frame(data: bytes) -> _Frame | None:
    """Return what the first frame header of a JPEG or JPEG-LS says."""
    position = _find_frame(data)
    if position is None:
        return None
    try:
        bits, height, width, samples = struct.unpack_from(">BHHB", data, position + 4)
    except struct.error:
        raise Rejected("truncated", "the header of the JPEG ends early") from None
    return _Frame(width, height, bits, samples)


def _find_frame(data: bytes) -> int | None:
    """Return the position of the marker of the first frame of a JPEG, None without one."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in _FRAME_MARKERS:
            return position
        if marker == 0xFF:
            position += 1  # a fill byte
            continue
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None


def _decode_by_kind(data: bytes, frame: _Frame, layout: Layout) -> Pixels:
    """Decode with the decoder for what the data are."""
    import imagecodecs

    _require_end(data)
    is_jpeg = data.startswith(_START_OF_JPEG)
    position = _find_frame(data) if is_jpeg else None
    marker = None if position is None else data[position + 1]
    if is_jpeg and marker not in {_LOSSLESS_FRAME, _JPEG_LS_FRAME} and frame.bits == 8:
        try:
            return jpeg.decode_pixels(data, frame.width, frame.height, 1)[:, :, 0]
        except jpeg.DamagedError as error:
            raise Rejected("truncated", str(error)) from None
    decode: Callable[..., Any] = imagecodecs.jpeg2k_decode
    if marker == _JPEG_LS_FRAME:
        decode = imagecodecs.jpegls_decode
    elif is_jpeg:
        decode = imagecodecs.jpeg8_decode
    try:
        decoded = np.asarray(decode(data))
    except Exception as error:  # noqa: BLE001 - each decoder has errors of its own
        raise Rejected("truncated", f"damaged pixels ({type(error).__name__})") from None
    if decoded.shape != (layout.rows, layout.columns) or decoded.dtype.itemsize > 2:
        raise Rejected("truncated", f"damaged pixels: decoded to {decoded.shape}")
    return decoded.view(f"u{decoded.dtype.itemsize}")


def _require_end(data: bytes) -> None:
    """Raise Rejected where the end marker is missing: decoders fill what is missing in silence."""
    if not data.rstrip(b"\0").endswith(_END_OF_CODESTREAM):
        raise Rejected("truncated", "the compressed pixels end without their end marker")


def _decode_rle(data: bytes, layout: Layout) -> Pixels:
    """Decode RLE (DICOM PS3.5, annex G): one segment a byte, the high byte first."""
    import imagecodecs

    segments = layout.allocated // 8
    if len(data) < 64 or int.from_bytes(data[:4], "little") != segments:
        raise Rejected("bad_tags", f"RLE: expected {segments} segment(s) as of the bits allocated")
    expected = layout.rows * layout.columns
    offsets = [*struct.unpack_from(f"<{segments}I", data, 4), len(data)]
    values = np.zeros(expected, np.uint16)
    for start, end in itertools.pairwise(offsets):
        if not 64 <= start < end <= len(data):
            raise Rejected("truncated", "RLE: a segment outside the data")
        try:
            decoded = imagecodecs.packbits_decode(data[start:end], out=expected + 2)
        except Exception as error:  # noqa: BLE001 - as above
            raise Rejected("truncated", f"damaged RLE ({type(error).__name__})") from None
        values <<= 8
        values |= _require_plane(decoded, layout)
    return values.reshape(layout.rows, layout.columns)


def _require_plane(decoded: bytes | bytearray, layout: Layout) -> Pixels:
    """Return one byte of each pixel; a segment may decode to a few bytes of padding more."""
    expected = layout.rows * layout.columns
    if not expected <= len(decoded) <= expected + 2:
        detail = (
            f"RLE: {layout.columns}x{layout.rows} are {expected:,} bytes, found {len(decoded):,}"
        )
        raise Rejected("truncated", detail)
    return np.frombuffer(decoded, np.uint8, expected)
