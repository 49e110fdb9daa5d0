"""A film out of a DICOM file: the one place where DICOM becomes 8-bit gray."""

from collections.abc import Sequence
from typing import NamedTuple

from cxr.core.errors import CxrError
from cxr.data.images.decoding.rejection import Pixels, Rejected
from cxr.data.images.dicom import attributes, burned_in
from cxr.data.images.dicom.eligibility import require_film, require_view
from cxr.data.images.dicom.frames import read_layout, read_stored_values
from cxr.data.images.dicom.gray_levels import make_gray_levels
from cxr.data.images.dicom.tags import Tags, read_tags


class DicomFilm(NamedTuple):
    """A film as a viewer shows it.

    Attributes:
        pixels: uint8 (height, width): black is 0.
        tags: What its file says; real keys are among them.
        transfer_syntax: Its short name, as in DICOM PS3.6.
        rule: By which gray levels were made, see `GrayLevels`.
    """

    pixels: Pixels
    tags: Tags
    transfer_syntax: str
    rule: str

    def describe(self) -> dict[str, str]:
        """Return what the file says, by column, with pseudonyms: see `describe_tags`.

        Raises:
            Rejected: A tag is nonsense (bad_tags).
            UsageError: No salt is set.
        """
        described = attributes.describe_tags(self.tags)
        if not described["burned_in"] and burned_in.has_text_on_border(self.pixels):
            described["burned_in"] = "suspected"
        return described | {"transfer_syntax": self.transfer_syntax, "window": self.rule}


def decode_film(data: bytes, window: str = "", views: Sequence[str] = ()) -> DicomFilm:
    """Decode the film in a DICOM file.

    Args:
        data: The file.
        window: The name of the window by which it is shown; the first one if not given.
        views: The views that are used; none for all. Films of an unknown view are decoded.

    Raises:
        Rejected: It is not one film that can be shown. No detail holds what stands in a text of the
            file, whatever went wrong.
    """
    try:
        return _decode(data, window, views)
    except (Rejected, CxrError):
        raise
    except Exception as error:  # noqa: BLE001 - hostile bytes can make a reader raise anything
        kind = type(error).__name__  # its text may hold values of the file
        raise Rejected("bad_tags", f"damaged DICOM ({kind}): export the film anew") from None


def _decode(data: bytes, window: str, views: Sequence[str]) -> DicomFilm:
    tags, picked = read_tags(data)
    require_film(tags, picked)
    require_view(tags, views)
    layout = read_layout(tags)
    gray_levels = make_gray_levels(tags, layout, window)
    values = read_stored_values(picked, layout)
    pixels = gray_levels.table[values - layout.lowest]
    return DicomFilm(pixels, tags, _name_of_syntax(picked.syntax), gray_levels.rule)


def _name_of_syntax(syntax: str) -> str:
    """Return the short name of a transfer syntax, `private` for one that is not in the standard."""
    from pydicom.uid import UID

    return UID(syntax).keyword or "private"
