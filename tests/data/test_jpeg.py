"""JPEG files that decode without an error and are not whole; and such that are, in spite of a warning."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from cxr.data.images.decoding import decoder, jpeg, rejection
from tests.support.pictures import encoded, soft

FILM = soft(161)
COLOUR = Image.merge("RGB", [FILM, soft(161, 1), soft(161, 2)])
KINDS = {
    "gray": encoded(FILM, "JPEG"),
    "colour": encoded(COLOUR, "JPEG"),
    "colour 4:4:4": encoded(COLOUR, "JPEG", subsampling=0),
    "colour 4:2:2": encoded(COLOUR, "JPEG", subsampling=1),
    "colour 4:1:1": encoded(COLOUR, "JPEG", subsampling="4:1:1"),
    "stored as RGB": encoded(COLOUR, "JPEG", keep_rgb=True),
    "progressive": encoded(FILM, "JPEG", progressive=True),
    "progressive colour": encoded(COLOUR, "JPEG", progressive=True),
    "restarts": encoded(FILM, "JPEG", restart_marker_blocks=5),
    "optimised": encoded(FILM, "JPEG", optimize=True),
    "coarse": encoded(FILM, "JPEG", quality=10),
    "one pixel": encoded(FILM.resize((1, 1)), "JPEG"),
    "odd size": encoded(COLOUR.resize((17, 15)), "JPEG"),
    "long profile": encoded(FILM, "JPEG", icc_profile=bytes(range(256)) * 600),
}


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def after_start(data: bytes, inserted: bytes) -> bytes:
    return data[:2] + inserted + data[2:]


def before(data: bytes, marker: bytes, inserted: bytes) -> bytes:
    position = data.index(marker)
    return data[:position] + inserted + data[position:]


def middle_of_scan(data: bytes) -> int:
    return (data.index(b"\xff\xda") + len(data)) // 2


def half_closed(data: bytes) -> bytes:
    return data[: middle_of_scan(data)] + b"\xff\xd9"


def zeros(data: bytes) -> bytes:
    middle = middle_of_scan(data)
    return data[:middle] + bytes(len(data) // 6) + data[middle + len(data) // 6 :]


def hole(data: bytes) -> bytes:
    middle = middle_of_scan(data)
    return data[:middle] + data[middle + len(data) // 6 :]


@pytest.mark.parametrize("name", KINDS)
def test_whole_files_have_pillows_pixels(name):
    """Both call libjpeg-turbo: every byte is the same."""
    expected = Image.open(io.BytesIO(KINDS[name]))
    image = decoder.decode(KINDS[name]).image
    assert image.convert(expected.mode).tobytes() == expected.tobytes()


@pytest.mark.parametrize("damage", [half_closed, zeros, hole])
@pytest.mark.parametrize(
    "name", ["gray", "colour", "progressive", "progressive colour", "restarts", "optimised"]
)
def test_damaged_data_are_rejects(name, damage):
    """A bad sector, a hole or half a file closed with an end marker is `truncated`, though Pillow decodes most."""
    data = damage(KINDS[name])
    if name == "gray":
        Image.open(io.BytesIO(data)).load()
    with pytest.raises(rejection.Rejected) as caught:
        decoder.decode(data)
    assert caught.value.reason == "truncated"


@pytest.mark.parametrize("name", ["progressive", "progressive colour"])
def test_progressive_files_without_their_last_scans_are_rejects(name):
    """Cut between two scans and closed, a file gives a blurred film, of which no decoder warns."""
    data = KINDS[name]
    tables = [match.start() for match in re.finditer(b"\xff\xc4", data)]
    for scan in [match.start() for match in re.finditer(b"\xff\xda", data)][1:]:
        own = [table for table in tables if data.rfind(b"\xff\xda", 0, scan) < table < scan]
        cut = data[: min([*own, scan])] + b"\xff\xd9"
        Image.open(io.BytesIO(cut)).load()
        with pytest.raises(rejection.Rejected, match=r"truncated: cut after \d scan"):
            decoder.decode(cut)


HARMLESS = {
    "bytes after the end": lambda data: data + b"camera's own" * 50,
    "zeros after the end": lambda data: data + bytes(1000),
    "another picture after the end": lambda data: data + data,
    "fill bytes": lambda data: before(data, b"\xff\xdb", b"\xff\xff\xff"),
    "bytes between segments": lambda data: before(data, b"\xff\xdb", b"\0\1\2"),
    "bytes before the scan": lambda data: before(data, b"\xff\xda", b"\0\1"),
    "revision of JFIF": lambda data: data.replace(b"JFIF\0\1", b"JFIF\0\7"),
    "broken profile": lambda data: after_start(
        data, segment(0xE2, b"ICC_PROFILE\0\2\5" + bytes(50))
    ),
    "unknown transform": lambda data: after_start(data, segment(0xEE, b"Adobe\0\x64\0\0\0\0\7")),
    "comment with an end marker": lambda data: after_start(
        data, segment(0xFE, b"\xff\xd9\xff\xda")
    ),
}


@pytest.mark.parametrize("change", HARMLESS)
@pytest.mark.parametrize("name", ["gray", "colour"])
def test_oddities_that_leave_the_pixels_whole_are_accepted(name, change):
    """What is odd about the header, or follows the end, says nothing of the pixels: they are Pillow's."""
    data = HARMLESS[change](KINDS[name])
    expected = Image.open(io.BytesIO(data))
    assert decoder.decode(data).image.convert(expected.mode).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "change", ["bytes between segments", "revision of JFIF", "broken profile", "unknown transform"]
)
@pytest.mark.parametrize("damage", [half_closed, zeros, hole])
def test_a_harmless_warning_does_not_hide_damage(change, damage):
    """The decoder tells of its first warning alone: a second look is taken without what caused it."""
    data = damage(HARMLESS[change](KINDS["gray"]))
    with pytest.raises(rejection.Rejected, match="truncated"):
        decoder.decode(data)


def test_endless_scans_are_not_decoded():
    """A small file of thousands of scans over a large film would take hours."""
    data = KINDS["progressive"]
    scans = [match.start() for match in re.finditer(b"\xff\xda", data)]
    refinement = data[scans[0] : data.index(b"\xff\xc4", scans[0])]
    with pytest.raises(jpeg.DamagedError, match="more than 500 scans"):
        jpeg.decode_pixels(data[: scans[0]] + refinement * 600 + b"\xff\xd9", *FILM.size, 1)


def test_the_header_cannot_ask_for_more_room_than_was_read_in_it():
    """A second frame header, larger than the one that was checked, is a reject and takes no memory."""
    data = KINDS["gray"]
    with pytest.raises(jpeg.DamagedError):
        jpeg.decode_pixels(data, 16, 16, 1)


def test_random_flips_are_rejects_or_leave_a_picture():
    """No flipped byte ends the process; what the decoder notices is a reject."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        data = bytearray(KINDS["colour"])
        data[int(rng.integers(len(data)))] ^= int(rng.integers(1, 256))
        try:
            assert decoder.decode(bytes(data)).image.size[0] > 0
        except rejection.Rejected:
            continue
