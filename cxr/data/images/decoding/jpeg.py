"""JPEG pixels, strictly: what libjpeg would only warn of is an error here.

Pillow decodes damaged data in silence: half a film closed with an end marker comes out whole, its
lower part gray. simplejpeg can raise libjpeg-turbo's warnings; Pillow calls the same library, so
the pixels of whole files are the same. Headers, colour and EXIF are left to `decoder`.

Markers and headers are those of ITU-T T.81 (1992).
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import simplejpeg  # type: ignore[import-untyped]  # it has no type information

from cxr.data.images.decoding.rejection import Pixels

# The second byte of markers; the first is 0xFF.
_START_OF_IMAGE = 0xD8
_END_OF_IMAGE = 0xD9
_START_OF_SCAN = 0xDA
_APP0_JFIF = 0xE0
_APP14_ADOBE = 0xEE
_COMMENT = 0xFE
_NOT_FRAMES = {0xC4, 0xC8, 0xCC}  # Huffman tables, reserved, arithmetic conditioning
_FRAMES = set(range(0xC0, 0xD0)) - _NOT_FRAMES
_SEQUENTIAL_FRAMES = {0xC0, 0xC1, 0xC9}
_PROGRESSIVE_FRAMES = {0xC2, 0xCA}
_MARKERS_WITHOUT_LENGTH = {_START_OF_IMAGE, 0x01}
_APP1_TO_APP15 = set(range(0xE1, 0xF0))
# Profiles, EXIF, comments: they say nothing of the pixels. Adobe's segment does.
_DROPPED_SEGMENTS = (_APP1_TO_APP15 | {_COMMENT}) - {_APP14_ADOBE}

_ADOBE_TRANSFORM_POSITION = 11  # in the body of Adobe's segment
_ADOBE_YCBCR = 1  # the transform that libjpeg assumes for an unknown one
_ADOBE_TRANSFORMS = {0, _ADOBE_YCBCR, 2}
_MOST_SCANS = 500  # a progressive film has 10; decoding thousands of a large one would take hours
_COEFFICIENTS = 64  # of a block of 8 x 8 pixels
# What ends the data of a scan: an 0xFF that is not a stuffed one, a fill byte or a restart.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
# Warnings that can be of the header alone. libjpeg reports only its first warning, so a later one
# may still concern the pixels.
_HEADER_WARNING = re.compile(r"extraneous bytes before|JFIF revision|Adobe|ICC|Invalid SOS")


class DamagedError(Exception):
    """Data that the decoder does not read as they were written; the text says what it found."""


class Segment(NamedTuple):
    """One marker segment.

    Attributes:
        marker: The second byte of its marker.
        body: What follows its length.
        end: The position after it in the file.
    """

    marker: int
    body: bytes
    end: int


def decode_pixels(
    data: bytes,
    width: int,
    height: int,
    channels: int,
) -> Pixels:
    """Decode a whole JPEG.

    What is wrong with the header but does not concern the pixels is passed over: bytes between
    segments, a broken colour profile, an unknown JFIF revision.

    Args:
        data: The file.
        width: As its header says, in pixels.
        height: As its header says, in pixels.
        channels: 1 for gray, 3 for RGB.

    Returns:
        uint8 (height, width, channels).

    Raises:
        DamagedError: The decoder warns of anything else, or cannot read it.
    """
    _require_all_scans(data)
    try:
        return _decode_strictly(data, width, height, channels)
    except ValueError as error:
        warning = str(error)
    if not _HEADER_WARNING.search(warning):
        raise DamagedError(warning)
    # Decode again without what caused the warning: it may have hidden one of the pixels.
    repaired = _with_plain_header(data)
    try:
        return _decode_strictly(repaired, width, height, channels)
    except ValueError as error:
        raise DamagedError(str(error)) from None


def read_precision(data: bytes) -> int | None:
    """Return the bits per sample that the header of a JPEG gives, or None if it gives none."""
    for segment in _segments(data):
        if segment.marker in _FRAMES:
            return segment.body[0] if segment.body else None
    return None


def _decode_strictly(
    data: bytes,
    width: int,
    height: int,
    channels: int,
) -> Pixels:
    """Return the pixels, uint8 (height, width, channels); raise ValueError at any warning."""
    # A buffer of the size that was checked: a second header further on cannot ask for more memory.
    buffer = np.empty(height * width * channels, np.uint8)
    colour_space = "GRAY" if channels == 1 else "RGB"
    pixels: Pixels = simplejpeg.decode_jpeg(
        data,
        colour_space,
        buffer=buffer,
        strict=True,
    )
    if pixels.shape != (height, width, channels):
        decoded_height, decoded_width = pixels.shape[:2]
        sizes = f"{width}x{height} and {decoded_width}x{decoded_height}"
        raise ValueError(f"two sizes: {sizes}")
    return pixels


def _segments(data: bytes) -> Iterator[Segment]:
    """Yield the segments up to the first end marker: not those of an MPO's next image."""
    position = 2  # after the start marker
    while True:
        match = _MARKER.search(data, position)
        if match is None:
            return
        position = match.end()
        marker = data[position - 1]
        if marker == _END_OF_IMAGE:
            return
        if marker in _MARKERS_WITHOUT_LENGTH:
            continue
        body_start = position + 2
        length = int.from_bytes(data[position:body_start], "big")
        end = position + max(2, length)  # the length counts its own two bytes
        yield Segment(marker, data[body_start:end], end)
        position = end


