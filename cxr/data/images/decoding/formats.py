"""Which files are looked at: what name, size and first bytes say before a file is read whole."""

MAX_BYTES = 256 * 2**20  # 100 megapixels of 16 bits, stored as they are, and a header
KNOWN_SUFFIXES = (".jpeg", ".jpg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp")
REFUSED_SUFFIXES = (".gif",)  # a palette of 256 colours, often animated
FIRST_BYTES = 136  # the mark of DICOM is at 128 to 132, its first element follows

_MARKS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "image"),
    (b"\x89PNG\r\n\x1a\n", "image"),
    (b"II*\0", "image"),
    (b"MM\0*", "image"),
    (b"II+\0", "image"),  # TIFF with addresses of 64 bits
    (b"MM\0+", "image"),
    (b"GIF8", "gif"),
    (b"PK\3\4", "zip"),
    (b"PK\5\6", "zip"),  # an empty archive
    (b"\x1f\x8b", "gzip"),
    (b"%PDF-", "pdf"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "jpeg2000"),
    (b"\xff\x4f\xff\x51", "jpeg2000"),
    (b"NRRD000", "nrrd"),
    (b"\x93NUMPY", "numpy"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
)
# Sizes of the header that follows the file's, in bytes.
_BMP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}
_BARE_GROUPS = {b"\x02\0", b"\x08\0"}  # little endian: file meta information, identification
_LONGEST_FIRST_ELEMENT = 1024  # bytes: group lengths, class and instance identifiers are shorter


def kind_of(first: bytes) -> str:
    """Return what a file's first FIRST_BYTES bytes say that it is.

    "image" for every format that `images.decode` takes; "gif", "dicom", "zip", "gzip", "pdf" and
    some more, to tell a person what was found; "" where nothing is known of such a file.

    >>> kind_of(b"GIF89a")
    'gif'
    """
    for mark, kind in _MARKS:
        if first.startswith(mark):
            return kind
    if first[:4] == b"RIFF" and first[8:12] == b"WEBP":
        return "image"
    if first[:2] == b"BM" and int.from_bytes(first[14:18], "little") in _BMP_HEADERS:
        return "image"
    return "dicom" if _is_dicom(first) else ""


def _is_dicom(first: bytes) -> bool:
    """Return whether there is DICOM's mark after a preamble, or one of its first elements."""
    if first[128:132] == b"DICM":
        return True
    if first[:2] not in _BARE_GROUPS or len(first) < 8:
        return False
    explicit = first[4:6].isalpha() and first[4:6].isupper()
    length = int.from_bytes(first[4:8], "little")
    return explicit or 0 < length <= _LONGEST_FIRST_ELEMENT


def too_many_bytes(size: int) -> tuple[str, str] | None:
    """Return (reason, detail) where a file of `size` bytes is too large to be read, else None.

    >>> too_many_bytes(3_000_000_000)
    ('too_large', '3,000,000,000 bytes, more than 268,435,456: export the film as PNG or JPEG')
    """
    if size <= MAX_BYTES:
        return None
    return "too_large", f"{size:,} bytes, more than {MAX_BYTES:,}: export the film as PNG or JPEG"
