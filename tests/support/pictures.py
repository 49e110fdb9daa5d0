"""Image files for the tests, written by Pillow, or by hand where Pillow cannot write them."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

Pixels = np.ndarray[Any, Any]
_GRAY, _RGB, _GRAY_ALPHA, _RGBA = 0, 2, 4, 6  # PNG's colour types
_COLOUR_TYPES = {1: _GRAY, 2: _GRAY_ALPHA, 3: _RGB, 4: _RGBA}


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Return the bytes of an image file of this kind."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def soft(side: int = 160, seed: int = 0) -> Image.Image:
    """Return a smooth gray image of random patches with a little noise."""
    rng = np.random.default_rng(seed)
    patches = Image.fromarray(rng.integers(20, 230, (9, 9), dtype=np.uint8))
    smooth = np.asarray(patches.resize((side, side - 16), Image.Resampling.BICUBIC), np.float64)
    return Image.fromarray((smooth + rng.normal(0, 3, smooth.shape)).clip(0, 255).astype(np.uint8))


def brighter(data: bytes) -> bytes:
    """Return nearly the same film, with other bytes and other pixels."""
    with Image.open(io.BytesIO(data)) as film:
        changed = film.convert("L").point(lambda gray: min(255, gray + 3))
    return encoded(changed, "JPEG", quality=90)


def png16(channels: Pixels) -> bytes:
    """Return a PNG with 16 bits a channel (ISO/IEC 15948) of uint16 (h, w) or (h, w, 2 to 4)."""
    height, width = channels.shape[:2]
    colour = _COLOUR_TYPES[1 if channels.ndim == 2 else channels.shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in channels)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checksum


def tiff(channels: Pixels, big_endian: bool = False, white_is_zero: bool = False) -> bytes:
    """Return an uncompressed TIFF 6.0 file of uint8 or uint16 (h, w) or (h, w, 3)."""
    order = ">" if big_endian else "<"
    height, width = channels.shape[:2]
    samples = 1 if channels.ndim == 2 else channels.shape[2]
    depth = 8 * channels.dtype.itemsize
    strip = channels.astype(f"{order}u{channels.dtype.itemsize}").tobytes()
    photometric = 2 if samples == 3 else int(not white_is_zero)
    count = 9
    directory = 8
    bits_at = directory + 2 + 12 * count + 4
    strip_at = bits_at + 2 * samples
    bits = (3, samples, bits_at) if samples > 1 else (3, 1, depth)
    entries = (
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, *bits),
        (259, 3, 1, 1),
        (262, 3, 1, photometric),
        (273, 4, 1, strip_at),
        (277, 3, 1, samples),
        (278, 4, 1, height),
        (279, 4, 1, len(strip)),
    )
    head = (b"MM" if big_endian else b"II") + struct.pack(f"{order}HI", 42, directory)
    table = struct.pack(f"{order}H", count)
    for tag, kind, number, value in entries:
        small = kind == 3 and number == 1
        field = struct.pack(f"{order}HH", value, 0) if small else struct.pack(f"{order}I", value)
        table += struct.pack(f"{order}HHI", tag, kind, number) + field
    return head + table + bytes(4) + struct.pack(f"{order}H", depth) * samples + strip