def _require_all_scans(data: bytes) -> None:
    """Raise DamagedError if some coefficient of a component is in no scan, or not to its last bit.

    A progressive file that was cut between two scans and then closed decodes without a warning, to
    a blurred film.
    """
    frame: Segment | None = None
    missing: set[tuple[int, int]] = set()  # of (component, coefficient)
    scans = 0
    for segment in _segments(data):
        if segment.marker in _FRAMES and frame is None:
            frame = segment
            missing = _announced_coefficients(frame)
        is_scan = segment.marker == _START_OF_SCAN and len(segment.body) >= 4
        if not is_scan or frame is None:
            continue
        scans += 1
        if scans > _MOST_SCANS:
            raise DamagedError(f"more than {_MOST_SCANS} scans")
        missing -= _completed_coefficients(segment, frame)
        if not missing:
            return
    if missing and scans:
        raise DamagedError(f"cut after {scans} scan(s): more were announced")


def _announced_coefficients(frame: Segment) -> set[tuple[int, int]]:
    """Return the (component, coefficient) of a frame that scans have to give.

    Of a sequential frame one coefficient stands for all: a scan gives them together.
    """
    components = frame.body[6::3]
    coefficients = range(_COEFFICIENTS if frame.marker in _PROGRESSIVE_FRAMES else 1)
    return {(component, coefficient) for component in components for coefficient in coefficients}


def _completed_coefficients(scan: Segment, frame: Segment) -> set[tuple[int, int]]:
    """Return the (component, coefficient) of which this scan gives the last bit."""
    component_count = scan.body[0]
    components = scan.body[1 : 1 + 2 * component_count : 2]
    if frame.marker not in _PROGRESSIVE_FRAMES:
        return {(component, 0) for component in components}
    first, last, approximation = scan.body[-3:]
    lowest_bit = approximation & 0x0F
    if lowest_bit > 0:  # later scans refine it
        return set()
    last = min(last, _COEFFICIENTS - 1)
    coefficients = range(first, last + 1)
    return {(component, coefficient) for component in components for coefficient in coefficients}


def _with_plain_header(data: bytes) -> bytes:
    """Return the file with a header that holds only what the pixels need."""
    parts = [bytes([0xFF, _START_OF_IMAGE])]
    is_sequential = False
    for segment in _segments(data):
        if segment.marker in _DROPPED_SEGMENTS:
            continue
        if segment.marker in _SEQUENTIAL_FRAMES:
            is_sequential = True
        body = _corrected_body(segment, is_sequential)
        parts.append(_as_bytes(segment.marker, body))
        if segment.marker == _START_OF_SCAN:
            parts.append(data[segment.end :])
            break
    return b"".join(parts)


def _as_bytes(marker: int, body: bytes) -> bytes:
    length = len(body) + 2  # its own two bytes count
    head = bytes([0xFF, marker])
    return head + length.to_bytes(2, "big") + body


def _corrected_body(segment: Segment, is_sequential: bool) -> bytes:
    """Return a segment's body with what libjpeg assumes, after a warning, for unknown values."""
    body = segment.body
    if segment.marker == _APP0_JFIF and body[:5] == b"JFIF\0":
        revision = b"\1\1"
        return body[:5] + revision + body[7:]
    if segment.marker == _APP14_ADOBE and body[:5] == b"Adobe":
        return _with_known_transform(body)
    if segment.marker == _START_OF_SCAN and is_sequential:
        all_coefficients = b"\0\x3f\0"
        return body[:-3] + all_coefficients
    return body


def _with_known_transform(body: bytes) -> bytes:
    """Return the body of Adobe's segment with a colour transform that libjpeg knows."""
    position = _ADOBE_TRANSFORM_POSITION
    if len(body) <= position or body[position] in _ADOBE_TRANSFORMS:
        return body
    transform = bytes([_ADOBE_YCBCR])
    return body[:position] + transform + body[position + 1 :]
