"""What a file's size and first bytes say of it."""

import gzip
import io
import zipfile

import numpy as np
import pytest

from cxr.data.images.decoding import decoder, formats
from tests.support.pictures import encoded, png16, soft, tiff

FILM = soft(64)
PIXELS = np.asarray(FILM)
IMAGES = {
    **{kind: encoded(FILM, kind) for kind in ("JPEG", "PNG", "BMP", "TIFF", "WEBP")},
    "MPO": encoded(FILM.convert("RGB"), "MPO", save_all=True, append_images=[FILM.convert("RGB")]),
    "BigTIFF": encoded(FILM, "TIFF", big_tiff=True),
    "big-endian TIFF": tiff(PIXELS, big_endian=True),
    "16-bit PNG": png16(PIXELS.astype(np.uint16)),
}


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.png", IMAGES["PNG"])
    return buffer.getvalue()


OTHERS = {
    "gif": (encoded(FILM, "GIF"), "gif"),
    "zip": (zipped(), "zip"),
    "gzip": (gzip.compress(b"table"), "gzip"),
    "pdf": (encoded(FILM, "PDF"), "pdf"),
    "dicom with a preamble": (bytes(128) + b"DICM\x02\x00\x00\x00UL", "dicom"),
    "dicom in a file that is a TIFF, too": (b"II*\0".ljust(128, b"\0") + b"DICM", "dicom"),
    "bare dicom, explicit": (b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100", "dicom"),
    "bare dicom, implicit": (b"\x08\x00\x05\x00\x0a\x00\x00\x00ISO_IR 100", "dicom"),
    "file meta information without a preamble": (b"\x02\x00\x00\x00UL\x04\x00", "dicom"),
    "table": (b"image,label\na.png,NORMAL\n", ""),
    "text that starts as a bitmap": (b"BMI of patients: 23, 24, 25 and more", ""),
    "two bytes": (b"\x08\x00", ""),
    "nothing": (b"", ""),
}


@pytest.mark.parametrize("name", IMAGES)
def test_every_accepted_format_is_known_by_its_first_bytes(name):
    """What decodes is an image by its first 136 bytes, whatever its name."""
    decoder.decode(IMAGES[name], 8 if name == "16-bit PNG" else None)
    assert formats.kind_of(IMAGES[name][: formats.FIRST_BYTES]) == "image"


@pytest.mark.parametrize("name", OTHERS)
def test_other_kinds_are_named(name):
    """DICOM, archives and documents are told apart, to say what was found; what is unknown is nothing."""
    data, kind = OTHERS[name]
    assert formats.kind_of(data[: formats.FIRST_BYTES]) == kind


def test_a_file_that_is_too_large_is_known_by_its_size():
    """100 megapixels of 16 bits and a header fit; a byte more than MAX_BYTES is a reject with the size."""
    assert formats.MAX_BYTES > formats.MAX_PIXELS * 2 + 4096
    assert formats.too_many_bytes(formats.MAX_BYTES) is None
    problem = formats.too_many_bytes(formats.MAX_BYTES + 1)
    assert problem is not None
    assert problem[0] == "too_large" and f"{formats.MAX_BYTES + 1:,} bytes" in problem[1]


def test_suffixes_are_written_as_they_are_compared():
    """Every known suffix is there once, in small letters and with its dot."""
    assert len(set(formats.KNOWN_SUFFIXES)) == len(formats.KNOWN_SUFFIXES)
    for suffix in formats.KNOWN_SUFFIXES:
        assert suffix == suffix.lower() and suffix.startswith(".")
