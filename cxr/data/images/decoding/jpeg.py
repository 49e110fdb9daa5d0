"""JPEG pixels with nothing overlooked: what the decoder would only warn of is an error.

Pillow decodes damaged data in silence: half a film closed with an end marker comes out whole, its
lower part gray. Both call libjpeg-turbo, so whole files give the same bytes. Left out: headers,
colour and EXIF (`images`).
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import simplejpeg  # type: ignore[import-untyped]

Pixels = np.ndarray[Any, Any]
_START = 0xD8
_END = 0xD9
_SCAN = 0xDA
_JFIF = 0xE0
_ADOBE = 0xEE
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = {0xC0, 0xC1, 0xC9}
_PROGRESSIVE = {0xC2, 0xCA}
_ALONE = {_START, 0x01}  # markers without a length
_DROPPED = {*range(0xE1, 0xF0), 0xFE} - {_ADOBE}  # profiles, EXIF, comments: nothing to the pixels
_YCBCR = 1  # Adobe's number of the transform that libjpeg falls back to
_TRANSFORMS = {0, _YCBCR, 2}
_MOST_SCANS = 500  # a progressive film has 10; thousands of scans over a large one would take hours
_COEFFICIENTS = 64
# What ends the data of a scan: an 0xFF that is no stuffed one, no fill byte and no restart.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
# Warnings that can be of the header alone. libjpeg reports only its first warning; a later one may concern the pixels.
_OF_HEADERS = re.compile(r"extraneous bytes before|JFIF revision|Adobe|ICC|Invalid SOS")


class DamagedError(Exception):
    """Data that the decoder does not read as they were written; the text says what it found."""


class Segment(NamedTuple):
    """One marker segment.

    Attributes:
        marker: The second byte of its marker.
        body: What follows its length.
        end: Where in the file it ends.
    """

    marker: int
    body: bytes
    end: int


def pixels(data: bytes, width: int, height: int, channels: int) -> Pixels:
    """Return the pixels of a whole JPEG, uint8 (height, width, channels).

    What is wrong with a header but says nothing of the pixels is passed over: bytes between
    segments, a broken colour profile, an unknown JFIF revision.

    Args:
        data: The file.
        width: As its header says, pixels.
        height: As its header says, pixels.
        channels: 1 for gray, 3 for RGB.

    Raises:
        DamagedError: The decoder warns of anything else, or cannot read it.
    """
    _require_every_scan(data)
    try:
        return _strictly(data, width, height, channels)
    except ValueError as error:
        warning = str(error)
    if _OF_HEADERS.search(warning):
        try:
            return _strictly(_with_plain_header(data), width, height, channels)
        except ValueError as error:
            warning = str(error)
    raise DamagedError(warning)


def precision(data: bytes) -> int | None:
    """Return the bits per sample that the header of a JPEG gives, or None where it gives none."""
    frame = next((each for each in _segments(data) if each.marker in _FRAMES), None)
    return frame.body[0] if frame is not None and frame.body else None


def _strictly(data: bytes, width: int, height: int, channels: int) -> Pixels:
    """Return the pixels, uint8 (height, width, channels); the first warning is a ValueError."""
    # Room for what Pillow read in the header: a second header further on cannot ask for more.
    room = np.empty(height * width * channels, np.uint8)
    kind = "GRAY" if channels == 1 else "RGB"
    found: Pixels = simplejpeg.decode_jpeg(data, kind, buffer=room, strict=True)
    if found.shape != (height, width, channels):
        raise ValueError(f"two sizes: {width}x{height} and {found.shape[1]}x{found.shape[0]}")
    return found


def _segments(data: bytes) -> Iterator[Segment]:
    """Yield the segments up to the first end marker, not those of an MPO's next picture."""
    at = 2
    while found := _MARKER.search(data, at):
        marker = data[found.end() - 1]
        at = found.end()
        if marker == _END:
            return
        if marker in _ALONE:
            continue
        end = at + max(2, int.from_bytes(data[at : at + 2], "big"))
        yield Segment(marker, data[at + 2 : end], end)
        at = end


def _require_every_scan(data: bytes) -> None:
    """Raise DamagedError where a component, or a bit of one of its coefficients, is in no scan.

    A progressive file that was cut between two scans and then closed decodes without a warning,
    to a blurred film.
    """
    frame: Segment | None = None
    missing: set[tuple[int, int]] = set()  # of (component, coefficient)
    scans = 0
    for segment in _segments(data):
        if segment.marker in _FRAMES and frame is None:
            frame = segment
            coefficients = range(_COEFFICIENTS if segment.marker in _PROGRESSIVE else 1)
            missing = {(name, at) for name in segment.body[6::3] for at in coefficients}
        if segment.marker != _SCAN or frame is None or len(segment.body) < 4:
            continue
        scans += 1
        if scans > _MOST_SCANS:
            raise DamagedError(f"more than {_MOST_SCANS} scans")
        missing -= _completed(segment.body, frame.marker in _PROGRESSIVE)
        if not missing:
            return
    if missing and scans:
        raise DamagedError(f"cut after {scans} scan(s): more were announced")


def _completed(scan: bytes, progressive: bool) -> set[tuple[int, int]]:
    """Return the (component, coefficient) of which the scan with this header gives the last bit."""
    names = scan[1 : 1 + 2 * scan[0] : 2]
    first, last, bits = scan[-3:]
    if not progressive:
        return {(name, 0) for name in names}
    if bits & 15:  # the lowest bit that this scan gives: lower ones are to come
        return set()
    return {(name, at) for name in names for at in range(first, min(last, _COEFFICIENTS - 1) + 1)}


def _with_plain_header(data: bytes) -> bytes:
    """Return the file with a header that says only what the pixels need."""
    kept = [b"\xff\xd8"]
    sequential = False
    for segment in _segments(data):
        if segment.marker in _DROPPED:
            continue
        sequential |= segment.marker in _SEQUENTIAL
        body = _as_taken(segment, sequential)
        kept.append(bytes([0xFF, segment.marker]) + (len(body) + 2).to_bytes(2, "big") + body)
        if segment.marker == _SCAN:
            kept.append(data[segment.end :])
            break
    return b"".join(kept)


def _as_taken(segment: Segment, sequential: bool) -> bytes:
    """Return a segment's content, changed to what libjpeg would take it for with a warning."""
    body = segment.body
    if segment.marker == _JFIF and body[:5] == b"JFIF\0":
        return body[:5] + b"\1\1" + body[7:]
    if segment.marker == _ADOBE and body[:5] == b"Adobe" and len(body) > 11:
        transform = body[11] if body[11] in _TRANSFORMS else _YCBCR
        return body[:11] + bytes([transform]) + body[12:]
    if segment.marker == _SCAN and sequential:
        return body[:-3] + b"\0\x3f\0"
    return body
