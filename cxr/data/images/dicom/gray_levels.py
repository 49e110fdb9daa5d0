"""From stored values to the gray levels that a viewer shows (DICOM PS3.3, C.11.1, C.11.2, C.11.6).

The order is that of the standard: modality look-up table or rescaling, look-up table of the values
of interest or window, presentation shape, and last the inversion of MONOCHROME1.
"""

from typing import NamedTuple

import numpy as np

from cxr.data.images.decoding.rejection import Pixels, Rejected
from cxr.data.images.dicom.frames import Layout
from cxr.data.images.dicom.tags import Tags

_WHITE = 255.0
_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


class GrayLevels(NamedTuple):
    """How stored values are shown.

    Attributes:
        table: The gray level of each value that can be stored, uint8 (2^bits,), from the lowest.
        rule: By which gray levels were made: `first window LINEAR`, `window "NAME" SIGMOID`,
            `VOI LUT`, `VOI LUT "NAME"`, `full range`.
    """

    table: Pixels
    rule: str


class _Lookup(NamedTuple):
    """A look-up table: the first value that is mapped, the values, the highest one there can be."""

    first: int
    values: Pixels
    white: float


class _Values(NamedTuple):
    """Values for each stored value, and the range they are in: float64, the lowest, the highest."""

    values: Pixels
    low: float
    high: float


def make_gray_levels(tags: Tags, layout: Layout, window: str = "") -> GrayLevels:
    """Return the gray level of each value that a film can store.

    Args:
        tags: Of the film.
        layout: How its values are stored.
        window: The name of the window or table to take (WindowCenterWidthExplanation,
            LUTExplanation); the first one where no name is given or none has it.

    Raises:
        Rejected: Rescaling, window or table are nonsense (bad_tags).
    """
    modality = _apply_modality(tags, layout)
    shown, rule = _apply_window(tags, modality, window)
    if _is_inverted(tags):
        shown = _WHITE - shown
    table = np.floor(np.clip(shown, 0, _WHITE) + 0.5).astype(np.uint8)
    return GrayLevels(table, rule)


def window_name(rule: str) -> str:
    """Return the name of the window in a rule of `GrayLevels`, empty for the first one.

    >>> window_name('window "LUNG" LINEAR')
    'LUNG'
    """
    return rule.partition('"')[2].rpartition('"')[0]


def _is_inverted(tags: Tags) -> bool:
    """Return whether low values are shown bright.

    The shape decides where there is one: INVERSE goes with MONOCHROME1, IDENTITY with MONOCHROME2
    (PS3.3, C.8.11.3.1.2). Where they disagree, dcmtk follows the shape, too.
    """
    shape = tags.text("PresentationLUTShape").upper()
    if shape in {"INVERSE", "IDENTITY"}:
        return shape == "INVERSE"
    return tags.text("PhotometricInterpretation").upper() == "MONOCHROME1"


def _apply_modality(tags: Tags, layout: Layout) -> _Values:
    """Return the modality's values: those of its table, or rescaled ones."""
    stored = np.arange(layout.lowest, layout.highest + 1)
    tables = tags.items("ModalityLUTSequence")
    if tables:
        lookup = _read_lookup(tables[0], "ModalityLUTSequence", layout.is_signed)
        return _Values(_look_up(lookup, stored), 0.0, lookup.white)
    slope = _number_or(tags, "RescaleSlope", 1.0)
    intercept = _number_or(tags, "RescaleIntercept", 0.0)
    if slope == 0:
        raise Rejected("bad_tags", "RescaleSlope 0: every value would be the same")
    values = stored * slope + intercept
    return _Values(values, float(values.min()), float(values.max()))


def _number_or(tags: Tags, keyword: str, default: float) -> float:
    """Return a number, `default` where the tag is missing or empty."""
    number = tags.number(keyword)
    if number is not None:
        return number
    if tags.text(keyword):
        raise Rejected("bad_tags", f"{keyword}: expected a number")
    return default


def _apply_window(
    tags: Tags,
    modality: _Values,
    window: str,
) -> tuple[Pixels, str]:
    """Return gray levels 0 to 255, float64, and the rule that made them."""
    tables = tags.items("VOILUTSequence")
    names = [table.text("LUTExplanation") for table in tables]
    windows = _read_windows(tags)
    window_names = tags.texts("WindowCenterWidthExplanation")[: len(windows)]
    named_table = _find_name(window, names)
    named_window = _find_name(window, window_names)
    if tables and (named_table is not None or named_window is None):
        lookup = _read_lookup(tables[named_table or 0], "VOILUTSequence", modality.low < 0)
        values = np.rint(modality.values).astype(np.int64)
        rule = "VOI LUT" if named_table is None else f'VOI LUT "{window}"'
        return _look_up(lookup, values) * (_WHITE / lookup.white), rule
    if windows:
        function = _read_function(tags)
        center, width = windows[named_window or 0]
        which = "first window" if named_window is None else f'window "{window}"'
        shown = show_through_window(modality.values, center, width, function)
        return shown, f"{which} {function}"
    span = modality.high - modality.low
    return (modality.values - modality.low) * (_WHITE / span), "full range"


