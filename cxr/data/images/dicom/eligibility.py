"""Whether a DICOM file is one chest film: its modality, class, frames, and the view it shows."""

from collections.abc import Sequence

from cxr.data.images.decoding.rejection import Rejected
from cxr.data.images.dicom.elements import PickedElements
from cxr.data.images.dicom.tags import Tags

_MODALITIES = {
    "CR",  # computed radiography
    "DX",  # digital radiography
    "DR",  # the same, as some devices write it
    "RG",  # a film that was scanned
}
_DIGITAL = "1.2.840.10008.5.1.4.1.1.1.1"
_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
# By UID, as in PS3.6. A secondary capture is a film where the modality says so.
_FILM_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.1",  # Computed Radiography Image Storage
    _DIGITAL,  # Digital X-Ray Image Storage - For Presentation
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture Image Storage
    "1.2.840.10008.5.1.4.1.1.7.2",  # Multi-frame Grayscale Byte Secondary Capture
    "1.2.840.10008.5.1.4.1.1.7.3",  # Multi-frame Grayscale Word Secondary Capture
}
_RADIOGRAPHY_CLASSES = {"1.2.840.10008.5.1.4.1.1.1", _DIGITAL}
_OTHER_CLASSES = {
    "1.2.840.10008.1.3.10": "DICOMDIR, an index of other files",
    _FOR_PROCESSING: "raw detector values, meant for processing: export the film for presentation",
}
_KINDS_OF_CLASS = (  # the beginning of the UID, what it is
    ("1.2.840.10008.5.1.4.1.1.88.", "a report"),
    ("1.2.840.10008.5.1.4.1.1.11.", "a presentation state"),
    ("1.2.840.10008.5.1.4.1.1.104.", "an encapsulated document"),
)
# ViewPosition as devices write it, in capitals and without separators. Other words are not known.
_VIEW_WORDS = {
    "PA": ("PA", "POSTEROANTERIOR", "POSTERIORANTERIOR"),
    "AP": ("AP", "ANTEROPOSTERIOR", "ANTERIORPOSTERIOR", "APSUPINE", "APERECT", "APPORTABLE"),
    "LATERAL": (
        "LATERAL", "LAT", "LL", "RL", "LLAT", "RLAT", "LEFTLATERAL", "RIGHTLATERAL",
        "XTABLELATERAL", "LATERALLEFT", "LATERALRIGHT", "ML", "LM", "SWIMMERS",
    ),
    "OBLIQUE": ("OBLIQUE", "OBL", "LAO", "RAO", "LPO", "RPO", "LLO", "RLO"),
    "DECUBITUS": ("LLD", "RLD", "APLLD", "APRLD", "PALLD", "PARLD", "DECUBITUS", "DECUB"),
    "LORDOTIC": ("APAXIAL", "LORDOTIC", "APLORDOTIC", "AX"),
}  # fmt: skip
_VIEWS_BY_WORD = {word: view for view, words in _VIEW_WORDS.items() for word in words}
# Codes of views (PS3.16, CID 4010), by SNOMED CT and SNOMED RT. Frontal alone tells nothing.
_VIEW_CODES = {
    "PA": ("272479007", "R-40888", "R-10214"),
    "AP": ("399348003", "R-10206"),
    "LATERAL": (
        "399067008", "R-102CD", "399173006", "R-10236", "399198007", "R-10232", "30730003", "G-A145",
    ),
    "OBLIQUE": (
        "399182000", "R-102C1", "399135007", "R-10220", "399356000", "R-40985", "399006002", "R-10212",
        "399038007", "R-10210", "399184004", "R-10238", "399236003", "R-10234", "399312000", "R-10208",
        "399059000", "R-10216", "399160007", "R-10204", "260427002", "R-40783",
    ),
}  # fmt: skip
_VIEWS_BY_CODE = {code: view for view, codes in _VIEW_CODES.items() for code in codes}


