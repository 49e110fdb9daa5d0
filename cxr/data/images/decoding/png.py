"""PNG: what Pillow neither reports nor checks, by the specification (ISO/IEC 15948)."""

import zlib

from cxr.data.images.decoding.rejection import Rejected

_SIGNATURE_BYTES = 8
_LENGTH_BYTES = 4
_NAME_BYTES = 4
_CHECKSUM_BYTES = 4
# The first chunk is IHDR: its length and name, width and height of 4 bytes each, then the depth.
_BIT_DEPTH_POSITION = _SIGNATURE_BYTES + _LENGTH_BYTES + _NAME_BYTES + 8


def read_bit_depth(data: bytes) -> int:
    """Return the bits per sample that the header of a PNG gives."""
    return data[_BIT_DEPTH_POSITION]


def check_checksums(data: bytes) -> None:
    """Raise Rejected if a chunk that the pixels depend on does not match its checksum.

    Pillow does not check those of the image data. A file that ends early is left to the decoder.
    """
    view = memoryview(data)  # slices of it are not copied
    start = _SIGNATURE_BYTES
    while start + _LENGTH_BYTES + _NAME_BYTES + _CHECKSUM_BYTES <= len(data):
        name_start = start + _LENGTH_BYTES
        content_start = name_start + _NAME_BYTES
        content_end = content_start + int.from_bytes(data[start:name_start], "big")
        name = data[name_start:content_start]
        if name == b"IEND":
            return
        checksum = data[content_end : content_end + _CHECKSUM_BYTES]
        is_critical = name[:1].isupper()  # a small letter marks a chunk that pixels do not need
        if is_critical and len(checksum) == _CHECKSUM_BYTES:
            # It covers the chunk's name and content, not its length.
            expected = zlib.crc32(view[name_start:content_end])
            if int.from_bytes(checksum, "big") != expected:
                chunk = name.decode("latin-1")
                raise Rejected(
                    "truncated", f"wrong checksum of the chunk {chunk} at byte {start:,}"
                )
        start = content_end + _CHECKSUM_BYTES