def _find_name(name: str, names: list[str]) -> int | None:
    """Return the place of a name in a list, whatever its case; None without one."""
    wanted = name.strip().casefold()
    for place, candidate in enumerate(names):
        if wanted and candidate.casefold() == wanted:
            return place
    return None


def _read_windows(tags: Tags) -> list[tuple[float, float]]:
    """Return the windows of a film: center and width."""
    centers = tags.numbers("WindowCenter")
    widths = tags.numbers("WindowWidth")
    if not centers and not widths and not tags.text("WindowCenter") + tags.text("WindowWidth"):
        return []
    if len(centers) != len(widths) or not centers:
        raise Rejected("bad_tags", "WindowCenter and WindowWidth: expected as many numbers in each")
    return list(zip(centers, widths, strict=True))


def _read_function(tags: Tags) -> str:
    """Return the function of the windows."""
    function = tags.text("VOILUTFunction").upper() or "LINEAR"
    if function not in _FUNCTIONS:
        raise Rejected("bad_tags", f"VOILUTFunction: expected one of {', '.join(_FUNCTIONS)}")
    return function


def show_through_window(
    values: Pixels,
    center: float,
    width: float,
    function: str = "LINEAR",
) -> Pixels:
    """Return the gray levels of values seen through a window (DICOM PS3.3, C.11.2.1.2 and .3).

    Args:
        values: Of the modality, float64.
        center: WindowCenter.
        width: WindowWidth: 1 or more for LINEAR, above 0 for the others.
        function: LINEAR, LINEAR_EXACT or SIGMOID.

    Returns:
        float64, 0 to 255.

    Raises:
        Rejected: The width is too small (bad_tags).

    >>> show_through_window(np.array([0.0, 2047.5, 4095.0]), 2048, 4096).tolist()
    [0.0, 127.5, 255.0]
    """
    narrowest = "1 or more" if function == "LINEAR" else "above 0"
    if width <= 0 or (function == "LINEAR" and width < 1):
        raise Rejected("bad_tags", f"WindowWidth: expected {narrowest}, found {width:g}")
    if function == "SIGMOID":
        exponents = np.clip(
            -4 * (values - center) / width, -700, 700
        )  # of larger ones exp overflows
        return np.asarray(_WHITE / (1 + np.exp(exponents)))
    if function == "LINEAR":
        center -= 0.5
        width -= 1
    if width == 0:
        return np.where(values > center, _WHITE, 0.0)
    return np.asarray(np.clip(((values - center) / width + 0.5) * _WHITE, 0, _WHITE))


def _read_lookup(table: Tags, sequence: str, is_signed: bool) -> _Lookup:
    """Return a look-up table (DICOM PS3.3, C.11.1.1.1).

    Args:
        table: The item of the sequence.
        sequence: Its keyword, for messages.
        is_signed: Whether the values that are looked up can be below 0.
    """
    descriptor = table.words("LUTDescriptor")
    if len(descriptor) != 3:
        raise Rejected("bad_tags", f"{sequence}: expected a LUTDescriptor of three numbers")
    entries, first, bits = (int(number) for number in descriptor)
    entries = entries % 65_536 or 65_536  # 16 bits have no 65,536
    if is_signed and first > 32_767:
        first -= 65_536
    values = table.words("LUTData", entries)
    if not 1 <= bits <= 16 or len(values) < entries:
        expected = f"expected {entries:,} values of 1 to 16 bits"
        raise Rejected("bad_tags", f"{sequence}: {expected}, found {len(values):,} of {bits}")
    values = values[:entries]
    white = max(2.0**bits - 1, float(values.max()))  # some tables hold more than they announce
    return _Lookup(first, values.astype(np.float64), white)


def _look_up(lookup: _Lookup, values: Pixels) -> Pixels:
    """Return the values of a table; what is outside gets that of the nearer end."""
    places = np.clip(values - lookup.first, 0, len(lookup.values) - 1)
    found: Pixels = lookup.values[places]
    return found
