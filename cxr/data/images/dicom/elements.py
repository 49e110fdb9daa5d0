"""Pick the few elements of a DICOM file that are read, by the encodings of DICOM PS3.5.

A file may nest sequences without an end, hold millions of items, or inflate to any size. So it is
walked first, within limits, and nothing is built of what is not wanted: names, free text and
private elements are stepped over.
"""

import struct
import zlib
from collections.abc import Mapping
from typing import NamedTuple

from cxr.data.images.decoding import formats
from cxr.data.images.decoding.rejection import Rejected

IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"
PIXEL_DATA = 0x7FE00010
FLOAT_PIXEL_DATA = (0x7FE00008, 0x7FE00009)

_PREAMBLE_BYTES = 128
_SIGNATURE = b"DICM"
_META_GROUP = 0x0002
_TRANSFER_SYNTAX = 0x00020010
_DELIMITER_GROUP = 0xFFFE
_ITEM = 0xFFFEE000
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF  # a length: up to the delimiter
# Value representations whose length has four bytes, after two that are reserved (PS3.5, 7.1.2).
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_SHORT = {
    *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN"),
    *(b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"),
}
_MOST_ELEMENTS = 100_000  # of a file, nested ones included; a film has a few hundred
_MOST_WANTED_ELEMENTS = 2_000  # in the sequences that are read
_DEEPEST = 16  # sequences within sequences
_LONGEST_VALUE = 65_536  # bytes of one element that is read and is not a sequence
_LONGEST_SEQUENCE = 4 * 2**20  # bytes of one that is read; a look-up table has up to 131,072


class PixelElement(NamedTuple):
    """The pixels as they are encoded.

    Attributes:
        is_words: Whether they are words of 16 bits (OW), which big endian files swap.
        fragments: One part of an uncompressed file; of a compressed one the parts after the offset
            table.
        offsets: The offset table of a compressed file, empty in most.
        is_encapsulated: Whether they are compressed.
    """

    is_words: bool
    fragments: list[memoryview]
    offsets: bytes
    is_encapsulated: bool


class PickedElements(NamedTuple):
    """What is read of a DICOM file.

    Attributes:
        syntax: The UID of the transfer syntax.
        meta: The wanted elements of the file meta information, explicit little endian.
        header: The wanted elements of the dataset, encoded as in the file.
        is_implicit: Whether value representations are left out of `header`.
        is_little_endian: The order of bytes in `header` and in the pixels.
        pixels: None where there are none.
        has_float_pixels: Whether there are pixels of floating point.
    """

    syntax: str
    meta: bytes
    header: bytes
    is_implicit: bool
    is_little_endian: bool
    pixels: PixelElement | None
    has_float_pixels: bool


def pick_elements(data: bytes, wanted: Mapping[int, bool]) -> PickedElements:
    """Walk through a DICOM file and pick the wanted elements of its top level.

    Args:
        data: The file, with or without preamble and file meta information.
        wanted: Their tags, group * 65536 + element, and whether it is a sequence, which comes with
            all that is in it.

    Raises:
        Rejected: It is truncated, too_large when it is inflated, or has bad_tags: what cannot be
            read as DICOM, or more of it than a film has.
    """
    start = 0
    if data[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4] == _SIGNATURE:
        start = _PREAMBLE_BYTES + 4
    view = memoryview(data)
    meta, syntax, body_start = _pick_meta(view[start:], wanted)
    body = view[start + body_start :]
    if syntax == DEFLATED:
        body = memoryview(_inflate(body))
    is_little_endian = syntax != EXPLICIT_BIG_ENDIAN
    # Some files say explicit and are not: what the first element looks like decides.
    is_implicit = not bytes(body[4:6]).isalpha()
    if not syntax:
        syntax = IMPLICIT_LITTLE_ENDIAN if is_implicit else EXPLICIT_LITTLE_ENDIAN
    walker = _Walker(body, is_implicit, is_little_endian)
    picked = walker.pick(wanted)
    return PickedElements(
        syntax,
        meta,
        b"".join(picked),
        is_implicit,
        is_little_endian,
        walker.pixels,
        walker.has_float_pixels,
    )


def _pick_meta(view: memoryview, wanted: Mapping[int, bool]) -> tuple[bytes, str, int]:
    """Return the wanted elements of group 0002, the transfer syntax and where the dataset starts."""
    walker = _Walker(view, is_implicit=False, is_little_endian=True)
    picked = []
    syntax = ""
    position = 0
    while position + 8 <= len(view):
        (group,) = struct.unpack_from("<H", view, position)
        if group != _META_GROUP:
            break
        element = walker.read_header(position)
        end = walker.find_end(element, depth=0)
        if element.tag in wanted:
            picked.append(bytes(view[position:end]))
        if element.tag == _TRANSFER_SYNTAX:
            value = bytes(view[element.value : end])
            syntax = value.decode("ascii", "replace").strip("\0 ")
        position = end
    return b"".join(picked), syntax, position


def _inflate(body: memoryview) -> bytes:
    """Return a deflated dataset, which may be no larger than a file may be."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(body, formats.MAX_BYTES)
    except zlib.error:
        raise Rejected("truncated", "the deflated dataset is damaged") from None
    if inflater.unconsumed_tail:
        detail = f"inflates to more than {formats.MAX_BYTES:,} bytes"
        raise Rejected("too_large", detail)
    if not inflater.eof:
        raise Rejected("truncated", "the deflated dataset ends early")
    return inflated


class _Header(NamedTuple):
    """The head of an element: its tag, representation, the start of its value, its length."""

    tag: int
    representation: bytes
    value: int
    length: int


class _Walker:
    """Walks through the elements of one dataset, and counts them.

    Attributes:
        pixels: The pixels, once they were come by.
        has_float_pixels: Whether pixels of floating point were.
    """

    def __init__(self, view: memoryview, is_implicit: bool, is_little_endian: bool):
        self._view = view
        self._is_implicit = is_implicit
        order = "<" if is_little_endian else ">"
        self._tag = struct.Struct(f"{order}HH")
        self._long_length = struct.Struct(f"{order}I")
        self._short_length = struct.Struct(f"{order}H")
        self._left = _MOST_ELEMENTS
        self._is_thorough = False  # whether sequences of a known length are walked through, too
        self.pixels: PixelElement | None = None
        self.has_float_pixels = False

    def pick(self, wanted: Mapping[int, bool]) -> list[bytes]:
        """Return the wanted elements up to the pixels, and find those."""
        picked = []
        position = 0
        while position < len(self._view):
            element = self.read_header(position)
            if element.tag == PIXEL_DATA:
                self.pixels = self._find_pixels(element)
                break  # what follows is padding or a signature
            self.has_float_pixels |= element.tag in FLOAT_PIXEL_DATA
            is_sequence = wanted.get(element.tag)
            end = self._find_wanted_end(element) if is_sequence else self.find_end(element, 0)
            is_long = not is_sequence and end - element.value > _LONGEST_VALUE
            if is_sequence is not None and not is_long:  # a name of a megabyte is nonsense
                picked.append(bytes(self._view[position:end]))
            position = end
        return picked

    def read_header(self, position: int) -> _Header:
        """Read the head of the element at a position."""
        self._left -= 1
        if self._left < 0:
            expected = f"expected at most {_MOST_ELEMENTS:,} elements as of a film"
            raise Rejected("bad_tags", f"{expected}, found more: export the film anew")
        try:
            group, number = self._tag.unpack_from(self._view, position)
            if self._is_implicit or group == _DELIMITER_GROUP:
                (length,) = self._long_length.unpack_from(self._view, position + 4)
                return _Header(group << 16 | number, b"", position + 8, length)
            representation = bytes(self._view[position + 4 : position + 6])
            if representation in _LONG:
                (length,) = self._long_length.unpack_from(self._view, position + 8)
                return _Header(group << 16 | number, representation, position + 12, length)
            if representation not in _SHORT and len(representation) == 2:
                raise Rejected("bad_tags", f"no value representation at byte {position + 4:,}")
            (length,) = self._short_length.unpack_from(self._view, position + 6)
        except struct.error:
            raise self._truncation(position + 8) from None
        return _Header(group << 16 | number, representation, position + 8, length)

    def _truncation(self, end: int) -> Rejected:
        detail = f"an element ends at byte {end:,} of the dataset, which has {len(self._view):,}"
        return Rejected("truncated", detail)

    def find_end(self, element: _Header, depth: int) -> int:
        """Return where an element ends.

        Sequences of undefined length are walked through, others only where they are wanted.
        """
        if element.length == _UNDEFINED:
            return self._find_end_of_items(element, None, depth + 1)
        end = element.value + element.length
        if end > len(self._view):
            raise self._truncation(end)
        if self._is_thorough and element.representation == b"SQ":
            return self._find_end_of_items(element, end, depth + 1)
        return end

    def _find_end_of_items(self, element: _Header, end: int | None, depth: int) -> int:
        """Walk through the items of a sequence and return where it ends.

        Args:
            element: Its head.
            end: Where it ends, None where a delimiter ends it.
            depth: How many sequences that is deep.
        """
        if depth > _DEEPEST:
            raise Rejected("bad_tags", f"sequences more than {_DEEPEST} deep: no film has them")
        was_implicit = self._is_implicit
        if element.representation == b"UN":
            self._is_implicit = True  # PS3.5, 6.2.2: whatever the transfer syntax is
        position = element.value
        while end is None or position < end:
            item = self.read_header(position)
            if item.tag == _SEQUENCE_END and end is None:
                end = item.value
                break
            if item.tag != _ITEM:
                raise Rejected("bad_tags", f"expected an item at byte {position:,}")
            position = self._find_end_of_item(item, depth)
        self._is_implicit = was_implicit
        return position if end is None else end

    def _find_end_of_item(self, item: _Header, depth: int) -> int:
        """Return where an item ends."""
        end = None if item.length == _UNDEFINED else self.find_end(item, depth)
        if end is not None and not self._is_thorough:
            return end
        position = item.value
        while end is None or position < end:
            element = self.read_header(position)
            position = self.find_end(element, depth)
            if element.tag == _ITEM_END and end is None:
                break
        return position

    def _find_wanted_end(self, element: _Header) -> int:
        """Return where a wanted sequence ends; all that is in it is counted."""
        left = self._left
        self._is_thorough = True
        sequence = element._replace(representation=b"SQ")
        end = self.find_end(sequence, 0)
        self._is_thorough = False
        if left - self._left > _MOST_WANTED_ELEMENTS or end - element.value > _LONGEST_SEQUENCE:
            expected = f"expected at most {_MOST_WANTED_ELEMENTS:,} elements in a sequence"
            raise Rejected("bad_tags", f"{expected} that is read, found more")
        return end

    def _find_pixels(self, element: _Header) -> PixelElement:
        """Return the pixels of the dataset."""
        is_words = self._is_implicit or element.representation == b"OW"
        if element.length != _UNDEFINED:
            end = self.find_end(element, 0)
            return PixelElement(is_words, [self._view[element.value : end]], b"", False)
        items = []
        position = element.value
        while True:
            item = self.read_header(position)
            if item.tag == _SEQUENCE_END:
                break
            if item.tag != _ITEM or item.length == _UNDEFINED:
                raise Rejected("bad_tags", "compressed pixels are not in items")
            position = self.find_end(item, 0)
            items.append(self._view[item.value : position])
        offsets = bytes(items[0]) if items else b""
        return PixelElement(is_words, items[1:], offsets, True)
