"""File formats by name, size and first bytes: what is known of a file before it is read whole."""

# Raise neither limit without the other: MAX_BYTES holds MAX_PIXELS of 16 bits without compression
# and a header.
MAX_BYTES = 256 * 2**20
MAX_PIXELS = 100_000_000  # a plate of 10,000 x 10,000; more is taken for a decompression bomb
KNOWN_SUFFIXES = (
    ".jpeg",
    ".jpg",
    ".jpe",
    ".jfif",
    ".png",
    ".bmp",
    ".tif",
    ".tiff",
    ".webp",
)
FIRST_BYTES = 136  # DICOM's signature is at 128 to 132, its first element follows

# (signature at the start of the file, kind)
_SIGNATURES = (
    (b"\xff\xd8\xff", "image"),
    (b"\x89PNG\r\n\x1a\n", "image"),
    (b"II*\0", "image"),
    (b"MM\0*", "image"),
    (b"II+\0", "image"),  # BigTIFF: TIFF with 64-bit offsets
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
# "BM" alone would match text. The size of the header that follows is one of these, in bytes.
_BMP_HEADER_SIZES = {
    12,  # BITMAPCOREHEADER
    16,  # OS22XBITMAPHEADER, short
    40,  # BITMAPINFOHEADER
    52,  # BITMAPV2INFOHEADER
    56,  # BITMAPV3INFOHEADER
    64,  # OS22XBITMAPHEADER
    108,  # BITMAPV4HEADER
    124,  # BITMAPV5HEADER
}
# The group of the first element of a DICOM file without a preamble, little endian: file meta
# information (0002) or identification (0008).
_FIRST_DICOM_GROUPS = {b"\x02\0", b"\x08\0"}
_LONGEST_FIRST_ELEMENT = 1024  # bytes: group lengths, class and instance identifiers are shorter


def kind_of(first_bytes: bytes) -> str:
    """Return the kind of a file by its first bytes.

    Args:
        first_bytes: The first FIRST_BYTES bytes of the file, or all of a shorter one.

    Returns:
        "image" for every format that the decoder reads; "gif", "dicom", "zip", "gzip", "pdf" and
        others that are worth naming in a message; "" for an unknown kind.

    >>> kind_of(b"GIF89a")
    'gif'
    """
    if first_bytes[128:132] == b"DICM":
        # First of all: its preamble may be a TIFF header, for programs that know no DICOM (PS3.10
        # 7.1). Read as TIFF, nothing of what it says of a person would be hidden.
        return "dicom"
    for signature, kind in _SIGNATURES:
        if first_bytes.startswith(signature):
            return kind
    if _is_webp(first_bytes) or _is_bmp(first_bytes):
        return "image"
    if _begins_with_dicom_element(first_bytes):
        return "dicom"
    return ""


def _is_webp(first_bytes: bytes) -> bool:
    return first_bytes[:4] == b"RIFF" and first_bytes[8:12] == b"WEBP"


def _is_bmp(first_bytes: bytes) -> bool:
    header_size = int.from_bytes(first_bytes[14:18], "little")
    return first_bytes[:2] == b"BM" and header_size in _BMP_HEADER_SIZES


def _begins_with_dicom_element(first_bytes: bytes) -> bool:
    """Return whether a file without preamble begins with one of DICOM's first elements."""
    group = first_bytes[:2]
    if group not in _FIRST_DICOM_GROUPS or len(first_bytes) < 8:
        return False
    value_representation = first_bytes[4:6]  # two capital letters, where it is explicit
    if value_representation.isalpha() and value_representation.isupper():
        return True
    length = int.from_bytes(first_bytes[4:8], "little")
    return 0 < length <= _LONGEST_FIRST_ELEMENT


def too_many_bytes(size: int) -> tuple[str, str] | None:
    """Return (reason, detail) of the reject if a file is too large to be read, else None.

    Args:
        size: Of the file, in bytes.

    >>> too_many_bytes(3_000_000_000)
    ('too_large', '3,000,000,000 bytes, more than 268,435,456: export the film as PNG or JPEG')
    """
    if size <= MAX_BYTES:
        return None
    return "too_large", f"{size:,} bytes, more than {MAX_BYTES:,}: export the film as PNG or JPEG"