def require_film(tags: Tags, picked: PickedElements) -> None:
    """Check that a file is one film.

    Args:
        tags: Its tags.
        picked: Its elements.

    Raises:
        Rejected: It is not_a_film, has no_pixels or several_frames.
    """
    sop_class = tags.text("SOPClassUID") or tags.text("MediaStorageSOPClassUID")
    modality = tags.text("Modality").upper()
    _require_film_class(sop_class, modality)
    if tags.text("PresentationIntentType").upper() == "FOR PROCESSING":
        raise Rejected("not_a_film", _OTHER_CLASSES[_FOR_PROCESSING])
    image_type = {word.upper() for word in tags.texts("ImageType")}
    if image_type & {"LOCALIZER", "LOCALISER", "SCOUT"}:
        raise Rejected("not_a_film", "a localiser (ImageType): expected a film")
    frames = tags.whole("NumberOfFrames")
    if frames is not None and frames > 1:
        raise Rejected("several_frames", f"{frames:,} frames: expected a film of one")
    if picked.has_float_pixels and picked.pixels is None:
        raise Rejected("unsupported_mode", "pixels of floating point: expected whole numbers")
    if picked.pixels is None:
        raise Rejected("no_pixels", "no pixel data: expected a film")


def _require_film_class(sop_class: str, modality: str) -> None:
    """Raise Rejected where class and modality are not those of a film."""
    if sop_class in _OTHER_CLASSES:
        raise Rejected("not_a_film", _OTHER_CLASSES[sop_class])
    for beginning, kind in _KINDS_OF_CLASS:
        if sop_class.startswith(beginning):
            raise Rejected("not_a_film", f"{kind}: expected a film")
    if modality and modality not in _MODALITIES:
        expected = "expected CR, DX, DR or RG"
        raise Rejected("not_a_film", f"modality {_known_modality(modality)}: {expected}")
    if sop_class and sop_class not in _FILM_CLASSES:
        raise Rejected("not_a_film", "a class of objects other than films (SOPClassUID)")
    if not modality and sop_class not in _RADIOGRAPHY_CLASSES:
        raise Rejected("not_a_film", "neither modality nor class say that it is a film")


def _known_modality(modality: str) -> str:
    """Return a modality as it may be shown: two letters as the standard has them."""
    is_code = len(modality) <= 3 and modality.isalpha() and modality.isascii()
    return modality if is_code else "unknown"


def view_of(tags: Tags) -> str:
    """Return the view of a film: PA, AP, LATERAL, OBLIQUE, DECUBITUS, LORDOTIC, or an empty text.

    By ViewPosition, else by the code of the view, else by the orientation of the patient: a row
    that runs from front to back shows a lateral, one that runs to a corner an oblique. Of a frontal
    film the orientation does not tell PA from AP.
    """
    word = "".join(letter for letter in tags.text("ViewPosition").upper() if letter.isalnum())
    if word in _VIEWS_BY_WORD:
        return _VIEWS_BY_WORD[word]
    for code in tags.items("ViewCodeSequence"):
        view = _VIEWS_BY_CODE.get(code.text("CodeValue"))
        if view is not None:
            return view
    orientation = tags.text("PatientOrientation").upper()
    is_sideways = bool(set(orientation) & set("LR"))
    is_sagittal = bool(set(orientation) & set("AP"))
    if is_sideways and is_sagittal:
        return "OBLIQUE"
    return "LATERAL" if is_sagittal else ""


def require_view(tags: Tags, views: Sequence[str]) -> None:
    """Check that a film shows a view that is used; one of an unknown view does.

    Args:
        tags: Its tags.
        views: Those that are used, in capitals; none for all.

    Raises:
        Rejected: Another one (other_view).
    """
    view = view_of(tags)
    if not view or not views or view in views:
        return
    as_written = tags.text("ViewPosition").upper()
    if as_written not in views:
        detail = f"view {view}: expected {', '.join(views)} (--views)"
        raise Rejected("other_view", detail)
